"""How many of the app's processes ran, and were ready, after each event that tells of one.

The engine's marks and the app's journal tell of the same processes, each by itself, under the name
of the instance and its version. Several may live under one name: a swarm starts the new task of a
place before it stops the old one, also where the version stays. Where nothing tells them apart, an
event is that of the first process of its name of which it was not told yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from zdtest.records.journal import Journal
from zdtest.records.recording import Recording

_SKEW = 0.05
"""Seconds by which the end of a process may be told after the start of the one in its place."""

_STARTED, _ENDED = "app.started", "app.stopped"
_MARKS = {"app.ready": True, "app.term": False, _ENDED: False}
_JOURNAL = {"ready": True, "term": False, "draining": False, "stopped": False}

_LEAVING = {"app.term", "term", "draining", "stopped"}
_ENDS = {_ENDED, "stopped"}

Name = tuple[str, str]
"""The instance's name, and the version."""


@dataclass(frozen=True, slots=True)
class Count:
    """From this moment on so many are ready, and so many run."""

    at: float
    ready: int
    running: int


@dataclass(slots=True)
class _Process:
    """One process, and what was told of it."""

    ready: bool = False
    running: bool = False
    told: set[str] = field(default_factory=set)
    token: object = None
    """What its lines in the journal carry, where they do."""

    def may(self, event: str, token: object) -> bool:
        """Return whether that can be the first that is told of this in it."""
        if _ENDED in self.told or event in self.told:
            return False
        # Who has said that it ended says no more; the engine says so once again.
        over = "stopped" in self.told and event != _ENDED
        return not over and (token is None or self.token in (None, token))


def census(recording: Recording) -> list[Count]:
    """Return the counts after each event, in order."""
    known: dict[Name, list[_Process]] = {}
    found = []
    for at, name, event, token in _events(recording):
        _tell(known.setdefault(name, []), event, token)
        every = [one for own in known.values() for one in own]
        found.append(Count(at, sum(one.ready for one in every), sum(one.running for one in every)))
    return found


def _tell(own: list[_Process], event: str, token: object) -> None:
    """Note the event of one of these processes, of a new one where it started or none is left."""
    if event == _STARTED:
        own.append(_Process(running=True, told={event}))
        return
    one = _owner(own, event, token)
    if token is not None:
        one.token = token
    one.told.add(event)
    one.ready = {**_MARKS, **_JOURNAL}[event]
    one.running &= event != _ENDED


def _owner(own: list[_Process], event: str, token: object) -> _Process:
    """Return whose event that is."""
    if token is not None and (same := [one for one in own if one.token == token]):
        return same[0]
    if fresh := [one for one in own if one.may(event, token)]:
        # Of several, those end first that were told to, or have said so.
        ending = [one for one in fresh if one.told & _LEAVING] if event in _ENDS else []
        return (ending or fresh)[0]
    alive = [one for one in own if _ENDED not in one.told]
    if not alive:
        own.append(_Process())
    return alive[-1] if alive else own[-1]


def _events(recording: Recording) -> list[tuple[float, Name, str, object]]:
    """Return (time, name, event, token) of what marks and journal tell of the app's processes."""
    told: list[tuple[float, Name, str, object]] = [
        (mark.at + _SKEW * (mark.name == _STARTED), _name(mark.about), mark.name, None)
        for mark in recording.marks
        if mark.name in (*_MARKS, _STARTED) and "instance" in mark.about
    ]
    told += [
        (float(line["t"]), _name(line), str(line["event"]), line.get("process"))
        for line in Journal.of(recording.journal or ()).about(*_JOURNAL)
        if not line.get("ignored")
    ]
    return sorted(told, key=lambda one: one[:3])


def _name(about: Mapping[str, object]) -> Name:
    return str(about["instance"]), str(about.get("version", ""))
