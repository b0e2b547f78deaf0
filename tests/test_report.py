from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import synthetic

from zdtest.errors import RecordingError
from zdtest.history import CHECKS
from zdtest.judging.slo import Slo
from zdtest.judging.verdict import judge
from zdtest.records.recording import Recording
from zdtest.report import write_index, write_report
from zdtest.report.correctness import MEANING, TAKES
from zdtest.report.evidence import FAILURES
from zdtest.report.frame import Frame
from zdtest.report.headline import figures, headline, verdict_word
from zdtest.report.number import count, ms, percent, plain, span
from zdtest.report.series import lane, throughput
from zdtest.report.svg import render
from zdtest.report.tally import QUANTILES, percentiles
from zdtest.report.timeline import GLYPH, LABEL_ROWS, place

HOSTILE = "</svg></style><script>alert(1)</script>\"'&<img src=http://x.test/>$x^{2$"
DARK_LETTERS = "v\u202e2\x00\ud800\n漢"


OURS = """
html head meta title style body main header section h1 h2 h3 p span strong ul li i dl div dt dd
figure svg g path defs use text rect clippath pattern details summary pre
table caption thead tbody tr th td
"""
"""Every element that a page is made of."""


class Page(HTMLParser):
    """What a page says and asks for."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.cell = False
        self.source = path.read_text("utf-8")
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self.cell = True

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.cell:
            self.rows[-1][-1] += data

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.cell = False

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def judged(folder: Path, **changes: Any) -> Path:
    verdict = judge(Recording.read(folder), Slo()).as_json() | changes
    (folder / "verdict.json").write_text(json.dumps(verdict), "utf-8")
    return folder


@pytest.fixture(scope="module")
def hurt(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The page of a run with everything in it: failed, slow and hostile."""
    folder = synthetic.run(
        tmp_path_factory.mktemp("hurt") / "run",
        requests=1000,
        versions=(HOSTILE, "$v$"),
        outages=[(2, 2.1, "reset", None)],
        slow=[(3, 3.2, 2.0, ["slow"])],
    )
    return Page(write_report(judged(folder)))


@pytest.fixture
def page(tmp_path: Path) -> Callable[..., Page]:
    """A page of a made-up run; `verdict` changes what was judged, all else is the plan."""

    def made(verdict: dict[str, Any] | None = None, **plan: Any) -> Page:
        folder = judged(synthetic.run(tmp_path / "run", **plan), **(verdict or {}))
        return Page(write_report(folder))

    return made


def test_a_page_that_holds_says_so_with_the_bound_that_its_requests_prove(page):
    shown = page(requests=6000)
    assert "✓ Holds" in shown.text
    assert "0 of 6,000" in shown.text
    assert "0 of 2,000 failed failure rate below 0.15 % at 95 %" in shown.text
    assert "No outage on any channel." in shown.text
    assert "0 lost, 0 run twice" in shown.text


def test_a_page_says_first_what_stood_in_for_something(page):
    told = "emulated: no IPVS"
    shown = page({"emulated": told}, manifest={"engine": "docker", "emulated": told})
    assert "Emulated: no IPVS" in shown.text
    assert "docker, emulated: no IPVS" in shown.text


def test_a_broken_page_says_why_and_shows_the_outage_and_the_failed_requests(page):
    shown = page(requests=2000, outages=[(4.0, 4.51, "refused", ["new"])])
    assert "✕ Broken" in shown.text
    assert "41 of 2000 requests failed" in shown.text
    assert ["new", "4.000s", "500ms", "525ms", "41", "41", "refused 41"] in shown.rows
    assert ["new", "800", "759", "41"] in shown.rows  # requests, ok, refused
    failed = [row for row in shown.rows if len(row) == 11 and row[0].startswith("run-")]
    assert len(failed) == 41
    assert failed[0][1] == "new"
    assert failed[0][2].startswith("4.000")
    assert failed[0][3:5] == ["–", "–"]  # never sent, no first byte
    assert failed[0][6] == "refused"


