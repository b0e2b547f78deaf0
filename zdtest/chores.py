"""`Chores` are what a process does regularly beside its load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event


class Chores:
    """Steps that are each taken again and again, with a pause of seconds, until `end`."""

    def __init__(self) -> None:
        self._ending = Event()
        self._greenlets: list[Any] = []

    def add(self, pause: float, step: Callable[[], None]) -> None:
        """Take `step` after every `pause`."""
        self._greenlets.append(gevent.spawn(self._regularly, pause, step))

    def _regularly(self, pause: float, step: Callable[[], None]) -> None:
        while not self._ending.wait(pause):
            step()

    def end(self) -> str:
        """Return once no step is taken any more: what broke one of them, "" where nothing did."""
        self._ending.set()
        gevent.joinall(self._greenlets)
        broken = [one.exception for one in self._greenlets if one.exception]
        return f"a part of the load broke: {broken[0]!r}" if broken else ""
