"""A target's state, and whose turn it is. Nothing here has a clock or a socket of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from .pool import Pool


class Health(Enum):
    """What the balancer believes of a target."""

    UNKNOWN = "unknown"  # not pinged yet
    UP = "up"
    DRAINING = "draining"  # it said 503 to a ping: no new requests, those in flight are kept
    SUSPECT = "suspect"  # a request could not be delivered: out until it proves itself
    EJECTED = "ejected"  # its replies were 5xx, one after the other: out for longer
    DOWN = "down"


class Ping(Enum):
    """What came of one ping."""

    GOOD = "good"
    DRAIN = "drain"
    BAD = "bad"  # an answer, and none of these
    MISS = "miss"  # no answer


class Waiting(Protocol):
    """A request under way."""

    def give_up(self, why: str) -> None:
        """Wait no longer, where that can do no harm."""


@dataclass(slots=True, eq=False)
class Target:
    """A server to balance over."""

    host: str
    port: int
    fall: int
    rise: int
    pool: Pool
    health: Health = Health.UNKNOWN
    held: bool = False
    weight: int = 100
    eject_after: int = 0
    eject_rise: int = 20
    in_flight: int = 0
    answered: int = 0
    failed: int = 0
    fails: int = 0
    credit: int = 0
    waiting: set[Waiting] = field(default_factory=set)
    """What was sent and has not been answered."""
    _good: int = field(default=0, init=False)
    _sick: int = field(default=0, init=False)

    @property
    def name(self) -> str:
        """``host:port``, its id in logs and in the admin API."""
        return f"{self.host}:{self.port}"

    @property
    def open(self) -> bool:
        """Whether new requests may go to it."""
        return self.health is Health.UP and not self.held and self.weight > 0

    @property
    def last_resort(self) -> bool:
        """Whether it may be tried when no target is open: it has not asked to be left alone."""
        return self.health is not Health.DRAINING and not self.held and self.weight > 0

    def state(self) -> dict[str, object]:
        """Return what the admin API shows."""
        return {
            "name": self.name,
            "up": self.health is Health.UP,
            "draining": self.held or self.health is Health.DRAINING,
            "weight": self.weight,
            "in_flight": self.in_flight,
            "answered": self.answered,
            "failed": self.failed,
            "fails": self.fails,
            "state": self.health.value,
        }

    def pinged(self, answer: Ping) -> None:
        """Health is what this ping makes of it: `fall` bad ones, `rise` good ones, 503 at once."""
        self._good = self._good + 1 if answer is Ping.GOOD else 0
        self.fails = self.fails + 1 if answer in (Ping.BAD, Ping.MISS) else 0
        if answer is Ping.DRAIN:
            self.health = Health.DRAINING
        elif self.fails >= self.fall:
            self.health = Health.DOWN
        elif self._good >= self._needed:
            self.health = Health.UP

    @property
    def _needed(self) -> int:
        """How many good pings in a row put it in."""
        if self.health is Health.UNKNOWN:
            return 1
        return max(1, self.eject_rise if self.health is Health.EJECTED else self.rise)

    def replied(self, status: int) -> bool:
        """Count a whole reply; return whether it was the one too many that ejects the target."""
        if status < 500:
            self.answered += 1
            self._sick = 0
            return False
        self.failed += 1
        self._sick += 1
        if self.health is not Health.UP or not 0 < self.eject_after <= self._sick:
            return False
        self.health = Health.EJECTED
        self._good = self._sick = 0
        self.pool.close()
        return True

    def give_up(self, why: str) -> None:
        """Whatever waits for it and can be repeated waits no longer."""
        for exchange in list(self.waiting):
            exchange.give_up(why)

    def suspected(self) -> None:
        """No new request goes to it before `rise` good pings; its kept connections are closed."""
        self._good = 0
        self.pool.close()
        if self.health is Health.UP:
            self.health = Health.SUSPECT


class Rotation:
    """The targets, fixed for the process's life, in weighted round robin."""

    def __init__(self, targets: tuple[Target, ...]) -> None:
        self.targets = targets

    @property
    def open(self) -> bool:
        """Whether any of them takes new requests."""
        return any(target.open for target in self.targets)

    def weigh(self, weights: Mapping[Target, int]) -> None:
        """These weights count from the next request on, all of them; turns are dealt afresh.

        A target that gets nothing any more keeps no idle connections.
        """
        for target, weight in weights.items():
            target.weight = weight
        for target in self.targets:
            # Turns saved up under other weights would go to the wrong target.
            target.credit = 0
            if not target.open:
                target.pool.close()

    def next(self, avoid: Target | None = None) -> Target | None:
        """Return the target whose turn it is, `avoid` only when no other is open.

        When none is open at all, those not drained on purpose are tried (panic mode); None when
        there are none of these either. Smooth weighted round robin as nginx has it
        (ngx_http_upstream_round_robin.c); it never awaits, so a turn is never given twice.
        """
        up = [target for target in self.targets if target.open]
        usable = up or [target for target in self.targets if target.last_resort]
        others = [target for target in usable if target is not avoid]
        candidates = others or up
        if not candidates:
            return None
        for target in candidates:
            target.credit += target.weight
        chosen = max(candidates, key=lambda target: target.credit)
        chosen.credit -= sum(target.weight for target in candidates)
        return chosen
