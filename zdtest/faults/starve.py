"""An instance gets little of a CPU, which others keep busy."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zdtest.duration import some
from zdtest.engine import Engine, Instance
from zdtest.errors import ConfigError, FaultError
from zdtest.faults import burn
from zdtest.faults.proof import Heal, known, lives, living, proven
from zdtest.topology import Stack

_WITHIN = 5.0
_BUSY = 0.8
"""So much of the time each busy process has to run, or to wait for the CPU."""
_MOST = 32


@dataclass(frozen=True, slots=True)
class Starve:
    """`instance` shares one CPU with `busy` processes that never rest, for `most` seconds.

    They are pinned to that one CPU so that whoever measures keeps the others. Processes that the
    deploy starts later are not starved.
    """

    instance: str
    busy: int
    most: float

    @property
    def name(self) -> str:
        """What it does to what."""
        return f"starve {self.instance}"

    def check(self, stack: Stack) -> None:
        """Raise ConfigError where there is no such instance."""
        known(stack, self.instance, self.name)

    def inject(self, stack: Stack) -> Callable[[], None]:
        """Return the heal once it is pinned, and the busy ones want that CPU all the time."""
        one = living(stack, self.instance, self.name)
        allowed = os.sched_getaffinity(one.pid)
        cpu = max(allowed)
        others: list[Instance] = []
        heal = Heal(lambda: self._end(stack.engine, others, one, allowed))
        try:
            self._begin(stack.engine, others, cpu)
            proven(f"{self.name} in effect", lambda: _pinned(one, {cpu}), within=_WITHIN)
            proven(f"{self.name} in effect", lambda: _spare(others), within=_WITHIN)
        except BaseException as error:
            try:
                heal()
            except FaultError as left:
                error.add_note(str(left))
            raise
        return heal

    def _begin(self, engine: Engine, others: list[Instance], cpu: int) -> None:
        argv = [sys.executable, "-I", "-S", burn.__file__, str(cpu), str(self.most)]
        for number in range(self.busy):
            others.append(engine.host.start(f"busy-{self.instance}-{number + 1}", argv))

    def _end(
        self, engine: Engine, others: list[Instance], one: Instance, allowed: set[int]
    ) -> None:
        early = [other for other in others if engine.fate(other)]
        for other in others:
            engine.kill(other)
        proven(f"{self.name} gone", lambda: _pinned(one, allowed), within=_WITHIN)
        if early:
            raise FaultError(f"{self.name} ended by itself: expected a heal within {self.most:g}s")


def starve(instance: str, *, busy: int = 4, most: str | float = "2m") -> Starve:
    """Return the fault that leaves `instance` one part in `busy` + 1 of one CPU.

    The busy processes end by themselves after `most`; a heal later than that raises FaultError.
    """
    if type(busy) is not int or not 1 <= busy <= _MOST:
        raise ConfigError(f"starve with {busy!r} busy processes: expected 1 to {_MOST}")
    return Starve(instance, busy, some(most, what="most"))


def _pinned(one: Instance, cpus: set[int]) -> str:
    """Pin every thread of it to `cpus`; return "" once all that there are, are."""
    wrong = 0
    for thread in _threads(one):
        with contextlib.suppress(ProcessLookupError):
            wrong += os.sched_getaffinity(thread) != cpus
            os.sched_setaffinity(thread, cpus)
    return f"{wrong} threads of {one.name} were not on CPU {sorted(cpus)}" if wrong else ""


def _threads(one: Instance) -> list[int]:
    """Return its threads, none once it has ended, whoever has its pid then."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        found = [int(thread) for thread in os.listdir(f"/proc/{one.pid}/task")]
    return found if lives(one) else []


def _spare(others: list[Instance], window: float = 0.2) -> str:
    """Return how little the `others` want the CPU in the `window`, "" when it is enough."""
    before, began = _wanted(others), time.monotonic()
    time.sleep(window)
    share = (_wanted(others) - before) / (time.monotonic() - began) / len(others)
    return "" if share >= _BUSY else f"the busy processes want {share:.0%} of the CPU"


def _wanted(others: list[Instance]) -> float:
    """Return for how long they have run or waited to run, seconds: schedstat of proc(5)."""
    total = 0
    for other in others:
        with contextlib.suppress(OSError):
            ran, waited, _ = Path(f"/proc/{other.pid}/schedstat").read_text().split()
            total += int(ran) + int(waited)
    return total / 1e9
