"""A proxy's access log, read back: which servers it asked for each request, and what came of it.

nginx writes one JSON object a request, in the format of ``zdtest/topologies/nginx_log.conf``; what
it says besides is left out. Another proxy's log becomes the same columns (`Passed`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zdtest.jsonlines import JsonLines, distinct

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from zdtest.jsonlines import Kinds

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

_KINDS: Kinds = {
    "t": (float, int),
    "id": (str,),
    "method": (str,),
    "status": (str, int),
    "upstream_addr": (str,),
    "upstream_status": (str, int),
}
_HOW = ("upstream_addr", "upstream_status", "status")
_MARK = b'"upstream_addr"'


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


class ProxyLog:
    """An nginx's log; its times are brought on the run's clock by the manifest's `clock`."""

    def __init__(self, text: bytes, clock: object = None) -> None:
        self._file = JsonLines(text, _KINDS)
        self._shift = _shift(clock)

    @classmethod
    def read(cls, path: Path, clock: object = None) -> ProxyLog | None:
        """Return the log in that file as it is now; None where it holds no account of a request."""
        text = path.read_bytes() if path.exists() else b""
        return cls(text, clock) if _MARK in text else None

    def passed(self, run: str) -> Passed:
        """Return the requests of that run."""
        seqs = self._file.seqs("id", run)
        rows = np.flatnonzero(seqs >= 0)
        methods, method = self._file.words("method")
        words, codes = zip(*map(self._file.words, _HOW), strict=True)
        known, passage = distinct(np.stack(codes, axis=1)[rows])
        told = ([column[code] for column, code in zip(words, row, strict=True)] for row in known)
        return Passed(
            seq=seqs[rows],
            at=self._file.times("t")[rows] + self._shift,
            method=method[rows],
            passage=passage,
            methods=tuple(methods),
            passages=tuple(_passage(*row) for row in told),
        )


def _shift(clock: object) -> float:
    """Return what is added to the wall's time for the run's, NaN where the manifest ties none."""
    told: Mapping[str, Any] = clock if isinstance(clock, Mapping) else {}
    both = told.get("monotonic"), told.get("wall")
    numbers = [float(one) for one in both if isinstance(one, (int, float))]
    return numbers[0] - numbers[1] if len(numbers) == 2 else float("nan")


def _passage(servers: str, statuses: str, status: str) -> Passage:
    """Return what nginx lists; a name without a port is no server: there was none to ask."""
    pairs = zip_longest(_listed(servers), _listed(statuses), fillvalue="")
    attempts = (Attempt(server, _status(told)) for server, told in pairs if ":" in server)
    return Passage(tuple(attempts), _status(status))


def _listed(told: str) -> list[str]:
    """Return what nginx joins by commas, and by colons after an internal redirect."""
    return told.replace(" : ", ", ").split(", ")


def _status(told: str) -> int:
    return int(told) if re.fullmatch("[0-9]{3}", told) else 0
