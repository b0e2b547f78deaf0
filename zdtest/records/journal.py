"""The app's journal, read back: line by line, or the lines of one event as columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from zdtest.records.jsonlines import FOREIGN as FOREIGN
from zdtest.records.jsonlines import IMPOSSIBLE as IMPOSSIBLE
from zdtest.records.jsonlines import JsonLines, distinct, is_time, objects

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from zdtest.records.jsonlines import Kinds

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

_KINDS: Kinds = {
    "t": (float, int),
    "begin": (float, int),
    "closed": (float, int),
    "pid": (int,),
    "status": (int,),
    "event": (str,),
    "instance": (str,),
    "version": (str,),
    "process": (str,),
    "id": (str,),
    "key": (str,),
}

_LIFE = ("started", "ready", "term", "draining", "stopped")
_EVENTS = (*_LIFE, "request", "order", "replayed", "answered")
"""What a line is read for; each has to tell when, and of a life whose."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Some lines of a journal as columns of equal length, in the file's order.

    Times are seconds on CLOCK_MONOTONIC, NaN where a line tells none.
    """

    event: Ints
    """Which of the events asked for."""
    at: Floats
    begin: Floats
    closed: Floats
    seq: Ints
    """The request's number in this run, or `FOREIGN`, or `IMPOSSIBLE`."""
    key: Ints
    """The code of the Idempotency-Key, -1 without one; the same in all `Lines` of a journal."""
    process: Ints
    """The code of the process that wrote it: an index into `Journal.processes`."""
    status: Ints
    """What it answered, 0 where that is not told."""

    def __len__(self) -> int:
        return len(self.at)

    def where(self, chosen: NDArray[np.bool_] | Ints) -> Lines:
        """Return the chosen lines."""
        return Lines(*(getattr(self, name)[chosen] for name in Lines.__slots__))

    @property
    def ours(self) -> Lines:
        """The lines about requests of this run."""
        return self.where(self.seq != FOREIGN)


@dataclass(frozen=True, slots=True)
class Process:
    """Who wrote lines: a name, a version, a process id, which containers may share, and a token.

    The token is of one process alone; "" where it tells none.
    """

    instance: str
    version: str
    pid: int
    token: str = ""


class Journal(Sequence[Mapping[str, Any]]):
    """A journal's lines; as a sequence they are dicts, what is no JSON object left out."""

    def __init__(self, text: bytes) -> None:
        self._file = JsonLines(text, _KINDS)

    @classmethod
    def read(cls, path: Path) -> Journal:
        """Return the journal in that file as it is now."""
        return cls(path.read_bytes())

    @classmethod
    def of(cls, lines: Iterable[Mapping[str, Any]]) -> Journal:
        """Return these lines as a journal; one that already is a journal as it is."""
        if isinstance(lines, Journal):
            return lines
        return cls("".join(json.dumps(line) + "\n" for line in lines).encode())

    def __len__(self) -> int:
        return len(self._file.dicts)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self._file.dicts)

    @overload
    def __getitem__(self, at: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Mapping[str, Any]]: ...
    def __getitem__(self, at: int | slice) -> Mapping[str, Any] | Sequence[Mapping[str, Any]]:
        return self._file.dicts[at]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._file.dicts == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    @property
    def unread(self) -> int:
        """How many lines are no JSON object, as one cut short, or lack what each has to tell."""
        names, codes = self._file.words("event")
        known, life = (np.array([one in of for one in names])[codes] for of in (_EVENTS, _LIFE))
        instances, whose = self._file.words("instance")
        lacking = known & np.isnan(self._file.times("t")) | life & (whose == len(instances) - 1)
        return self._file.unread() + int(lacking.sum())

    def about(self, *events: str) -> Iterator[Mapping[str, Any]]:
        """Yield the lines of these events that tell when and whose; no other line is parsed."""
        words = [f'"{event}"'.encode() for event in events]
        few = (line for line in self._file.text.split(b"\n") if any(word in line for word in words))
        told = (line for line in objects(few) if line.get("event") in events)
        whole = (line for line in told if is_time(line.get("t")))
        yield from (line for line in whole if isinstance(who := line.get("instance"), str) and who)

    def lines(self, run: str, *events: str) -> Lines:
        """Return the lines of these events as columns, requests numbered as in that run."""
        names, codes = self._file.words("event")
        place = [events.index(name) if name in events else -1 for name in names]
        event = np.array(place, np.int64)[codes]
        rows = np.flatnonzero(event >= 0)
        status, told = self._file.numbers("status", np.int64)
        return Lines(
            event=event[rows],
            at=self._file.times("t")[rows],
            begin=self._file.times("begin")[rows],
            closed=self._file.times("closed")[rows],
            seq=self._file.seqs("id", run, rows),
            key=self._keys[rows],
            process=self._writers[1][rows],
            status=np.where(told, status, 0)[rows],
        )

    @property
    def processes(self) -> tuple[Process, ...]:
        """Everybody who wrote lines."""
        return self._writers[0]

    @property
    def last(self) -> Mapping[Process, float]:
        """When each of them wrote its last line that tells when."""
        processes, codes = self._writers
        latest = np.full(len(processes), -np.inf)
        times = self._file.times("t")
        told = ~np.isnan(times)
        np.maximum.at(latest, codes[told], times[told])
        return dict(zip(processes, latest.tolist(), strict=True))

    @cached_property
    def _writers(self) -> tuple[tuple[Process, ...], Ints]:
        names, of, tokens = (self._file.words(one) for one in ("instance", "version", "process"))
        pids, _ = self._file.numbers("pid", np.int64)
        known, codes = distinct(np.stack([names[1], of[1], pids, tokens[1]], axis=1))
        found = (
            Process(names[0][name], of[0][version], pid, tokens[0][token])
            for name, version, pid, token in known.tolist()
        )
        return tuple(found), codes

    @cached_property
    def _keys(self) -> Ints:
        words, codes = self._file.words("key")
        return np.where(codes == len(words) - 1, -1, codes)
