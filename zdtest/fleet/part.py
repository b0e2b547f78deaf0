"""A `Part` is what one worker carries of a load, as the master sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from zdtest.fleet.clock import Clock
from zdtest.records.beside import MESSAGE, RETRY
from zdtest.records.recording import ROW
from zdtest.sending.lag import Lag
from zdtest.sending.schedule import Stripe
from zdtest.sending.summary import REACHED

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EARLY = 1.0
_KINDS = {"samples": ROW, "messages": MESSAGE, "retries": RETRY}
_MOMENTS = {"samples": "due", "messages": "t"}
"""What in a row is a moment of the worker's clock; all else counts from it."""


class Member:
    """A worker that came: what it is called, its clock, and when (ns) it was `heard` last."""

    def __init__(self, id: str, told: Mapping[str, Any], *, shared: bool, now: int) -> None:
        self.id = id
        self.name = f"{told['host']} pid {told['pid']}"
        self.clock = Clock(shared=shared)
        self.heard = now


class Part:
    """The chunks of one worker's stripe as they come in, and in the end its account of them.

    `rows` have come so far, `repeated` chunks came twice and `ahead` before one that was missing;
    `error` is the most that a moment in them may be off the master's clock, `silent` the longest
    that nothing was heard, and `last` when the last of them was due, all nanoseconds.
    """

    def __init__(self, member: Member, stripe: Stripe) -> None:
        self.member = member
        self.stripe = stripe
        self.ready = False
        self.failure = ""
        self.on_the_way = 0
        self.next = self.rows = self.repeated = self.ahead = self.error = self.silent = 0
        self.last = 0
        self.versions: list[str] = []
        self.instances: list[str] = []
        self.lag = Lag()
        self.account: Mapping[str, Any] | None = None
        self._jumps = member.clock.jumps

    def take(self, chunk: Mapping[str, Any]) -> NDArray[np.void] | None:
        """Return the rows of the chunk that is next, on the master's clock; None for others."""
        if chunk["n"] != self.next:
            self.repeated += chunk["n"] < self.next
            self.ahead += chunk["n"] > self.next
            return None
        self.next += 1
        if chunk["kind"] == "account":
            self.account = chunk["account"]
            return None
        rows = np.frombuffer(bytearray(chunk["rows"]), _KINDS[chunk["kind"]])
        clock = self.member.clock
        if len(rows) and (moment := _MOMENTS.get(chunk["kind"])):
            rows[moment] -= clock.offset
            self.error = max(self.error, _error(clock, rows[moment]))
        if chunk["kind"] == "samples":
            self.versions += chunk["versions"]
            self.instances += chunk["instances"]
            self.rows += len(rows)
            self.lag.add(rows["sent"])
            self.last = max(self.last, int(rows["due"].max(initial=0)))
        return rows

    def hear(self, now: int) -> None:
        """Its worker said something."""
        self.silent = max(self.silent, now - self.member.heard)
        self.member.heard = now

    def why(self, began: int, stopped: int) -> str:
        """Return why what it carried proves nothing, "" where it does; both moments are ours."""
        if self.failure or not began:
            return self.failure
        if self.account is None:
            last = (self.member.heard - began) * 1e-9
            return f"was lost: last heard of at {last:+.3f} s, {self.rows} samples came"
        return "; ".join(self._faults(self.account, began, stopped))

    def _faults(self, told: Mapping[str, Any], began: int, stopped: int) -> Iterator[str]:
        if told["trouble"]:
            yield str(told["trouble"])
        if told["count"] != self.rows:
            yield f"sent {told['count']} samples, {self.rows} came"
        if told["dropped"]:
            yield f"dropped {told['dropped']} samples"
        left = told["stopped"] - self.member.clock.offset
        if stopped - left > _EARLY * 1e9:
            yield f"stopped by itself at {(left - began) * 1e-9:+.3f} s"
        offered, reached = told["offered_rate"], told["reached_rate"]
        if reached < REACHED * offered:
            yield f"reached only {reached:.1f} of its {offered:.1f} requests/s"
        if self.member.clock.jumps > self._jumps:
            yield "its clock jumped against the master's: no moment of its samples is certain"

    @property
    def names(self) -> list[dict[str, object]]:
        """What its worker found that names stood for, and when on the master's clock."""
        found = []
        for one in (self.account or {}).get("names", ()):
            moments = {name: one[name] - self.member.clock.offset for name in ("t", "since")}
            found.append({**one, **moments, "worker": self.stripe.index})
        return found

    @property
    def lookup_ms(self) -> float:
        """By how many milliseconds at most names had changed before that was found."""
        return float((self.account or {}).get("lookup_ms", 0.0))

    def as_dict(self, began: int, stopped: int) -> dict[str, object]:
        """Return it as the recording's trailer tells it."""
        clock, told = self.member.clock, self.account or {}
        return {
            "worker": self.stripe.index,
            "name": self.member.name,
            "why": self.why(began, stopped),
            "samples": self.rows,
            "chunks": self.next,
            "repeated": self.repeated,
            "dropped": told.get("dropped"),
            "offered_rate": told.get("offered_rate"),
            "reached_rate": told.get("reached_rate"),
            **self.lag.as_dict(),
            **clock_as_dict(clock, self.error),
            "silent_ms": self.silent / 1e6,
        }


def _error(clock: Clock, moments: NDArray[np.int64]) -> int:
    """Return by how much at most one of these may be off: a late chunk tells of long ago."""
    return max(clock.error(int(moments.min())), clock.error(int(moments.max())))


def clock_as_dict(clock: Clock, error: int) -> dict[str, object]:
    """Return an offset and its error as trailer and manifest tell them."""
    return {
        "clock_shared": clock.shared,
        "clock_offset_ms": clock.offset / 1e6,
        "clock_error_ms": error / 1e6,
        "clock_rounds": clock.rounds,
    }
