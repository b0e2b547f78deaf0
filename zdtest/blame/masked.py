"""What a proxy made good: requests that were answered well though an attempt of theirs failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from zdtest.records.proxylog import Passage, Passed
from zdtest.records.recording import Recording, Samples, request_id
from zdtest.records.sample import CHANNELS, Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.intp]

SHOWN = 10
"""How many masked failures are told one by one."""

_CONTROL, _STREAM, _WRITE = (CHANNELS.index(name) for name in ("control", "stream", "write"))


@dataclass(frozen=True, slots=True)
class Tried:
    """One masked request; `at` is when the proxy had answered, seconds on the run's clock."""

    id: str
    at: float
    method: str
    passage: Passage
    arrived: int | None
    """How often it arrived at the app, None where no journal tells."""

    def as_json(self, began: float) -> dict[str, object]:
        """Return the fields of verdict.json."""
        attempts = self.passage.attempts
        return {
            "id": self.id,
            "at_s": self.at - began if self.at == self.at else None,
            "method": self.method,
            "statuses": [attempt.status or None for attempt in attempts],
            "upstreams": [attempt.server for attempt in attempts],
            "arrived": self.arrived,
        }


@dataclass(frozen=True, slots=True)
class Masked:
    """What a proxy's log says of the requests that were answered well."""

    rows: Rows = field(repr=False, compare=False)
    """The samples answered well though an attempt failed, in due order."""
    attempts_failed: int
    by_method: Mapping[str, int]
    """How many of those requests had each method."""
    by_upstream: Mapping[str, int]
    """How many of the failed attempts went to each server."""
    writes: int
    """How many of those requests are on the channel `write`."""
    twice: int | None
    """How many of them arrived at the app more than once; None where no journal tells."""
    logged: Rows = field(repr=False, compare=False)
    """The samples answered well that the log knows."""
    unlogged: Rows = field(repr=False, compare=False)
    """Those that it does not know, though each is a request that it should."""
    first: tuple[Tried, ...]
    """The first few masked ones."""

    @property
    def requests(self) -> int:
        """How many requests were answered well though an attempt failed."""
        return len(self.rows)

    @classmethod
    def of(cls, recording: Recording) -> Masked | None:
        """Return what the run's proxy masked, None where there is no proxy's log.

        O(n log n) in the samples and the lines of log and journal.
        """
        if recording.proxy is None:
            return None
        samples, passed = recording.samples, recording.proxy.passed(recording.run)
        good = np.flatnonzero((samples.outcome == Outcome.ok) & (samples.channel != _CONTROL))
        known = np.isin(samples.seq[good], passed.seq)
        # A message on a stream that stands already is no request of its own.
        asked = samples.channel[good] != _STREAM
        tries = passed.where(passed.failed > 0)
        rows = good[np.isin(samples.seq[good], tries.seq)]
        tries = tries.where(np.isin(tries.seq, samples.seq[rows]))
        arrived = _arrived(recording, tries)
        return cls(
            rows=rows,
            attempts_failed=int(tries.failed.sum()),
            by_method=_by_method(tries.once),
            by_upstream=_by_upstream(tries),
            writes=int((samples.channel[rows] == _WRITE).sum()),
            twice=None if arrived is None else _twice(samples, rows, arrived),
            logged=good[known],
            unlogged=good[~known & asked],
            first=tuple(_first(recording.run, tries.once, arrived)),
        )

    def as_json(self, began: float) -> dict[str, object]:
        """Return the fields of verdict.json."""
        return {
            "requests": self.requests,
            "attempts_failed": self.attempts_failed,
            "by_method": dict(self.by_method),
            "by_upstream": dict(self.by_upstream),
            "writes": self.writes,
            "twice": self.twice,
            "logged": len(self.logged),
            "unlogged": len(self.unlogged),
            "witnesses": [one.as_json(began) for one in self.first],
        }

    def text(self) -> str:
        """Return it in one line."""
        known, unknown = len(self.logged), len(self.unlogged)
        if self.requests:
            told = (
                f"the proxy tried {self.requests} requests again ({self.attempts_failed} attempts "
                f"failed) that users saw nothing of"
            )
        else:
            told = f"of {known} requests answered ok the proxy tried none again"
        told += f"; {self.twice} of them arrived more than once" if self.twice else ""
        return told + (f"; its log lacks {unknown} more that were answered ok" if unknown else "")


def _arrived(recording: Recording, tries: Passed) -> Mapping[int, int] | None:
    """Return how often each of these arrived at the app, None where its journal does not tell."""
    if recording.journal is None:
        return None
    seqs = recording.journal.lines(recording.run, "request").ours.seq
    if len(tries) and not len(seqs):
        return None
    return Counter(seqs[np.isin(seqs, tries.seq)].tolist())


def _twice(samples: Samples, rows: Rows, arrived: Mapping[int, int]) -> int:
    """Return how many arrived more than once; a stream may ask again under its id."""
    seqs = samples.seq[rows[samples.channel[rows] != _STREAM]].tolist()
    return sum(arrived.get(seq, 0) > 1 for seq in seqs)


def _by_method(tries: Passed) -> dict[str, int]:
    counts = np.bincount(tries.method, minlength=len(tries.methods)).tolist()
    told = zip(tries.methods, counts, strict=True)
    return {method: count for method, count in sorted(told) if count}


def _by_upstream(tries: Passed) -> dict[str, int]:
    counts = np.bincount(tries.passage, minlength=len(tries.passages)).tolist()
    servers: Counter[str] = Counter()
    for how, count in zip(tries.passages, counts, strict=True):
        for attempt in how.failed:
            servers[attempt.server] += count
    return {server: count for server, count in servers.most_common() if count}


def _first(run: str, tries: Passed, arrived: Mapping[int, int] | None) -> Iterator[Tried]:
    for row in range(min(len(tries), SHOWN)):
        seq = int(tries.seq[row])
        yield Tried(
            id=request_id(run, seq),
            at=float(tries.at[row]),
            method=tries.methods[tries.method[row]],
            passage=tries.passages[tries.passage[row]],
            arrived=None if arrived is None else arrived.get(seq, 0),
        )
