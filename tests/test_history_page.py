"""The page of a folder of releases, and what the first page says since the newest of them."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import synthetic
from test_report import HOSTILE, Page

from zdtest.cli import main
from zdtest.judging.interval import rates
from zdtest.judging.slo import Slo
from zdtest.percent import between
from zdtest.report import write_history, write_index
from zdtest.results.compare import REPEATS, compare
from zdtest.results.release import Release, runs_in
from zdtest.results.releases import Releases
from zdtest.results.result import Result
from zdtest.run import judged

DAY = 86_400.0


def run(folder: Path, day: float = 0, **plan: Any) -> Path:
    clock = {"monotonic": synthetic.BEGAN, "wall": synthetic.WALL + day * DAY}
    about = {"topology": "custom_lb", "variant": "hardened", "strategy": "rolling"}
    about |= {"test": "rolling", "clock": clock, **plan.pop("manifest", {})}
    synthetic.run(folder, requests=1000, manifest=about, **plan)
    judged(folder, Slo(p99_ratio=None, p99_over=None, slow=None))
    return folder


BROKEN = [(2, 2.1, "refused", None)]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The result of a run that holds."""
    return Result.read(run(tmp_path_factory.mktemp("one") / "one"))


Kept = Callable[..., Path]


@pytest.fixture
def kept(one: Result, tmp_path: Path) -> Kept:
    """Keeps a release of made-up results, one for each change of the one that holds."""

    def keep(label: str, day: float, *changes: dict[str, Any], **environment: str) -> Path:
        began = synthetic.WALL + day * DAY
        results = tuple(dataclasses.replace(one, **({"began": began} | each)) for each in changes)
        return Release(label, results, environment, {}).write(tmp_path / "history")

    return keep


def drawn(history: Path, last: int = 20) -> Page:
    return Page(write_history(Releases.read(history, last), history / "index.html"))


def rows(page: Page, head: str) -> list[list[str]]:
    """Return the rows of the table whose first head is that."""
    begin = next(place for place, row in enumerate(page.rows) if row and row[0] == head)
    wide = len(page.rows[begin])
    end = next(
        (place for place, row in enumerate(page.rows) if place > begin and len(row) != wide),
        len(page.rows),
    )
    return [[" ".join(cell.split()) for cell in row] for row in page.rows[begin:end]]


def test_releases_stand_in_the_order_in_which_they_were_measured(
    kept: Kept, tmp_path: Path
) -> None:
    kept("a", 3, {}, {"test": "other"})
    kept("c", 1, {})
    kept("b", 2, {"verdict": "broken", "failed": 20})
    head, *lines = rows(drawn(tmp_path / "history"), "scenario")
    assert [re.sub(r"20\d\d-.*", "", cell) for cell in head[2:]] == ["a", "b", "c"]
    assert head[2] == "a2023-11-17 22:13"
    assert lines[0][2:] == [
        "✓ Holds was ✕ Broken0 of 1,0000 to 0.37 %",
        "✕ Broken was ✓ Holds20 of 1,0001.2 to 3.1 %",
        "✓ Holds0 of 1,0000 to 0.37 %",
    ]
    assert lines[1][0] == "custom lb hardened other", "what did not change comes after what did"
    assert lines[1][3:] == ["–", "–"]


def test_a_verdict_is_held_against_the_last_one_there_was(kept: Kept, tmp_path: Path) -> None:
    kept("a", 1, {"verdict": "broken"})
    kept("b", 2, {"test": "other"})
    kept("c", 3, {})
    page = drawn(tmp_path / "history")
    line = next(row for row in rows(page, "scenario") if row[0].endswith("rolling"))
    assert "was ✕" in line[2]
    assert page.source.count('class="changed"') == 1


def test_repeats_are_one_row_with_how_many_had_the_verdict(kept: Kept, tmp_path: Path) -> None:
    tests = [{"test": f"rolling[repeat{n}]"} for n in range(1, 6)]
    kept("a", 1, *tests[:4], tests[4] | {"verdict": "broken", "failed": 10})
    _, line = rows(drawn(tmp_path / "history"), "scenario")
    assert line[2] == "✕ Broken10 of 5,0001 of 5 runs · 0.095 to 0.37 %"


