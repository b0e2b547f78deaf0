"""When the system was down, and for how long at least and at most: a pure function of samples.

::

    due      |   ok   ok   FAIL FAIL ok   FAIL ok   ok
    min                    |--------------|            last failed due - first failed due
    max              |--------------------------|      next ok due - previous ok due

Neighbouring failures no more than `merge` seconds of due time apart are one outage, whatever their
classes. The truth lies between the bounds: one send interval at each end is all that is unknown.

A request that takes its time by design can have been hit at any moment of it. So the shortest
outage that explains all failures reaches from where the first of them was over, or would have been
answered, to where the last one fell due; one moment is enough where all were under way at once::

    life        |--------x      |-x                            due until cut
    min                  |------|              last failed due - first failed over
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from zdtest.records.recording import Samples
from zdtest.records.sample import CHANNELS, Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Ints = NDArray[np.int64]
    Rows = NDArray[np.intp]

MERGE = 1.0
"""Seconds of due time that may lie between two failures of one outage."""

_HALF_A_TICK = 0.5e-9
"""Due times are recorded in whole nanoseconds; what float seconds add to that is no distance."""


@dataclass(frozen=True, slots=True)
class Outage:
    """One episode of failures (or of slow replies, for a brownout) on one channel."""

    channel: str
    start: float
    """Due time of the first failure."""
    end: float
    """Due time of the last failure."""
    earliest: float
    """Due time of the last ok sample before it: it cannot have begun sooner."""
    latest: float
    """Due time of the first ok sample after it: it cannot have lasted longer."""
    by: float
    """When it had begun at the latest: `start`, or within the think time of what failed first."""
    failed: int
    total: int
    """Samples due from start to end; more than `failed` when only a part of the system was down."""
    outcomes: Mapping[str, int]
    open_start: bool = False
    """No ok sample came before it: `earliest` is only the channel's first due time."""
    open_end: bool = False
    """No ok sample came after it: `latest` is only the channel's last due time."""
    error: float = 0.0
    """Seconds that each of these moments may be off, where several clocks told them."""
    sooner: float = 0.0
    """Seconds by which it may have begun and ended before, where lookups of a name tell of it."""

    @property
    def open(self) -> bool:
        """Whether the run saw no end, or no beginning of it: nothing says how long it lasted."""
        return self.open_start or self.open_end

    @property
    def whole(self) -> bool:
        """Whether nothing was answered ok in it: its channel was down, not failing at times."""
        return self.failed == self.total

    @property
    def min(self) -> float:
        """Seconds it lasted at least."""
        return max(0.0, self.end - self.by - 2 * self.error - self.sooner)

    @property
    def max(self) -> float:
        """Seconds it lasted at most, as far as the schedule reaches where an end is open."""
        return self.latest - self.earliest + 2 * self.error + self.sooner


def doubted(found: Iterable[Outage], error: float, lookup: float) -> list[Outage]:
    """Return them with what clocks leave uncertain and, where a name had no address, lookups.

    Both are seconds: how far a moment may be off, and how long a name was not looked up at most.
    """
    return [
        replace(one, error=error, sooner=lookup if Outcome.dns.name in one.outcomes else 0.0)
        for one in found
    ]


def episodes(samples: Samples, bad: Bools, merge: float = MERGE) -> list[Outage]:
    """Return the outages of one channel's samples, in order; `bad` tells which ones failed.

    What the generator could not send says nothing about the system and is left out.
    """
    rows = np.flatnonzero(samples.outcome != Outcome.unsent)
    return _episodes(samples, rows, bad[rows], merge, 0)


def _episodes(samples: Samples, rows: Rows, bad: Bools, merge: float, think: int) -> list[Outage]:
    """Return the outages among these rows, all of one channel; `think` is in microseconds.

    `bad` tells which of the rows failed.
    """
    failed, due = np.flatnonzero(bad), samples.due[rows]
    if not len(failed):
        return []
    cuts = np.flatnonzero(np.diff(due[failed]) - merge > _HALF_A_TICK) + 1
    first, last = np.r_[0, cuts], np.r_[cuts, len(failed)] - 1
    bounds = _bounds(due, failed, first, last)
    classes = _classes(samples.outcome[rows[failed]], first)
    hit = due[failed] + np.minimum(samples.done_us[rows[failed]], think) * 1e-6
    begun = np.minimum.reduceat(hit, first).tolist()
    channel = CHANNELS[samples.channel[rows[0]]]
    return [
        Outage(channel, start, end, earliest, latest, by, count, total, _named(row), *unbound)
        for (start, end, earliest, latest, total, *unbound), by, count, row in zip(
            bounds, begun, (last - first + 1).tolist(), classes, strict=True
        )
    ]


