"""One direction of a proxied connection."""

from __future__ import annotations

import asyncio
import enum
import math
import time
from collections import deque
from collections.abc import Callable

from zdtest.engine.detour.conditions import Conditions

_HIGH, _LOW = 262_144, 65_536
_SLICES = 100
"""A limited rate is passed on in so many pieces a second."""


class Ending(enum.Enum):
    """How a direction ends."""

    EOF = enum.auto()
    RESET = enum.auto()


Item = bytes | Ending


class Pipe:
    """What is put in comes out of `deliver` in order, nothing lost, when the conditions let it.

    `conditions` is asked anew for each piece, and `changed` has to be called when its answer may
    have become another: what waits then goes by the new one. `choke` is told True when more waits
    than should, and False when there is room again. `draw` gives the jitter, from -1 to 1.
    """

    def __init__(
        self,
        conditions: Callable[[], Conditions],
        *,
        delayed: bool,
        draw: Callable[[], float],
        deliver: Callable[[Item], None],
        choke: Callable[[bool], None],
    ) -> None:
        self._conditions = conditions
        self._delayed = delayed
        self._draw = draw
        self._deliver = deliver
        self._choke = choke
        self._waiting: deque[tuple[float, float, Item]] = deque()
        self._bytes = 0
        self._free = 0.0
        self._choked = self._blocked = False
        self._timer: asyncio.TimerHandle | None = None

    def put(self, item: Item) -> None:
        """Pass it on after all that was put before."""
        draw = self._draw() if self._conditions().jitter else 0.0
        self._waiting.append((time.monotonic(), draw, item))
        self._bytes += len(item) if isinstance(item, bytes) else 0
        if len(self._waiting) == 1:
            self._flow()
        self._tell()

    def block(self, blocked: bool) -> None:
        """Stop while the receiving end has no room."""
        self._blocked = blocked
        self._flow()

    def changed(self) -> None:
        """Let what waits go by the conditions as they are now, a limited rate from now on."""
        self._free = time.monotonic()
        self._flow()

    def close(self) -> None:
        """Forget what waits: nobody is left to receive it."""
        self._waiting.clear()
        self._bytes = 0
        self._flow()

    def _flow(self) -> None:
        """Deliver all that is due, and come back when the next is."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        while self._waiting and not self._blocked:
            item, due = self._next()
            if (wait := due - time.monotonic()) > 0:
                if wait < math.inf:
                    self._timer = asyncio.get_running_loop().call_later(wait, self._flow)
                break
            self._free = due
            self._take(item)
            self._deliver(item)
        self._tell()

    def _next(self) -> tuple[Item, float]:
        """Return the piece that goes next and when."""
        now = self._conditions()
        arrived, draw, item = self._waiting[0]
        if now.held:
            return item, math.inf
        due = arrived + (now.latency + draw * now.jitter if self._delayed else 0.0)
        if not now.rate or isinstance(item, Ending):
            return item, due
        item = item[: math.ceil(now.rate / _SLICES)]
        return item, max(due, self._free) + len(item) / now.rate

    def _take(self, item: Item) -> None:
        """Take what is about to be delivered off the head."""
        arrived, draw, head = self._waiting.popleft()
        if isinstance(item, bytes) and isinstance(head, bytes):
            self._bytes -= len(item)
            if rest := head[len(item) :]:
                self._waiting.appendleft((arrived, draw, rest))

    def _tell(self) -> None:
        if self._choked != (choked := self._bytes > (_LOW if self._choked else _HIGH)):
            self._choked = choked
            self._choke(choked)