def test_each_step_says_what_got_worse_and_better_as_compare_does(
    kept: Kept, tmp_path: Path
) -> None:
    kept("a", 1, {}, {"test": "b", "verdict": "broken"}, cpus="2")
    kept("b", 2, {"verdict": "broken", "failed": 40}, {"test": "b"}, cpus="4")
    kept("c", 3, {"verdict": "broken", "failed": 44}, {"test": "b"}, {"test": "new"}, cpus="4")
    page = drawn(tmp_path / "history")
    found = Releases.read(tmp_path / "history").steps()
    assert [(one.old.label, one.new.label) for one in found] == [("b", "c"), ("a", "b")]
    assert "c since b: nothing beyond chance" in page.text
    assert "b → c: nothing beyond chance" in page.text
    assert "a → b: 2 worse, 1 better" in page.text
    assert "Nothing got worse or better beyond chance." in page.text
    told = [change.says.replace("->", "→") for change in found[1].changes]
    assert len(told) == 3
    for says in told:
        assert says in page.text
    assert "by chance in " in page.text
    assert f"fewer than {REPEATS} repeats on a side, nothing is said of them" in page.text
    assert f"by the ranks and the bootstrap of {REPEATS} repeats or more" in page.text
    assert "Only in c: 1" in page.text
    assert rows(page, "what")[1] == ["cpus", "2", "4"]
    assert page.source.count("<details open>") == 1, "the newest step"


def test_what_was_set_otherwise_stands_beside_what_got_better(tmp_path: Path) -> None:
    run(tmp_path / "a" / "r", 1, outages=BROKEN)
    anew = Slo(failed=None, p99_ratio=None, p99_over=None, slow=None)
    judged(run(tmp_path / "b" / "r", 2, manifest={"rate": 50.0}), anew)
    for label in "ab":
        Release.of(label, runs_in(tmp_path / label)).write(tmp_path / "history")
    page = drawn(tmp_path / "history")
    so = rows(page, "so")
    assert so[0] == ["so", "scenario", "what", "from → to", "measured otherwise"]
    assert so[1][0] == "▲ better"
    assert so[1][-1] == "promise failed, rate"
    assert ["rate", "200.0", "50.0", "Scenarios: 1custom lb hardened rolling"] in page.rows


def test_releases_without_a_common_scenario_were_not_compared(kept: Kept, tmp_path: Path) -> None:
    kept("a", 1, {})
    kept("b", 2, {"test": "other"})
    assert "No scenario is in both: nothing was compared." in drawn(tmp_path / "history").text


def test_the_last_ones_are_shown(kept: Kept, tmp_path: Path) -> None:
    for day in range(1, 6):
        kept(f"r{day}.0", day, {})
    page = drawn(tmp_path / "history", 2)
    assert "History: the last 2 of 5 releases" in page.text
    assert "r5.0 since r4.0" in page.text
    assert "r3.0" not in page.text


def test_a_folder_without_a_release_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "history").mkdir()
    assert "No release is kept here" in drawn(tmp_path / "history").text
    assert main(["history", str(tmp_path / "none")]) == 2
    assert main(["history", str(tmp_path / "history"), "--last", "0"]) == 2


