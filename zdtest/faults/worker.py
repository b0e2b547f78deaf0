"""One of the balancer's workers is killed, and its master puts another one in its place."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from zdtest.errors import ConfigError, FaultError
from zdtest.faults.proof import Heal, proven
from zdtest.topology import Stack

_WITHIN = 5.0


@runtime_checkable
class Working(Protocol):
    """The stack's balancer is a master with workers."""

    def workers(self) -> Sequence[int]:
        """Return the pids of those that take connections, in this machine's numbering."""


@dataclass(frozen=True, slots=True)
class KillWorker:
    """SIGKILL to the first of the workers; its heal waits for the one that replaces it."""

    @property
    def name(self) -> str:
        """What it does to what."""
        return "kill worker"

    def check(self, stack: Stack) -> None:
        """Raise ConfigError where the balancer has no workers."""
        _working(stack, self.name)

    def inject(self, stack: Stack) -> Callable[[], None]:
        """Return the heal once that worker is none of the balancer's any more."""
        working = _working(stack, self.name)
        before = working.workers()
        if not before:
            raise FaultError(f"{self.name}: no worker to kill: expected one that takes connections")
        try:
            _kill(before[0], working)
        except ProcessLookupError:
            raise FaultError(f"{self.name}: worker {before[0]} had ended before") from None

        def there() -> str:
            return f"worker {before[0]} lives" if before[0] in working.workers() else ""

        def short() -> str:
            now = working.workers()
            return "" if len(now) >= len(before) else f"workers {now}, before {before}"

        proven(f"{self.name} in effect", there, within=_WITHIN)
        return Heal(lambda: proven(f"{self.name} gone", short, within=_WITHIN))


def kill_worker() -> KillWorker:
    """Return the fault that kills one of the balancer's workers."""
    return KillWorker()


def _kill(pid: int, working: Working) -> None:
    """SIGKILL that worker, never a later process that got its pid; raises ProcessLookupError."""
    handle = os.pidfd_open(pid)
    try:
        if pid not in working.workers():  # it is held: if it is one now, it was that one
            raise ProcessLookupError
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)


def _working(stack: Stack, fault: str) -> Working:
    if not isinstance(stack, Working):
        raise ConfigError(f"{fault}: this stack's balancer has no workers")
    return stack
