"""Whether a stream of numbered messages had gaps or repeats, reconnections included."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Union

import numpy as np

from zdtest.history.witness import SHOWN, Found, Witness
from zdtest.records.beside import MESSAGE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Rows = NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Message:
    """A message that one subscriber got: when, its number, and which subscriber.

    `resumed` where it was the first one after the stream had been asked to go on.
    """

    t: float
    id: int
    stream: int
    resumed: bool = False


Seen = Union[Iterable[Message], "NDArray[np.void]"]
"""Messages, or rows of `MESSAGE` as they are recorded."""


def gaps(seen: Seen) -> Found:
    """Return how many numbers were left out between the first and the last of each stream.

    A stream is one subscriber with all its connections, whose numbers rise by one; the first may
    be any. O(n log n).
    """
    rows = _rows(seen)
    passed = _passed(rows)
    missing = np.where(_first(rows), 0, np.maximum(rows["id"] - passed - 1, 0))
    found = np.flatnonzero(missing)
    told = [f"{missing[row]} left out after {passed[row]}" for row in found[:SHOWN].tolist()]
    return Found(int(missing.sum()), _witnesses(rows[found], told))


def repeats(seen: Seen) -> Found:
    """Return how many messages came with a number that their stream had reached already."""
    rows = _rows(seen)
    passed = _passed(rows)
    found = np.flatnonzero(~_first(rows) & (rows["id"] <= passed))
    told = [f"{passed[row]} had been reached" for row in found[:SHOWN].tolist()]
    return Found(len(found), _witnesses(rows[found], told))


def _rows(seen: Seen) -> Rows:
    """Return the messages stream by stream, each in the order in which they were got.

    That is the order in which they are given. Their times may be in another one, where the clock of
    a worker came to be known better in between.
    """
    if isinstance(seen, np.ndarray):
        rows = seen
    else:
        told = [(round(one.t * 1e9), one.id, one.stream, one.resumed) for one in seen]
        rows = np.array(told, MESSAGE)
    return rows[np.argsort(rows["stream"], kind="stable")]


def _first(rows: Rows) -> NDArray[np.bool_]:
    streams = rows["stream"].astype(np.int64)
    first: NDArray[np.bool_] = np.diff(streams, prepend=streams[:1] - 1) != 0
    return first


def _passed(rows: Rows) -> Ints:
    """Return the highest number of the stream before each message; its own for the first one."""
    ids: Ints = rows["id"]
    passed = ids.copy()
    bounds = [*np.flatnonzero(_first(rows)).tolist(), len(ids)]
    for begin, end in pairwise(bounds):
        passed[begin + 1 : end] = np.maximum.accumulate(ids[begin:end])[:-1]
    return passed


def _witnesses(rows: Rows, told: list[str]) -> tuple[Witness, ...]:
    return tuple(
        Witness(
            f"message {row['id']} of stream {row['stream']}",
            float(row["t"]) * 1e-9,
            told=text + (" as it resumed" if row["resumed"] else ""),
        )
        for row, text in zip(rows, told, strict=False)
    )