def test_what_cannot_be_read_is_named_left_out_and_told_by_the_exit_code(
    kept: Kept, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = tmp_path / "history"
    whole = kept("good", 1, {}).read_text()
    assert main(["history", str(history)]) == 0
    (history / "half.json").write_text(whole[: len(whole) // 2])
    (history / "old.json").write_text(whole.replace('"schema": 2', '"schema": 1'))
    (history / "odd.json").write_text(whole.replace('"requests": 1000', '"requests": "x"'))
    capsys.readouterr()
    assert main(["history", str(history)]) == 3
    told = capsys.readouterr().out
    for name in ("half", "odd", "old"):
        assert f"{history / name}.json" in told
    page = Page(history / "index.html")
    assert "In no figure:" in page.text
    for name in (
        "damaged {}/half.json",
        "damaged {}/odd.json",
        "{}/old.json: schema 1, expected 2",
    ):
        assert name.format(history) in page.text
    assert "History: 1 release" in page.text
    run(tmp_path / "runs" / "r")
    keep = ["release", str(tmp_path / "runs"), "--label", "v2", "--history", str(history)]
    assert main(keep) == 3
    for name in ("half", "odd", "old"):
        (history / f"{name}.json").unlink()
    assert main(keep) == 0


def test_what_names_say_is_text(kept: Kept, tmp_path: Path) -> None:
    for label, day, verdict in (("a", 1, "holds"), ("b", 2, "broken")):
        change = {"test": HOSTILE, "topology": HOSTILE, "verdict": verdict}
        path = kept(label, day, change, {"test": HOSTILE + label}, **{HOSTILE: HOSTILE + label})
        told = json.loads(path.read_text()) | {"label": HOSTILE + label}
        name = next(iter(told["runs"]))["topology"]
        told["configuration"] = {f"{name} hardened {HOSTILE}": {HOSTILE: HOSTILE + label}}
        path.write_text(json.dumps(told))
    bad = tmp_path / "history" / "<script>alert(2)<>.json"
    bad.write_text(json.dumps({"schema": HOSTILE}))
    page = drawn(tmp_path / "history")
    assert "alert(1)" in page.text
    assert page.tags.count("script") == 1, "its own, which sorts"
    assert "img" not in page.tags
    assert not [value for _, name, value in page.attributes if name.startswith("on")]
    assert not [value for _, name, value in page.attributes if name in ("src", "href")]
    found = compare(*(Release.read(tmp_path / "history" / f"{name}.json") for name in "ab"))
    assert "\x1b" not in dataclasses.replace(found, only_old=("\x1b[2J",)).text()


def test_every_table_is_headed_and_named(kept: Kept, tmp_path: Path) -> None:
    kept("a", 1, {})
    kept("b", 2, {"verdict": "broken"}, cpus="2")
    page = drawn(tmp_path / "history")
    assert page.tags.count("h1") == 1
    assert page.tags.count("caption") == page.tags.count("table") == 3
    scopes = [value for tag, name, value in page.attributes if (tag, name) == ("th", "scope")]
    assert len(scopes) == page.tags.count("th")
    assert "default-src 'none'" in page.source


def test_twenty_releases_of_a_hundred_scenarios_are_small_and_quick(
    one: Result, tmp_path: Path
) -> None:
    for place in range(20):
        results = tuple(
            dataclasses.replace(
                one,
                test=f"a_scenario_with_a_name_of_usual_length[{n}]",
                verdict="broken" if n % 2 else "holds",
                failed=(n + place) * 3 if n % 2 else 0,
                began=place * DAY,
            )
            for n in range(100)
        )
        Release(f"v{place}", results, {"git": str(place)}, {}).write(tmp_path)
    began = time.process_time()
    path = write_history(Releases.read(tmp_path), tmp_path / "index.html")
    assert time.process_time() - began < 2
    assert path.stat().st_size < 1_000_000
    assert len(rows(Page(path), "scenario")) == 101
    assert max(one.stat().st_size for one in tmp_path.glob("*.json")) < 150_000


def test_fifty_runs_of_very_many_requests_are_compared_by_their_verdicts_alone(
    tmp_path: Path,
) -> None:
    """Samples are not opened: those here are none."""
    sides = []
    for side, failed in (("old", 40_000), ("new", 41_000)):
        first = run(tmp_path / side / "0", outages=BROKEN)
        verdict = json.loads((first / "verdict.json").read_text())
        for n in range(50):
            folder = tmp_path / side / str(n)
            if n:
                folder.mkdir()
                shutil.copy(first / "manifest.json", folder)
            told = verdict | {"run": str(n), "requests": 100_000, "failed": failed + 7 * n}
            (folder / "verdict.json").write_text(json.dumps(told))
            (folder / "samples.arrows").write_bytes(b"no samples")
        sides.append(tmp_path / side)
    began = time.process_time()
    found = compare(*map(Release.read, sides))
    assert time.process_time() - began < 3
    (change,) = found.worse
    assert change.what == "failures"
    assert change.says.startswith("2,008,575 of 5,000,000 -> 2,058,575 of 5,000,000")


# What the first page says since the newest release.


def index(tmp_path: Path) -> Page:
    reports = tmp_path / "reports"
    return Page(write_index(runs_in(reports), reports / "index.html"))


def test_the_first_page_compares_its_runs_with_the_newest_release_before_them(
    tmp_path: Path,
) -> None:
    reports = tmp_path / "reports"
    run(reports / "now", 5, outages=BROKEN)
    assert "Since" not in index(tmp_path).text, "there is no history"
    for label, day in (("first", 1), ("second", 2), ("later", 9)):
        run(tmp_path / label / "r", day)
        Release.of(label, runs_in(tmp_path / label)).write(reports / "history")
    page = index(tmp_path)
    assert "Since second : 2 worse" in page.text
    assert '<section id="since"><h2>Since second</h2>' in page.source
    assert [row[0] for row in rows(page, "so")] == ["so", "▼ worse", "▼ worse"]
    assert "./history/index.html" not in page.source, "there is no such page"
    write_history(Releases.read(reports / "history"), reports / "history" / "index.html")
    assert 'href="./history/index.html"' in index(tmp_path).source


def test_a_release_of_these_very_runs_is_not_what_they_are_compared_with(tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    run(reports / "then", 1)
    Release.of("v1", runs_in(reports)).write(reports / "history")
    assert "Since" not in index(tmp_path).text
    now = run(reports / "now", 2, outages=BROKEN)
    Release.of("v2", [now]).write(reports / "history")
    page = index(tmp_path)
    assert "Since v1" in page.text
    assert any("✓ holds 1 of 1 → ✕ broken 1 of 1" in cell for row in page.rows for cell in row), (
        "the run that v1 has is not among those that came since"
    )


def test_a_release_that_cannot_be_read_is_named_on_the_first_page(tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    run(reports / "now", 5)
    (reports / "history").mkdir()
    (reports / "history" / "bad.json").write_text("{")
    page = index(tmp_path)
    assert f"damaged {reports}/history/bad.json" in page.text
    assert 'id="since"' not in page.source


# What of a folder of reports is committed.


def test_git_takes_releases_and_nothing_else_below_the_reports(tmp_path: Path) -> None:
    rules = Path(__file__).parents[1] / "reports" / ".gitignore"
    reports = tmp_path / "reports"
    for name in (
        *("history/v1.json", "history/.v1.json.part", "history/index.html"),
        *("history/deep/v1.json", "run/verdict.json", "run/history/v1.json", "index.html"),
    ):
        (reports / name).parent.mkdir(parents=True, exist_ok=True)
        (reports / name).write_text("{}")
    shutil.copy(rules, reports)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    told = subprocess.run(
        ["git", "-C", str(tmp_path), "status", "--porcelain", "-uall"],
        capture_output=True,
        text=True,
        check=True,
    )
    files = sorted(line[3:] for line in told.stdout.splitlines())
    assert files == ["reports/.gitignore", "reports/history/v1.json"]


# The interval that is shown.


@pytest.mark.parametrize(
    ("failed", "requests", "shown"),
    [
        (0, 1000, "0 to 0.37 %"),
        (1, 1000, "0.0025 to 0.56 %"),
        (576, 2522, "21 to 25 %"),
        (999, 1000, "99 to 100 %"),
        (1000, 1000, "99 to 100 %"),
        (0, 0, "0 to 100 %"),
    ],
)
def test_an_interval_is_exact_and_rounded_outwards(failed: int, requests: int, shown: str) -> None:
    least, most = rates(failed, requests)
    assert between(least, most) == shown
    low, high = (float(each.removesuffix(" %")) / 100 for each in shown.split(" to "))
    assert low <= least <= most <= high


def test_the_interval_is_the_two_sided_one() -> None:
    """Of 10 in 100: 4.90 % to 17.62 % (Clopper and Pearson's own table, two and a half a side)."""
    least, most = rates(10, 100)
    assert least == pytest.approx(0.04900, abs=5e-5)
    assert most == pytest.approx(0.17622, abs=5e-5)
