"""One request under way at one target: sent, and its reply's head awaited."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

from .http1 import (
    LAST_CHUNK,
    PIECE,
    BadMessage,
    Reply,
    Request,
    Truncated,
    Unsized,
    chunk,
    end_to_end,
    pieces,
    read_reply,
    values,
    written,
)
from .pool import Connection, connect
from .retry import IDEMPOTENT, Lost, repeatable
from .settings import Settings
from .target import Target


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body: `whole` when it was small enough to be kept, else still at the client."""

    client: asyncio.StreamReader
    whole: bytes | None


class Exchange:
    """Counts as in flight from its making to its `close`."""

    def __init__(self, target: Target, request: Request, body: Body) -> None:
        self.target = target
        self._request = request
        self._body = body
        self._connection: Connection | None = None
        self._pump: asyncio.Task[None] | None = None
        self._fault: BadMessage | None = None
        self._whole: bytes | None = None
        self._given_up = ""
        target.in_flight += 1
        target.waiting.add(self)

    @property
    def request_sent(self) -> bool:
        """Whether the whole request has left the client's connection."""
        return self._pump is None or self._pump.done()

    def close(self, *, reusable: bool) -> None:
        """No longer in flight; the connection is kept for another request or closed at once."""
        self.target.in_flight -= 1
        self.target.waiting.discard(self)
        reusable = reusable and self.request_sent and self.target.open
        if self._pump is not None:
            self._pump.cancel()
        if self._connection is None:
            return
        if reusable and self._connection.alive:
            self.target.pool.put(self._connection)
        else:
            self._connection.abort()

    def give_up(self, why: str) -> None:
        """Wait no longer, so that another target can answer, where that can do no harm."""
        lost = Lost(why, sent=True)
        replayable = self._body.whole is not None
        if self._connection and repeatable(self._request, replayable=replayable, lost=lost):
            self._given_up = why
            self._connection.abort()

    async def reply(self, settings: Settings) -> Reply:
        """Send the request and return its reply's head; a small body is here by then.

        Until then the client has been told nothing, so that another target can still answer.
        Raises Lost when the target left before, TimeoutError when it took too long, and
        BadMessage when what came is no reply (502) or the client's body was none (400).
        """
        connection = self._connection = await self._connected(settings)
        stale, came = connection.reused, "no reply"
        self._send(connection)
        try:
            async with asyncio.timeout(settings.first_byte_timeout) as clock:
                self._count_from_the_end_of_the_request(clock, settings.first_byte_timeout)
                first = await connection.reader.readexactly(1)
                # A target that closes a connection for idleness does not begin a reply on it.
                stale, came = False, "reply cut off in its head"
                reply = await read_reply(connection.reader, self._request.method, first)
                came = "reply cut off in its body"
                if isinstance(reply.framing, int) and reply.framing <= PIECE:
                    self._whole = await connection.reader.readexactly(reply.framing)
                self.target.waiting.discard(self)
                return reply
        except TimeoutError:
            raise
        except (OSError, asyncio.IncompleteReadError) as error:
            if self._fault is not None:
                raise self._fault from error
            why = self._given_up or f"{came}: {_named(error)}"
            raise Lost(why, sent=True, stale=stale and not self._given_up) from error
        except BadMessage as bad:
            raise BadMessage(f"not a reply: {bad}", 502) from bad

    async def body(self, reply: Reply) -> AsyncIterator[bytes]:
        """Yield the reply's body as it arrives, at once when it is here; raises as `pieces`."""
        if self._whole is not None:
            yield self._whole
        elif self._connection is not None:
            async for piece in pieces(self._connection.reader, reply.framing):
                yield piece

    async def _connected(self, settings: Settings) -> Connection:
        # A kept connection may be closed by the target just as the request is written. Only what
        # can be sent again is exposed to that.
        harmless = self._request.method in IDEMPOTENT and self._body.whole is not None
        kept = self.target.pool.take() if harmless else None
        if kept is not None:
            return kept
        try:
            return await connect(self.target.host, self.target.port, settings.connect_timeout)
        except OSError as error:
            raise Lost(f"not connected: {_named(error)}", sent=False) from error

    def _send(self, connection: Connection) -> None:
        request, whole = self._request, self._body.whole
        headers = end_to_end(request.headers)
        if not values(headers, b"host"):
            headers.append((b"Host", self.target.name.encode()))
        if isinstance(request.framing, Unsized):
            headers.append((b"Transfer-Encoding", b"chunked"))
        elif request.framing or request.method in (b"POST", b"PUT", b"PATCH"):
            headers.append((b"Content-Length", b"%d" % request.framing))
        head = written(b"%b %b HTTP/1.1" % (request.method, request.path), headers)
        connection.writer.write(head + (whole or b""))
        if whole is None:
            self._pump = asyncio.create_task(self._pass_on(connection))

    async def _pass_on(self, connection: Connection) -> None:
        writer, chunked = connection.writer, self._request.framing is Unsized.CHUNKED
        try:
            async for piece in pieces(self._body.client, self._request.framing):
                writer.write(chunk(piece) if chunked else piece)
                await writer.drain()
            if chunked:
                writer.write(LAST_CHUNK)
        except BadMessage as bad:
            self._fault = bad
            connection.abort()
        except Truncated:
            connection.abort()
        except OSError:
            pass  # The target reads no more of it; its reply, if there is one, says why.

    def _count_from_the_end_of_the_request(self, clock: asyncio.Timeout, limit: float) -> None:
        if self._pump is None:
            return
        clock.reschedule(None)

        def start(_: asyncio.Task[None]) -> None:
            with contextlib.suppress(RuntimeError):  # The reply came before the request's end.
                clock.reschedule(asyncio.get_running_loop().time() + limit)

        self._pump.add_done_callback(start)


def _named(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else type(error).__name__
