"""The control server: an HTTP/1.1 server beside the system that says ok, as fast as it can.

A request that fails here was failed by the host, not by the system under test.
``python -m zdtest.engine.echo PORT`` prints its port (0 takes a free one) and serves 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n"
_KEPT = _HEAD + b"\r\nok"
_LAST = _HEAD + b"Connection: close\r\n\r\nok"
_MOST = 65_536


class Echo(asyncio.Protocol):
    """One connection: answers every whole request, in order, until the client asks to close."""

    def __init__(self) -> None:
        self._got = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where replies go."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer all requests that are whole now."""
        self._got += data
        while (end := self._got.find(b"\r\n\r\n")) >= 0:
            head = self._got[: end + 2]
            length = _LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._got) < whole:
                break
            self._got = self._got[whole:]
            if _CLOSE.search(head):
                self._transport.write(_LAST)
                return self._transport.close()
            self._transport.write(_KEPT)
        if len(self._got) > _MOST:
            self._transport.abort()


async def serve(port: int) -> None:
    """Serve until cancelled; prints the port once it listens."""
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", port, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
