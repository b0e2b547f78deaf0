"""The promise that a deploy, and what came of it, makes one in a hundred wait no longer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zdtest.duration import written
from zdtest.judging.evidence import Evidence
from zdtest.judging.finding import SUSPECT, Finding
from zdtest.judging.interval import as_uneven, lower_rank, upper_rank
from zdtest.judging.phase import BASELINE, DEPLOY, SETTLE, percentile, ranked

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from zdtest.records.recording import Floats

    Bools = NDArray[np.bool_]
    Ints = NDArray[np.int64]
    Rows = NDArray[np.intp]

_LATENCIES = ((DEPLOY, "in the deploy window"), (SETTLE, "after the deploy"))
"""Whose p99 is held to the baseline's: a release may be slow only once the deploy is over."""
_TIMES = (2, 3, 5, 10, 20, 50, 100)
"""How many times as many requests are tried out where there were too few."""
_MOMENT = 0.25
"""Seconds: slow replies within one may all be of one pause, and are one piece of evidence."""
_CHANCE = 0.01
"""How often a deploy that slows nothing may have so many more slow moments than its baseline."""


@dataclass(frozen=True, slots=True)
class _Replies:
    """Replies of one phase: when they fell due, and what they took, whole microseconds."""

    due: Floats
    took: Ints

    @property
    def p99(self) -> int:
        return percentile(self.took, 99)

    def slow(self, limit: float) -> tuple[int, int]:
        """Return in how many moments one took longer, and in how many any was asked."""
        moment = self.due // _MOMENT
        return _different(moment[self.took > limit]), _different(moment)


def p99(evidence: Evidence) -> Iterator[Finding]:
    """Yield a finding for each phase whose p99 is over the limit that the baseline's p99 sets.

    It stands where chance does not do that, neither to single replies nor to pauses. Replies are
    taken for independent by the exact bounds of both p99, and are not: one pause holds up all that
    falls into it. So there have to be more slow moments, too.
    """
    if evidence.slo.p99_ratio is None and evidence.slo.p99_over is None:
        return
    if not evidence.window.marked or set(evidence.channels) <= {"stream"}:
        return
    if not evidence.timed(evidence.channels, BASELINE).any():
        yield Finding("p99", "no ok reply in the baseline to compare p99 with", False)
        return
    for code, where in _LATENCIES:
        if evidence.timed(evidence.channels, code).any():
            yield from _held(evidence, code, where)
        elif code == DEPLOY or evidence.window.ended:
            yield Finding("p99", f"no ok reply {where} to compare p99 with", False)


def _held(evidence: Evidence, code: int, where: str) -> Iterator[Finding]:
    """Yield what is wrong with the p99 of that phase's replies."""
    text = _compared(evidence, where, *(_replies(evidence, one) for one in (BASELINE, code)))
    steady, moved = (_replies(evidence, one, clean=True) for one in (BASELINE, code))
    beyond_doubt = None
    if len(steady.took) and len(moved.took):
        beyond_doubt = _compared(evidence, where, steady, moved)
    if beyond_doubt is not None:
        doubt = _doubt(evidence, steady, moved)
        yield Finding("p99", beyond_doubt + doubt, not doubt)
    elif text is not None:
        yield Finding("p99", f"{text}, {SUSPECT}", False)


def _replies(evidence: Evidence, code: int, *, clean: bool = False) -> _Replies:
    """Return the timed replies of a phase; if `clean`, those whose latency stands."""
    chosen: Bools | Rows = evidence.timed(evidence.channels, code)
    if clean and evidence.suspect.late:
        rows = np.flatnonzero(chosen)
        chosen = rows[~evidence.suspect.latency(evidence.samples, rows)]
    return _Replies(evidence.samples.due[chosen], evidence.took(chosen))


def _compared(evidence: Evidence, where: str, baseline: _Replies, moved: _Replies) -> str | None:
    """Return what is wrong with a phase's p99, None when it is within the limit."""
    steady, found = baseline.p99, moved.p99
    limit = _limit(evidence, steady)
    if found <= limit:
        return None
    return (
        f"p99 {where} {written(found * 1e-6)} (of {len(moved.took)} replies), allowed "
        f"{written(limit * 1e-6)}: baseline p99 {written(steady * 1e-6)} "
        f"(of {len(baseline.took)})"
    )


def _limit(evidence: Evidence, steady: int) -> float:
    """Return what a phase's p99 may be, microseconds, when the baseline's is `steady`."""
    ratio, over = evidence.slo.p99_ratio, evidence.slo.p99_over
    limits = [] if ratio is None else [ratio * max(steady, 0)]
    return min(limits + ([] if over is None else [steady + over * 1e6]))


def _doubt(evidence: Evidence, baseline: _Replies, moved: _Replies) -> str:
    """Return why a p99 over the limit may be chance, "" where it is not."""
    limit = _limit(evidence, baseline.p99)
    (slow, moments), (usual, before) = moved.slow(limit), baseline.slow(limit)
    if as_uneven(slow, moments, usual, before) >= _CHANCE:
        return (
            f": too few pauses to be sure, {slow} of {moments} quarters of a second had slow "
            f"replies, {usual} of {before} in the baseline. A longer baseline would tell"
        )
    if not _beyond_chance(evidence, 1, baseline.took, moved.took):
        return f": too few requests to be sure{_enough(evidence, baseline.took, moved.took)}"
    return ""


def _beyond_chance(evidence: Evidence, times: int, baseline: Ints, moved: Ints) -> bool:
    """Whether the lower 95 % bound of one p99 is over the limit by the upper bound of the other.

    Had there been so many `times` as many replies, each of these as often.
    """
    above, below = upper_rank(99, times * len(baseline)), lower_rank(99, times * len(moved))
    if above is None or not below:
        return False
    steady = ranked(baseline, -(-above // times))
    return ranked(moved, -(-below // times)) > _limit(evidence, steady)


def _enough(evidence: Evidence, baseline: Ints, moved: Ints) -> str:
    """Return how many times as many would have decided it, had they gone on like these."""
    for times in _TIMES:
        if _beyond_chance(evidence, times, baseline, moved):
            rate = float(evidence.recording.manifest.get("rate") or 0.0)
            faster = f" (a rate of {times * rate:,.6g}/s, or so many times as long)" if rate else ""
            return f", {times} times as many like these would do{faster}"
    return f", nor would {_TIMES[-1]} times as many like these do"


def _different(ordered: Floats) -> int:
    """Return how many values of an ordered array differ."""
    return int(np.count_nonzero(np.diff(ordered))) + 1 if len(ordered) else 0
