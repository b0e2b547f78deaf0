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
        """Return in how many moments more than one in a hundred took longer, and of how many.

        Were one enough, all moments would have one where many are asked and few are always slow.
        """
        if not len(self.due):
            return 0, 0
        begins = np.r_[0, np.flatnonzero(np.diff(self.due // _MOMENT)) + 1]
        asked = np.diff(np.r_[begins, len(self.due)])
        longer = np.add.reduceat(self.took > limit, begins, dtype=np.int64)
        return int(np.count_nonzero(100 * longer > asked)), len(asked)


_Pair = tuple[_Replies, _Replies]


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
    baseline = _both(evidence, BASELINE)
    if not len(baseline[0].took):
        told = f"no ok reply in the baseline to compare p99 with{_why(evidence)}"
        yield Finding("p99", told, False)
        return
    for code, where in _LATENCIES:
        moved = _both(evidence, code)
        if len(moved[0].took):
            yield from _held(evidence, where, *zip(baseline, moved, strict=True))
        elif code == DEPLOY or evidence.window.ended:
            yield Finding("p99", f"no ok reply {where} to compare p99 with", False)


def _why(evidence: Evidence) -> str:
    """Return why a baseline has no reply that tells how long one takes, "" where it has none."""
    if not evidence.requests(evidence.channels, BASELINE):
        return ""
    needed = evidence.window.begin - evidence.steady
    return f": it has to be longer than {written(needed)}, as long as replies may take"


def _held(evidence: Evidence, where: str, every: _Pair, clean: _Pair) -> Iterator[Finding]:
    """Yield what is wrong with the p99 of the second of the pairs, against that of the first."""
    text = _compared(evidence, where, *every)
    beyond_doubt = None
    if all(len(one.took) for one in clean):
        beyond_doubt = _compared(evidence, where, *clean)
    if beyond_doubt is not None:
        doubt = _doubt(evidence, *clean)
        yield Finding("p99", beyond_doubt + doubt, not doubt)
    elif text is not None:
        yield Finding("p99", f"{text}, {SUSPECT}", False)


def _both(evidence: Evidence, code: int) -> _Pair:
    """Return the timed replies of a phase, and those of them whose latency stands."""
    rows = np.flatnonzero(evidence.timed(evidence.channels, code))
    every = _Replies(evidence.samples.due[rows], evidence.took(rows))
    if not evidence.suspect.late:
        return every, every
    stands = ~evidence.suspect.latency(evidence.samples, rows)
    return every, _Replies(every.due[stands], every.took[stands])


def _compared(evidence: Evidence, where: str, baseline: _Replies, moved: _Replies) -> str | None:
    """Return what is wrong with a phase's p99, None when it is within the limit."""
    steady, found = baseline.p99, moved.p99
    limit = evidence.slo.p99_limit(steady)
    if found <= limit:
        return None
    return (
        f"p99 {where} {written(found * 1e-6)} (of {len(moved.took)} replies), allowed "
        f"{written(limit * 1e-6)}: baseline p99 {written(steady * 1e-6)} "
        f"(of {len(baseline.took)})"
    )


def _doubt(evidence: Evidence, baseline: _Replies, moved: _Replies) -> str:
    """Return why a p99 over the limit may be chance, "" where it is not."""
    limit = evidence.slo.p99_limit(baseline.p99)
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
    return ranked(moved, -(-below // times)) > evidence.slo.p99_limit(steady)


def _enough(evidence: Evidence, baseline: Ints, moved: Ints) -> str:
    """Return how many times as many would have decided it, had they gone on like these."""
    for times in _TIMES:
        if _beyond_chance(evidence, times, baseline, moved):
            rate = float(evidence.recording.manifest.get("rate") or 0.0)
            faster = f" (a rate of {times * rate:,.6g}/s, or so many times as long)" if rate else ""
            return f", {times} times as many like these would do{faster}"
    return f", nor would {_TIMES[-1]} times as many like these do"
