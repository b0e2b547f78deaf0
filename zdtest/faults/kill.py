"""An instance is ended with SIGKILL, as by the kernel short of memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zdtest.engine import Instance
from zdtest.errors import EngineError, FaultError
from zdtest.faults.proof import Heal, known, lives, living, proven
from zdtest.topology import Stack

_WITHIN = 5.0


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL to all of `instance`; its heal starts it again at the version it had."""

    instance: str

    @property
    def name(self) -> str:
        """What it does to what."""
        return f"kill {self.instance}"

    def check(self, stack: Stack) -> None:
        """Raise ConfigError where there is no such instance."""
        known(stack, self.instance, self.name)

    def inject(self, stack: Stack) -> Callable[[], None]:
        """Return the heal once the kernel knows no such process any more."""
        one = living(stack, self.instance, self.name)
        stack.engine.kill(one)
        gone(one, self.name)
        return Heal(lambda: start_again(stack, one, self.name))


def kill(instance: str) -> Kill:
    """Return the fault that kills `instance` without warning."""
    return Kill(instance)


def gone(one: Instance, fault: str) -> None:
    """Return once the kernel knows no such process; raises FaultError."""

    def missing() -> str:
        return f"pid {one.pid} lives" if lives(one) else ""

    proven(f"{fault} in effect", missing, within=_WITHIN)


def start_again(stack: Stack, one: Instance, fault: str) -> None:
    """Return once an instance of that name is ready: the deploy's, else `one` started again.

    One that the deploy has stopped stays so: then there is nothing left to heal.
    """
    name = one.name
    stack.revive(one)
    while stack.wanted(name):
        now = stack.instance(name)
        try:
            stack.ready(name)
            if not (fate := stack.engine.fate(now)):
                return
            error = FaultError(f"{fault} not gone: {name} {fate}")
        except EngineError as failed:
            error = FaultError(f"{fault} not gone: {failed}")
        if stack.wanted(name) and stack.instance(name) == now:
            raise error
