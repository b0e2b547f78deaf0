"""A `Resolver` keeps a target's places up to date: names move, or cease to be, in a deploy."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from gevent import socket

from zdtest.sending.exchange import now_ns
from zdtest.sending.wire import Target

PAUSE: Final = 0.1
"""Seconds between the end of a lookup and the next one."""

_PROBE: Final = 1.0
_MOST: Final = 100


def lookup(host: str, port: int) -> list[str]:
    """Return the addresses of `host` in the system's order; raises OSError when it has none.

    A thread waits for them: the loop goes on.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def answers(address: str, port: int) -> bool:
    """Whether a connection to `address` is taken within a second."""
    try:
        socket.create_connection((address, port), timeout=_PROBE).close()
    except OSError:
        return False
    return True


class Move(NamedTuple):
    """A name stood for these addresses, none where it had none, as of a lookup that ended `at`.

    As of the one before, which began `since`, it did not. Both are nanoseconds.
    """

    since: int
    at: int
    addresses: tuple[str, ...]
    left_out: tuple[str, ...] = ()


class Resolver:
    """Points `target` at the addresses of its name, each time `resolve` is called.

    All of them are used, but for those of an IP version that nobody answered by at first
    (localhost is ::1 too, and few servers are). The first hundred `moves` are kept, and `more`
    counts the others; `unsure` is the most that one of them may have come earlier, nanoseconds.
    """

    def __init__(
        self,
        target: Target,
        *,
        look_up: Callable[[str, int], Sequence[str]] = lookup,
        answers: Callable[[str, int], bool] = answers,
    ) -> None:
        self.target = target
        self._look_up = look_up
        self._answers = answers
        self._dead: frozenset[int] | None = None
        self._found: frozenset[str] | None = None
        self._asked = 0
        self.moves: list[Move] = []
        self.more = self.unsure = 0

    @property
    def settled(self) -> bool:
        """Whether the host is an address already, which no name server can change."""
        try:
            ipaddress.ip_address(self.target.host.partition("%")[0])
        except ValueError:
            return False
        return True

    def resolve(self) -> None:
        """Look the name up; the target has no place afterwards where it has no address."""
        asked = now_ns()
        try:
            found = self._look_up(self.target.host, self.target.port)
        except (OSError, UnicodeError):
            found = []
        if self._found != frozenset(found):
            self._move(found)
        self._asked = asked

    def _move(self, found: Sequence[str]) -> None:
        before, self._found = self._found, frozenset(found)
        used = self._used(found)
        self.target.move(used)
        now = now_ns()
        left_out = tuple(one for one in found if one not in used)
        move = Move(self._asked or now, now, tuple(used), left_out)
        if before is not None:
            self.unsure = max(self.unsure, move.at - move.since)
        if len(self.moves) < _MOST:
            self.moves.append(move)
        else:
            self.more += 1

    def _used(self, found: Sequence[str]) -> Sequence[str]:
        if not found:
            return found
        if self._dead is None:
            self._dead = self._silent(found)
        return [one for one in found if _version(one) not in self._dead] or found

    def _silent(self, found: Sequence[str]) -> frozenset[int]:
        """Return the IP versions that no server answers by; never that of all the addresses."""
        versions = dict.fromkeys(map(_version, found))
        if len(versions) < 2:
            return frozenset()
        answering = {_version(one) for one in found if self._answers(one, self.target.port)}
        return frozenset(versions) - (answering or {_version(found[0])})


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def account(resolvers: Iterable[Resolver]) -> Mapping[str, object]:
    """Return every move of these names, and by how much at most one may have come earlier."""
    asked = [one for one in resolvers if not one.settled]
    return {
        "names": [told for one in asked for told in _told(one)],
        "lookup_ms": max((one.unsure for one in asked), default=0) / 1e6,
    }


def _told(one: Resolver) -> list[dict[str, object]]:
    told: list[dict[str, object]] = []
    for move in one.moves:
        left_out = {"left_out": list(move.left_out)} if move.left_out else {}
        addresses = {"addresses": list(move.addresses), **left_out}
        told.append({"name": one.target.host, "t": move.at, "since": move.since, **addresses})
    if one.more:
        told[-1]["more"] = one.more
    return told
