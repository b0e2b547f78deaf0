"""An instance stands still: connections are accepted by the kernel, and nothing answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zdtest.engine import Instance
from zdtest.errors import FaultError
from zdtest.faults.proof import Heal, known, living, proven
from zdtest.topology import Stack

_WITHIN = 2.0


@dataclass(frozen=True, slots=True)
class Freeze:
    """SIGSTOP to all of `instance`; its heal is SIGCONT.

    When the run dies, the reaper ends the instance: SIGKILL needs nobody to be awake.
    """

    instance: str

    @property
    def name(self) -> str:
        """What it does to what."""
        return f"freeze {self.instance}"

    def check(self, stack: Stack) -> None:
        """Raise ConfigError where there is no such instance."""
        known(stack, self.instance, self.name)

    def inject(self, stack: Stack) -> Callable[[], None]:
        """Return the heal once the kernel says that it is stopped."""
        one = living(stack, self.instance, self.name)
        stack.engine.signal(one, "STOP")
        try:
            proven(f"{self.name} in effect", lambda: _stands(stack, one, True), within=_WITHIN)
        except FaultError:
            stack.engine.signal(one, "CONT")
            raise
        return Heal(lambda: self._thaw(stack, one))

    def _thaw(self, stack: Stack, one: Instance) -> None:
        stack.engine.signal(one, "CONT")
        proven(f"{self.name} gone", lambda: _stands(stack, one, False), within=_WITHIN)


def freeze(instance: str) -> Freeze:
    """Return the fault that stops `instance` from doing anything, its connections kept open."""
    return Freeze(instance)


def _stands(stack: Stack, one: Instance, wanted: bool) -> str:
    """Return "" when it stands still as `wanted`, else what it does; one that has ended is free."""
    still = stack.engine.frozen(one)
    if still == wanted:
        return ""
    return f"{one.name} {stack.engine.fate(one) or ('stands still' if still else 'goes on')}"
