"""Whether something listens on a port, asked of the kernel and not of the server."""

from __future__ import annotations

import socket
import struct

_SOCK_DIAG, _BY_FAMILY, _REQUEST, _LISTEN = 4, 20, 1, 10


def listens(port: int) -> bool:
    """Return whether a connection to 127.0.0.1:`port` would be accepted, without making one.

    By sock_diag(7): one lookup in the kernel, where /proc/net/tcp would list every socket there is.
    False where the kernel does not have it, so what relies on it has to try it on a port it knows.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
        body = struct.pack("=BBBxI", socket.AF_INET, socket.IPPROTO_TCP, 0, 1 << _LISTEN)
        body += struct.pack("!HH16s16s", port, 0, socket.inet_aton("127.0.0.1"), b"")
        body += struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)  # any interface, any cookie
        kernel.send(struct.pack("=IHHII", 16 + len(body), _BY_FAMILY, _REQUEST, 0, 0) + body)
        reply = kernel.recv(4096)
    # A message about the socket, whose second byte is its state; or an error.
    return struct.unpack_from("=H", reply, 4)[0] == _BY_FAMILY and reply[17] == _LISTEN
