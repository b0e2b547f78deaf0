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

    def inject(self, stack: Stack) -> Callable[[], None]:
        """Return the heal once the kernel knows no such process any more."""
        if not isinstance(stack, Balancing):
            raise ConfigError(f"{self.name}: this stack has no balancer that can be started again")
        one = stack.balancer
        if fate := stack.engine.fate(one):
            raise FaultError(f"{self.name}: it had ended before: {fate}")
        stack.engine.kill(one)
        gone(one, self.name)
        return Heal(lambda: self._start(stack, stack.engine))

    def _start(self, stack: Balancing, engine: Engine) -> None:
        stack.start_balancer()
        if fate := engine.fate(stack.balancer):
            raise FaultError(f"{self.name} not gone: {fate}")


def kill_balancer() -> KillBalancer:
    """Return the fault that kills the balancer."""
    return KillBalancer()
