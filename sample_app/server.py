"""The listener and its connections: uvicorn's HTTP, with Tomcat's limits and ways to close.

uvicorn's own `Server` is not used: it owns the signals, accepts as much as it can, and knows one
way to stop. Its protocol, which speaks HTTP on one connection, is.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from sample_app.settings import Settings

_BREATH = 0.05
"""Seconds to wait after a failed accept: out of descriptors, most likely."""


class Server:
    """Serves an app on a listening socket, from `start` until `close`."""

    def __init__(self, app: ASGIApp, settings: Settings, listener: socket.socket) -> None:
        self._listener = listener
        self._config = _config(app, settings)
        self._state = ServerState()
        self._room = asyncio.Semaphore(settings.max_connections)
        self._arriving: set[asyncio.Task[object]] = set()
        self._left = asyncio.Event()

    def start(self) -> None:
        """Accept connections from now on, never more at a time than the settings allow."""
        self._config.load()
        self._state.default_headers = self._config.encoded_headers
        self._listener.setblocking(False)
        # Connections inherit it. Without, Nagle holds the body back until the header is acked.
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._accepting = asyncio.create_task(self._accept())

    async def close(self) -> None:
        """Close the listener; no connection is accepted after the call, those there are stay."""
        self._accepting.cancel()
        await asyncio.wait([self._accepting])
        self._listener.close()
        await asyncio.gather(*self._arriving, return_exceptions=True)

    async def finish(self, within: float) -> None:
        """Close idle connections, and wait for the busy ones, no longer than `within` seconds.

        A busy one closes with its reply, which says so where it has not begun.
        """
        for connection in list(self._state.connections):
            connection.shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self._state.connections:
                    self._left.clear()
                    await self._left.wait()

    def cut(self) -> int:
        """Close every connection at once, whatever it is doing; returns how many there were."""
        connections = list(self._state.connections)
        for connection in connections:
            connection.transport.abort()
        return len(connections)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._room.acquire()  # what finds no room stays in the kernel's accept queue
            try:
                client, _ = self._listener.accept()
            except OSError as error:
                self._room.release()
                if isinstance(error, BlockingIOError):
                    await self._arrival()
                else:
                    await asyncio.sleep(_BREATH)
                continue
            client.setblocking(False)
            task = loop.create_task(loop.connect_accepted_socket(self._connection, client))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)

    async def _arrival(self) -> None:
        """Return once a connection waits to be accepted.

        `loop.sock_accept` accepts one by itself, and loses it when it is cancelled in that moment.
        """
        loop, somebody = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._listener, somebody.set)
        try:
            await somebody.wait()
        finally:
            loop.remove_reader(self._listener)

    def _connection(self) -> _Connection:
        return _Connection(self._config, self._state, self._gone)

    def _gone(self) -> None:
        self._room.release()
        self._left.set()


class _Connection(HttpToolsProtocol):
    def __init__(self, config: Config, state: ServerState, gone: Callable[[], None]) -> None:
        super().__init__(config, state, app_state={})
        self._gone = gone

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._gone()


def _config(app: ASGIApp, settings: Settings) -> Config:
    # The headers go on every reply, uvicorn's own 400 to what is no HTTP included.
    whose = [("X-App-Version", settings.version), ("X-App-Instance", settings.instance)]
    return Config(
        app,
        http=_Connection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        date_header=False,
        server_header=False,
        headers=whose,
        timeout_keep_alive=settings.keep_alive,  # type: ignore[arg-type]
    )
