"""A channel that did not work before the deploy is no evidence of it, and says so first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import synthetic

from zdtest.judging.evidence import Evidence
from zdtest.judging.slo import Slo
from zdtest.judging.verdict import Verdict, judge
from zdtest.records.recording import Recording

# A made-up run of 20 s at 200/s: the deploy runs from 6.67 s to 13.33 s and switches at 10 s.

NEVER = (0.0, 99.0, "http_5xx", ["write"])


@pytest.fixture
def judged(tmp_path: Path):
    def judged(*outages: tuple[Any, ...], slo: str = "", **plan: Any) -> Verdict:
        folder = synthetic.run(tmp_path / "r", outages=outages, **plan)
        return judge(Recording.read(folder), Slo.parse(slo))

    return judged


def test_a_channel_that_never_worked_is_inconclusive_and_told_first(judged):
    verdict = judged(NEVER)
    assert verdict.verdict == "inconclusive"
    assert verdict.reasons == (
        "inconclusive: channel write never worked: 400 of 400 requests failed, first http_5xx 503 "
        "at +0.003 s. It is misconfigured, or was down already: what the deploy does to it is not "
        "known",
    )
    assert verdict.failed == 400, "they are in every figure"
    assert verdict.outages[0].failed == 400


def test_one_good_reply_before_the_deploy_makes_its_failures_count(judged):
    verdict = judged((0.0, 6.5, "http_5xx", ["write"]), (6.6, 99.0, "http_5xx", ["write"]))
    assert verdict.verdict == "broken"
    assert verdict.reasons[0].startswith("398 of 4000 requests failed, allowed 0")


def test_other_channels_break_the_promise_all_the_same(judged):
    verdict = judged(NEVER, (8.0, 8.5, "refused", ["new"]))
    assert verdict.verdict == "broken"
    broken, told = verdict.reasons
    assert broken.startswith("40 of 3600 requests failed, allowed 0; first refused on new at +8.0")
    assert told.startswith("inconclusive: channel write never worked")


def test_a_channel_that_works_only_since_the_deploy_counts_from_its_first_good_reply(judged):
    down = (0.0, 9.0, "refused", ["new"])
    verdict = judged(down)
    assert verdict.verdict == "inconclusive"
    assert verdict.reasons[0].startswith(
        "inconclusive: channel new did not work before the deploy: until its first good reply 720 "
        "requests failed, first refused at +0.000 s"
    )
    again = judged(down, (15.0, 15.1, "refused", ["new"]))
    assert again.verdict == "broken"
    assert again.reasons[0].startswith("8 of 3280 requests failed")


def test_a_channel_of_which_no_request_ended_before_the_deploy_may_have_been_broken_by_it(judged):
    """All that fell due before was under way as it began, as slow requests are."""
    hangs = (0.0, 99.0, "timeout", ["slow"])
    rare = {"channels": {"new": 4.0, "slow": 0.01}, "deploy": (4.9, 13.3), "timeout": 5.0}
    verdict = judged(hangs, **rare)
    assert verdict.channels["slow"].failed == 10
    assert verdict.phases["baseline"].failed == 0
    assert verdict.verdict == "broken"
    assert (
        judged(hangs, **{**rare, "timeout": 1.0})
        .reasons[0]
        .startswith("inconclusive: channel slow never worked")
    )


def test_one_that_was_asked_before_and_answered_meanwhile_was_well(judged):
    under_way = {"think": {"slow": 2.0}, "deploy": (6.67, 13.33)}
    verdict = judged((0.0, 6.0, "http_5xx", ["slow"]), (8.0, 8.5, "reset", ["slow"]), **under_way)
    assert verdict.verdict == "broken"
    assert not any("did not work" in reason for reason in verdict.reasons)


def test_where_no_deploy_was_marked_a_channel_has_the_whole_run_to_work(judged):
    assert judged(NEVER, deploy=None).reasons[0].startswith("inconclusive: channel write never")
    once = judged((0.0, 15.0, "http_5xx", ["write"]), deploy=None)
    assert once.verdict == "broken"


def test_what_the_promises_do_not_speak_of_need_not_work(judged):
    assert judged(NEVER, slo="channels=new+reused+slow").verdict == "holds"


@pytest.mark.parametrize(
    "slo",
    [
        "failed=none,longest_outage=1s",
        "failed=none,downtime=1s",
        "failed=none,require_rate=1e-2",
        "failed=none,bad_body=0",
    ],
)
def test_no_promise_is_broken_by_what_never_worked(judged, slo):
    whole = (0.0, 99.0, "bad_body", ["write"])
    verdict = judged(whole, slo=slo)
    assert verdict.verdict == "inconclusive"
    assert len(verdict.reasons) == 1
    later = judged((8.0, 99.0, "bad_body", ["write"]), slo=slo)
    assert later.verdict == "broken"


def test_failures_of_a_channel_that_never_worked_neither_join_nor_end_an_outage(judged):
    slo = "failed=none,longest_outage=1s,merge=5s"
    first, second = (8.0, 8.1, "refused", ["new"]), (8.5, 8.6, "refused", ["new"])
    assert judged(first, second, NEVER, slo=slo).verdict == "inconclusive"
    assert judged(first, (9.5, 9.6, "refused", ["new"]), NEVER, slo=slo).verdict == "broken"


def test_what_does_not_stand_bounds_no_outage_that_does(tmp_path: Path):
    """From 8.0 s to 8.5 s the host was in trouble too: whether it was down by then is not known."""
    folder = synthetic.run(
        tmp_path / "r",
        outages=[(8.0, 8.5, "refused", ["new", "control"]), (8.5, 9.0, "refused", ["new"])],
    )
    evidence = Evidence.of(Recording.read(folder), Slo())
    (one,) = evidence.charged(("new",), standing=True)
    (whole,) = evidence.charged(("new",), standing=False)
    assert one.start == pytest.approx(synthetic.BEGAN + 8.5, abs=0.02)
    assert one.earliest == whole.earliest == pytest.approx(synthetic.BEGAN + 8.0, abs=0.02)
    assert whole.start == pytest.approx(synthetic.BEGAN + 8.0, abs=0.02)
