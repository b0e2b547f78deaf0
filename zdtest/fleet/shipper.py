"""The `Shipper` sends a worker's rows to the master in numbered chunks, until each has arrived."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROWS: Final = 16_384
"""Rows of a chunk at the most: 690 kB."""

_WINDOW: Final = 32
_AGAIN_NS: Final = 2_000_000_000


class Beside:
    """Where a worker's rows of another kind go: by the same way, in chunks of that kind."""

    def __init__(self, shipper: Shipper, kind: str) -> None:
        self._shipper = shipper
        self._kind = kind

    def append(self, rows: NDArray[np.void]) -> None:
        """Take `rows` to send."""
        for begin in range(0, len(rows), ROWS):
            part = rows[begin : begin + ROWS]
            self._shipper.make(self._kind, rows=part.tobytes(), dropped=0)

    def close(self, trailer: Mapping[str, Any]) -> None:
        """Send how many rows were dropped before they got here."""
        self._shipper.make(self._kind, rows=b"", dropped=trailer["dropped"])


class Shipper:
    """Where a worker's `Recorder` writes to; `send` puts one message on its way.

    Chunks are numbered from zero and go out in order, 32 at the most without an answer. What is
    not acknowledged for two seconds is sent again from there on (go-back-n), so a link that breaks
    for a while costs nothing; the master takes each number once.
    """

    def __init__(self, send: Callable[[Mapping[str, Any]], None], count: int, index: int) -> None:
        self._send = send
        self._stripe = count, index
        self._chunks: deque[Mapping[str, Any]] = deque()
        self._first = self._next = self._made = 0
        self._moved = 0
        self._known = [0, 0]
        self._closed = False

    def append(
        self, rows: NDArray[np.void], versions: Sequence[str], instances: Sequence[str]
    ) -> None:
        """Take `rows` to send; of the words only those not sent before go along."""
        count, index = self._stripe
        # Each worker numbers its connections from one; together no two have the same number.
        rows["conn"] = np.where(rows["conn"], rows["conn"] * np.uint32(count) + index, 0)
        for begin in range(0, len(rows), ROWS):
            part = rows[begin : begin + ROWS]
            words = [
                list(known[sent:])
                for known, sent in zip((versions, instances), self._known, strict=True)
            ]
            self._known = [len(versions), len(instances)]
            told = {"versions": words[0], "instances": words[1]}
            self.make("samples", rows=part.tobytes(), **told)

    def close(self, trailer: Mapping[str, object]) -> None:
        """Send this account as the last chunk."""
        self.make("account", account=dict(trailer))
        self._closed = True

    def make(self, kind: str, **told: object) -> None:
        """Take another chunk to send."""
        self._chunks.append({"n": self._made, "kind": kind, **told})
        self._made += 1

    @property
    def idle(self) -> bool:
        """Whether everything taken has been sent: there is room for more."""
        return self._next == self._made

    @property
    def done(self) -> bool:
        """Whether everything, the account included, has arrived."""
        return self._closed and not self._chunks

    def arrived(self, until: int, now: int) -> None:
        """The master has all chunks below the number `until`."""
        while self._chunks and self._first < until:
            self._chunks.popleft()
            self._first += 1
            self._moved = now
        self._next = max(self._next, self._first)

    def step(self, now: int) -> None:
        """Send what may go now: what is new, and what has waited too long for an answer."""
        if self._next == self._first:
            self._moved = now
        elif now - self._moved > _AGAIN_NS:
            self._next, self._moved = self._first, now
        while self._next < min(self._made, self._first + _WINDOW):
            self._send(self._chunks[self._next - self._first])
            self._next += 1
