"""A `Roster` knows what runs under each name, and lets one hand at a time change that."""

from __future__ import annotations

import threading
from collections.abc import Callable

from zdtest.engine import Engine, Instance


class Roster:
    """Starts, stops and brings back instances by their names, from any thread.

    Each name is dealt with by one caller at a time: what a deploy is replacing is not started a
    second time by whoever undoes a fault. `start` starts the instance of that name and version.
    """

    def __init__(self, engine: Engine, start: Callable[[str, str], Instance]) -> None:
        self._engine = engine
        self._start = start
        self._last: dict[str, Instance] = {}
        self._wanted: set[str] = set()
        self._locks: dict[str, threading.Lock] = {}

    def instance(self, name: str) -> Instance:
        """Return what was last started under that name; raises KeyError where nothing was."""
        return self._last[name]

    def start(self, name: str, version: str) -> None:
        """Start it; raises what `start` raises."""
        with self._lock(name):
            self._begin(name, version)

    def stop(self, name: str, end: Callable[[Instance], None]) -> None:
        """Let `end` end it, if anything was ever started; from now on it is not wanted."""
        with self._lock(name):
            self._wanted.discard(name)
            if name in self._last:
                end(self._last[name])

    def wanted(self, name: str) -> bool:
        """Return whether it was started and not stopped since: then only a fault can end it."""
        return name in self._wanted

    def revive(self, one: Instance) -> bool:
        """Start `one`, which something has ended, again at its version; return whether it was.

        Nothing happens where it still runs, or has been stopped or replaced meanwhile.
        """
        with self._lock(one.name):
            mine = self.wanted(one.name) and self._last.get(one.name) == one
            if mine := mine and bool(self._engine.fate(one)):
                self._begin(one.name, one.version)
            return mine

    def _begin(self, name: str, version: str) -> None:
        self._last[name] = self._start(name, version)
        self._wanted.add(name)

    def _lock(self, name: str) -> threading.Lock:
        return self._locks.setdefault(name, threading.Lock())
