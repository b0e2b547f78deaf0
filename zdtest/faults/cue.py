"""When a fault fires: on a phase of the deploy, some time after it, told from the marks alone."""

from __future__ import annotations

import random
from dataclasses import dataclass

from zdtest.duration import seconds
from zdtest.errors import unknown

PHASES = {
    "now": "as soon as it is armed, before the block begins",
    "before_start": "the deploy begins",
    "started": "the first process of the new version was started",
    "first_ready": "the first instance of the new version serves",
    "switch": "traffic was switched, or the first step of the deploy has ended",
    "old_told_to_stop": "the first instance of an old version was told to stop",
    "old_gone": "the first instance of an old version has ended",
}
"""What each phase means."""


@dataclass(frozen=True, slots=True)
class When:
    """`after` seconds later than the phase, and up to `window` seconds more, drawn by seed."""

    phase: str
    after: float = 0.0
    window: float = 0.0

    def delay(self, seed: str) -> float:
        """Return how long after the phase it fires: the same seed, the same moment."""
        return self.after + random.Random(seed).uniform(0, self.window)


def at(phase: str, *, after: str | float = 0, window: str | float = 0) -> When:
    """Return the moment `after` the phase, anywhere in the `window` that then opens.

    ``at("before_start", window="3s")`` is a random moment of the deploy's first three seconds.
    Raises ConfigError for a phase that there is not.
    """
    if phase not in PHASES:
        raise unknown("phase", phase, PHASES)
    return When(phase, seconds(after, what="after"), seconds(window, what="window"))


class Cue:
    """Hears every mark of the run in order, and says once that its phase has come.

    An instance is old when it ran before the deploy began, or runs another version than the
    deploy's; what a fault's heal starts again is not new.
    """

    def __init__(self, phase: str) -> None:
        self._phase = phase
        self._version: object = None
        self._young: set[object] = set()
        self._begun = self._given = False

    def __call__(self, name: str, about: dict[str, object]) -> bool:
        """Return whether this mark is the one."""
        if self._given:
            return False
        self._follow(name, about)
        self._given = self._begun and self._comes(name, about)
        return self._given

    def _follow(self, name: str, about: dict[str, object]) -> None:
        if name == "deploy.begin":
            self._begun, self._version, self._young = True, about.get("version"), set()
        elif name == "app.started" and about.get("version") == self._version:
            self._young.add(about.get("instance"))

    def _comes(self, name: str, about: dict[str, object]) -> bool:
        new = about.get("version") == self._version
        old = not new or about.get("instance") not in self._young
        match self._phase:
            case "before_start":
                return name == "deploy.begin"
            case "started":
                return name == "app.started" and new
            case "first_ready":
                return name == "app.ready" and new
            case "switch":
                return name == "deploy.switch" or (
                    name == "deploy.step.end" and "error" not in about
                )
            case "old_told_to_stop":
                return name == "app.term" and old
            case "old_gone":
                return name == "app.stopped" and old
        return False
