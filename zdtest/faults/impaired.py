"""What all faults made by the proxy have in common: conditions, and a request that shows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zdtest.engine.detour.conditions import Conditions
from zdtest.engine.detour.detour import Detour
from zdtest.errors import ConfigError, FaultError
from zdtest.faults.fault import detour
from zdtest.faults.proof import Heal, Sight, look, proven
from zdtest.topology import Stack

_WITHIN = 10.0


@dataclass(frozen=True, slots=True)
class Impaired:
    """The way to `instance` is under `conditions`, and clean again when healed.

    The proof is a GET of `path` on a new connection through the proxy: it has to show what
    `shows` looks for, and not to show it any more afterwards. `shows` returns "" when it does, or
    why not. Requests that answer slower than `patience` count as unanswered.
    """

    name: str
    instance: str
    conditions: Conditions
    shows: Callable[[Sight], str]
    path: str = "/"
    patience: float = 1.0

    def __post_init__(self) -> None:
        if not self.path.startswith("/") or not self.path.isprintable() or " " in self.path:
            raise ConfigError(f"{self.name}: path {self.path!r}, expected one such as /ping")

    def check(self, stack: Stack) -> None:
        """Raise ConfigError where there is no proxy before it."""
        detour(stack, self.instance, self.name)

    def inject(self, stack: Stack) -> Callable[[], None]:
        """Return the heal once a request has met with the fault."""
        way = detour(stack, self.instance, self.name)
        way.set(self.conditions)
        try:
            proven(f"{self.name} in effect", lambda: self.shows(self._look(way)), within=_WITHIN)
        except FaultError:
            way.clear()
            raise
        return Heal(lambda: self._clear(way))

    def _clear(self, way: Detour) -> None:
        way.clear()
        proven(f"{self.name} gone", lambda: self._still(self._look(way)), within=_WITHIN)

    def _look(self, way: Detour) -> Sight:
        return look(way.port, self.path, patience=self.patience)

    def _still(self, sight: Sight) -> str:
        """Return "" for a whole reply without the fault."""
        gone = sight.kind == "reply" and self.shows(sight)
        return "" if gone else f"GET {self.path}: {sight}"


def kind(*wanted: str) -> Callable[[Sight], str]:
    """Return the check that a request met with one of those ends."""
    return lambda sight: "" if sight.kind in wanted else f"a request met with: {sight}"


def later(least: float) -> Callable[[Sight], str]:
    """Return the check that a whole reply took `least` seconds or more."""

    def shows(sight: Sight) -> str:
        slow = sight.kind == "reply" and sight.took >= least
        return "" if slow else f"expected a reply after {least:.3f}s: {sight}"

    return shows
