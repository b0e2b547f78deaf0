"""What a load saw, in a few lines of text, from the recording alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zdtest import duration
from zdtest.blame.masked import Masked
from zdtest.judging.interval import upper_rate
from zdtest.judging.outage import Outage, doubted, outages
from zdtest.judging.phase import think
from zdtest.records import crew
from zdtest.records.recording import Recording
from zdtest.records.sample import CHANNELS, Outcome

_SHOWN = 20
_MOST = 3_000_000
REACHED = 0.99
"""The part of the offered rate below which a load was not the one asked for."""


def of_folder(folder: Path, count: int) -> str:
    """Return the summary of the run in `folder`, or where to look when it has too many samples.

    It is told by the load's own process, whose memory must not grow with the length of a run.
    """
    if count > _MOST:
        return f"{count} samples recorded in {folder}: too many to look at here"
    return summary(Recording.read(folder))


def summary(recording: Recording) -> str:
    """Return requests, failures and outages of every channel, and how the load itself did."""
    counts = _counts(recording)
    lines = ["", "OUTAGE SUMMARY", *_channels(counts), "", *_seen(recording, counts)]
    lines += [masked.text()] if (masked := Masked.of(recording)) else []
    return "\n".join([*lines, *_load(recording), f"recorded in {recording.folder}"])


def replies(recording: Recording) -> str:
    """Return in one line how often each status came, and why none did or it was no good."""
    samples = recording.samples
    ours = samples.channel != CHANNELS.index("control")
    pairs = np.stack([samples.status[ours], samples.outcome[ours]], axis=1).astype(np.int64)
    known, counts = np.unique(pairs, axis=0, return_counts=True)
    told: dict[str, int] = {}
    for (status, outcome), count in zip(known.tolist(), counts.tolist(), strict=True):
        word = _word(status, Outcome(outcome))
        told[word] = told.get(word, 0) + count
    ranked = sorted(told.items(), key=lambda one: -one[1])
    return f"replies  {', '.join(f'{count} × {word}' for word, count in ranked) or 'none'}"


_BY_STATUS = (Outcome.ok, Outcome.http_3xx, Outcome.http_4xx, Outcome.http_5xx)


def _word(status: int, outcome: Outcome) -> str:
    """Return the status where it says all, else what became of the request too."""
    if not status:
        return outcome.name
    return str(status) if outcome in _BY_STATUS else f"{status} {outcome.name}"


def _counts(recording: Recording) -> dict[str, dict[Outcome, int]]:
    """Return how often each outcome occurred on each channel that was asked."""
    samples, kinds = recording.samples, len(Outcome)
    table = np.bincount(
        samples.channel.astype(np.int64) * kinds + samples.outcome,
        minlength=len(CHANNELS) * kinds,
    ).reshape(-1, kinds)
    return {
        name: {kind: int(row[kind]) for kind in Outcome if row[kind]}
        for name, row in zip(CHANNELS, table, strict=True)
        if row.any()
    }


def _failed(outcomes: dict[Outcome, int]) -> int:
    passing = (Outcome.ok, Outcome.unsent)
    return sum(count for kind, count in outcomes.items() if kind not in passing)


def _asked(outcomes: dict[Outcome, int]) -> int:
    return sum(count for kind, count in outcomes.items() if kind is not Outcome.unsent)


def _channels(counts: dict[str, dict[Outcome, int]]) -> Iterator[str]:
    yield f"{'channel':<8} {'requests':>12} {'failed':>10}  outcomes"
    for name, outcomes in counts.items():
        told = " ".join(f"{kind.name}={count}" for kind, count in outcomes.items())
        yield f"{name:<8} {_asked(outcomes):>12} {_failed(outcomes):>10}  {told}"


def _seen(recording: Recording, counts: dict[str, dict[Outcome, int]]) -> Iterator[str]:
    """Yield the outages, or what their absence proves."""
    system = [outcomes for name, outcomes in counts.items() if name != "control"]
    requests = sum(map(_asked, system))
    if not requests:
        yield "no request was sent: nothing is known about the system"
    elif not sum(map(_failed, system)):
        bound = 100 * upper_rate(0, requests)
        yield f"nothing failed: failure rate below {bound:.2g} % at 95 % ({requests} requests)"
    else:
        yield from _outages(recording)


def _outages(recording: Recording) -> Iterator[str]:
    samples = recording.samples
    passing = np.isin(samples.outcome, (Outcome.ok, Outcome.unsent))
    failed = ~passing & (samples.channel != CHANNELS.index("control"))
    found = outages(samples, failed, think=think(recording.manifest.get("channels", {})))
    trailer = recording.trailer
    found = doubted(found, crew.clock_error(trailer), crew.lookup(trailer))
    began = float(samples.due[0])
    yield from (_line(outage, began) for outage in found[:_SHOWN])
    if more := found[_SHOWN:]:
        yield f"and {len(more)} more"


def _line(outage: Outage, began: float) -> str:
    """Return one outage: where, when, how long at least and at most, how much of it, as what."""
    told = " ".join(f"{name}={count}" for name, count in outage.outcomes.items())
    longest = duration.written(outage.max) + (" or more" if outage.open else "")
    return (
        f"{outage.channel:<8} at +{outage.start - began:.3f} s for {duration.written(outage.min)} "
        f"to {longest}: {outage.failed} of {outage.total} failed, {told}"
    )


def _load(recording: Recording) -> Iterator[str]:
    """Yield how the load itself did, and plainly where it is not to be relied on."""
    told = recording.trailer
    if told is None:
        yield "THE LOAD FAILED: it did not close its recording; what is missing is unknown"
        return
    offered, reached = float(told["offered_rate"]), float(told["reached_rate"])
    yield (
        f"load: {reached:.1f} of {offered:.1f} requests/s reached; sent late by "
        f"{told['lag_p50_ms']:.2f} ms (median), {told['lag_p99_ms']:.2f} ms (99 %), "
        f"{told['lag_max_ms']:.2f} ms (most)"
    )
    if reached < REACHED * offered:
        yield "THE LOAD FAILED: it did not reach the rate; outages may have gone unseen"
    if told["unsent"]:
        yield f"THE LOAD FAILED: {told['unsent']} requests could not be sent from this machine"
    if told["dropped"]:
        yield f"THE LOAD FAILED: {told['dropped']} samples could not be written in time"
    yield from _workers(told)
    if told["interrupted"]:
        yield "interrupted before its time"


def _workers(told: Mapping[str, Any]) -> Iterator[str]:
    """Yield how many sent it and how far their clocks may be apart, and who did not do its part."""
    if workers := crew.carried(told):
        error = duration.written(crew.clock_error(told))
        yield f"sent by {len(workers)} workers, their clocks certain to {error}"
    for fault in crew.faults(told):
        yield f"THE LOAD FAILED: {fault}"
