"""How far another process's CLOCK_MONOTONIC is from ours, and how sure that is.

Four readings a round, as in NTP (RFC 5905, section 8): we send, they receive, they send, we
receive. Whatever the two ways took, their clock is ahead of ours by ::

    ((came - sent) + (went - back)) / 2   ±   ((back - sent) - (went - came)) / 2

because neither way can have taken less than no time. That bound is Cristian's (Probabilistic clock
synchronization, 1989): a quick round tells more than many slow ones, so the best one so far
stands, its error growing by what two clocks can drift apart since.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DRIFT: Final = 200e-6
"""Seconds a second that two clocks may drift apart: two plain quartzes, 100 ppm each."""


@dataclass(frozen=True, slots=True)
class Round:
    """When we `sent`, it `came`, the answer `went` and was `back`: ns, the two in the middle
    on the other clock."""

    sent: int
    came: int
    went: int
    back: int

    @property
    def offset(self) -> int:
        """Nanoseconds by which the other clock is ahead of ours."""
        return ((self.came - self.sent) + (self.went - self.back)) // 2

    @property
    def error(self) -> int:
        """Nanoseconds by which the offset may be wrong at most, one for the division included."""
        return max(0, (self.back - self.sent) - (self.went - self.came)) // 2 + 1


class Clock:
    """Another process's clock as the rounds so far show it.

    `shared` says that both read the same clock of the same kernel. Then the offset is zero and
    exact, until a round contradicts it: machines restored from one snapshot share an identity.
    `jumps` counts the rounds that no drift can reconcile with the one before.
    """

    def __init__(self, *, shared: bool) -> None:
        self.shared = shared
        self.rounds = self.jumps = 0
        self._best: Round | None = None

    def add(self, one: Round) -> None:
        """Take a round into account."""
        self.rounds += 1
        if self.shared and abs(one.offset) > one.error:
            self.shared = False
        best = self._best
        if best is None:
            self._best = one
            return
        aged = self._error(best, one.back)
        if abs(one.offset - best.offset) > one.error + aged:
            self.jumps += 1
            self._best = one
        elif one.error <= aged:
            self._best = one

    @property
    def offset(self) -> int:
        """Nanoseconds by which the other clock is ahead of ours; add it to ours for theirs."""
        return 0 if self.shared or self._best is None else self._best.offset

    def error(self, now: int) -> int:
        """Return by how many nanoseconds the offset may be wrong at most, `now` being ours."""
        return 0 if self.shared or self._best is None else self._error(self._best, now)

    @staticmethod
    def _error(one: Round, now: int) -> int:
        return one.error + int(DRIFT * abs(now - one.back))