UNKNOWN = ("early", "gaps", "key_lost", "key_twice", "repeats")
"""What the journal of orders alone, none under a key, that the made-up app keeps does not tell."""


def test_every_correctness_check_is_on_the_page_with_its_count_and_its_witnesses(page):
    shown = page(requests=2000, lost=2, outages=[(4.0, 4.51, "reset", ["write"])])
    rows = {row[0]: row[1:] for row in shown.rows if len(row) == 4}
    assert {check for check in CHECKS if check not in rows} == set(UNKNOWN)
    assert rows["lost"][:2] == ["2", "writes answered ok that never ran"]
    assert re.fullmatch(
        r"run-\w{8} at \d+\.\d{3}s on v1-[12] \(answered ok and never ran\); run-.*",
        rows["lost"][2],
    )
    assert rows["twice"] == ["0", "writes that ran more than once", ""]
    assert "gaps, repeats (it takes a stream whose messages are numbered)." in shown.text
    undecided = r"(\d+) writes were sent and not answered: they may have run, and \1 of them did"
    assert re.search(undecided, shown.text)


def test_the_page_tells_how_often_keys_and_streams_were_put_to_the_test(page):
    shown = page({"correctness": {"retried": 0, "resumed": 7, "gaps": 0}}, requests=300)
    assert "0 writes were asked again under their key." in shown.text
    assert "7 times a stream went on where it had been left." in shown.text


def test_a_page_of_what_was_judged_before_there_were_checks_has_no_table_of_them(page):
    assert "Correctness" not in page({"correctness": None}, requests=300).text
    hostile = {"lost": HOSTILE, "twice": 1, "witnesses": {"twice": [HOSTILE, {"id": HOSTILE}]}}
    shown = page({"correctness": hostile}, requests=300)
    assert "script" not in shown.tags
    assert [row[:2] for row in shown.rows if row[:1] == ["twice"]] == [["twice", "1"]]
    assert "Not known: lost (it takes the app's journal)." in shown.text


def test_what_no_check_knows_is_one_line_that_says_what_it_takes(page):
    shown = page(requests=300, journal=False, manifest={"new_version": None, "old_version": None})
    assert "Not known: lost, twice, phantom, early, repeated (it takes the app's journal);" in (
        shown.text
    )
    rows = {row[0] for row in shown.rows if row}
    assert rows & set(CHECKS) == {"cut", "altered"} | rows & {"backwards", "stale"}


def test_every_check_says_what_it_takes_or_is_always_known():
    assert set(MEANING) == set(CHECKS)
    assert set(CHECKS) - set(TAKES) == {"cut", "altered"}


def test_phases_stand_side_by_side_so_that_they_fit_a_phone(page):
    shown = page(requests=2000, outages=[(5.0, 5.1, "reset", None)])
    rows = {row[0]: row[1:] for row in shown.rows if len(row) == 4}
    assert rows[""] == ["baseline", "deploy", "settle"]
    assert rows["failed"] == ["0", "20", "0"]
    for name in ("requests", *QUANTILES):
        assert all(re.match(r"[\d.,]+(ms|s)?$", told) for told in rows[name]), name
    loud = [value for tag, name, value in shown.attributes if (tag, name) == ("td", "class")]
    assert "n alarm" in loud


def test_a_legend_shows_each_line_as_it_is_drawn(page):
    source = page(requests=2000).source
    for kind, role, words in (("dash", "p99", "p99"), ("dot", "max", "maximum"), ("", "p50", "")):
        assert re.search(rf'<i class="{kind}" style="--c: var\(--{role}\)[^>]*></i>{words}', source)


def test_the_length_beside_an_outage_is_said_to_be_its_most(page):
    shown = page(requests=2000, outages=[(5.0, 5.1, "reset", ["new"])])
    (row,) = (row for row in shown.rows if row[:1] == ["new"] and len(row) == 7)
    assert f"≤ {row[3]}" in shown.text
    assert f"≤ {row[2]}" not in shown.text


