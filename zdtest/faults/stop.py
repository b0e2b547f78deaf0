"""An instance is told to end with SIGTERM by somebody who does not tell the balancer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zdtest.duration import some, written
from zdtest.errors import FaultError
from zdtest.faults.kill import gone, start_again
from zdtest.faults.proof import Heal, known, living
from zdtest.topology import Stack


@dataclass(frozen=True, slots=True)
class Stop:
    """SIGTERM to `instance`, which has `within` seconds; its heal starts it again."""

    instance: str
    within: float

    @property
    def name(self) -> str:
        """What it does to what."""
        return f"stop {self.instance}"

    def check(self, stack: Stack) -> None:
        """Raise ConfigError where there is no such instance."""
        known(stack, self.instance, self.name)

    def inject(self, stack: Stack) -> Callable[[], None]:
        """Return the heal once it has ended; it is never forced to."""
        one = living(stack, self.instance, self.name)
        stack.engine.signal(one, "TERM")
        if not stack.engine.wait(one, self.within):
            limit = written(self.within)
            raise FaultError(f"{self.name}: still there {limit} after SIGTERM: pid {one.pid}")
        gone(one, self.name)
        return Heal(lambda: start_again(stack, one, self.name))


def stop(instance: str, *, within: str | float = "30s") -> Stop:
    """Return the fault that ends `instance` in order, drain included."""
    return Stop(instance, some(within, what="within"))
