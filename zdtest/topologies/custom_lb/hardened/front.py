"""The side that clients connect to."""

from __future__ import annotations

import asyncio

from .http1 import HEAD_LIMIT, BadMessage, Truncated, read_request
from .log import log
from .proxy import Proxy, refusal
from .settings import Settings


class Front:
    """Listens on the loopback address and serves each connection until it ends."""

    def __init__(self, proxy: Proxy, settings: Settings) -> None:
        self._proxy = proxy
        self._settings = settings
        self._server: asyncio.Server | None = None
        self.sessions: set[Session] = set()

    async def start(self) -> int:
        """Listen; returns the port. Raises OSError when it is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Session(self, self._proxy, self._settings.client_idle),
            "127.0.0.1",
            self._settings.port,
            backlog=1024,
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """No new connection is taken, idle ones are closed, requests in flight have finished.

        Those still running after `stop_timeout` are cut off.
        """
        self._proxy.stopping = True
        if self._server is not None:
            self._server.close()
        log("stopping", in_flight=sum(session.busy for session in self.sessions))
        tasks = [session.task for session in self.sessions if session.task is not None]
        for session in self.sessions:
            if not session.busy and session.task is not None:
                session.task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._settings.stop_timeout)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


class Session(asyncio.StreamReaderProtocol):
    """One client connection; while `busy`, its end cancels the request it waits for."""

    def __init__(self, front: Front, proxy: Proxy, idle: float) -> None:
        super().__init__(asyncio.StreamReader(limit=HEAD_LIMIT), self._opened)
        self.busy = False
        self.task: asyncio.Task[None] | None = None
        self._front = front
        self._proxy = proxy
        self._idle = idle

    def eof_received(self) -> bool:
        """A client that sends no more has left, as nginx reads it too."""
        super().eof_received()
        self._left()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        super().connection_lost(exc)
        self._left()

    def _left(self) -> None:
        if self.busy and self.task is not None:
            self.task.cancel()

    def _opened(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.task = asyncio.create_task(self._serve(reader, writer))
        self._front.sessions.add(self)
        self.task.add_done_callback(lambda _: self._front.sessions.discard(self))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._once(reader, writer):
                pass
        except BadMessage as bad:
            log("rejected", status=bad.status, reason=str(bad))
            writer.write(refusal(bad.status, [], keep=False))
        except (OSError, asyncio.IncompleteReadError, Truncated):
            pass  # The client left between requests or within its own, or stayed idle too long.
        finally:
            writer.close()

    async def _once(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        async with asyncio.timeout(self._idle):
            request = await read_request(reader)
        self.busy = True
        try:
            return await self._proxy.answer(reader, writer, request)
        finally:
            self.busy = False