def test_samples_that_are_gone_are_said_to_be_gone(tmp_path):
    folder = synthetic.run(tmp_path / "r", requests=300)
    (folder / "samples.arrows").unlink()
    shown = Page(write_report(judged(folder)))
    assert (
        "There is no samples.arrows: the load never began, or the file was removed." in shown.text
    )
    assert "did not close its file" not in shown.text


def test_only_a_topology_has_an_engine(page):
    rows = {row[0]: row[1:] for row in page(requests=300).rows if row}
    assert rows["engine"] == ["none"]
    own = page(requests=300, manifest={"topology": None})
    assert "engine" not in {row[0] for row in own.rows if row}


def test_it_is_said_why_equal_shares_have_different_rates(page):
    assert "Rates of equal shares differ a little on purpose" in page(requests=300).text
    assert "Rates of equal" not in page(requests=300, channels={"new": 1.0}, control=0.0).text


def test_a_failed_requests_cause_is_on_the_page_with_what_would_mend_it(page):
    gone = [
        (0.0, "app.started", {"instance": "a", "version": "v1"}),
        (2.0, "app.stopped", {"instance": "a", "version": "v1"}),
    ]
    shown = page(
        requests=1000,
        deploy=None,
        outages=[(3, 3.1, "refused", None)],
        marks=gone,
        manifest={"journal": True},
    )
    rows = {row[0]: row[1:] for row in shown.rows if row}
    assert "Whose fault" in shown.text
    assert rows["dead"][:2] == ["20", "sent to a server that was gone, or going"]
    assert "rotation" in rows["dead"][2]
    assert "Unexplained: 0 of 20." in shown.text
    assert "a v1 was going or gone from +2.000 s on" in shown.text
    assert "Whose fault" not in page(requests=1000).text


@pytest.mark.parametrize("odd", [5, {"dead": 5}, {"dead": {"failed": HOSTILE, "says": HOSTILE}}])
def test_a_cause_that_makes_no_sense_is_shown_as_text(page, odd):
    assert "script" not in page({"blame": odd}).tags
    witnesses = {"dead": {"failed": 1, "witnesses": [HOSTILE, {"id": HOSTILE, "why": HOSTILE}]}}
    assert "script" not in page({"blame": witnesses}).tags


MASKED = {"requests": 2000, "proxy": True, "masked": {"new": 9, "write": 2}}


def test_what_the_proxy_hid_is_counted_and_the_first_of_it_is_shown(page):
    shown = page(**MASKED, masked_twice=3)
    assert "✓ Holds" in shown.text
    assert "100 % answered as expected, 11 of them only after the proxy had tried again" in (
        shown.text
    )
    assert "Masked failures (11)" in shown.text
    rows = {row[0]: row[1:] for row in shown.rows if row}
    assert rows["requests by method"] == ["GET: 9, POST: 2"]
    assert rows["by server"] == ["127.0.0.1:18082: 11"]
    assert rows["arrived more than once"] == ["3"]
    tried = [row for row in shown.rows if len(row) == 7 and row[0].startswith("run-")]
    assert len(tried) == 10
    assert tried[0][1].startswith("5.00")
    assert tried[0][2:] == ["GET", "2", "502 → 200", "127.0.0.1:18082 → 127.0.0.1:18081", "2"]
    assert "The other 1 are in logs/proxy.log." in shown.text
    assert "lacks" not in shown.text


def test_how_often_a_masked_request_arrived_is_no_zero_where_nobody_tells(page):
    shown = page(**MASKED, journal=False)
    rows = {row[0]: row[1:] for row in shown.rows if row}
    assert rows["arrived more than once"] == ["not known: no journal tells"]
    assert next(row[6] for row in shown.rows if len(row) == 7 and row[0].startswith("run-")) == "–"


def test_a_proxy_that_hid_nothing_and_one_that_nobody_knows_of_are_told_apart(page):
    unknown = "No proxy's log is on file: whether one hid failures by trying again is not known."
    shown = page(requests=1000, proxy=True)
    assert "Masked failures (0)" in shown.text
    assert "None of 1,000 requests answered as expected." in shown.text
    assert unknown not in shown.text
    shown = page(requests=1000)
    assert "Masked failures" not in shown.text
    assert unknown in shown.text
    before = page({"masked": {}}, requests=1000)
    assert unknown not in before.text


