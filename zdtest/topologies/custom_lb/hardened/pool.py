"""Connections to one target, kept between requests."""

from __future__ import annotations

import asyncio
import time

from .http1 import HEAD_LIMIT


class Connection:
    """One connection to a target."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.idle_since: float | None = None

    @property
    def reused(self) -> bool:
        """Whether it has carried a request before, so that the target may just be closing it."""
        return self.idle_since is not None

    @property
    def alive(self) -> bool:
        """Whether neither side is known to have closed it."""
        return not self.reader.at_eof() and not self.writer.is_closing()

    def abort(self) -> None:
        """The connection is closed, at once."""
        self.writer.transport.abort()


class Pool:
    """Idle connections to one target, the last used first."""

    def __init__(self, idle: float) -> None:
        self._idle = idle
        self._kept: list[Connection] = []

    def take(self) -> Connection | None:
        """Return a kept connection that still looks alive, or None."""
        self.sweep()
        return self._kept.pop() if self._kept else None

    def put(self, connection: Connection) -> None:
        """`connection` is kept for another request."""
        connection.idle_since = time.monotonic()
        self._kept.append(connection)

    def sweep(self) -> None:
        """Connections that are dead or idle for too long are closed."""
        oldest = time.monotonic() - self._idle
        dead = [c for c in self._kept if not c.alive or (c.idle_since or 0.0) < oldest]
        for connection in dead:
            self._kept.remove(connection)
            connection.abort()

    def close(self) -> None:
        """No connection is kept."""
        for connection in self._kept:
            connection.abort()
        self._kept.clear()


async def connect(host: str, port: int, timeout: float) -> Connection:
    """Return a fresh connection; OSError (TimeoutError is one) when there is none in time."""
    async with asyncio.timeout(timeout):
        return Connection(*await asyncio.open_connection(host, port, limit=HEAD_LIMIT))
