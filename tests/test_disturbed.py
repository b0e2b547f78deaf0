"""A run that something beside the system kept from being evidence proves nothing of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import synthetic

from zdtest.judging.slo import Slo
from zdtest.judging.verdict import Verdict, judge
from zdtest.records.recording import Recording

# A made-up run of 20 s: the deploy runs from 6.67 s to 13.33 s.


@pytest.fixture
def judged(tmp_path: Path) -> Callable[..., Verdict]:
    def judged(slo: str = "", **plan: Any) -> Verdict:
        return judge(Recording.read(synthetic.run(tmp_path / "r", **plan)), Slo.parse(slo))

    return judged


def only_reason(verdict: Verdict) -> str:
    (reason,) = verdict.reasons
    return reason


@pytest.mark.parametrize("slo", ["", "deploy=aborted"])
def test_a_command_that_could_not_be_executed_is_no_deploy_that_was_given_up(judged, slo):
    about = {"error": "cannot run ./deploy: Exec format error", "never_began": True}
    verdict = judged(
        slo,
        deploy=(6.0, float("inf")),
        switch=99.0,
        marks=[(13.4, "deploy.end", about)],
        manifest={"old_version": "v1", "new_version": None if not slo else "v2"},
    )
    assert verdict.verdict == "inconclusive"
    assert "inconclusive: the deploy never began: cannot run ./deploy: Exec format error" in (
        verdict.reasons
    )


def test_a_load_that_somebody_ended_in_the_settling_is_inconclusive(judged):
    why = "the load exited 0 while it was needed"
    verdict = judged(marks=[(15.0, "load.failed", {"why": why})])
    assert verdict.verdict == "inconclusive"
    assert only_reason(verdict) == f"inconclusive: {why} at +15.000 s"


def test_a_machine_that_was_suspended_is_inconclusive(judged):
    verdict = judged(marks=[(19.0, "machine.suspended", {"seconds": 12.5})])
    assert only_reason(verdict) == (
        "inconclusive: the machine was suspended for 12.5 s: nothing was sent"
    )
