"""Calls from one service to another: HTTP on kept connections, the latest used one first.

As Node's agent has it: a connection that the other side closed while it was at rest is never used,
and one that closes while a call is under way is an error. Where a name has several addresses, new
connections take turns.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

_CALL = "GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Request-ID: {request}\r\n\r\n"
_BROKEN = (OSError, EOFError, ValueError, TimeoutError, asyncio.LimitOverrunError)


class CallFailed(Exception):
    """No reply came: why."""


@dataclass(slots=True)
class Answer:
    """What came back."""

    status: int
    body: Any
    """What its JSON says, None but for a 200."""


@dataclass(slots=True)
class _Line:
    """One connection."""

    address: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    rested: float = 0.0

    async def ask(self, call: bytes) -> tuple[Answer, bool]:
        """Return the reply to the call, and whether the connection may carry another one."""
        self.writer.write(call)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.partition("content-length:")[2].partition("\r\n")[0])
        body = await self.reader.readexactly(length)
        status = int(head[9:12])
        told = json.loads(body) if status == 200 else None
        return Answer(status, told), "connection: close" not in head


class Calls:
    """GETs of one service, at ``http://host:port``; `timeout` and `idle` are seconds."""

    def __init__(self, url: str, *, timeout: float, retries: int, idle: float) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._timeout, self._retries, self._idle = timeout or None, retries, idle
        self._resting: list[_Line] = []
        self._turn = 0

    async def get(self, path: str, request: str) -> Answer:
        """Return the answer to the call, on behalf of the request of that id.

        Raises CallFailed where none came, and none to a retry either.
        """
        host = f"{self._host}:{self._port}"
        call = _CALL.format(path=path, host=host, request=request).encode("latin-1")
        avoided = ""
        for left in range(self._retries, -1, -1):
            try:
                async with asyncio.timeout(self._timeout):
                    if line := self._kept(avoided):
                        avoided = line.address
                    else:
                        avoided = await self._address(avoided)
                        line = await self._opened(avoided)
                    return await self._asked(line, call)
            except _BROKEN as error:
                if not left:
                    raise CallFailed(f"{host}: {error or type(error).__name__}") from error
        raise AssertionError("the last try returns or raises")

    async def _asked(self, line: _Line, call: bytes) -> Answer:
        keeps = False
        try:
            answer, keeps = await line.ask(call)
        finally:
            if keeps:
                line.rested = time.monotonic()
                self._resting.append(line)
            else:
                line.writer.transport.abort()
        return answer

    def _kept(self, avoided: str) -> _Line | None:
        """Return the connection that was used last and still stands, None without one."""
        while self._resting:
            line = self._resting.pop()
            old = time.monotonic() - line.rested > self._idle
            gone = line.writer.is_closing() or line.reader.at_eof()
            if not (old or gone or line.address == avoided):
                return line
            line.writer.transport.abort()
        return None

    async def _address(self, avoided: str) -> str:
        """Return whose turn it is, not that one where there are others."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(
            self._host, self._port, family=socket.AF_INET, type=socket.SOCK_STREAM
        )
        addresses = sorted({one[4][0] for one in found})
        others = [one for one in addresses if one != avoided] or addresses
        self._turn += 1
        return str(others[self._turn % len(others)])

    async def _opened(self, address: str) -> _Line:
        reader, writer = await asyncio.open_connection(address, self._port)
        return _Line(address, reader, writer)
