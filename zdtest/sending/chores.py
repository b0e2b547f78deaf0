"""`Chores` are what a process does regularly beside its load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import gevent

_LOOK: Final = 0.005


class Latch:
    """What happens once, and whoever waits for it, before or after, goes on.

    It looks again and again, because gevent's `Event` (26.9) forgets who begins to wait after it
    has been set and before it has woken those who waited already: they sleep for ever.
    """

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        """It has happened."""
        self._set = True

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._set

    def wait(self) -> None:
        """Return once it has happened."""
        while not self._set:
            gevent.sleep(_LOOK)


class Chores:
    """Steps that are each taken again and again, with a pause of seconds, until `end`."""

    def __init__(self) -> None:
        self._over = False
        self._greenlets: list[Any] = []
        self._resting: set[Any] = set()

    def add(self, pause: float, step: Callable[[], None]) -> None:
        """Take `step` after every `pause`."""
        self._greenlets.append(gevent.spawn(self._regularly, pause, step))

    def _regularly(self, pause: float, step: Callable[[], None]) -> None:
        me = gevent.getcurrent()
        while not self._over:
            self._resting.add(me)
            gevent.sleep(pause)
            self._resting.discard(me)
            if not self._over:
                step()

    def end(self) -> str:
        """Return once no step is taken any more: what broke one of them, "" where nothing did.

        A step that has begun is finished; a pause is not.
        """
        self._over = True
        for one in self._resting:
            one.kill(block=False)
        while not all(one.dead for one in self._greenlets):
            gevent.sleep(_LOOK)
        broken = [one.exception for one in self._greenlets if one.exception]
        return f"a part of the load broke: {broken[0]!r}" if broken else ""
