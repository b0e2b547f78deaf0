"""The phases of a run, ``baseline`` -> ``deploy`` -> ``settle``, and the figures of each.

A request belongs to the phase in which it fell due. Were those counted in with a deploy that were
only under way as it began, it would have all the long ones of the time before and none of the
quick ones, and look slower than it is (the inspection paradox: Feller 1971, vol. 2, I.4). They are
counted by themselves, and their failures told, but compared with nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zdtest.judging.interval import nearest_rank, upper_rank, upper_rate
from zdtest.records.recording import Recording, Samples
from zdtest.records.sample import CHANNELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

PHASES = ("baseline", "under_way", "deploy", "settle")
"""In order; the position is the code in what `codes` returns."""

BASELINE, UNDER_WAY, DEPLOY, SETTLE = range(4)

_AHEAD = 0.25
"""Seconds beyond its think time that a request has at the least to fall due before the deploy, to
tell how long it takes without one."""


@dataclass(frozen=True, slots=True)
class Window:
    """The deploy: from the first ``deploy.begin`` to the last ``deploy.end``, monotonic seconds.

    `begin` is infinity where no deploy was marked, `end` where it was never ended.
    """

    begin: float
    end: float

    @classmethod
    def of(cls, recording: Recording) -> Window:
        """Return the run's deploy window; where nothing was deployed, that of its faults."""
        told, never = spans(recording), float("inf")
        return cls(
            min((one[0] for one in told), default=never),
            max((one[1] for one in told), default=never),
        )

    @property
    def marked(self) -> bool:
        """Whether a deploy began at all."""
        return self.begin != float("inf")

    @property
    def ended(self) -> bool:
        """Whether the deploy's end was marked."""
        return self.end != float("inf")


def spans(recording: Recording) -> list[tuple[float, float, Mapping[str, object]]]:
    """Return the run's deploys; where nothing was deployed, its faults."""
    return recording.spans("deploy") or recording.spans("fault")


@dataclass(frozen=True, slots=True)
class Figures:
    """What one phase amounts to; latencies in seconds beyond the think time, None without any.

    Percentiles are exact: the nearest rank of the ok replies, nothing interpolated.
    """

    requests: int
    failed: int
    p50: float | None = None
    p99: float | None = None
    max: float | None = None

    @property
    def failed_upper95(self) -> float:
        """The failure rate is below this at 95 % (exact binomial, one-sided)."""
        return upper_rate(self.failed, self.requests)

    def as_json(self) -> dict[str, object]:
        """Return the fields of verdict.json."""
        return {
            "requests": self.requests,
            "failed": self.failed,
            "failed_upper95": self.failed_upper95,
            **{
                f"{name}_ms": None if value is None else value * 1e3
                for name, value in (("p50", self.p50), ("p99", self.p99), ("max", self.max))
            },
        }


def codes(samples: Samples, deploys: Sequence[tuple[float, float]]) -> NDArray[np.uint8]:
    """Return each sample's phase, of (begin, end) of the deploys, monotonic seconds.

    What falls due between two deploys belongs to neither: it has settled.
    """
    due = samples.due
    phase = np.full(len(samples), SETTLE if deploys else BASELINE, np.uint8)
    begins = sorted(begin for begin, _ in deploys)
    for number, begin in enumerate(begins):
        first = int(np.searchsorted(due, begin))
        if number == 0:
            phase[:first] = BASELINE
        done = due[:first] + samples.done_us[:first] * 1e-6
        phase[:first][done >= begin] = UNDER_WAY
    for begin, end in deploys:
        phase[np.searchsorted(due, begin) : np.searchsorted(due, end, "right")] = DEPLOY
    return phase


def steady(
    samples: Samples,
    timed: NDArray[np.bool_],
    excess: NDArray[np.int64],
    begin: float,
    thinks: NDArray[np.int64],
    limit: Callable[[int], float],
) -> float:
    """Return until when what fell due tells how long a request takes without a deploy.

    Chosen by when they fell due, long replies are as likely among those as quick ones. They had the
    longest think time before the deploy's `begin`, so that each channel has its share of them, and
    as long beyond it as the limit for the others is (of their p99, microseconds): who would be
    slower than that had the time to be so.
    """
    longest = int(thinks[np.unique(samples.channel[timed])].max(initial=0)) * 1e-6
    ahead = _AHEAD
    while begin != np.inf:
        chosen = timed & (samples.due <= begin - longest - ahead)
        values = took(samples, excess, chosen, begin, thinks)
        if not len(values):
            break
        above = upper_rank(99, len(values)) or len(values)
        needed = limit(ranked(values, above)) * 1e-6
        if not ahead < needed < np.inf:
            break
        ahead = needed + 1e-3
    return begin - longest - ahead


def telling(
    samples: Samples, phases: NDArray[np.uint8], code: int, steady: float
) -> NDArray[np.bool_]:
    """Return which samples tell how long a request takes in that phase."""
    return np.asarray(samples.due <= steady if code == BASELINE else phases == code)


def took(
    samples: Samples,
    excess: NDArray[np.int64],
    chosen: NDArray[np.bool_] | NDArray[np.intp],
    begin: float,
    thinks: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the `excess` of these samples; at most what it was by `begin` where due before that.

    What a deploy did to them is no part of how long they take without one.
    """
    beyond: NDArray[np.int64] = excess[chosen]
    due = samples.due[chosen]
    before = int(np.searchsorted(due, begin)) if begin != np.inf else 0
    if before:
        there = (begin - due[:before]) * 1e6 - thinks[samples.channel[chosen][:before]]
        np.minimum(beyond[:before], there.astype(np.int64), out=beyond[:before])
    return beyond


def think(channels: Mapping[str, Mapping[str, Any]]) -> NDArray[np.int64]:
    """Return how long a reply takes by design, whole microseconds by channel code."""
    told = (channels.get(name, {}).get("think") or 0 for name in CHANNELS)
    return np.array([round(float(one) * 1e6) for one in told], np.int64)


def excess(samples: Samples, channels: Mapping[str, Mapping[str, Any]]) -> NDArray[np.int64]:
    """Return each latency beyond the channel's think time, in whole microseconds as recorded."""
    latency = samples.done_us.astype(np.int64)
    thinks = think(channels)
    for code in np.flatnonzero(thinks):
        np.subtract(latency, thinks[code], out=latency, where=samples.channel == code)
    return latency


def percentile(values: NDArray[np.int64], percent: int) -> int:
    """Return the nearest-rank percentile of one value or more."""
    return ranked(values, nearest_rank(percent, len(values)))


def ranked(values: NDArray[np.int64], rank: int) -> int:
    """Return the value of that rank, counted from 1 for the smallest."""
    return int(np.partition(values, rank - 1)[rank - 1])


def figures(requests: int, failed: int, values: NDArray[np.int64]) -> Figures:
    """Return the figures of a phase from its counts and the excess latencies of its ok replies."""
    if not len(values):
        return Figures(requests, failed)
    p50, p99 = percentile(values, 50), percentile(values, 99)
    return Figures(requests, failed, p50 * 1e-6, p99 * 1e-6, int(values.max()) * 1e-6)
