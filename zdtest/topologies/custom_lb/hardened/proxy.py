"""Delivers a request to a target, to one more if that can do no harm, and streams the reply."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from .exchange import Body, Exchange
from .http1 import (
    LAST_CHUNK,
    PIECE,
    BadMessage,
    Headers,
    Reply,
    Request,
    Truncated,
    Unsized,
    chunk,
    end_to_end,
    listed,
    pieces,
    values,
    written,
)
from .log import log
from .retry import Lost, RetryBudget, repeatable
from .settings import Settings
from .target import Rotation, Target


class Proxy:
    """Answers requests from the targets in rotation; once `stopping`, each is its client's last."""

    def __init__(self, rotation: Rotation, settings: Settings) -> None:
        self.stopping = False
        self._rotation = rotation
        self._settings = settings
        self._budget = RetryBudget(
            ratio=settings.retry_ratio, reserve=settings.retry_reserve, burst=settings.retry_burst
        )

    async def answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request
    ) -> bool:
        """Answer one request; returns whether the client's connection can carry another.

        Cancelled when the client leaves, which closes the target's connection too.
        """
        if b"100-continue" in listed(request.headers, b"expect"):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await _body(reader, request)
        self._budget.earn()
        try:
            exchange, reply = await self._deliver(request, body)
        except (Lost, TimeoutError, BadMessage) as error:
            keep = request.keep and body.whole is not None and not self.stopping
            return self._refuse(writer, request, error, keep=keep)
        return await self._relay(writer, request, exchange, reply)

    async def _deliver(self, request: Request, body: Body) -> tuple[Exchange, Reply]:
        target, first = self._rotation.next(), None
        while target is not None:
            try:
                return await self._attempt(target, request, body)
            except Lost as lost:
                self._suspect(target, lost)
                again = None if first else self._another(target, request, body, lost)
                if again is None:
                    raise
                log("retried", id=request.id, target=target.name, to=again.name, reason=str(lost))
                first, target = target, again
        raise Lost("no target is open", sent=False)

    async def _attempt(
        self, target: Target, request: Request, body: Body
    ) -> tuple[Exchange, Reply]:
        exchange = Exchange(target, request, body)
        try:
            return exchange, await exchange.reply(self._settings)
        except BaseException as error:
            exchange.close(reusable=False)
            target.failed += _blames(error)
            if isinstance(error, asyncio.CancelledError):
                log("abandoned", id=request.id, target=target.name)
            raise

    def _suspect(self, target: Target, lost: Lost) -> None:
        # A kept connection that breaks says nothing of the target: it may have been closed for
        # idleness. The next request opens a fresh one, and that one tells.
        target.pool.close()
        if not lost.stale:
            if target.open:
                log("suspect", target=target.name, reason=str(lost))
            target.suspected()

    def _another(self, target: Target, request: Request, body: Body, lost: Lost) -> Target | None:
        if not repeatable(request, replayable=body.whole is not None, lost=lost):
            return None
        again = self._rotation.next(avoid=target)
        return again if again is not None and self._budget.spend() else None

    def _refuse(
        self, writer: asyncio.StreamWriter, request: Request, error: Exception, *, keep: bool
    ) -> bool:
        status = _status(error)
        log("failed", id=request.id, status=status, reason=str(error) or "no reply in time")
        retry_after = [(b"Retry-After", b"%d" % self._settings.retry_after)]
        extra = retry_after if status == 503 else []
        writer.write(refusal(status, extra, keep=keep, head=request.method == b"HEAD"))
        return keep

    async def _relay(
        self, writer: asyncio.StreamWriter, request: Request, exchange: Exchange, reply: Reply
    ) -> bool:
        done = False
        try:
            sized = reply.framing is not Unsized.UNTIL_CLOSE or request.minor == 1
            keep = request.keep and exchange.request_sent and sized and not self.stopping
            await _copy(writer, request, exchange, reply, keep=keep)
            done = True
            if exchange.target.replied(reply.status):
                log("ejected", target=exchange.target.name, status=reply.status)
        except (Truncated, BadMessage) as error:
            exchange.target.failed += 1
            log("truncated", id=request.id, target=exchange.target.name, reason=str(error))
            writer.transport.abort()
        except asyncio.CancelledError:
            log("abandoned", id=request.id, target=exchange.target.name)
            raise
        finally:
            exchange.close(reusable=done and reply.keep)
        return done and keep


async def _body(reader: asyncio.StreamReader, request: Request) -> Body:
    small = isinstance(request.framing, int) and request.framing <= PIECE
    if not small:
        return Body(reader, None)
    return Body(reader, b"".join([piece async for piece in pieces(reader, request.framing)]))


async def _copy(
    writer: asyncio.StreamWriter, request: Request, exchange: Exchange, reply: Reply, *, keep: bool
) -> None:
    chunked = isinstance(reply.framing, Unsized) and request.minor == 1
    headers = end_to_end(reply.headers)
    headers += _framing(request, reply, chunked=chunked)
    headers.append((b"Connection", b"keep-alive" if keep else b"close"))
    writer.write(written(b"HTTP/1.1 %d %b" % (reply.status, reply.reason), headers))
    async for piece in exchange.body(reply):
        writer.write(chunk(piece) if chunked else piece)
        await writer.drain()
    if chunked:
        writer.write(LAST_CHUNK)
    await writer.drain()


def _framing(request: Request, reply: Reply, *, chunked: bool) -> Headers:
    if chunked:
        return [(b"Transfer-Encoding", b"chunked")]
    return [(b"Content-Length", length) for length in values(reply.headers, b"content-length")]


def _blames(error: BaseException) -> bool:
    """Return whether it is the target's failure: not a client's, nor a connection grown old."""
    if isinstance(error, Lost):
        return not error.stale
    return isinstance(error, TimeoutError) or (
        isinstance(error, BadMessage) and error.status >= 500
    )


def _status(error: Exception) -> int:
    if isinstance(error, Lost):
        return 502 if error.sent else 503
    return error.status if isinstance(error, BadMessage) else 504


def refusal(status: int, extra: Headers, *, keep: bool, head: bool = False) -> bytes:
    """Return the bytes of a reply of the balancer's own."""
    phrase = HTTPStatus(status).phrase.encode()
    text = b"%d %b\n" % (status, phrase)
    headers = [
        (b"Content-Type", b"text/plain; charset=utf-8"),
        (b"Content-Length", b"%d" % len(text)),
        (b"Connection", b"keep-alive" if keep else b"close"),
    ]
    return written(b"HTTP/1.1 %d %b" % (status, phrase), headers + extra) + (b"" if head else text)
