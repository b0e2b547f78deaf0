"""The pages in a real browser: no script error, nothing asked of anybody, and tables that sort."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pypdf
import pytest
import synthetic

from zdtest.judging.slo import Slo
from zdtest.report import write_history, write_index
from zdtest.results.overview import COLUMNS, ways
from zdtest.results.release import Release
from zdtest.results.releases import Releases
from zdtest.results.result import read_all
from zdtest.run import judged

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)

pytestmark = [
    pytest.mark.skipif(not BROWSER, reason="no Chromium here: apt-get install chromium"),
    pytest.mark.alone,
]

QUIET = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-extensions", "--virtual-time-budget=3000", "--enable-logging=stderr", "--v=0"),
    # Whoever is asked, by the page or by the browser on its own account: nothing leaves here.
    *("--proxy-server=http://127.0.0.1:9", "--proxy-bypass-list=<-loopback>"),
]


SHEET = 1031
"""CSS pixels between the margins of a printed page: A4 across, less twice 12 mm."""


@dataclass(frozen=True)
class Opened:
    """A page after its scripts have run, what the console said, and whom the page asked."""

    page: str
    console: str
    asked: list[str]


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[Path], Opened]:
    """Opens a page in the browser."""

    def open_(page: Path) -> Opened:
        log = tmp_path / "net.json"
        paths = [f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}"]
        told = subprocess.run(
            [BROWSER, *QUIET, *paths, "--dump-dom", page.resolve().as_uri()],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        console = [line for line in told.stderr.splitlines() if "CONSOLE" in line]
        return Opened(told.stdout, "\n".join(console), asked(log.read_text()))

    return open_


def asked(log: str) -> list[str]:
    """What a page asked for beside itself: what the browser asks for has no origin."""
    events = json.loads(log)["events"]
    told = [event.get("params", {}) for event in events]
    return [
        one["url"]
        for one in told
        if one.get("url", "").startswith("http") and one.get("initiator", "not an origin") == "null"
    ]


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """A run that holds and one that is broken, judged and drawn."""
    made = []
    for name, outages in (("good", []), ("bad", [(2, 2.1, "refused", None)])):
        about = {"topology": name, "variant": "hardened", "strategy": "rolling"}
        about |= {"claim": {"id": "4a"}}
        folder = synthetic.run(tmp_path / name, requests=1000, outages=outages, manifest=about)
        judged(folder, Slo(p99_ratio=None, p99_over=None, slow=None))
        made.append(folder)
    return made


Open = Callable[[Path], Opened]


def test_a_report_asks_nobody_and_has_no_error(runs: list[Path], opened: Open) -> None:
    seen = opened(runs[1] / "report.html")
    assert "Whose fault" in seen.page
    assert (seen.console, seen.asked) == ("", [])


def test_the_first_page_asks_nobody_and_has_no_error(
    runs: list[Path], opened: Open, tmp_path: Path
) -> None:
    seen = opened(write_index(runs, tmp_path / "index.html"))
    assert "Ways to deploy" in seen.page
    assert seen.page.count("<button>") > 10, "its script has run"
    assert (seen.console, seen.asked) == ("", [])


def test_the_page_of_releases_asks_nobody_and_has_no_error(
    runs: list[Path], opened: Open, tmp_path: Path
) -> None:
    for label, run in zip(("v1", "v2"), runs, strict=True):
        Release.of(label, [run]).write(tmp_path / "history")
    page = tmp_path / "history" / "index.html"
    seen = opened(write_history(Releases.read(page.parent), page))
    assert "From release to release" in seen.page
    assert seen.page.count("<button>") == 4, "its script has run"
    assert (seen.console, seen.asked) == ("", [])


def test_any_other_script_is_refused(runs: list[Path], opened: Open, tmp_path: Path) -> None:
    index = write_index(runs, tmp_path / "index.html")
    press = '<script>document.querySelector("table.sorts button").click()</script></body>'
    index.write_text(index.read_text().replace("</body>", press))
    seen = opened(index)
    assert "aria-sort" not in seen.page.partition("<body>")[2].partition("<script>")[0]
    assert "Content Security Policy" in seen.console


def test_a_page_that_does_ask_somebody_is_noticed(opened: Open, tmp_path: Path) -> None:
    page = tmp_path / "asks.html"
    page.write_text('<img src="http://nobody.invalid/x.png"><script>nothing()</script>')
    seen = opened(page)
    assert "http://nobody.invalid/x.png" in seen.asked
    assert "nothing is not defined" in seen.console


def test_the_first_page_sorts_by_the_head_that_is_pressed(
    runs: list[Path], opened: Open, tmp_path: Path
) -> None:
    """By the page's own script; the page that presses the heads has no policy."""
    index = write_index(runs, tmp_path / "index.html")
    bare = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", index.read_text())
    press = (
        '<script>const heads = document.querySelector("table.sorts").tHead.rows[0].cells;'
        'for (const _ of "12") heads[4].querySelector("button").click();</script></body>'
    )
    index.write_text(bare.replace("</body>", press))
    seen = opened(index)
    assert seen.console == ""
    ways = seen.page.partition("Ways to deploy</h2>")[2].partition("</table>")[0]
    assert 'aria-sort="descending"' in ways
    assert re.findall(r"<td>(\d+) of 1,000</td>", ways) == ["20", "0"]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs of more ways than a sheet has room for, with the longest words and figures there are."""
    home, made = tmp_path_factory.mktemp("many"), []
    for place in range(40):
        about = {
            "topology": f"haproxy_swarm_of_many_nodes_{place}",
            "variant": "documented",
            "strategy": "blue_green",
            "test": "who_writes_while_the_new_colour_boots",
            "causes": ["unready", "stopped", "dead", "reload"],
            "claim": {"id": "4a", "says": "out after three missed pings, so rolling works"},
        }
        both = [(1.0, {"a": 4_000_000_000}), (2.5, {"a": 4_000_000_000, "b": 3_999_000_000})]
        outages = [(2, 2.1 + place / 100, "refused", None)]
        folder = home / f"{place}-{'unbroken' * 12}"
        synthetic.run(folder, requests=1000, outages=outages, memory=both, manifest=about)
        judged(folder, Slo())
        made.append(folder)
    return made


def printed(page: Path, pdf: Path) -> list[pypdf.PageObject]:
    """Return the sheets of the page as it is printed to `pdf`."""
    told = [f"--user-data-dir={pdf.parent / 'profile'}", "--no-pdf-header-footer"]
    argv = [BROWSER, *QUIET, *told]
    uri = page.resolve().as_uri()
    subprocess.run(
        [*argv, f"--print-to-pdf={pdf}", uri], capture_output=True, timeout=60, check=True
    )
    return list(pypdf.PdfReader(pdf).pages)


def dense(text: str) -> str:
    """Return the text without blanks: where a line ends is up to the sheet."""
    return "".join(text.split())


def test_every_way_is_in_the_print_with_the_heads_on_each_sheet(
    many: list[Path], tmp_path: Path
) -> None:
    sheets = printed(write_index(many, tmp_path / "index.html"), tmp_path / "index.pdf")
    assert {tuple(map(round, one.mediabox[2:])) for one in sheets} == {(842, 595)}, "A4, across"
    texts = [dense(one.extract_text()) for one in sheets]
    found = ways(read_all(many)[0])
    assert len(found) == 40
    shown = set()
    for way in found:
        name = "".join(dense(show(way)) for _, show in COLUMNS[1:3])
        (number,) = (number for number, text in enumerate(texts) if name in text)
        shown.add(number)
        for head, show in COLUMNS[1:]:
            assert dense(head) in texts[number], "the heads are on each sheet"
            assert dense(show(way)) in texts[number], (head, show(way))
    assert len(shown) > 1


def test_a_run_is_printed_whole(many: list[Path], tmp_path: Path) -> None:
    text = dense(
        "".join(
            one.extract_text() for one in printed(many[0] / "report.html", tmp_path / "report.pdf")
        )
    )
    heads = re.findall(r"<h2>([^<]*)</h2>", (many[0] / "report.html").read_text())
    assert len(heads) > 8
    assert [head for head in heads if dense(head) not in text] == []


def beyond(page: Path, opened: Open, sheet: int = SHEET) -> list[str]:
    """Return what ends to the right of a sheet, laid out as for print."""
    bare = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    as_print = bare.replace("@media print", "@media all").replace("@media screen", "@media none")
    style = f"<style>html {{ width: {sheet}px; overflow: hidden }}</style>"
    measure = (
        "<script>const far = [];"
        'for (const one of document.querySelectorAll("td, th, p, pre, svg, h1, h2, li, dd"))'
        f"  if (one.getBoundingClientRect().right > {sheet} + 0.5)"
        '    far.push(one.tagName + " " + one.textContent.trim().slice(0, 40));'
        'document.body.innerHTML = "<pre id=far></pre>";'
        'document.getElementById("far").textContent = JSON.stringify(far);</script></body>'
    )
    laid = page.with_name("laid.html")
    laid.write_text(as_print.replace("</head>", f"{style}</head>").replace("</body>", measure))
    seen = opened(laid)
    told = re.search(r'<pre id="far">(.*)</pre>', seen.page, re.S)
    assert told, seen.console
    return list(json.loads(told[1].replace("&amp;", "&")))


def test_nothing_is_cut_at_the_right_edge_of_a_sheet(
    many: list[Path], opened: Open, tmp_path: Path
) -> None:
    index = write_index(many, tmp_path / "index.html")
    for page in (index, many[0] / "report.html"):
        assert beyond(page, opened) == [], page
    assert beyond(index, opened, 400) != [], "a sheet that is too narrow is noticed"
