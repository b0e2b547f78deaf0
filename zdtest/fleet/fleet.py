"""A `Fleet` is one load that several workers send and the master records.

Each worker carries a stripe of the one schedule. They are made ready first, their clocks measured,
and then all told the one moment at which it begins, far enough ahead for the slowest.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import gevent

from zdtest.errors import LoadFailed
from zdtest.fleet.clock import Round
from zdtest.fleet.part import Member, Part, clock_as_dict
from zdtest.sending.chores import Chores, Latch
from zdtest.sending.exchange import now_ns
from zdtest.sending.ledger import TELL, Ledger
from zdtest.sending.plan import Plan
from zdtest.sending.schedule import Schedule, Stripe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_READY: Final = 20.0
_ROUNDS: Final = 10
_ROUND: Final = 0.02
_LEAD_NS: Final = 250_000_000
_STOP_NS: Final = 100_000_000
_SILENT_NS: Final = 3_000_000_000
_LOST_NS: Final = 5_000_000_000
_ENDS: Final = 30.0


class Send(Protocol):
    """Sends a message to the worker of an id."""

    def __call__(self, message: str, to: str, **told: object) -> None:
        """Send `message` with what it tells to the worker `to`."""


class Fleet:
    """Carries out a `Plan` on `members`; `show` is given the rows of each quarter second.

    `refused` are the workers that were expected and not let in, each with the reason. `options`
    are those of the load, which all workers are given.
    """

    def __init__(
        self,
        plan: Plan,
        show: Callable[[NDArray[np.void]], None],
        send: Send,
        members: Sequence[Member],
        *,
        refused: Mapping[str, str],
        options: Mapping[str, object],
    ) -> None:
        self.ledger = Ledger(plan, show, self._on_the_way)
        self._plan = plan
        self._key = secrets.token_hex(4)
        self._send_to = send
        self._refused = refused
        self._options = {
            **options,
            "seed": plan.seed,
            "zd_run": plan.run,
            "zd_out": "",
            "zd_news": "",
        }
        count = len(members)
        self._parts = {
            member.id: Part(member, Stripe(index, count)) for index, member in enumerate(members)
        }
        self._missed: set[Part] = set()
        """Of whom it has been said that nothing is heard."""
        self._chores = Chores()
        self._began = self._stopped = 0
        self._closing, self._closed = Latch(), Latch()

    def _send(self, message: str, part: Part, **told: object) -> None:
        self._send_to(message, part.member.id, key=self._key, **told)

    def _on_the_way(self) -> int:
        return sum(part.on_the_way for part in self._all if part.account is None)

    def start(self) -> None:
        """Return once all workers know when to begin; raises LoadFailed where one is not ready."""
        for part in self._all:
            part.member.heard = now_ns()
            stripe = {"index": part.stripe.index, "count": part.stripe.count}
            told = {"options": self._options, "host": self._plan.url}
            self._send("zd_prepare", part, **stripe, **told)
        self._until_ready()
        self._until_timed()
        if self._stopped:
            return
        self._began = now_ns() + _LEAD_NS
        for part in self._all:
            self._send("zd_begin", part, at=self._began + part.member.clock.offset)
        clocks = [self._as_dict(part) for part in self._all]
        self.ledger.begin(self._began, workers=len(clocks), clocks=clocks)
        self._chores.add(TELL, self._ping)
        self._chores.add(1.0, self._watch)

    @property
    def _all(self) -> list[Part]:
        return list(self._parts.values())

    @staticmethod
    def _as_dict(part: Part) -> dict[str, object]:
        """Return what the manifest tells of a worker when the load begins."""
        clock = part.member.clock
        told = {"worker": part.stripe.index, "name": part.member.name}
        return {**told, **clock_as_dict(clock, clock.error(now_ns()))}

    def _until_ready(self) -> None:
        until = now_ns() + int(_READY * 1e9)
        while not all(part.ready or part.failure for part in self._all) and now_ns() < until:
            if self._stopped:
                return
            gevent.sleep(_ROUND)
        for part in self._all:
            if not part.ready and not part.failure:
                part.failure = f"was not ready within {_READY:.0f} s"
        self._expect_ready()

    def _until_timed(self) -> None:
        """Return once each clock has been asked often enough to have answered quickly once."""
        until = now_ns() + int(_READY * 1e9)
        # An earlier load may have asked as well; that was long ago.
        before = {part.member.id: part.member.clock.rounds for part in self._all}

        def rounds(part: Part) -> int:
            return part.member.clock.rounds - before[part.member.id]

        while any(rounds(part) < _ROUNDS for part in self._all):
            if self._stopped or now_ns() > until:
                break
            self._ping()
            gevent.sleep(_ROUND)
        for part in self._all:
            if not rounds(part) and not self._stopped:
                part.failure = f"did not tell its time within {_READY:.0f} s"
        self._expect_ready()

    def _expect_ready(self) -> None:
        for part in self._all:
            if part.failure:
                raise LoadFailed(f"worker {part.stripe.index} ({part.member.name}) {part.failure}")

    def _ping(self) -> None:
        for part in self._all:
            clock = part.member.clock
            began = self._began + clock.offset if self._began else None
            self._send("zd_ping", part, began=began, sent=now_ns())

    def _watch(self) -> None:
        """Say once who has fallen silent; the trailer will tell what became of it."""
        for part in self._all:
            if part.account is not None or now_ns() - part.member.heard <= _SILENT_NS:
                self._missed.discard(part)
            elif part not in self._missed:
                self._missed.add(part)
                name = f"worker {part.stripe.index} ({part.member.name})"
                print(f"zdtest: not heard of {name} for 3 s", file=sys.stderr, flush=True)

    def ready(self, member: str, told: Mapping[str, Any]) -> None:
        """A worker can begin, or says why it cannot."""
        if part := self._of(member, told):
            part.ready = not told["failure"]
            part.failure = told["failure"]

    def pong(self, member: str, told: Mapping[str, Any]) -> None:
        """A round of the clocks has come back."""
        back = now_ns()
        if part := self._of(member, told):
            part.on_the_way = told["on_the_way"]
            part.member.clock.add(Round(told["sent"], told["came"], told["went"], back))

    def chunk(self, member: str, told: Mapping[str, Any]) -> None:
        """Samples have come; each chunk is taken once, and in order."""
        part = self._of(member, told)
        if part is None:
            return
        recorder = self.ledger.recorder
        rows = None if self._closed.is_set() else part.take(told)
        if rows is not None and told["kind"] == "samples":
            recorder.add(rows, part.versions, part.instances)
        elif rows is not None:
            side = recorder.messages if told["kind"] == "messages" else recorder.retries
            if side is not None:
                side.write(lambda append, *them: append(*them), rows)
                side.dropped += told["dropped"]
        self._send("zd_ack", part, until=part.next)

    def _of(self, member: str, told: Mapping[str, Any]) -> Part | None:
        """Return the worker's part in this load; None when it means another one."""
        part = self._parts.get(member)
        if part is None or told["key"] != self._key:
            return None
        part.hear(now_ns())
        return part

    def stop(self) -> None:
        """Tell the workers when to stop, together, and to account for what they sent."""
        if not self._stopped:
            self._stopped = now_ns() + _STOP_NS
            for part in self._all:
                self._send("zd_end", part, at=self._stopped + part.member.clock.offset)

    def close(self, *, interrupted: bool = False) -> None:
        """Stop, wait for every worker's account as long as it is heard of, close the recording."""
        if self._closing.is_set():
            self._closed.wait()
            return
        self._closing.set()
        self.stop()
        if self._began:
            self._until_accounts()
        broken = self._chores.end()
        self.ledger.close({**self._account(), "interrupted": interrupted}, broken)
        self._closed.set()
        self.ledger.silence()

    def _until_accounts(self) -> None:
        longest = max(one.timeout + one.think for one in self._plan.channels) + _ENDS
        until = self._stopped + int(longest * 1e9)
        while (now := now_ns()) < until:
            waited_for = [part for part in self._all if part.account is None]
            if all(now - part.member.heard > _LOST_NS for part in waited_for):
                return
            gevent.sleep(_ROUND)

    def _account(self) -> dict[str, object]:
        """Return what all of them were asked for, and what was reached, for the trailer."""
        self.ledger.tell()
        scheduled = sum(map(self._scheduled, self._all))
        offered = sum(one.rate for one in self._plan.channels)
        fired = self.ledger.recorder.total()
        carried = [part.as_dict(self._began, self._stopped) for part in self._all]
        others = [{"worker": None, "name": name, "why": why} for name, why in self._refused.items()]
        return {
            "scheduled": scheduled,
            "offered_rate": offered,
            "reached_rate": offered * fired / scheduled if scheduled else 0.0,
            "began": self._began * 1e-9,
            "ended": max(part.last for part in self._all) * 1e-9,
            "names": [told for part in self._all for told in part.names],
            "lookup_ms": max(part.lookup_ms for part in self._all),
            "workers": carried + others,
        }

    def _scheduled(self, part: Part) -> int:
        """Return how many requests fell due for a worker, by its own account or by the plan."""
        if part.account is not None:
            return int(part.account["scheduled"])
        seed, lasted = self._plan.seed, self._stopped - self._began if self._began else 0
        return sum(
            part.stripe.of(Schedule.of(one.name, one.rate, seed).before(lasted))
            for one in self._plan.channels
        )
