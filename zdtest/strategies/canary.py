"""A few users first; the rest only when nothing went wrong for them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from zdtest.duration import seconds, written
from zdtest.engine import Marker
from zdtest.errors import ConfigError, DeployFailed, EngineError, fact
from zdtest.strategies import switch
from zdtest.strategies.step import Strategy, awaited, slots, step, switched
from zdtest.topology import Counters, Stack, Switched

Check = Callable[[Switched, str], str]
"""Given the stack and the canary's name, says what is wrong with it, "" for nothing."""

_STEP = 0.05


def canary(
    shares: Sequence[int] = (5, 25, 100),
    *,
    watch: str | float = "2s",
    allowed_failures: int = 0,
    check: Check | None = None,
    drain: str | float = "10s",
) -> Strategy:
    """Return the strategy that gives one new instance growing `shares` of the users, in percent.

    It is watched for `watch` at each share. More than `allowed_failures` counted by the balancer,
    anything that `check` says, its end, or no request at all ends the deploy: the old instances
    get all users back, the new one is drained and stopped, ``deploy.abort`` tells how many
    requests it was given (`exposed`), and DeployFailed is raised. After the last share, which is
    100, the old instances are replaced one by one and the canary's slot is given back: one
    instance more than the stack has, never fewer. A failure of that leaves users on the new
    version.
    """
    plan = _Plan(
        tuple(shares),
        seconds(watch, what="watch"),
        allowed_failures,
        check or (lambda stack, name: ""),
        seconds(drain, what="drain"),
    )

    def deploy(stack: Stack, version: str, mark: Marker) -> None:
        able = switched(stack, "canary")
        bird = slots(able, "canary", 1)[0]
        weights = [weighed(share, able.instances, bird) for share in plan.shares]
        flight = _Flight(able, bird, version, mark, plan)
        flight.start()
        for share, each in zip(plan.shares, weights, strict=True):
            flight.grow(share, each)
        flight.replace()

    deploy.__name__ = "canary"
    return deploy


def weighed(share: int, old: Sequence[str], new: str) -> dict[str, int]:
    """Return whole weights up to 100 by which `new` gets exactly `share` percent.

    The old ones share the rest evenly. Raises ConfigError where there are no such weights.
    """
    mine, theirs = share * len(old), 100 - share
    common = math.gcd(mine, theirs)
    mine, theirs = mine // common, theirs // common
    if mine <= 100:
        full = 100 // max(mine, theirs)
        return {new: mine * full, **dict.fromkeys(old, theirs * full)}
    raise ConfigError(
        f"share {share} beside {len(old)} instances: needs weights {mine} to {theirs}; "
        "expected a share that weights up to 100 can say"
    )


@dataclass(frozen=True, slots=True)
class _Plan:
    shares: tuple[int, ...]
    watch: float
    allowed: int
    check: Check
    drain: float

    def __post_init__(self) -> None:
        whole = all(type(share) is int for share in self.shares)
        rising = sorted({0, *self.shares}) == [0, *self.shares]
        if not (whole and rising and self.shares and self.shares[-1] == 100):
            raise ConfigError(
                f"shares {self.shares}: expected whole percents that rise to 100, as (5, 25, 100)"
            )
        if self.allowed < 0:
            raise ConfigError(f"allowed_failures {self.allowed}: expected zero or more")


@dataclass(slots=True)
class _Flight:
    """One canary on its way."""

    stack: Switched
    bird: str
    version: str
    mark: Marker
    plan: _Plan
    began: Counters = field(init=False)

    def start(self) -> None:
        """The new instance could take users, and has none; it does not run when that fails."""
        with step(self.mark, "start", self.version, kind="start"):
            self.began = self.stack.told(self.bird)
            try:
                switch.start(self.stack, [self.bird], self.version)
                awaited(self.stack, self.bird, self.version, self.mark)
            except EngineError:
                switch.stop(self.stack, [self.bird])
                raise

    def grow(self, share: int, weights: Mapping[str, int]) -> None:
        """It had its share of users for a while, and nothing was wrong."""
        try:
            with step(self.mark, f"{share}%", self.version):
                self.stack.weigh(weights)
                if wrong := self._watched():
                    raise DeployFailed(f"canary aborted: {wrong}")
        except Exception as failed:  # a check of the caller's may raise anything
            self._abort(failed)
            raise

    def replace(self) -> None:
        """Every instance runs the new version, and the canary's slot is idle again."""
        for name in self.stack.instances:
            with step(self.mark, name, self.version):
                switch.retire(self.stack, [name], self.plan.drain)
                self.stack.start(name, self.version)
                awaited(self.stack, name, self.version, self.mark)
                self.stack.weigh({name: 100})
        with step(self.mark, self.bird, self.version):
            self.stack.weigh({self.bird: 0})
            switch.retire(self.stack, [self.bird], self.plan.drain)

    def _watched(self) -> str:
        """Return the first thing that went wrong in a watch's time, "" for nothing."""
        before = self._given(self._since())
        until = time.monotonic() + self.plan.watch
        while not (wrong := self._wrong()) and time.monotonic() < until:
            time.sleep(_STEP)
        if wrong or self._given(self._since()) > before:
            return wrong
        return f"no request in {written(self.plan.watch)}, so nothing is known"

    def _wrong(self) -> str:
        """Return what is wrong now."""
        if not self.stack.running(self.bird):
            return f"{self.bird} has ended"
        since = self._since()
        if since.failed > self.plan.allowed:
            return f"{since.failed} failed of {self._given(since)} requests"
        return self.plan.check(self.stack, self.bird)

    def _since(self) -> Counters:
        """Return what it was given since its start."""
        now, began = self.stack.told(self.bird), self.began
        return Counters(now.answered - began.answered, now.failed - began.failed, now.in_flight)

    @staticmethod
    def _given(since: Counters) -> int:
        return since.answered + since.failed + since.in_flight

    def _abort(self, failed: Exception) -> None:
        """The old instances have all users again, and the canary is gone."""
        everybody = {self.bird: 0, **dict.fromkeys(self.stack.instances, 100)}
        self.mark("deploy.rollback.begin", reason=fact(failed))
        try:
            self.stack.weigh(everybody)
            self.mark("deploy.rollback.end")
            switch.retire(self.stack, [self.bird], self.plan.drain)
            self.mark("deploy.abort", exposed=self._given(self._since()), instance=self.bird)
        except EngineError as error:
            failed.add_note(f"and it could not be undone: {error}")