def test_a_log_that_lacks_requests_is_told_as_what_it_is(page, tmp_path):
    folder = synthetic.run(tmp_path / "holes", requests=1000, proxy=True)
    log = folder / "logs" / "proxy.log"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-9]))
    shown = Page(write_report(judged(folder)))
    assert "✓ Holds" in shown.text
    assert "The proxy’s log lacks 9 of 1,000 requests answered as expected" in shown.text


def test_no_word_of_a_proxys_log_becomes_markup(tmp_path):
    folder = synthetic.run(tmp_path / "r", **MASKED)
    log = folder / "logs" / "proxy.log"
    word = json.dumps(f"{HOSTILE}:1").encode()[1:-1]
    text = log.read_bytes().replace(b"127.0.0.1:18082", word).replace(b'"GET"', b'"%b"' % word)
    log.write_bytes(text)
    shown = Page(write_report(judged(folder)))
    assert "Masked failures (11)" in shown.text
    assert plain(f"{HOSTILE}:1") in "".join(shown.words)
    assert not set(shown.tags) - set(OURS.split())
    for odd in ({"requests": HOSTILE}, {"requests": 3, "witnesses": 5, "by_method": [HOSTILE]}):
        odd |= {"twice": HOSTILE, "unlogged": HOSTILE}
        assert "script" not in Page(write_report(judged(folder, masked=odd))).tags
    odd = {"requests": 3, "witnesses": [HOSTILE, {"id": HOSTILE, "statuses": 5, "upstreams": "x"}]}
    assert "script" not in Page(write_report(judged(folder, masked=odd))).tags


ENGINE = [
    (8.0, "engine.container.start", {"instance": "green", "noted": 1008.004}),
    (8.1, "engine.network.connect", {"instance": "switch", "noted": 1008.6}),
    (8.2, "engine.container.health_status.healthy", {"instance": "green"}),
    (8.3, "engine.container.oom", {"instance": "blue"}),
    (8.4, "engine.container.die", {"instance": "blue", "exitCode": "137"}),
]


def test_what_the_engine_tells_is_in_the_table_of_events_at_the_moment_it_happened(page):
    shown = page(requests=4000, marks=ENGINE)
    rows = [row for row in shown.rows if len(row) == 3 and row[1].startswith("engine.")]
    assert rows == [
        ["8.000s", "engine.container.start", "instance green"],
        ["8.100s", "engine.network.connect", "instance switch, noted 500ms later"],
        ["8.200s", "engine.container.health_status.healthy", "instance green"],
        ["8.300s", "engine.container.oom", "instance blue"],
        ["8.400s", "engine.container.die", "instance blue, exitCode 137"],
    ]


def test_of_what_the_engine_tells_only_health_and_lack_of_memory_are_in_the_plot(tmp_path):
    many = [(9 + n / 100, ENGINE[n % 2][1], {"instance": f"{n}th"}) for n in range(200)]
    folder = synthetic.run(tmp_path / "r", requests=4000, marks=[*ENGINE, *many])
    page = Page(write_report(judged(folder)))
    drawn = page.source[page.source.index("<svg") : page.source.index("</svg>")]
    assert "green healthy" in drawn
    assert "blue oom" in drawn
    assert "v1-1 stopped" in drawn
    for word in ("engine", "connect", " start<", " die", "switch", "th start", "th connect"):
        assert word not in drawn, word


def test_an_inconclusive_page_is_no_pass_and_says_what_is_missing(page):
    shown = page(requests=1000, deploy=(2.0, 2.001))
    assert "? Inconclusive" in shown.text
    assert "inside the deploy window" in shown.text
    assert "✓" not in shown.text


@pytest.mark.parametrize("word", ["excellent", None, "HOLDS", ["holds"]])
def test_a_verdict_nobody_knows_is_never_shown_as_a_pass(word):
    assert verdict_word({"verdict": word}) == "inconclusive"


