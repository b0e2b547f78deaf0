"""What once held though it proved nothing or was broken, each as somebody found it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import synthetic

from zdtest.judging.mixed import shared
from zdtest.judging.slo import Slo
from zdtest.judging.verdict import Verdict, judge
from zdtest.records.arrows import RowWriter
from zdtest.records.beside import RETRY
from zdtest.records.recording import Recording
from zdtest.records.sample import CHANNELS
from zdtest.report import write_index, write_report
from zdtest.report.frame import Frame
from zdtest.report.headline import figures
from zdtest.results.overview import markdown
from zdtest.results.release import Release
from zdtest.results.result import read_all
from zdtest.table import Row

UNTIMED = "p99_ratio=none,p99_over=none"
STREAMS = {"new": 1.0, "stream": 1.0}


@pytest.fixture
def judged(tmp_path: Path) -> Callable[..., Verdict]:
    """Return how a run of that plan is judged, by promises as they are written."""

    def judged(slo: str = "", **plan: Any) -> Verdict:
        return judge(Recording.read(synthetic.run(tmp_path / "run", **plan)), Slo.parse(slo))

    return judged


# Streams.


def test_a_stream_that_falls_silent_is_slow(judged):
    """Whatever message ends the silence, each slot that waited for it waited so long."""
    silence = {"think": {"stream": 0.2}, "channels": STREAMS, "journal": False}
    verdict = judged(slow=[(8.0, 8.1, 3.0, ["stream"])], **silence)
    assert verdict.verdict == "broken"
    (reason,) = verdict.reasons
    assert reason.startswith("10 replies took longer than 1s beyond think time, the slowest 3.0")
    assert "first on stream at +8.0" in reason
    (brownout,) = verdict.brownouts
    assert (brownout.channel, brownout.failed) == ("stream", 10)
    assert judged("slow=4s", slow=[(8.0, 8.1, 3.0, ["stream"])], **silence).verdict == "holds"
    assert judged(**silence).verdict == "holds"


def test_a_stream_that_always_pauses_for_longer_is_told_how_to_say_so(judged):
    verdict = judged(channels=STREAMS, slow=[(0, 99, 3.0, ["stream"])], journal=False)
    (reason,) = verdict.reasons
    assert verdict.verdict == "broken"
    silent = "; stream was silent for 3.01s before the deploy too: where that is by design, "
    assert reason.endswith(f"{silent}stream~3.01s tells so, or promise slow=4s")


# What could hide, and what was counted.


@pytest.mark.parametrize(
    ("slo", "stall"),
    [
        (f"hole=20ms,{UNTIMED}", (9.0, 9.08)),
        (f"stall=1s,{UNTIMED}", (9.0, 9.9)),
        (f"stall=1s,hole=500ms,{UNTIMED}", (9.0, 9.6)),
    ],
)
def test_a_hole_counts_however_long_a_stall_may_be(judged, slo: str, stall: tuple[float, float]):
    """What makes a measurement suspect and what could hide an outage are two bounds."""
    fast = {"requests": 20_000, "rate": 1000.0}
    verdict = judged(slo, stalls=[stall], **fast)
    assert verdict.verdict == "inconclusive"
    told = f"the load generator stalled for {(stall[1] - stall[0]) * 1e3:.0f} ms at +9.00"
    assert told in verdict.reasons[0]
    assert judged(slo, **fast).verdict == "holds"


def test_a_stall_that_is_no_hole_is_still_suspect(judged):
    verdict = judged(f"hole=1s,{UNTIMED}", stalls=[(9.0, 9.4)])
    assert verdict.verdict == "holds"
    assert verdict.suspect["stalled"]


def test_what_was_only_under_way_when_the_deploy_went_by_does_not_make_up_the_requests(judged):
    """Four hundred slow replies span a moment that two requests were due in."""
    moment = {"deploy": (10.0, 10.01), "switch": 10.005}
    verdict = judged(channels={"slow": 1.0}, think={"slow": 2.0}, journal=False, **moment)
    assert verdict.phases["under_way"].requests > 398
    assert verdict.verdict == "inconclusive"
    assert "only 2 requests fell due inside the deploy window, needs 100" in verdict.reasons[0]


# Two deploys.

FIRST = ((4.0, "deploy.begin", {"version": "v2"}),)
DONE = {"marks": [*FIRST, (5.0, "deploy.end", {"version": "v2"})]}
FAILED = {"marks": [*FIRST, (5.0, "deploy.end", {"error": "b never became ready"})]}
SECOND = {"deploy": (9.0, 12.0), "switch": 10.0}


def test_a_deploy_that_failed_is_not_made_good_by_the_next_one(judged):
    verdict = judged(UNTIMED, **FAILED, **SECOND)
    assert verdict.verdict == "inconclusive"
    assert verdict.reasons == ("inconclusive: the deploy failed: b never became ready",)
    assert judged(UNTIMED, **DONE, **SECOND).verdict == "holds"


def test_whoever_means_to_deploy_again_says_so(judged):
    again = f"deploy=again,{UNTIMED}"
    assert judged(again, **FAILED, **SECOND).verdict == "holds"
    verdict = judged(again, **DONE, **SECOND)
    assert verdict.verdict == "inconclusive"
    assert "no deploy failed" in verdict.reasons[0]
    late = [(11.5, "deploy.begin", {}), (12.5, "deploy.end", {"error": "no"})]
    verdict = judged(again, marks=[*FAILED["marks"], *late], **SECOND)
    assert "the deploy failed: no" in verdict.reasons[0]


def test_a_deploy_that_was_done_is_not_aborted_because_the_next_one_was(judged):
    back = {"manifest": {"old_version": "v1", "new_version": "v2"}, "switch": 99.0}
    last = (13.0, "deploy.end", {"error": "v2 is not well"})
    marks = [(9.0, "deploy.begin", {}), last]
    slo = f"deploy=aborted,{UNTIMED}"
    verdict = judged(slo, deploy=(4.0, 5.0), marks=marks, **back)
    assert verdict.verdict == "broken"
    assert verdict.reasons[0] == "the deploy was done, promised was that it is aborted"


def test_the_pause_between_two_deploys_is_evidence_of_neither(judged):
    """Forty milliseconds of deploys, nine seconds apart."""
    short = {"deploy": (5.0, 5.02), "switch": 5.01}
    marks = [(14.0, "deploy.begin", {}), (14.02, "deploy.end", {})]
    verdict = judged(f"require_rate=0.002,{UNTIMED}", marks=marks, **short)
    assert verdict.phases["deploy"].requests == pytest.approx(12, abs=2)
    assert verdict.verdict == "inconclusive"
    assert any("fell due inside the deploy window, needs 100" in told for told in verdict.reasons)
    assert any("the failure rate is only known to be below" in told for told in verdict.reasons)


def test_a_deploy_in_which_nothing_was_asked_is_named_beside_a_longer_one(judged):
    marks = [(14.005, "deploy.begin", {}), (14.007, "deploy.end", {})]
    verdict = judged(marks=marks, switch=10.0)
    assert verdict.verdict == "inconclusive"
    (reason,) = verdict.reasons
    assert "no request fell due inside the deploy at +14.005 s" in reason


@pytest.mark.parametrize("at", [4.0, 25.0])
def test_the_end_of_one_deploy_is_not_another_ones(judged, at):
    verdict = judged(UNTIMED, marks=[(at, "deploy.begin", {})])
    assert verdict.verdict == "inconclusive"
    assert "inconclusive: the deploy's end was not marked (deploy.end)" in verdict.reasons


def test_where_what_was_under_way_tells_no_version_the_rest_does(tmp_path: Path):
    """Nothing was deployed, and all that was under way as that began are slow downloads."""
    unnamed = {"old_version": None, "new_version": None}
    plan = {"versions": ("v1", "v1"), "manifest": unnamed, "journal": False, "rate": 100.0}
    for seed in range(4):
        folder = synthetic.run(tmp_path / f"r{seed}", seed=seed, **plan)
        recording = Recording.read(folder)
        samples = recording.samples
        untold = samples.channel == CHANNELS.index("slow")
        samples.version[untold] = samples.versions.index("")
        verdict = judge(recording, Slo())
        assert verdict.verdict == "inconclusive"
        assert "nothing shows that anything was deployed" in verdict.reasons[0]


@pytest.mark.parametrize("slo", ["", "deploy=aborted", "deploy=again"])
def test_a_deploy_that_broke_off_was_neither_done_nor_given_up(judged, slo):
    about = {"error": "division by zero", "broke_off": True}
    marks = [(5.0, "deploy.begin", {}), (9.0, "deploy.end", about)]
    verdict = judged(slo, marks=marks, deploy=None, switch=99.0)
    assert verdict.verdict == "inconclusive"
    assert "inconclusive: the deploy broke off: division by zero" in verdict.reasons


# Faults.

KILL = {"fault": "kill a"}


@pytest.mark.parametrize(
    ("marks", "reason"),
    [
        ([(9.0, "begin", {}), (9.5, "end", {})], "was never proven to take effect"),
        (
            [(9.0, "begin", {}), (9.5, "end", {"error": "kill a in effect: pid 7 lives"})],
            ": kill a in effect: pid 7 lives",
        ),
        (
            [(9.0, "begin", {}), (9.1, "proven", {}), (9.5, "end", {"error": "it stays"})],
            ": it stays",
        ),
        ([(9.0, "begin", {}), (9.1, "proven", {})], "was never proven to be gone"),
        (
            [(30.0, "begin", {}), (30.1, "proven", {}), (31.0, "end", {})],
            "came while no load was on",
        ),
    ],
)
def test_a_fault_that_did_nothing_or_came_too_late_proves_nothing(judged, marks, reason):
    told = [(at, f"fault.{name}", {**KILL, **about}) for at, name, about in marks]
    verdict = judged(marks=told)
    assert verdict.verdict == "inconclusive"
    assert verdict.reasons[0].startswith("inconclusive: fault kill a")
    assert verdict.reasons[0].endswith(reason)
    done = [(9.0, "begin"), (9.1, "proven"), (9.5, "end")]
    assert judged(marks=[(at, f"fault.{name}", KILL) for at, name in done]).verdict == "holds"


# Accounts that are gone.

KEYED = {"write": {"rate": 20.0, "interval": 0.05, "keyed": True}}


@pytest.mark.parametrize("left", [None, b""], ids=["removed", "emptied"])
def test_keys_without_the_account_of_who_asked_again_are_not_known_to_hold(
    tmp_path: Path, left: bytes | None
):
    plan: dict[str, Any] = {"channels": {"write": 1.0}, "rate": 20.0, "requests": 400}
    folder = synthetic.run(tmp_path / "run", manifest={"channels": KEYED, "journal": True}, **plan)
    account = folder / "retries.arrows"
    once = f"phantom=none,early=none,min_requests=10,{UNTIMED}"

    def verdict() -> Verdict:
        return judge(Recording.read(folder), Slo.parse(once))

    RowWriter(account, RETRY).close({"count": 0, "dropped": 0})
    assert verdict().verdict == "holds"
    account.unlink() if left is None else account.write_bytes(left)
    assert verdict().verdict == "inconclusive"
    assert verdict().reasons == (
        "inconclusive: retries.arrows is missing, or was not closed: which writes were asked "
        "again under their key is unknown, and so is what became of them",
    )


# Figures.


def test_long_requests_cut_at_one_moment_are_no_outage_as_long_as_they_are(judged):
    """All connections are cut at 9.99 s, each within its two seconds, and nothing was down.

    An outage of no time explains that, however far apart the first and the last of them fell due.
    """
    cut = {"channels": {"slow": 1.0}, "think": {"slow": 2.0}, "journal": False}
    verdict = judged(outages=[(8.0, 9.99, "closed", None)], cut_at=9.99, **cut)
    (outage,) = verdict.outages
    assert (outage.min, outage.failed) == (0.0, 398)
    assert outage.max == pytest.approx(2.0, abs=0.01)
    assert verdict.downtime[0] == 0.0
    assert "for 0 to 1995 ms" in verdict.summary()
    refused = judged(outages=[(8.0, 9.99, "refused", None)], **cut)
    assert refused.outages[0].min == pytest.approx(1.985 - 0.002), "who was refused was so when due"


def test_an_outage_that_the_run_saw_no_end_of_has_no_longest(judged):
    verdict = judged(outages=[(8.0, 99.0, "refused", ["new"])])
    told = verdict.as_json()
    assert told["downtime_open"]
    assert told["channels"]["new"]["downtime_open"]
    assert not told["channels"]["reused"]["downtime_open"]
    assert "ms or more in 1 outage(s)" in verdict.summary()
    closed = judged(outages=[(8.0, 9.0, "refused", ["new"])])
    assert not closed.as_json()["downtime_open"]
    assert "or more" not in closed.summary()


CANARY = {"share": 0.3, "deploy": (6.5, 13.0), "switch": (7.0, 12.0), "control": 0.0}


@pytest.mark.parametrize("named", [("v1", "v2"), (None, None)], ids=["named", "unnamed"])
def test_versions_of_a_canary_that_was_taken_back_are_mixed_while_it_answered(judged, named):
    """However long the settling is, and whether or not anybody told what the two are called."""
    old, new = named
    about = {"manifest": {"old_version": old, "new_version": new}}
    verdict = judged(f"deploy=aborted,{UNTIMED}", **CANARY, **about)
    assert set(verdict.versions) == {"v1", "v2"}
    assert verdict.mixed == pytest.approx(5.0, abs=0.1)


def test_three_versions_are_mixed_while_any_two_of_them_answer():
    told = {"v1": (0.0, 4.0), "v2": (3.0, 8.0), "v3": (6.0, 20.0), "v4": (25.0, 30.0)}
    assert shared(told.values()) == 3.0
    assert shared([(0.0, 9.0), (1.0, 2.0), (4.0, 5.0)]) == 2.0
    assert shared([(0.0, 9.0), (1.0, 5.0), (2.0, 3.0), (4.0, 7.0)]) == 6.0
    assert shared([(0.0, 9.0)]) == shared([]) == 0.0


def test_wherever_the_length_of_an_outage_that_did_not_end_is_told_it_may_be_more(tmp_path: Path):
    folder = synthetic.run(tmp_path / "run", outages=[(8.0, 99.0, "refused", ["new"])])
    recording = Recording.read(folder)
    told = judge(recording, Slo()).as_json()
    shown = {term: value for term, value, _, _ in figures(Frame(recording, told))}
    assert shown["Downtime"] == shown["Longest outage"] == "12.0s or more"
    (folder / "verdict.json").write_text(json.dumps(told))
    index = tmp_path / "index.html"
    write_index([folder], index)
    assert "12.0s or more" in index.read_text()
    assert "≥ 12.0s" in write_report(folder).read_text()
    row = {"verdict": "broken", "failed": 1, "requests": 2, "downtime_open": True}
    row |= {"downtime_min_ms": 1.0, "downtime_max_ms": 2.0}
    facts = {f"zdtest.{name}": value for name, value in row.items()}
    assert Row.of("a::b", facts).downtime == "1 to 2 ms or more"


def test_the_page_tells_of_all_deploys_and_of_the_one_that_failed(tmp_path: Path):
    folder = synthetic.run(tmp_path / "run", **FAILED, **SECOND)
    recording = Recording.read(folder)
    shown = figures(Frame(recording, judge(recording, Slo()).as_json()))
    told = next(one for one in shown if "deploy" in one[0].lower() and "took" in one[0])
    assert told == ("2 deploys took", "4s", "began at 4.000s, b never became ready", True)


@pytest.mark.parametrize("end", [9.0, 99.0], ids=["ended", "not ended"])
def test_so_it_may_where_runs_are_told_side_by_side_and_in_a_release(tmp_path: Path, end: float):
    told = {"manifest": {"topology": "", "variant": "", "strategy": "command", "test": ""}}
    folder = synthetic.run(tmp_path / "run", outages=[(8.0, end, "refused", ["new"])], **told)
    verdict = judge(Recording.read(folder), Slo())
    (folder / "verdict.json").write_text(json.dumps(verdict.as_json()))
    (one,), _ = read_all([folder])
    assert one.open == (end > 20)
    assert (" or more |" in markdown([one])) == one.open
    kept = Release.of("v1", [folder]).write(tmp_path / "history")
    assert [one.open for one in Release.read(kept).results] == [one.open]


def test_a_rate_is_not_proved_by_what_fell_due_once_the_rest_had_been_cut(judged):
    """All that is under way as the deploy begins is cut; of what falls due in it nothing fails."""
    cut = {"channels": {"slow": 1.0}, "think": {"slow": 2.0}, "journal": False}
    cut |= {"deploy": (9.9, 15.0), "switch": 12.0, "cut_at": 9.95}
    verdict = judged(
        f"failed=none,require_rate=0.01,{UNTIMED}", outages=[(8.0, 9.89, "closed", None)], **cut
    )
    assert verdict.phases["deploy"].failed == 0
    assert verdict.phases["under_way"].failed > 300
    assert verdict.verdict == "inconclusive"
    assert "that were under way as it began: the failure rate is only known" in verdict.reasons[0]
    assert judged(f"failed=none,require_rate=0.01,{UNTIMED}", **cut).verdict == "holds"
