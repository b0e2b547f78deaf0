"""A proxy's access log, read back: which servers it asked for each request, and what came of it.

nginx writes one JSON object a request, in the format of ``zdtest/topologies/nginx_log.conf``, and
HAProxy in that of ``zdtest/topologies/haproxy_log.md``; what they say besides is left out. Both
become the same columns (`Passed`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zdtest.records.jsonlines import JsonLines, distinct

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from zdtest.records.jsonlines import Kinds

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

_HANDOVER = 1.0
"""Seconds for which those before may begin requests once others have taken over."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One server that was asked ("" where the proxy does not tell), and its status, 0 for none."""

    server: str
    status: int


@dataclass(frozen=True, slots=True)
class Passage:
    """How a request came through: its attempts in order, and the status that the user was sent."""

    attempts: tuple[Attempt, ...]
    status: int

    @property
    def failed(self) -> tuple[Attempt, ...]:
        """The attempts without an answer, and those with an error that the user was not sent."""
        last = len(self.attempts) - 1
        return tuple(
            attempt
            for place, attempt in enumerate(self.attempts)
            if not 0 < attempt.status < 400 and (place < last or attempt.status != self.status)
        )


@dataclass(frozen=True, slots=True)
class Passed:
    """The requests of one run in a proxy's log, as columns of equal length in the file's order."""

    seq: Ints
    """The request's number in the run."""
    at: Floats
    """When it had ended, seconds on the run's clock; NaN where that is not known."""
    method: Ints
    """The code of its method, an index into `methods`."""
    passage: Ints
    """The code of how it came through, an index into `passages`."""
    methods: tuple[str, ...]
    passages: tuple[Passage, ...]

    def __len__(self) -> int:
        return len(self.seq)

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Passed:
        """Return the chosen requests."""
        columns = {name: getattr(self, name)[chosen] for name in _COLUMNS}
        return replace(self, **columns)

    @property
    def once(self) -> Passed:
        """Each request as it is first told of."""
        return self.where(np.sort(np.unique(self.seq, return_index=True)[1]))

    @property
    def attempts(self) -> Ints:
        """How many servers were asked for each."""
        return np.array([len(how.attempts) for how in self.passages], np.int64)[self.passage]

    @property
    def failed(self) -> Ints:
        """How many of those attempts failed."""
        return np.array([len(how.failed) for how in self.passages], np.int64)[self.passage]


_COLUMNS = ("seq", "at", "method", "passage")


@dataclass(frozen=True, slots=True)
class Format:
    """How one proxy writes down its requests."""

    name: str
    """The proxy's."""
    worker: str
    """The field with the pid of who wrote it."""
    mark: bytes
    """What is in each of its lines, and in none of others'."""
    kinds: Kinds
    """The fields that are read: `t`, `id`, `method`, and those below."""
    how: tuple[str, ...]
    """The fields that tell how a request came through."""
    passage: Callable[..., Passage]
    """Makes a passage of their words."""
    lasted: tuple[str, float]
    """The field with the time from the request's first byte to the end, and its unit in seconds."""
    took: str = ""
    """The field with the milliseconds from `t` to the end, "" where `t` is the end."""