@pytest.fixture
def first_screen(tmp_path: Path) -> Callable[..., dict[str, tuple[str, str]]]:
    """The figures of a made-up run by what they measure: each a value and a remark."""

    def made(slo: str = "", **plan: Any) -> dict[str, tuple[str, str]]:
        recording = Recording.read(synthetic.run(tmp_path / "run", **plan))
        frame = Frame(recording, judge(recording, Slo.parse(slo)).as_json())
        return {what: (value, remark) for what, value, remark, _ in figures(frame)}

    return made


def test_a_share_that_failed_is_on_the_page_with_its_interval(first_screen):
    shown = first_screen(outages=[(8.0, 9.0, "refused", None)])
    told = ("200 of 1,332 failed", "15.02 %, at 95 % 13 to 18 %")
    assert shown["In the deploy window"] == told
    good = first_screen()["In the deploy window"]
    assert good == ("0 of 1,332 failed", "failure rate below 0.23 % at 95 %")


def test_an_empty_recording_shows_nothing_as_known(first_screen):
    shown = first_screen(requests=0, control=0, deploy=None)
    for what in ("Failed requests", "Downtime", "Longest outage"):
        assert shown[what] == ("not known", "nothing was sent"), what
    assert shown["In the deploy window"][0] == "no request"
    assert shown["Versions"] == ("not known", "no reply told its version")


def test_versions_that_nobody_told_never_answered_together_for_no_time(first_screen):
    untold = first_screen(versions=("", ""), manifest={"new_version": None})
    assert untold["Versions"] == ("not known", "no reply told its version")
    assert first_screen(switch=99.0)["Versions"] == ("v1: 4,000", "")
    two = first_screen()
    assert two["Both versions answered for"] == ("0ms", "v1: 2,000, v2: 2,000")


def test_downtime_is_what_it_is_called_only_where_nothing_was_answered(first_screen):
    whole, some = (8.0, 8.5, "refused", ["new"]), (11.0, 12.0, "reset", ["reused"])
    assert first_screen(outages=[whole])["Downtime"] == (
        "487ms to 513ms",
        "on 1 of 4 channels: new",
    )
    partial = first_screen(outages=[some], partial=0.3)
    assert "Downtime" not in partial
    assert partial["Failing at times for"][1] == "on 1 of 4 channels: reused"
    gaps = [(8.0, 8.1, "reset", ["reused"]), (8.4, 8.5, "reset", ["reused"])]
    assert "Down, or failing at times, for" in first_screen(outages=[whole, *gaps])


def test_the_page_says_what_was_promised_other_than_usual(tmp_path):
    recording = Recording.read(synthetic.run(tmp_path / "run", outages=[(8, 8.1, "reset", None)]))
    verdict = judge(recording, Slo.parse("failed=99,p99_ratio=none"))
    shown = headline(Frame(recording, verdict.as_json()))
    assert "<li>Promised: failed=99 (default 0); not promised: p99_ratio</li>" in shown


def test_the_facts_of_the_run_and_its_generator_are_on_the_page(page):
    shown = page(
        requests=1000,
        stalls=[(1.0, 1.3)],
        manifest={"command": ["./deploy.sh", "v 2"], "git": {"commit": "abc1234"}},
    )
    for fact in ("nowhere", "seed 1", "./deploy.sh 'v 2'", "abc1234", "reused", "/orders"):
        assert fact in shown.text
    assert "it stalled 1 times" in shown.text
    assert "rate reached 200/s (100 %)" in shown.text
    assert "zdtest judge" in shown.text


def test_promises_are_shown_with_their_units_and_headers_by_their_names(page):
    shown = page({"slo": Slo(p99_over="100ms", slow=float(90)).as_dict()}, requests=100,
                 manifest={"headers": {"Authorization": "…"}, "again": ["--url", "http://x/"],
                           "command": ["true"]})  # fmt: skip
    promises = dict(row for row in shown.rows if len(row) == 2)["SLO"]
    for promise in ("p99_ratio 3,", "p99_over 100ms,", "slow 90.0s,", "merge 1s,", "hole 100ms"):
        assert promise in promises, promises
    assert "Authorization …" in shown.text
    assert "--header 'Authorization: …' -- true" in shown.text