def _bounds(
    due: NDArray[np.float64], failed: Rows, first: Rows, last: Rows
) -> Iterable[tuple[float, float, float, float, int, bool, bool]]:
    """Return (start, end, earliest, latest, total, open start, open end) of each episode.

    `first` and `last` are places in `failed`. The ok samples around an episode lie where the
    unbroken rows of failures at its ends do.
    """
    breaks = np.flatnonzero(np.diff(failed) != 1)
    heads, tails = np.r_[failed[0], failed[breaks + 1]], np.r_[failed[breaks], failed[-1]]
    before = heads[np.searchsorted(heads, failed[first], "right") - 1] - 1
    after = tails[np.searchsorted(tails, failed[last])] + 1
    open_start, open_end = before < 0, after >= len(due)
    start, end = due[failed[first]], due[failed[last]]
    total = np.searchsorted(due, end, "right") - np.searchsorted(due, start)
    earliest, latest = due[before.clip(0)], due[after.clip(None, len(due) - 1)]
    columns = (start, end, earliest, latest, total, open_start, open_end)
    return zip(*(column.tolist() for column in columns), strict=True)


def _classes(outcomes: NDArray[np.uint8], first: NDArray[np.intp]) -> Ints:
    """Return how often each outcome (column) occurs in each episode (row)."""
    kinds = len(Outcome)
    starts = np.zeros(len(outcomes), np.int64)
    starts[first[1:]] = 1
    keys = np.cumsum(starts) * kinds + outcomes
    return np.bincount(keys, minlength=len(first) * kinds).reshape(-1, kinds)


def _named(counts: Ints) -> dict[str, int]:
    return {kind.name: int(counts[kind]) for kind in Outcome if counts[kind]}


def outages(
    samples: Samples,
    failed: Bools,
    merge: float = MERGE,
    *,
    among: Bools | None = None,
    think: Ints | None = None,
) -> list[Outage]:
    """Return the episodes of every channel by start; `failed` has a truth for each sample.

    Samples that are not `among` those looked at neither belong to an episode nor end one. `think`
    is how long a reply takes by design, microseconds by channel code.
    """
    found: list[Outage] = []
    looked_at = samples.outcome != Outcome.unsent
    if among is not None:
        looked_at &= among
    for code in np.unique(samples.channel[failed]):
        rows = np.flatnonzero((samples.channel == code) & looked_at)
        thinks = 0 if think is None else int(think[code])
        found += _episodes(samples, rows, failed[rows], merge, thinks)
    return sorted(found, key=lambda outage: (outage.start, outage.channel))


def brownouts(samples: Samples, slow: Bools, merge: float = MERGE) -> list[Outage]:
    """Return the same for ok replies slower than the bound; `slow` tells which.

    Failures are left out: they are no slow replies, and they do not end a brownout either.
    """
    return outages(samples, slow, merge, among=samples.outcome == Outcome.ok)


def downtime(found: Sequence[Outage]) -> tuple[float, float]:
    """Return the seconds in at least one outage, at least and at most; overlaps count once."""
    return (
        covered([(one.by + one.error, one.end - one.error - one.sooner) for one in found]),
        covered([(one.earliest - one.error - one.sooner, one.latest + one.error) for one in found]),
    )


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return the seconds in at least one of the spans."""
    total, reached = 0.0, -np.inf
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return float(total)


def availability(due: NDArray[np.float64], failed: Bools, step: float = 0.1) -> Ints:
    """Return (ok, total) of each `step` seconds from the first due time, as rows.

    `due` ascends. A step in which nothing was due has a total of zero.
    """
    if not len(due):
        return np.zeros((0, 2), np.int64)
    count = int((due[-1] - due[0]) / step) + 1
    edges = due[0] + step * np.arange(1, count)
    total = np.diff(np.searchsorted(due, edges), prepend=0, append=len(due))
    broken = due[failed]
    lost = np.diff(np.searchsorted(broken, edges), prepend=0, append=len(broken))
    return np.column_stack([total - lost, total])
