"""Arms faults for a deploy: each fires once, is healed in time, and is noted where it happened."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from zdtest.duration import seconds, written
from zdtest.errors import FaultError, fact
from zdtest.faults.cue import Cue, When, at
from zdtest.faults.fault import Checked, Fault
from zdtest.records.eventlog import EventLog
from zdtest.topology import Stack

_READY = "fault.armed"
_Raised = TypeVar("_Raised", bound=BaseException)


@dataclass(frozen=True, slots=True)
class Plan:
    """A fault, when it fires, and after how many seconds it is healed."""

    fault: Fault
    when: When
    heal_after: float


def plan(
    fault: Fault,
    when: str | When = "now",
    *,
    heal_after: str | float | None = None,
    most: str | float = "60s",
) -> Plan:
    """Return the plan to inject `fault` at that phase, healed `heal_after` it took effect.

    Without that it is healed when the block ends; in any case after `most`.
    """
    limit = seconds(most, what="most")
    given = limit if heal_after is None else seconds(heal_after, what="heal_after")
    return Plan(fault, at(when) if isinstance(when, str) else when, min(given, limit))


@contextmanager
def armed(
    stack: Stack, mark: EventLog, plans: Sequence[Plan | Fault], *, seed: int = 0
) -> Iterator[None]:
    """Let the faults fire while the block runs, on threads of their own.

    ``fault.armed`` notes what `seed` drew, ``fault.begin`` and ``fault.end`` surround injecting
    and healing, ``fault.proven`` comes between: all with the fault's name. When the block ends
    every fault is healed, however it ends. Then the first error of a fault is raised, beside it a
    note for each other one; FaultError too for a fault that never fired. An error of the block
    comes first, and gets the faults' as notes. Raises ConfigError before the block begins for what
    the stack or the host cannot do.
    """
    over = threading.Event()
    lives = [
        _Life(stack, mark, one if isinstance(one, Plan) else plan(one), f"{seed}:{number}", over)
        for number, one in enumerate(plans)
    ]
    for life in lives:
        life.check()
    begun: list[_Life] = []
    try:
        for life in lives:
            begun.append(life)
            life.arm()
        yield
    except BaseException as failure:
        _noted(failure, _end(begun, over))
        raise
    if errors := _end(begun, over):
        raise _noted(errors[0], errors[1:])


def _end(lives: Sequence[_Life], over: threading.Event) -> list[Exception]:
    """Return what went wrong, every fault healed."""
    over.set()
    return [trouble for life in lives if (trouble := life.end())]


def _noted(first: _Raised, others: Sequence[Exception]) -> _Raised:
    for other in others:
        if other is not first:
            first.add_note(str(other))
    return first


class _Life:
    """One fault from being armed to being healed; `over` ends all waiting."""

    def __init__(
        self, stack: Stack, mark: EventLog, what: Plan, seed: str, over: threading.Event
    ) -> None:
        self._stack = stack
        self._mark = mark
        self._plan = what
        self._delay = what.when.delay(f"{seed}:{what.fault.name}")
        self._seed = seed
        self._over = over
        self._armed = self._fired = False
        self._settled = threading.Event()
        """Set once the fault is in effect, or has failed."""

    def check(self) -> None:
        """Raise ConfigError where it is known by now that the fault cannot be made."""
        if isinstance(fault := self._plan.fault, Checked):
            fault.check(self._stack)

    def arm(self) -> None:
        """Listen for its phase; with ``now`` it is in effect on return."""
        when, name = self._plan.when, self._plan.fault.name
        cue = Cue(when.phase)

        def now(mark: str, about: dict[str, object]) -> bool:
            return mark == _READY and about.get("draw") == self._seed and self._first()

        self._listener = self._mark.listen(now if when.phase == "now" else cue, self._live)
        self._mark(_READY, fault=name, at=when.phase, delay=self._delay, draw=self._seed)
        if when.phase == "now" and not when.after and not when.window:
            self._settled.wait()
            self._listener.check()

    def _first(self) -> bool:
        """Return whether this is asked for the first time: another's arming is not its own."""
        first, self._armed = not self._armed, True
        return first

    def end(self) -> Exception | None:
        """Return what went wrong, once it is healed; it was told that it is over."""
        try:
            self._listener.end()
        except Exception as error:
            return error
        if self._fired:
            return None
        when = self._plan.when
        moment = f"{when.phase} + {written(self._delay)}" if self._delay else when.phase
        return FaultError(f"{self._plan.fault.name} never fired: {moment} did not come")

    def _live(self) -> None:
        try:
            # What is to fire on the phase itself does: it came before the block was over, however
            # late this thread gets to run.
            if self._delay and self._over.wait(self._delay):
                return
            self._fired = True
            self._happen(self._plan.fault.name)
        finally:
            self._settled.set()

    def _happen(self, name: str) -> None:
        """Inject, wait and heal; ``fault.end`` is noted in any case, with the error if any."""
        self._mark("fault.begin", fault=name)
        error: dict[str, object] = {}
        try:
            heal = self._plan.fault.inject(self._stack)
            self._mark("fault.proven", fault=name)
            self._settled.set()
            self._over.wait(self._plan.heal_after)
            heal()
        except Exception as failed:
            error["error"] = fact(failed)
            raise
        finally:
            self._mark("fault.end", fault=name, **error)
