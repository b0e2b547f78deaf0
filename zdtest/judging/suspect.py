"""Which evidence does not stand, because the host or the generator was in trouble at that moment.

The control channel asks an untouched echo server beside the system. While that fails, any failure
may be the host's; while it is slow, or the generator itself stalled, any lateness may be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zdtest.records.recording import NEVER, Samples
from zdtest.records.sample import CHANNELS, Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from zdtest.records.recording import Floats

    Bools = NDArray[np.bool_]
    Rows = NDArray[np.intp]

TIMEOUTS = (Outcome.timeout, Outcome.connect_timeout, Outcome.body_timeout)
"""Failures that are lateness carried too far."""


class Windows:
    """Stretches of time, joined where they touch, in order."""

    def __init__(self, spans: Iterable[tuple[float, float]] = ()) -> None:
        joined: list[tuple[float, float]] = []
        for begin, end in sorted(spans):
            if joined and begin <= joined[-1][1]:
                begin, end = joined[-1][0], max(end, joined.pop()[1])
            joined.append((begin, end))
        self._begins = np.array([begin for begin, _ in joined], np.float64)
        self._ends = np.array([end for _, end in joined], np.float64)

    def __iter__(self) -> Iterator[tuple[float, float]]:
        return iter(zip(self._begins.tolist(), self._ends.tolist(), strict=True))

    def __bool__(self) -> bool:
        return len(self._begins) > 0

    def __or__(self, other: Windows) -> Windows:
        return Windows([*self, *other])

    def longer(self, bound: float) -> Windows:
        """Return those that lasted longer than so many seconds."""
        return Windows(span for span in self if span[1] - span[0] > bound)

    def touch(self, begin: Floats, end: Floats) -> Bools:
        """Return for each [begin, end] whether a window shares a moment with it."""
        if not self:
            return np.zeros(len(begin), np.bool_)
        nearest = np.searchsorted(self._ends, begin)
        touched: Bools = np.r_[self._begins, np.inf][nearest] <= end
        return touched


@dataclass(frozen=True, slots=True)
class Suspect:
    """When the host (`failed`, `slow`: the control's) and the generator (`stalled`) had trouble."""

    failed: Windows
    slow: Windows
    stalls: tuple[Windows, ...]
    """Those of each worker, by number; of the one process where there are no workers."""
    holes: tuple[Windows, ...]
    """When each of them stood still for so long that something could hide there."""

    @property
    def stalled(self) -> Windows:
        """When any part of the generator stood still."""
        return Windows(span for windows in self.stalls for span in windows)

    @property
    def late(self) -> Windows:
        """When lateness proves nothing."""
        return self.failed | self.slow | self.stalled

    def latency(self, samples: Samples, rows: Rows) -> Bools:
        """Return which rows' latency does not stand."""
        windows = self.late
        return windows.touch(*_lives(samples, rows)) if windows else np.zeros(len(rows), np.bool_)

    def failure(self, samples: Samples, rows: Rows) -> Bools:
        """Return which failed rows do not stand."""
        begin, end = _lives(samples, rows)
        timeouts = np.isin(samples.outcome[rows], TIMEOUTS)
        return self.failed.touch(begin, end) | (timeouts & self.late.touch(begin, end))


def find(
    samples: Samples,
    stall: float,
    hole: float,
    workers: int = 1,
) -> Suspect:
    """Return when the evidence is suspect; `stall` bounds control replies and the send lag.

    A `hole` is a bound of its own: how long nothing may be asked, suspect or not. One of several
    `workers` that stands still is not overtaken by what the others send.
    """
    control = np.flatnonzero(samples.channel == CHANNELS.index("control"))
    pad = _interval(samples.due[control], workers)
    outcome = samples.outcome[control]
    late = samples.done_us[control] > stall * 1e6
    parts = [_of_worker(samples, number, workers) for number in range(workers)]
    stalls = tuple(_stalls(part, stall) for part in parts)
    still = stalls if hole >= stall else (_stalls(part, hole) for part in parts)
    return Suspect(
        failed=_around(
            samples, control[(outcome != Outcome.ok) & (outcome != Outcome.unsent)], pad
        ),
        slow=_around(samples, control[(outcome == Outcome.ok) & late], pad),
        stalls=stalls,
        holes=tuple(windows.longer(hole) for windows in still),
    )


def _interval(due: Floats, workers: int) -> float:
    """Return seconds from one to the next of what each of them asks in an even schedule."""
    return workers * float(np.median(np.diff(due))) if len(due) > 1 else 0.0


def _lives(samples: Samples, rows: Rows) -> tuple[Floats, Floats]:
    due = samples.due[rows]
    return due, due + samples.done_us[rows] * 1e-6


def _around(samples: Samples, rows: Rows, pad: float) -> Windows:
    begin, end = _lives(samples, rows)
    return Windows(zip((begin - pad).tolist(), (end + pad).tolist(), strict=True))


def _of_worker(samples: Samples, number: int, workers: int) -> Samples:
    """Return what one of them sent: its connections are numbered `number` modulo their count."""
    if workers == 1:
        return samples
    return samples.where((samples.conn % workers == number) & (samples.conn > 0))


def _stalls(samples: Samples, stall: float) -> Windows:
    """Return when the generator stood still for longer than `stall` seconds.

    `sent` also waits for the connection, which is the system's doing. So a request that another
    one, due later, overtook was not held up by the generator; from then on it does not count.
    """
    late = np.flatnonzero((samples.sent_us > stall * 1e6) & (samples.sent_us != NEVER))
    if not len(late):
        return Windows()
    told = np.where(samples.sent_us == NEVER, samples.done_us, samples.sent_us)
    alive = samples.due + told * 1e-6
    soonest = np.minimum.accumulate(alive[::-1])[::-1][late]
    begin = samples.due[late]
    held = soonest - begin > stall
    return Windows(zip(begin[held].tolist(), soonest[held].tolist(), strict=True))
