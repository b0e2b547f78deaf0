"""What a terminal says of a run: nothing hidden, nothing known that is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import synthetic

from zdtest.judging.phase import Figures
from zdtest.judging.slo import Slo
from zdtest.judging.summary import _failed, _pair
from zdtest.judging.verdict import Verdict, judge
from zdtest.records.recording import Recording

# A made-up run of 20 s at 200/s: the deploy runs from 6.67 s to 13.33 s and switches at 10 s.


@pytest.fixture
def judged(tmp_path: Path):
    def judged(slo: str = "", **plan: Any) -> Verdict:
        return judge(Recording.read(synthetic.run(tmp_path / "r", **plan)), Slo.parse(slo))

    return judged


def line(verdict: Verdict, begin: str) -> str:
    """Return the one line that begins so."""
    (found,) = [one for one in verdict.summary().splitlines() if one.strip().startswith(begin)]
    return found.strip()


def test_latencies_are_told_of_each_phase_whatever_the_verdict(judged):
    assert line(judged(), "p50/p99") == (
        "p50/p99: baseline 4.08/6.36ms, deploy 4.1/6.35ms, settle 4.1/6.49ms"
    )
    slow = judged(slow=[(13.4, 99.0, 1.1, None)])
    assert line(slow, "p50/p99").endswith("settle 1.1/1.11s")


def test_a_phase_without_a_good_reply_has_no_latency(judged):
    verdict = judged("failed=none", outages=[(7.0, 99.0, "refused", None)])
    assert line(verdict, "p50/p99").startswith("p50/p99: baseline 4.08/6.36ms, deploy ")
    assert "settle" not in line(verdict, "p50/p99")
    nothing = judged(outages=[(0.0, 99.0, "refused", None)])
    assert line(nothing, "p50/p99") == "p50/p99: not known, no good reply could be timed"


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        ((0.0086, 0.012), "8.6/12ms"),
        ((0.0086, 1.5), "8.6ms/1.5s"),
        ((1.0, 2.0), "1/2s"),
        ((65.0, 130.0), "65.0s/2m10s"),
        ((-0.004, 0.012), "-4ms/12ms"),
    ],
)
def test_two_durations_share_their_unit_where_they_can(pair, told):
    assert _pair(*pair) == told


def test_the_versions_that_replies_told_are_counted(judged):
    told = "versions: 2000 good replies from v1, 2000 good replies from v2"
    assert line(judged(), "versions") == told
    half = judged(versions=("v1", ""), manifest={"new_version": None})
    assert line(half, "versions") == "versions: 2000 good replies from v1, 2000 that told none"
    assert "versions:" not in judged(versions=("", "")).summary()


def test_of_many_versions_the_first_few_are_named(judged, tmp_path: Path):
    recording = Recording.read(synthetic.run(tmp_path / "many", manifest={"new_version": None}))
    samples = recording.samples
    names = ("", *(f"v{n}" for n in range(9)))
    many = type(samples)(
        **{
            name: getattr(samples, name)
            for name in type(samples).__slots__
            if name not in ("versions", "version")
        },
        versions=names,
        version=(1 + samples.seq % 9).astype(samples.version.dtype),
    )
    object.__setattr__(recording, "samples", many)
    assert line(judge(recording, Slo()), "versions").endswith("from v4, 4 more")


def test_promises_other_than_the_default_ones_are_told_with_it(judged):
    outage = {"outages": [(8.0, 8.5, "refused", ["new"])]}
    verdict = judged("failed=100,slow=2s,p99_ratio=none,hole=1.2345s", **outage)
    assert verdict.verdict == "holds"
    told = (
        "promised: failed=100 (default 0), slow=2s (default 1s), "
        "hole=1.2345s (default 100ms); not promised: p99_ratio"
    )
    assert verdict.scope == told
    assert f"\n  {told}\n" in verdict.summary()
    assert judged().scope == ""


def test_a_promise_taken_back_and_one_made_are_told_as_they_may_be_written():
    slo = Slo(p99_over=0.0005, require_rate=1e-4, p99_ratio=2.5, masked=0, converge=90.5)
    assert slo.changes() == (
        "promised: p99_ratio=2.5 (default 3), p99_over=0.5ms (default 250ms), "
        "masked=0 (default none), converge=90.5s (default 0ms), require_rate=0.0001 (default none)"
    )
    assert Slo.parse(
        "p99_ratio=2.5,p99_over=0.5ms,masked=0,converge=90.5s,require_rate=0.0001"
    ) == slo  # fmt: skip
    assert Slo(channels=("new",), deploy="aborted").changes() == "", "a verdict spells these out"


def test_a_share_that_failed_is_told_with_its_interval(judged):
    verdict = judged(outages=[(8.0, 9.0, "refused", None)])
    deploy = verdict.phases["deploy"]
    assert (deploy.failed, deploy.requests) == (200, 1332)
    assert line(verdict, "200 of 1332") == (
        "200 of 1332 failed in the deploy window: 15.02 % (13 to 18 % at 95 %)"
    )


def test_where_all_failed_the_interval_says_how_sure_that_is():
    told = "206 of 206 failed in it: 100 % (98 to 100 % at 95 %)"
    assert _failed(Figures(206, 206), "in it") == told
    assert _failed(Figures(206, 205), "in it").startswith("205 of 206 failed in it: 99.52 % (")
    assert _failed(Figures(252, 59), "in it") == (
        "59 of 252 failed in it: 23.42 % (18 to 30 % at 95 %)"
    )


def test_where_nothing_was_asked_nothing_is_said_to_be_known(judged):
    verdict = judged(requests=400, deploy=(5.0, 6.0))
    told = "no request fell in the deploy window: nothing is known of it"
    assert line(verdict, "no request fell in") == told
    assert "0 of 0" not in verdict.summary()
    assert "in the deploy window" not in judged(requests=400, deploy=None).summary()


def test_failures_before_and_after_the_deploy_are_told_apart_from_those_in_it(judged):
    verdict = judged(outages=[(1.0, 1.1, "refused", None), (15.0, 15.2, "refused", None)])
    summary = verdict.summary()
    assert "20 of 1325 failed before the deploy: 1.51 % (0.92 to 2.4 % at 95 %)" in summary
    assert "0 of 1332 failed in the deploy window: failure rate below 0.23 % at 95 %" in summary
    assert "40 of 1332 failed after the deploy: 3.01 % (2.1 to 4.1 % at 95 %)" in summary
    assert "the deploy:" not in judged().summary()


def test_a_channel_is_down_only_where_nothing_of_it_was_answered(judged):
    verdict = judged(outages=[(8.0, 8.5, "refused", ["new"])])
    assert line(verdict, "down") == (
        "down on new for 487 to 513 ms in 1 outage(s); the longest on new at +8.000 s: 487 to 513 "
        "ms, 40 of 40 requests failed"
    )
    assert "at times" not in verdict.summary()


def test_a_channel_that_answered_some_was_failing_at_times(judged):
    verdict = judged(outages=[(8.0, 12.0, "reset", ["reused"])], partial=0.1)
    assert "\ndown" not in verdict.summary()
    told = line(verdict, "failing at times")
    assert told.startswith("failing at times on reused for ")
    assert told.endswith(" 27 of 313 requests failed")


def test_what_was_down_and_what_failed_at_times_are_sized_apart(judged):
    verdict = judged(
        outages=[(8.0, 8.5, "refused", ["new"]), (8.0, 8.1, "refused", ["reused"]),
                 (8.9, 9.0, "refused", ["reused"])]
    )  # fmt: skip
    assert line(verdict, "down").startswith("down on new for 487 to 513 ms in 1 outage(s)")
    assert line(verdict, "failing").startswith("failing at times on reused for 987 to ")