def test_the_page_asks_the_network_for_nothing(hurt):
    shown = hurt
    assert "script" not in shown.tags
    assert not {"link", "iframe", "object", "embed", "base", "form", "img"} & set(shown.tags)
    asked = [
        value
        for _, name, value in shown.attributes
        if name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster")
    ]
    assert all(value.startswith(("#", "data:")) for value in asked), asked
    assert not [name for _, name, _ in shown.attributes if name.startswith("on")]
    assert "@import" not in shown.source
    assert shown.source.count("url(") == shown.source.count("url(#")
    policy = [v for tag, name, v in shown.attributes if tag == "meta" and "default-src" in v]
    assert "default-src 'none'" in policy[0]


def test_the_images_of_containers_are_named_with_version_and_digest(page):
    image = {"name": "nginx", "version": "nginx/1.22.1", "tag": "zdtest/nginx:1", "size": 93e6}
    shown = page(manifest={"images": [{**image, "id": "sha256:abc"}]})
    assert ["nginx", "nginx/1.22.1", "zdtest/nginx:1", "sha256:abc", "93 MB"] in shown.rows
    assert "Images" not in page().text


@pytest.mark.parametrize("word", [HOSTILE, DARK_LETTERS], ids=["markup", "control characters"])
def test_no_word_of_the_run_becomes_markup(page, word):
    manifest = {"topology": word, "strategy": word, "command": word, "url": word, "git": word}
    manifest |= {"host": {"name": word, word: word}, "engine": [word]}
    manifest |= {"images": [{"name": word, "version": word, "size": word}, word]}
    shown = page(
        {
            "reasons": [word],
            "slo": {word: word},
            "outages": [{"channel": word, "outcomes": {word: 1}}],
        },
        requests=400,
        manifest=manifest,
        outages=[(0.6, 0.7, "http_5xx", None)],
        marks=[(0.5, word, {word: word}), (0.6, "fault.begin", {"fault": word})],
    )
    assert not set(shown.tags) - set(OURS.split())
    assert plain(word) in "".join(shown.words)
    assert "\x00" not in shown.source
    assert "\u202e" not in shown.source


def test_a_hostile_version_stays_text_inside_the_plots(hurt):
    shown = hurt
    assert "script" not in shown.tags
    drawn = shown.source[shown.source.index("<svg") : shown.source.rindex("</svg>")]
    assert "&lt;/svg&gt;&lt;/style&gt;&lt;script&gt;" in drawn
    assert "$v$-1 started" in drawn


def test_figures_take_their_colours_and_font_from_the_page(hurt):
    shown = hurt
    drawn = shown.source[shown.source.index("<svg") :]
    assert "var(--bad)" in drawn
    assert "DejaVu" not in drawn
    assert "#0000" not in drawn
    assert "stroke: #" not in drawn
    assert "fill: #" not in drawn
    assert "*{" not in drawn


