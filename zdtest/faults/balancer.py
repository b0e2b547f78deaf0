"""The balancer is killed: whatever stands behind it, nobody gets through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zdtest.engine import Engine
from zdtest.errors import ConfigError, FaultError
from zdtest.faults.fault import Balancing
from zdtest.faults.kill import gone
from zdtest.faults.proof import Heal
from zdtest.topology import Stack


@dataclass(frozen=True, slots=True)
class KillBalancer:
    """SIGKILL to all of the balancer; its heal starts it again."""

    @property
    def name(self) -> str:
        """What it does to what."""
        return "kill balancer"

    def check(self, stack: Stack) -> None:
        """Raise ConfigError where there is no balancer to kill."""
        _balancing(stack, self.name)

    def inject(self, stack: Stack) -> Callable[[], None]:
        """Return the heal once the kernel knows no such process any more."""
        balancing = _balancing(stack, self.name)
        one = balancing.balancer
        if fate := stack.engine.fate(one):
            raise FaultError(f"{self.name}: it had ended before: {fate}")
        stack.engine.kill(one)
        gone(one, self.name)
        return Heal(lambda: self._start(balancing, stack.engine))

    def _start(self, stack: Balancing, engine: Engine) -> None:
        stack.start_balancer()
        if fate := engine.fate(stack.balancer):
            raise FaultError(f"{self.name} not gone: {fate}")


def _balancing(stack: Stack, fault: str) -> Balancing:
    if not isinstance(stack, Balancing):
        raise ConfigError(f"{fault}: this stack has no balancer that can be started again")
    return stack


def kill_balancer() -> KillBalancer:
    """Return the fault that kills the balancer."""
    return KillBalancer()
