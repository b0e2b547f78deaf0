"""An instance is gone and back before anybody who looks from time to time can notice."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from zdtest.duration import some, written
from zdtest.engine.listening import listens
from zdtest.errors import ConfigError, FaultError
from zdtest.faults.fault import Ported
from zdtest.faults.kill import gone
from zdtest.faults.proof import Heal, known, living, proven
from zdtest.topology import Stack


@dataclass(frozen=True, slots=True)
class Restart:
    """SIGKILL and start at the same version; it listens again `within` seconds.

    A restart that took longer is not this fault: inject raises FaultError then.
    """

    instance: str
    within: float

    @property
    def name(self) -> str:
        """What it does to what."""
        return f"restart {self.instance}"

    def check(self, stack: Stack) -> None:
        """Raise ConfigError where there is no such instance, or its port is not told."""
        _ported(stack, self.name)
        known(stack, self.instance, self.name)

    def inject(self, stack: Stack) -> Callable[[], None]:
        """Return once another process listens in its place; the heal waits until it is ready."""
        one = living(stack, self.instance, self.name)
        port = _ported(stack, self.name).ports[self.instance]
        began = time.monotonic()
        stack.engine.kill(one)
        gone(one, self.name)
        if not stack.revive(one):
            raise FaultError(f"{self.name}: the deploy was replacing it just then")
        self._back(stack, port, began)
        return Heal(lambda: stack.ready(self.instance))

    def _back(self, stack: Stack, port: int, began: float) -> None:
        def missing() -> str:
            said = stack.engine.logs(stack.instance(self.instance), 1)
            return "" if listens(port) else f"nobody listens: {said}"

        what = f"{self.name}: it listens on port {port}"
        proven(what, missing, within=max(self.within, 1.0) * 5)
        if (took := time.monotonic() - began) > self.within:
            limit = written(self.within)
            raise FaultError(f"{self.name} took {written(took)}: expected {limit} at most")


def _ported(stack: Stack, fault: str) -> Ported:
    if not isinstance(stack, Ported):
        raise ConfigError(f"{fault}: this stack does not tell its ports")
    return stack


def restart(instance: str, *, within: str | float = "2s") -> Restart:
    """Return the fault that restarts `instance` in less than `within`, the detection window."""
    return Restart(instance, some(within, what="within"))
