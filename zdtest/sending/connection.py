"""How a connection begins: a socket that asks for one and waits for nothing."""

from __future__ import annotations

import _socket
import errno
import struct
from typing import Final, NamedTuple

from zdtest.records.sample import Outcome

NEVER_CONNECTED: Final = {
    errno.ECONNREFUSED: Outcome.refused,
    errno.ECONNRESET: Outcome.refused,
    errno.ECONNABORTED: Outcome.refused,
    errno.EHOSTUNREACH: Outcome.refused,
    errno.ENETUNREACH: Outcome.refused,
    errno.EHOSTDOWN: Outcome.refused,
    errno.EPIPE: Outcome.refused,
    errno.ETIMEDOUT: Outcome.connect_timeout,
}
"""Errors before a connection stands; any other (EMFILE, EADDRNOTAVAIL, …) is the generator's."""

_KIND: Final = _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
_UNDER_WAY: Final = (0, errno.EINPROGRESS)
_ANY: Final = ("0.0.0.0", "::")
_AT_ONCE: Final = struct.pack("ii", 1, 0)


class Place(NamedTuple):
    """Where a connection goes: the address's family, and the address with its port."""

    family: int
    address: tuple[str, int]

    @classmethod
    def of(cls, host: str, port: int) -> Place:
        """Return `port` at the address `host`, IPv6 where it has a colon."""
        return cls(_socket.AF_INET6 if ":" in host else _socket.AF_INET, (host, port))


def begun(place: Place) -> _socket.socket:
    """Return a socket on its way to `place`; raises OSError where there is none to be had."""
    sock = _socket.socket(place.family, _KIND)
    error = sock.connect_ex(place.address)
    if error in _UNDER_WAY and _meets_itself(sock, place.address):
        error = errno.ECONNREFUSED
    if error not in _UNDER_WAY:
        sock.close()
        raise OSError(error, "connect")
    return sock


def _meets_itself(sock: _socket.socket, address: tuple[str, int]) -> bool:
    """Whether `sock` was given the very port that it asks for, and would be its own server.

    TCP lets it, where nobody listens. Once closed it no longer keeps the port from its server.
    """
    host, port = sock.getsockname()[:2]
    if port != address[1] or address[0] not in (host, *_ANY):
        return False
    sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _AT_ONCE)
    return True
