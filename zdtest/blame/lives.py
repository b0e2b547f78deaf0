"""The lives of a system's processes: when each one started, served, was told to stop and ended."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zdtest.records.journal import Journal
from zdtest.records.recording import Recording
from zdtest.records.sample import Mark

NEVER = math.inf
_ENDING = ("3", "9", "10", "15")
"""SIGQUIT and SIGUSR1 are how nginx and HAProxy are told to end in good order."""
_AS_ONE = 10.0
"""Seconds by which a process and its engine may differ in when it started."""
_HEARD = 0.25
"""Seconds after the end of a process in which its engine has heard of it."""
_SKEW = 0.05
"""Seconds by which the engine's accounts of one process may be in another order than they were."""
_Writer = tuple[str, str, str, str]
"""Who writes a journal: instance, version, process id, and the process's token, "" without one."""
PROXIES = ("proxy", "balancer")
"""What the instance is called that all users go through."""


@dataclass(slots=True)
class Life:
    """One process of an instance. Times are seconds on the run's clock, `NEVER` where none told."""

    instance: str
    version: str
    started: float = -math.inf
    ready: float = NEVER
    """When it took connections."""
    told: float = NEVER
    """When it was told to stop."""
    closed: float = NEVER
    """When it took no more connections."""
    ended: float = NEVER
    port: int = 0
    """Where it listened, by its own account; 0 where it told none."""
    watched: bool = False
    """Whether an engine would have told of its end."""
    last: float = -math.inf
    """When it wrote its last line."""

    def __str__(self) -> str:
        return f"{self.instance} {self.version}".strip()

    @property
    def silent(self) -> float:
        """From when on it may have been dead: a busy machine hears of an end some time after it.

        Not before its own last line; where it keeps no journal an end is taken for what it says.
        """
        heard = self.ended - _HEARD if self.watched and self.last > -math.inf else self.ended
        return min(self.ended, max(heard, self.last))

    @property
    def gone(self) -> float:
        """When nobody could connect to it any more."""
        return min(self.closed, self.silent)

    def outlived(self, at: float) -> bool:
        """Whether it is known to have lived on then: nobody tells of a death that none watched."""
        return self.silent > at and (self.watched or self.last > at)

    def state(self, at: float) -> str:
        """Return ``unborn``, ``booting``, ``serving``, ``stopping`` or ``gone``."""
        if at >= self.gone:
            return "gone"
        if at >= self.told:
            return "stopping"
        if at >= self.ready:
            return "serving"
        return "booting" if at >= self.started else "unborn"


class Lives(Sequence[Life]):
    """Those of the app's processes, in the order in which they started, and the proxy's."""

    def __init__(self, app: Sequence[Life], proxy: Sequence[Life]) -> None:
        self._app = sorted(app, key=lambda life: life.started)
        self.proxy = tuple(proxy)

    @classmethod
    def of(cls, recording: Recording) -> Lives:
        """Return what the engine's marks and the app's journal tell of them together."""
        app = _marked(recording.marks, "app")
        events = ("started", "ready", "term", "stopped")
        writers: dict[_Writer, Life] = {}
        journal = Journal.of(recording.journal or ())
        for line in journal.about(*events):
            _add(app, writers, line)
        proxies = [one for one in _marked(recording.marks, "process") if one.instance in PROXIES]
        for one in proxies:
            one.ready = one.started
            ends = (at for name, at in _told_to_end(recording.marks) if name == one.instance)
            one.told = min((at for at in ends if one.started <= at <= one.ended), default=one.told)
        lives = cls(app, proxies)
        for process, at in journal.last.items():
            if (life := lives.owner(process.instance, process.version, at)) is not None:
                life.last = max(life.last, at)
        return lives

    def __len__(self) -> int:
        return len(self._app)

    def __getitem__(self, at: Any) -> Any:
        return self._app[at]

    def __iter__(self) -> Iterator[Life]:
        return iter(self._app)

    def at(self, port: int) -> list[Life]:
        """Return those who listened on that port, where it tells them apart: all others do not."""
        there = [life for life in self._app if life.port == port]
        return there if len({life.instance for life in there}) == 1 else []

    def owner(self, instance: str, version: str, at: float) -> Life | None:
        """Return the process of that name and version that lived then, the last one of several."""
        alive = [
            life
            for life in self._app
            if (life.instance, life.version) == (instance, version) and life.started <= at
        ]
        return alive[-1] if alive else None


def _told_to_end(marks: Sequence[Mark]) -> Iterator[tuple[str, float]]:
    """Yield whose container was sent a signal to end by, and when."""
    for mark in marks:
        if mark.name == "engine.container.kill" and mark.about.get("signal") in _ENDING:
            yield str(mark.about.get("instance", "")), mark.at


def _marked(marks: Sequence[Mark], kind: str) -> list[Life]:
    """Return the lives of which the engine told."""
    lives: list[Life] = []
    for mark in marks:
        name, version = str(mark.about.get("instance", "")), str(mark.about.get("version", ""))
        if mark.name == f"{kind}.started":
            lives.append(Life(name, version, started=mark.at, watched=True))
            continue
        what = {f"{kind}.term": "told", f"{kind}.stopped": "ended"}.get(mark.name)
        if what:
            open_ones = (
                life
                for life in lives
                if (life.instance, life.version) == (name, version)
                and getattr(life, what) == NEVER
                # What is told to its successor is not told to one that has ended.
                and life.started <= mark.at <= life.ended + _SKEW
            )
            if (life := next(open_ones, None)) is not None:
                setattr(life, what, mark.at)
    return lives


def _add(lives: list[Life], writers: dict[_Writer, Life], line: Mapping[str, Any]) -> None:
    """Add what a line of the journal tells to the life of who wrote it.

    `writers` are the lives that have been found out.
    """
    at, event = line["t"], line["event"]
    instance, version = str(line["instance"]), str(line.get("version", ""))
    who = (instance, version, str(line.get("pid")), str(line.get("process", "")))
    known = writers.get(who)
    # Who is ready after its end lives again, though nobody told of its start.
    if event == "started" or known is None or (event == "ready" and known.gone <= at):
        writers[who] = _begun(lives, set(map(id, writers.values())), instance, version, float(at))
    life = writers[who]
    if event == "ready":
        life.ready = min(life.ready, float(at))
        life.port = line["port"] if isinstance(line.get("port"), int) else life.port
    elif event == "term":
        life.told = min(life.told, float(at))
    elif event == "stopped":
        closed = line.get("closed")
        life.closed = float(closed) if isinstance(closed, (int, float)) else float(at)
        # The engine knows better when it was gone; without one this is the last that it said.
        life.ended = min(life.ended, float(at)) if life.ended == NEVER else life.ended


def _begun(lives: list[Life], taken: set[int], instance: str, version: str, at: float) -> Life:
    """Return the life of whoever says at that time that it has started, a new one if need be.

    The engine says so too, a little earlier or later.
    """
    mine = [
        life
        for life in lives
        if (life.instance, life.version) == (instance, version)
        and id(life) not in taken
        and life.ended >= at
    ]
    near = min(mine, key=lambda life: abs(life.started - at), default=None)
    if near is None or abs(near.started - at) > _AS_ONE:
        near = Life(instance, version, started=at)
        lives.append(near)
    return near
