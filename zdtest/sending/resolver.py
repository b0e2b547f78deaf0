"""A `Resolver` keeps a target's address up to date: names move, or cease to be, in a deploy."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence

from zdtest.sending.wire import Target

_PROBE = 1.0


def lookup(host: str, port: int) -> list[str]:
    """Return the addresses of `host` in the system's order; raises OSError when it has none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def answers(address: str, port: int) -> bool:
    """Whether a connection to `address` is taken within a second."""
    try:
        socket.create_connection((address, port), timeout=_PROBE).close()
    except OSError:
        return False
    return True


class Resolver:
    """Points `target` at an address of its name, each time `resolve` is called.

    A name with several addresses (localhost, ::1 and 127.0.0.1) begins with the first that takes
    a connection, and stays with an address for as long as the name has it.
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

    @property
    def settled(self) -> bool:
        """Whether the host is an address already, which no name server can change."""
        try:
            ipaddress.ip_address(self.target.host.partition("%")[0])
        except ValueError:
            return False
        return True

    def resolve(self) -> None:
        """Look the name up; the target has no address afterwards where it has none."""
        target = self.target
        try:
            found = self._look_up(target.host, target.port)
        except (OSError, UnicodeError):
            found = []
        now = target.address[0] if target.address else None
        if now is None or now not in found:
            target.move(self._choose(found))

    def _choose(self, found: Sequence[str]) -> str | None:
        if len(found) < 2:
            return found[0] if found else None
        return next((one for one in found if self._answers(one, self.target.port)), found[0])