def test_ids_are_the_plots_own_and_each_is_used_once(hurt):
    shown = hurt
    ids = [value for _, name, value in shown.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert set(ids) <= set(re.findall(r"#([^)\"]+)", shown.source))


def test_every_table_is_headed_and_every_plot_is_described(hurt):
    shown = hurt
    heads = shown.tags.count("th")
    scopes = [value for tag, name, value in shown.attributes if (tag, name) == ("th", "scope")]
    assert len(scopes) == heads
    assert set(scopes) == {"col", "row"}
    spoken = [v for tag, name, v in shown.attributes if (tag, name) == ("svg", "aria-label")]
    assert len(spoken) == shown.tags.count("svg") == 6  # three plots, wide and narrow
    assert "a lane for each of new, reused, slow, write, control" in spoken[0]


def test_the_same_run_gives_the_same_bytes(tmp_path):
    folder = judged(synthetic.run(tmp_path / "r", requests=1000, outages=[(2, 2.2, "reset", None)]))
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first
    assert [path.name for path in folder.glob(".*")] == []


def test_a_run_without_a_sample_has_a_page(page):
    shown = page(requests=0, deploy=None)
    assert "? Inconclusive" in shown.text
    assert shown.text.count("No sample was recorded.") == 3


def test_a_run_cut_short_has_a_page_that_says_so(page):
    shown = page(requests=1000, closed=False)
    assert "? Inconclusive" in shown.text
    assert "The recorder did not close its file: " in shown.text


def test_failures_are_listed_up_to_the_cap_and_the_rest_is_counted(page):
    shown = page(requests=4000, outages=[(0, 15, "http_5xx", None)])
    total = sum(1 for row in shown.rows if len(row) == 11 and row[0].startswith("run-"))
    assert total == FAILURES
    assert "Show the first 1,000 of 3,000" in shown.text
    assert "The other 2,000 are in samples.arrows." in shown.text


def test_the_control_and_what_was_never_sent_are_no_failures(page):
    shown = page(requests=1000, outages=[(2, 2.1, "reset", ["control"]), (1, 1.1, "unsent", None)])
    assert "Failed requests (0)" in shown.text
    assert "control server 2 of 100 failed (98.00 % ok)" in shown.text


def test_one_failure_of_very_many_is_never_a_hundred_percent():
    for whole in (7, 300, 30_000, 10_000_000, 10**12):
        shown = percent(whole - 1, whole)
        assert 85 < float(shown.removesuffix(" %")) < 100, shown
    assert percent(10_000_000, 10_000_000) == "100 %"
    assert percent(0, 10) == "0 %"
    assert percent(0, 0) == "–"


def test_the_page_never_says_a_hundred_percent_beside_a_failure(page):
    shown = page(requests=30_000, rate=2000, outages=[(6, 6.001, "reset", ["new"])])
    assert "1 of 30,000" in shown.text
    assert re.search(r"99\.99\d* % answered as expected", shown.text)
    assert "100 % answered" not in shown.text


def test_numbers_that_are_none_are_a_dash_and_lengths_tell_both_bounds():
    assert (count(None), ms(float("nan")), count("12")) == ("–", "–", "–")
    assert (count(12345), ms(0.42), ms(3500)) == ("12,345", "0.42ms", "3.5s")
    assert span(480, 490.4) == "480ms to 490ms"
    assert span(30, 30) == "30ms"


def test_labels_of_marks_never_overlap_and_no_line_crosses_a_text():
    told = [(0.1 * n, f"instance-{n} ready") for n in range(60)] + [(9.99, "at the very end")]
    labels = place(told, length=10, inner=800)
    assert [label.x for label in labels] == sorted(x for x, _ in told)
    shown = [label for label in labels if label.row is not None]
    assert shown
    for label in shown:
        begin = label.x * 80
        end = begin + len(label.text) * GLYPH
        assert end <= 800
        assert label.row < LABEL_ROWS
        for other in shown:
            if label.x < other.x < label.x + (end - begin) / 80:
                assert other.row > label.row


def test_a_plot_is_the_same_whatever_was_drawn_before():
    def draw(axes: Any) -> None:
        axes.plot([1, 2])

    size = {"name": "a", "about": "b", "size": (200, 100), "box": (10, 10, 10, 10)}
    assert render(draw, **size) == render(draw, **size)


def test_a_run_that_was_not_judged_is_refused(tmp_path):
    folder = synthetic.run(tmp_path / "r", requests=10)
    with pytest.raises(RecordingError, match="not judged yet"):
        write_report(folder)
    (folder / "verdict.json").write_text("[", "utf-8")
    with pytest.raises(RecordingError, match="damaged"):
        write_report(folder)


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path):
    folder = judged(synthetic.run(tmp_path / "r", requests=100))
    (folder / "report.html").mkdir()
    with pytest.raises(RecordingError, match="cannot write"):
        write_report(folder)
    assert [path.name for path in folder.glob(".*")] == []


