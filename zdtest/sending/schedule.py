"""When requests fall due: one `Schedule` a channel, and the `Stripe` of it that a process carries.

Any number of processes carry one schedule together: each walks the whole of it and sends every
nth request. So what is due when, and under which number, is the same however many share the work.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Schedule:
    """Evenly spaced slots, `rate` a second; the first one falls due within one interval."""

    rate: float
    phase: float

    @classmethod
    def of(cls, name: str, rate: float, seed: int) -> Schedule:
        """Return the schedule of the channel `name`, its phase drawn from `seed`."""
        return cls(rate, random.Random(f"{seed}/{name}").random())

    def due(self, slot: int) -> int:
        """Return when a slot falls due, nanoseconds after the beginning; spacing never drifts."""
        return int((slot + self.phase) * 1e9 / self.rate)

    def before(self, time: int) -> int:
        """Return how many slots fall due in the first `time` nanoseconds."""
        return max(0, math.ceil(time * self.rate * 1e-9 - self.phase))


@dataclass(frozen=True, slots=True)
class Stripe:
    """Every `count`th slot of each channel, from the one numbered `index` on."""

    index: int = 0
    count: int = 1

    def carries(self, slot: int) -> bool:
        """Whether this slot is one of it."""
        return slot % self.count == self.index

    def of(self, slots: int) -> int:
        """Return how many of the first `slots` it carries."""
        return max(0, -(-(slots - self.index) // self.count))


WHOLE: Final = Stripe()
"""All of it, as one process alone carries it."""
