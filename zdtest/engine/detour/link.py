"""A proxied connection: a client's end, the target's end, and a pipe each way."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Callable
from functools import cached_property
from typing import cast

from zdtest.engine.detour.conditions import CLEAN, Conditions
from zdtest.engine.detour.pipe import Ending, Item, Pipe

ANSWERED = "X-Zdtest-Fault"
"""The header of a reply that the proxy gave itself."""

_RST = struct.pack("ii", 1, 0)


class End(asyncio.Protocol):
    """One end: what the wire says goes into the pipe that leads `away`, a reset as one."""

    def __init__(self, made: Callable[[], None], gone: Callable[[], None]) -> None:
        self._made = made
        self._gone = gone
        self.away: Pipe
        self.here: Pipe
        self.transport: asyncio.Transport | None = None
        self.heard: Callable[[bytes], bool] = lambda data: True
        self._finished = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send small pieces at once, as the other end did."""
        self.transport = cast(asyncio.Transport, transport)
        wire = self.transport.get_extra_info("socket")
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._made()

    def data_received(self, data: bytes) -> None:
        """Pass it on, unless `heard` has dealt with it."""
        if self.heard(data):
            self.away.put(data)

    def eof_received(self) -> bool:
        """Pass the half-close on; what comes the other way still may."""
        self.away.put(Ending.EOF)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """Pass a reset on; nothing more can be received here."""
        self.transport = None
        self.here.close()
        if error is not None:
            self.away.put(Ending.RESET)
        self._gone()

    def pause_writing(self) -> None:
        """Hold back what leads here."""
        self.here.block(True)

    def resume_writing(self) -> None:
        """Let it come again."""
        self.here.block(False)

    def read(self, on: bool) -> None:
        """Read from the wire, or leave it to the kernel to hold the sender back."""
        if self.transport and not self.transport.is_closing():
            (self.transport.resume_reading if on else self.transport.pause_reading)()

    def send(self, item: Item) -> None:
        """Write it, half-close or reset."""
        if self.transport is None or self.transport.is_closing():
            return
        if item is Ending.RESET:
            self.reset()
        elif item is Ending.EOF:
            self._finish(self.transport)
        elif isinstance(item, bytes) and not self._finished:
            self.transport.write(item)

    def _finish(self, transport: asyncio.Transport) -> None:
        self._finished = True
        try:
            transport.write_eof()
        except OSError:
            # Reset meanwhile: who had its EOF read is not read from, so nobody noticed.
            transport.abort()
            self.away.put(Ending.RESET)

    def reset(self) -> None:
        """End it with RST."""
        if self.transport:
            wire = self.transport.get_extra_info("socket")
            if not self.transport.is_closing():
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
            self.transport.abort()

    def close(self) -> None:
        """End it in order, what was written first."""
        if self.transport:
            self.transport.close()


class Link:
    """The connection of one client; it is connected to `target` unless it shall stay half open.

    `conditions` says what holds now, `ended` is called once when both ends are closed. `seed`
    gives the jitter: the same seed, the same delays for the same pieces.
    """

    def __init__(
        self,
        target: int,
        conditions: Callable[[], Conditions],
        ended: Callable[[Link], None],
        seed: str,
    ) -> None:
        self._target = target
        self._proxy = conditions
        self._ended = ended
        self._seed = seed
        self._connecting: asyncio.Task[None] | None = None
        self.half_open = conditions().half_open
        self._matched = not conditions().only
        self._passed = 0
        self._over = 0
        self._answered = self._cut = self._broken = False
        self.client = End(self._accepted, self._lost)
        self.server = End(lambda: None, self._lost)
        self.client.heard = self._asked
        up = self._pipe(self.client, self.server, delayed=False)
        down = self._pipe(self.server, self.client, delayed=True)
        self.client.away, self.client.here = up, down
        self.server.away, self.server.here = down, up
        up.block(True)

    def _pipe(self, source: End, sink: End, *, delayed: bool) -> Pipe:
        return Pipe(
            self._conditions,
            delayed=delayed,
            draw=lambda: self._dice.uniform(-1, 1),
            deliver=lambda item: self._deliver(sink, item),
            choke=lambda choked: source.read(not choked),
        )

    def changed(self) -> None:
        """Go by the conditions as they are now."""
        now = self._proxy()
        if self.half_open and not now.half_open:
            return self.reset()
        self._matched = not now.only
        self._passed = 0
        if self._conditions().reset_after == 0:
            return self.reset()
        self.client.away.changed()
        self.client.here.changed()

    def reset(self) -> None:
        """End both ends with RST, the target's once there is one."""
        self._broken = True
        self.client.reset()
        self.server.reset()

    @cached_property
    def _dice(self) -> random.Random:
        return random.Random(self._seed)

    def _conditions(self) -> Conditions:
        return self._proxy() if self._matched else CLEAN

    def _accepted(self) -> None:
        if self.half_open:
            self.client.away.block(False)
        else:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self.server, "127.0.0.1", self._target)
            if self._broken or self.client.transport is None:
                self.server.reset()
            self.client.away.block(False)
        except OSError:
            self.client.reset()
        finally:
            self._connecting = None
            self._lost()

    def _asked(self, data: bytes) -> bool:
        """Return whether the client's `data` goes on to the target."""
        if self.half_open or self._answered:
            return False
        matched = data.startswith(self._proxy().only.encode())
        if matched != self._matched:
            self._matched, self._passed = matched, 0
        if self._conditions().reset_after == 0:
            self.reset()
            return False
        if status := self._conditions().answer:
            self._answer(status)
        return not status

    def _answer(self, status: int) -> None:
        head = f"HTTP/1.1 {status} Fault\r\n{ANSWERED}: answer\r\nContent-Length: 0\r\n"
        self._answered = True
        self.client.here.put(f"{head}Connection: close\r\n\r\n".encode())
        self.client.here.put(Ending.EOF)
        self.client.away.put(Ending.EOF)

    def _deliver(self, sink: End, item: Item) -> None:
        if self._cut:
            return
        if sink is self.client and isinstance(item, bytes):
            item = self._up_to_the_reset(item)
        sink.send(item)
        self._over += item is Ending.EOF
        if self._over == 2 or (self.half_open and self._over):
            self.client.close()
            self.server.close()

    def _up_to_the_reset(self, item: bytes) -> bytes:
        """Return what of the target's `item` may still pass; after that the link is reset."""
        self._passed += len(item)
        limit = self._conditions().reset_after
        if limit is None or self._passed < limit:
            return item
        self._cut = True
        asyncio.get_running_loop().call_soon(self.reset)
        return item[: len(item) - (self._passed - limit)]

    def _lost(self) -> None:
        if not (self.client.transport or self.server.transport or self._connecting):
            self._ended(self)