def test_the_index_lists_runs_newest_first_with_their_verdicts(tmp_path):
    for day, name in enumerate(("old", "new & shiny", "unjudged"), 1):
        clock = {"monotonic": 0.0, "wall": 1.7e9 + day * 86400}
        outages = [(1, 1.1, "reset", None)] if name == "old" else []
        synthetic.run(
            tmp_path / name,
            requests=1000,
            outages=outages,
            manifest={"clock": clock, "strategy": HOSTILE},
        )
        if name != "unjudged":
            (judged(tmp_path / name) / "report.html").touch()
    (tmp_path / "no run").mkdir()
    (tmp_path / "never loaded").mkdir()
    (tmp_path / "never loaded" / "manifest.json").write_text('{"run": "never loaded"}')
    shown = Page(write_index(tmp_path.iterdir(), tmp_path / "index.html"))
    *_, runs = (place for place, row in enumerate(shown.rows) if row[-1:] == ["run"])
    listed = shown.rows[runs + 1 :]
    assert [row[0] for row in listed] == ["not judged", "✓ Holds", "✕ Broken", "not judged"]
    assert "never loaded: no verdict" not in shown.text, "there is nothing to be judged"
    assert listed[2][3] == "20 of 1,000"
    assert "unjudged: no verdict.json, expected a judged run" in shown.text
    links = [value for _, name, value in shown.attributes if name == "href"]
    assert links == ["./new%20%26%20shiny/report.html", "./old/report.html"]
    assert shown.tags.count("script") == 1, "its own, which sorts"


def test_an_index_of_nothing_is_a_page(tmp_path):
    assert "0 runs" in Page(write_index([], tmp_path / "index.html")).text


def test_a_rate_of_replies_is_the_load_whatever_the_width_of_a_bin(tmp_path):
    folder = synthetic.run(tmp_path / "r", requests=2050, outages=[(3, 4, "reset", None)])
    frame = Frame(Recording.read(folder), {})
    for wide in (0.1, 0.2, 0.5, 3.0):
        total = throughput(frame, wide).sum(axis=1)
        assert total[1:].between(0.75 * 200, 1.25 * 200).all(), wide
    assert throughput(frame, 0.5)["failed"].loc[3.0:3.5].min() == 200


def test_percentiles_and_counts_are_those_of_the_verdict(tmp_path):
    plan = {"outages": [(9, 9.5, "timeout", None)], "slow": [(11, 12, 0.5, None)]}
    folder = judged(synthetic.run(tmp_path / "r", requests=4000, **plan))
    verdict = json.loads((folder / "verdict.json").read_text("utf-8"))
    for row in percentiles(Frame(Recording.read(folder), verdict)).to_dict("records"):
        told = verdict["phases"][row["phase"]]
        assert (row["requests"], row["failed"]) == (told["requests"], told["failed"])
        for name in ("p50", "p99", "max"):
            assert row[name] == pytest.approx(told[f"{name}_ms"], rel=1e-6)


def test_one_failed_request_of_very_many_is_seen_in_its_lane(tmp_path):
    folder = synthetic.run(tmp_path / "r", requests=40_000, outages=[(60, 60.01, "reset", ["new"])])
    shown = lane(Frame(Recording.read(folder), {}), "new", 900)
    assert len(shown) == 900
    assert (shown["failed"] > 0).sum() == 1
    hit = shown[shown["failed"] > 0].iloc[0]
    assert hit["left"] <= 60.01
    assert hit["right"] >= 60


@pytest.mark.parametrize(
    "plan",
    [{"outages": [(4.0, 5.0, "refused", ["new"])]}, {"slow": [(4.0, 5.0, 2.0, ["new"])]}],
    ids=["outage", "brownout"],
)
def test_what_was_not_over_as_the_run_ended_may_have_lasted_longer_than_at_most(page, plan):
    shown = page(requests=1000, **plan)
    place = next(place for place, row in enumerate(shown.rows) if "at most" in row)
    told = dict(zip(shown.rows[place], shown.rows[place + 1], strict=True))
    assert (told["channel"], told["at most"]) == ("new", "1s or more")
