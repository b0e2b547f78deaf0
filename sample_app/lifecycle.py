"""One instance from start to end, as Spring Boot has it.

::

    started ── boot ── ready ── SIGTERM ──┬─ drain ─┬─ immediate: listener and connections closed
                                          └─────────┴─ graceful: listener and idle connections
                                                       closed, requests finish up to the timeout

Every moment is a line in the journal. SIGINT counts as SIGTERM; a second signal changes nothing.
Releases that break this order (`crash`, `never-ready`, `serves-before-ready`, `late-listener`,
`ignores-term`) are asked for by name, each where it does so.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from sample_app.journal import Journal
from sample_app.readiness import Readiness
from sample_app.release import LATE
from sample_app.settings import Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from sample_app.server import Server

    Build = Callable[[Settings, Journal, Readiness], ASGIApp]

KILLED = 128
"""What a shell adds to a signal's number, and the JVM to its exit code."""


class Lifecycle:
    """The life of one instance; `began` is when its process did, on CLOCK_MONOTONIC.

    `build` makes what it serves, the app of `sample_app.app` unless it is given.
    """

    def __init__(
        self, settings: Settings, journal: Journal, build: Build | None = None, *, began: float
    ) -> None:
        self._settings, self._journal, self._began = settings, journal, began
        self._make = build
        self._readiness = Readiness()
        self._told = asyncio.Event()
        self._signal = 0

    async def run(self) -> int:
        """Live until told to stop; returns the exit code.

        That is 0 after a graceful stop, 128 + the signal after an immediate one or during the
        boot, and 1 where the port was taken or the release crashes.
        """
        self._listen_for_signals()
        app = self._build()
        early = self._settings.release.does("serves-before-ready")
        if not early and not await self._boot():
            return self._ended()
        try:
            listener = _listener(self._settings)
        except OSError as error:
            wanted = f"{self._settings.host}:{self._settings.port}"
            print(f"sample_app: {wanted}: {error.strerror}: expected a free port", file=sys.stderr)
            return self._stopped(1)
        server = self._server(app, listener)
        if early:
            server.start()
            await self._boot()
        if not self._told.is_set():
            self._ready(listener)
        if not early:
            server.start()
        await self._told.wait()
        return await self._stop(server)

    def _listen_for_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._tell, number)

    def _tell(self, number: int) -> None:
        deaf = self._settings.ignore_sigterm or self._settings.release.does("ignores-term")
        ignored = number == signal.SIGTERM and deaf
        if ignored or not self._signal:
            name = signal.Signals(number).name
            self._journal.write("term", signal=name, ignored=ignored)
        if not ignored:
            self._signal = self._signal or number
            self._told.set()

    def _build(self) -> ASGIApp:
        if self._make is not None:
            return self._make(self._settings, self._journal, self._readiness)
        from sample_app.app import build  # slow to import: a part of the boot

        return build(self._settings, self._journal, self._readiness)

    async def _boot(self) -> bool:
        """Return when the boot is over; whether it led to an app that can serve."""
        while time.process_time() < self._settings.boot_cpu and not self._told.is_set():
            await asyncio.sleep(0)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._began + self._settings.boot):
                await self._told.wait()
        return not self._told.is_set() and not self._settings.release.does("crash")

    def _ended(self) -> int:
        """Say that the boot led to nothing, and return the exit code."""
        if self._told.is_set():
            return self._stopped(KILLED + self._signal)
        print("sample_app: RELEASE 'crash': it ends in its boot", file=sys.stderr)
        return self._stopped(1)

    def _server(self, app: ASGIApp, listener: socket.socket) -> Server:
        from anyio.to_thread import current_default_thread_limiter

        from sample_app.server import Server

        current_default_thread_limiter().total_tokens = self._settings.workers
        server = Server(app, self._settings, listener)
        gc.collect()
        gc.freeze()  # a full collection over what never goes away is a pause users would see
        return server

    def _ready(self, listener: socket.socket) -> None:
        """Say so: to the journal before the first request is accepted, and on the terminal."""
        host, port = listener.getsockname()[:2]
        never = self._settings.release.does("never-ready")
        if not never:
            self._readiness.begin()
            self._journal.write("ready", host=host, port=port)
        state = "never ready" if never else "ready"
        print(f"{self._settings.instance} {self._settings.version} {state} on {host}:{port}")
        sys.stdout.flush()

    async def _stop(self, server: Server) -> int:
        self._readiness.ready = False
        graceful = self._settings.shutdown == "graceful"
        if graceful or self._settings.drain:
            self._journal.write("draining", seconds=self._settings.drain)
        await asyncio.sleep(self._settings.drain)
        closed = await self._close(server)
        if graceful and not self._readiness.over:
            await server.finish(self._settings.shutdown_timeout)
        cut = server.cut()
        return self._stopped(0 if graceful else KILLED + self._signal, closed=closed, cut=cut)

    async def _close(self, server: Server) -> float:
        """Close the listener and return when; `late-listener` tells a time long before."""
        if self._settings.release.does("late-listener"):
            self._readiness.over, told = True, time.monotonic()
            await asyncio.sleep(LATE)
            await server.close()
            return round(told, 6)
        await server.close()
        return round(time.monotonic(), 6)

    def _stopped(self, code: int, **about: object) -> int:
        self._journal.write("stopped", code=code, **about)
        return code


def _listener(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    address = (settings.host, settings.port)
    return socket.create_server(address, family=family, backlog=settings.accept_count)
