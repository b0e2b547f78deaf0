"""What arrived at the app: too early or too late, more than once, or though nobody sent it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zdtest.history.sent import name
from zdtest.history.witness import SHOWN, UNKNOWN, Found, Witness
from zdtest.records.journal import Journal, Lines
from zdtest.records.recording import Samples
from zdtest.records.sample import CHANNELS, NEVER_SENT

if TYPE_CHECKING:
    from zdtest.records.journal import Ints
    from zdtest.records.recording import Floats

GRACE = 0.1
"""Seconds after the listener closed in which a request may still begin: it had been accepted, and
waited for its turn in the event loop."""

_STARTED, _READY, _STOPPED = range(3)
_LIFE = ("started", "ready", "stopped")


@dataclass(slots=True)
class _Life:
    """One life of a process; what never came is infinitely late."""

    began: float
    ready: float = float("inf")
    closed: float = float("inf")


def early(journal: Iterable[Mapping[str, Any]], run: str) -> Found:
    """Return the requests accepted before their process was ready or after its listener closed.

    A process that tells nothing of its own life proves nothing; when none does, nothing is known.
    Health checks carry no id of the run and do not count. O(n log n) in the lines.
    """
    kept = Journal.of(journal)
    lives = _lives(kept.lines(run, *_LIFE))
    if not lives:
        return UNKNOWN
    requests = kept.lines(run, "request").ours
    begin = np.where(np.isnan(requests.begin), requests.at, requests.begin)
    before, after = _distance(requests.process, begin, lives)
    rows = np.flatnonzero((before > 0) | (after > GRACE))
    rows = rows[np.argsort(begin[rows], kind="stable")]
    witnesses = []
    for row in rows[:SHOWN].tolist():
        process = kept.processes[requests.process[row]]
        told = f"accepted by {process.version} {_when(before[row], after[row])}"
        id = name(run, int(requests.seq[row]))
        witnesses.append(Witness(id, float(begin[row]), process.instance, told))
    return Found(len(rows), tuple(witnesses))


def _when(before: float, after: float) -> str:
    if before == np.inf:
        return "though it was never ready"
    if before > 0:
        return f"{before * 1e3:.1f} ms before it was ready"
    return f"{after * 1e3:.1f} ms after its listener closed"


def _lives(lines: Lines) -> dict[int, list[_Life]]:
    """Return the lives of each process that tells of them, in order.

    Containers all have the same process id, so that one (instance, version, pid) may live again,
    and beside itself; who is ready after its end does, whether it said that it started or not.
    Where no token tells them apart, who is ready is the first that was not, and who stops one that
    never was, if there is one: what is left may have accepted all the others'.
    """
    lives: dict[int, list[_Life]] = {}
    order = np.argsort(lines.at, kind="stable").tolist()
    for row in order:
        code, event, at = int(lines.process[row]), int(lines.event[row]), float(lines.at[row])
        own = lives.setdefault(code, [])
        if event == _STARTED or not own:
            own.append(_Life(at if event == _STARTED else -np.inf))
        serving = [life for life in own if life.closed == np.inf]
        unready = [life for life in serving if life.ready == np.inf]
        if event == _READY and unready:
            unready[0].ready = at
        # Who told of its start, and serves, says so once more; else it may be one beside it, of
        # however many: containers all have process id 1.
        elif event == _READY and (own[0].began == -np.inf or not serving):
            own.append(_Life(at, ready=at))
        if event == _STOPPED:
            closed = float(lines.closed[row])
            one = (unready or serving or own[-1:])[0]
            one.closed = at if np.isnan(closed) else closed
    return lives


def _distance(
    process: Ints, begin: Floats, lives: Mapping[int, list[_Life]]
) -> tuple[Floats, Floats]:
    """Return seconds by which each request came before its process was ready, and after it closed.

    Of several that it may have come to it is the last one begun; none where any of them served.
    Nothing is held against a process that tells nothing of its life.
    """
    before, after = np.zeros(len(begin)), np.zeros(len(begin))
    order = np.argsort(process, kind="stable")
    for code, own in lives.items():
        span = np.searchsorted(process[order], [code, code + 1])
        rows = order[span[0] : span[1]]
        at = begin[rows]
        starts, readies, closes = (
            np.array([getattr(life, name) for life in own]) for name in ("began", "ready", "closed")
        )
        which = np.maximum(np.searchsorted(starts, at, "right") - 1, 0)
        served = np.zeros(len(rows), np.bool_)
        for ready, closed in zip(readies.tolist(), closes.tolist(), strict=True):
            served |= (ready <= at) & (at <= closed + GRACE)
        before[rows] = np.where(served, 0.0, readies[which] - at)
        after[rows] = np.where(served, 0.0, at - closes[which])
    return before, after


def repeated(samples: Samples, journal: Iterable[Mapping[str, Any]], run: str) -> Found:
    """Return the requests that arrived more than once though the client sends each one once.

    A stream may ask again under its id, so streams are left out. O(n log n).
    """
    kept = Journal.of(journal)
    requests = kept.lines(run, "request").ours
    stream = samples.seq[samples.channel == CHANNELS.index("stream")]
    seqs, firsts, times = np.unique(requests.seq, return_index=True, return_counts=True)
    chosen = (times > 1) & (seqs >= 0) & ~np.isin(seqs, stream)
    witnesses = [
        Witness(name(run, seq), at, kept.processes[code].instance, f"arrived {count} times")
        for seq, at, code, count in zip(
            seqs[chosen][:SHOWN].tolist(),
            requests.at[firsts][chosen][:SHOWN].tolist(),
            requests.process[firsts][chosen][:SHOWN].tolist(),
            times[chosen][:SHOWN].tolist(),
            strict=True,
        )
    ]
    return Found(int(chosen.sum()), tuple(witnesses))


def phantom(
    samples: Samples, journal: Iterable[Mapping[str, Any]], run: str, *, whole: bool = True
) -> Found:
    """Return the requests of this run that arrived or ran, and that nobody sent.

    Where the recording is not `whole`, only one that is on file as never sent is a phantom.
    O(n log n).
    """
    kept = Journal.of(journal)
    lines = kept.lines(run, "request", "order").ours
    never = np.isin(samples.outcome, list(NEVER_SENT))
    seqs, firsts = np.unique(lines.seq, return_index=True)
    chosen = ~np.isin(seqs, samples.seq[~never]) if whole else np.isin(seqs, samples.seq[never])
    witnesses = [
        Witness(name(run, seq), at, kept.processes[code].instance, "which nobody sent")
        for seq, at, code in zip(
            seqs[chosen][:SHOWN].tolist(),
            lines.at[firsts][chosen][:SHOWN].tolist(),
            lines.process[firsts][chosen][:SHOWN].tolist(),
            strict=True,
        )
    ]
    return Found(int(chosen.sum()), tuple(witnesses))