class ProxyLog:
    """A proxy's log; its times are brought on the run's clock by the manifest's `clock`."""

    def __init__(self, text: bytes, clock: object = None) -> None:
        self._format = next((one for one in _FORMATS if one.mark in text), _FORMATS[0])
        self._file = JsonLines(text, self._format.kinds)
        self._shift = _shift(clock)

    @classmethod
    def read(cls, path: Path, clock: object = None) -> ProxyLog | None:
        """Return the log in that file as it is now; None where it holds no account of a request."""
        text = path.read_bytes() if path.exists() else b""
        return cls(text, clock) if any(one.mark in text for one in _FORMATS) else None

    @property
    def kind(self) -> str:
        """``nginx`` or ``haproxy``."""
        return self._format.name

    @property
    def unread(self) -> int:
        """How many lines begin as those about requests do, and cannot be read."""
        return self._file.unread(b"{")

    def reloads(self) -> Floats:
        """Return when others took over from all who had been at work, on the run's clock.

        That is when the first of them ended its first request; it took over a little earlier. Those
        before it go on with what they have, and begin nothing more: where one does, as where one
        of many workers gets its first request late, nobody took over.
        """
        pids, told = self._file.numbers(self._format.worker, np.int64)
        times = self._ended + self._shift
        rows = np.flatnonzero(told & ~np.isnan(times))
        _, first, who = np.unique(pids[rows], return_index=True, return_inverse=True)
        begun = times[rows] - np.nan_to_num(self._lasted[rows], nan=0.0)
        last = np.full(len(first), -np.inf)
        np.maximum.at(last, who, begun)
        began = times[rows][first]
        order = np.argsort(began, kind="stable")
        over = np.maximum.accumulate(last[order])[:-1] <= began[order][1:] + _HANDOVER
        return began[order][1:][over]

    def passed(self, run: str) -> Passed:
        """Return the requests of that run."""
        seqs = self._file.seqs("id", run)
        rows = np.flatnonzero(seqs >= 0)
        methods, method = self._file.words("method")
        words, codes = zip(*map(self._file.words, self._format.how), strict=True)
        known, passage = distinct(np.stack(codes, axis=1)[rows])
        told = ([column[code] for column, code in zip(words, row, strict=True)] for row in known)
        return Passed(
            seq=seqs[rows],
            at=self._ended[rows] + self._shift,
            method=method[rows],
            passage=passage,
            methods=tuple(methods),
            passages=tuple(self._format.passage(*row) for row in told),
        )

    @property
    def _ended(self) -> Floats:
        """When each request had ended, on the wall's clock, NaN where a line does not tell."""
        times = self._file.times("t")
        return times + self._file.times(self._format.took) / 1e3 if self._format.took else times

    @property
    def _lasted(self) -> Floats:
        """For how many seconds each was at work, NaN where a line does not tell."""
        name, unit = self._format.lasted
        return self._file.times(name) * unit


def _shift(clock: object) -> float:
    """Return what is added to the wall's time for the run's, NaN where the manifest ties none."""
    told: Mapping[str, Any] = clock if isinstance(clock, Mapping) else {}
    both = told.get("monotonic"), told.get("wall")
    numbers = [float(one) for one in both if isinstance(one, (int, float))]
    return numbers[0] - numbers[1] if len(numbers) == 2 else float("nan")


def _by_nginx(servers: str, statuses: str, status: str) -> Passage:
    """Return what nginx lists; a name without a port is no server: there was none to ask."""
    pairs = zip_longest(_listed(servers), _listed(statuses), fillvalue="")
    attempts = (Attempt(server, _status(told)) for server, told in pairs if ":" in server)
    return Passage(tuple(attempts), _status(status))


def _listed(told: str) -> list[str]:
    """Return what nginx joins by commas, and by colons after an internal redirect."""
    return told.replace(" : ", ", ").split(", ")


def _by_haproxy(server: str, retries: str, end: str, status: str) -> Passage:
    """Return the last attempt and the failed ones before it; `server` had the last one.

    What HAProxy answers by itself is no attempt, nor is a reply that HAProxy made up the server's.
    """
    again = int(retries) if re.fullmatch(r"\+?[0-9]{1,3}", retries) else 0
    there = "" if server.startswith("<") else server
    before = "" if retries.startswith("+") else there
    attempts = [Attempt(before, 0)] * again
    if there:
        attempts.append(Attempt(there, 0 if end[1:2] in _HEADLESS else _status(status)))
    return Passage(tuple(attempts), _status(status))


def _status(told: str) -> int:
    return int(told) if re.fullmatch("[0-9]{3}", told) else 0


_HEADLESS = ("", "R", "Q", "C", "H")
"""The states of a request whose reply's head had not come; "" where the line does not tell."""

_EVERY: Kinds = {"t": (float, int), "id": (str,), "method": (str,), "status": (str, int)}
_FORMATS = (
    Format(
        name="nginx",
        worker="worker",
        mark=b'"upstream_addr"',
        kinds={
            **_EVERY,
            "upstream_addr": (str,),
            "upstream_status": (str, int),
            "time": (float, int),
            "worker": (int,),
        },
        how=("upstream_addr", "upstream_status", "status"),
        passage=_by_nginx,
        lasted=("time", 1.0),
    ),
    Format(
        name="haproxy",
        worker="pid",
        mark=b'"retries":"',
        kinds={
            **_EVERY,
            "server": (str,),
            "retries": (str, int),
            "end": (str,),
            "Ta": (float, int),
            "Tt": (float, int),
            "pid": (int,),
        },
        how=("server", "retries", "end", "status"),
        passage=_by_haproxy,
        lasted=("Ta", 1e-3),
        took="Tt",
    ),
)
