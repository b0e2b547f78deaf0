"""What a deploy costs beside the failures: instances missing or extra, memory, load, time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from zdtest.judging.census import Count, census
from zdtest.judging.outage import covered
from zdtest.judging.phase import Window, spans
from zdtest.records.memory import Held
from zdtest.records.recording import Recording, Samples
from zdtest.records.sample import Outcome

SHORTEST = 0.5
"""Seconds that nothing may change for a load to be told: a rate needs some requests."""

_CHANGES = ("deploy.start", "deploy.step", "deploy.switch", "deploy.rollback")


@dataclass(frozen=True, slots=True)
class Capacity:
    """The price of the run's deploy; times in seconds."""

    instances: int
    """How many were ready when it began."""
    lowest: int
    """How many were ready at the least: started, listening, and not told to stop."""
    peak: int
    """How many processes of the app ran at the most: twice `running` is twice the resources."""
    load: float | None
    """The busiest instance's requests per second, over the busiest one's of the baseline.

    Of the answered requests, in stretches of `SHORTEST` seconds or more in which no instance came
    or went and no step began or ended. None where there was no such stretch, or no baseline.
    """
    deploy: float | None
    """From its begin to its end, of several without what lay between; None where one had none."""
    rollback: float | None
    """From the decision until no new request went to the version left; None where none was."""
    memory: Held | None = None
    """What the app's processes held before and in it; None where that was not sampled."""
    running: int = 0
    """How many processes of the app ran when it began: more than `instances` where some serve the
    others and no user."""

    def as_json(self) -> dict[str, object]:
        """Return the fields of verdict.json."""
        return {
            "instances": self.instances,
            "lowest": self.lowest,
            "running": self.running,
            "peak": self.peak,
            "memory": None if self.memory is None else self.memory.as_json(),
            "load": self.load,
            "deploy_s": self.deploy,
            "rollback_s": self.rollback,
        }


def capacity(recording: Recording) -> Capacity:
    """Return what the deploy of `recording` cost, from its marks, the app's journal and samples."""
    window = Window.of(recording)
    due = recording.samples.due
    # What ends once the load is over is no part of it, and may not have been told yet.
    over = float(due[-1]) if len(due) else float("inf")
    counts = [count for count in census(recording) if count.at <= over]
    before = [count for count in counts if count.at <= window.begin][-1:]
    within = before + [count for count in counts if window.begin < count.at <= window.end]
    backs = [end - begin for begin, end, _ in recording.spans("deploy.rollback")]
    return Capacity(
        instances=before[0].ready if before else 0,
        lowest=min((count.ready for count in within), default=0),
        peak=max((count.running for count in within), default=0),
        load=_load(recording, window, counts),
        deploy=covered((begin, end) for begin, end, _ in spans(recording))
        if window.ended
        else None,
        rollback=next((back for back in backs if back != float("inf")), None),
        memory=_memory(recording, window),
        running=before[0].running if before else 0,
    )


def _memory(recording: Recording, window: Window) -> Held | None:
    """Return what was held from the first request to the deploy, and in it."""
    due = recording.samples.due
    if recording.memory is None or not window.ended or not len(due):
        return None
    return recording.memory.held(float(due[0]), (window.begin, window.end))


def _load(recording: Recording, window: Window, counts: Iterable[Count]) -> float | None:
    """Return the highest load of an instance during the deploy, relative to the baseline."""
    samples = _answered(recording.samples)
    if not window.ended or not len(samples) or samples.due[0] >= window.begin:
        return None
    usual = _busiest(samples, float(samples.due[0]), window.begin)
    stretches = _stretches(recording, window, counts)
    busiest = [_busiest(samples, begin, end) for begin, end in stretches]
    return max(busiest) / usual if busiest else None


def _answered(samples: Samples) -> Samples:
    """Return the ok replies that tell their instance."""
    told = samples.instance != samples.instances.index("")
    return samples.where(told & (samples.outcome == Outcome.ok))


def _busiest(samples: Samples, begin: float, end: float) -> float:
    """Return the requests per second of the instance that had most of them."""
    first, last = np.searchsorted(samples.due, (begin, end))
    return float(np.bincount(samples.instance[first:last], minlength=1).max()) / (end - begin)


def _stretches(
    recording: Recording, window: Window, counts: Iterable[Count]
) -> Iterator[tuple[float, float]]:
    """Yield the parts of the deploy that are long enough and in which nothing changed."""
    told = [count.at for count in counts]
    told += [mark.at for mark in recording.marks if mark.name.startswith(_CHANGES)]
    inside = sorted(at for at in told if window.begin < at < window.end)
    for begin, end in pairwise([window.begin, *inside, window.end]):
        if end - begin >= SHORTEST:
            yield begin, end
