"""How many connections a server has, asked of the kernel and not of the server."""

from __future__ import annotations

import socket
import struct

_SOCK_DIAG, _BY_FAMILY, _ERROR, _DONE = 4, 20, 2, 3
_REQUEST, _DUMP, _ESTABLISHED = 0x1, 0x300, 1
_HEAD, _ABOUT = 16, 4
"""Bytes of a message's own header, and of what comes before the ports and addresses in it."""


def connected(host: str, port: int) -> int:
    """Return how many connections to the IPv4 address `host`:`port` of this machine are open.

    Those not yet accepted count, and those that either side has closed do not. By sock_diag(7),
    which lists those alone, where /proc/net/tcp would list what was closed a minute ago as well.
    Raises OSError where the kernel does not have it.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
        body = struct.pack("=BBBxI", socket.AF_INET, socket.IPPROTO_TCP, 0, 1 << _ESTABLISHED)
        body += bytes(48)
        head = struct.pack("=IHHII", _HEAD + len(body), _BY_FAMILY, _REQUEST | _DUMP, 0, 0)
        kernel.send(head + body)
        count = 0
        while True:
            found, last = _matching(kernel.recv(1 << 17), socket.inet_aton(host), port)
            count += found
            if last:
                return count


def _matching(messages: bytes, host: bytes, port: int) -> tuple[int, bool]:
    """Return how many of these are about that address, and whether no more are to come."""
    count = 0
    while messages:
        length, kind = struct.unpack_from("=IH", messages)
        if kind == _ERROR:
            code = -struct.unpack_from("=i", messages, _HEAD)[0]
            raise OSError(code, "sock_diag refused")
        if kind == _DONE:
            return count, True
        about = messages[_HEAD + _ABOUT : length]
        count += struct.unpack_from("!H", about)[0] == port and about[4:8] == host
        messages = messages[(length + 3) & ~3 :]
    return count, False
