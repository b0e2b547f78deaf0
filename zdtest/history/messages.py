"""Whether a stream of numbered messages had gaps or repeats, reconnections included."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from zdtest.history.witness import SHOWN, Found, Witness

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Message:
    """A message that one subscriber got: when, its number, and which subscriber."""

    t: float
    id: int
    stream: int


def gaps(seen: Iterable[Message]) -> Found:
    """Return how many numbers were left out between the first and the last of each stream.

    A stream is one subscriber with all its connections, whose numbers rise by one; the first may
    be any. O(n log n).
    """
    t, ids, streams = _columns(seen)
    passed = _passed(ids, streams)
    missing = np.where(_first(streams), 0, np.maximum(ids - passed - 1, 0))
    rows = np.flatnonzero(missing)
    told = [f"{missing[row]} left out after {passed[row]}" for row in rows[:SHOWN].tolist()]
    return Found(int(missing.sum()), _witnesses(t, ids, streams, rows, told))


def repeats(seen: Iterable[Message]) -> Found:
    """Return how many messages came with a number that their stream had reached already."""
    t, ids, streams = _columns(seen)
    passed = _passed(ids, streams)
    rows = np.flatnonzero(~_first(streams) & (ids <= passed))
    told = [f"{passed[row]} had been reached" for row in rows[:SHOWN].tolist()]
    return Found(len(rows), _witnesses(t, ids, streams, rows, told))


def _columns(seen: Iterable[Message]) -> tuple[Floats, Ints, Ints]:
    """Return times, numbers and streams, stream by stream, each in the order of its times."""
    found = list(seen)
    t = np.array([message.t for message in found], np.float64)
    ids = np.array([message.id for message in found], np.int64)
    streams = np.array([message.stream for message in found], np.int64)
    order = np.lexsort((t, streams))
    return t[order], ids[order], streams[order]


def _first(streams: Ints) -> NDArray[np.bool_]:
    first: NDArray[np.bool_] = np.diff(streams, prepend=streams[:1] - 1) != 0
    return first


def _passed(ids: Ints, streams: Ints) -> Ints:
    """Return the highest number of the stream before each message; its own for the first one."""
    passed = ids.copy()
    bounds = [*np.flatnonzero(_first(streams)).tolist(), len(ids)]
    for begin, end in pairwise(bounds):
        passed[begin + 1 : end] = np.maximum.accumulate(ids[begin:end])[:-1]
    return passed


def _witnesses(
    t: Floats, ids: Ints, streams: Ints, rows: NDArray[np.intp], told: list[str]
) -> tuple[Witness, ...]:
    return tuple(
        Witness(f"message {ids[row]} of stream {streams[row]}", float(t[row]), told=text)
        for row, text in zip(rows.tolist(), told, strict=False)
    )
