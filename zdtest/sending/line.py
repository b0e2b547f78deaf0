"""A `Line` is one connection: a state machine on the event loop's watchers, without a greenlet.

A kept connection that the server has already closed is dropped unused, as RFC 9112 section 9.5
asks of a client; one that closes while a request is on its way is a failure, and stays one.
"""

from __future__ import annotations

import _socket
from typing import TYPE_CHECKING, Final, Protocol

from zdtest.records.sample import Outcome
from zdtest.sending.connection import NEVER_CONNECTED
from zdtest.sending.exchange import Exchange, now_ns
from zdtest.sending.reply import (
    TO_THE_END,
    Body,
    Check,
    Head,
    Malformed,
    body_of,
    checks_of,
    may_begin,
    status_of,
    strays,
    unasked,
)

if TYPE_CHECKING:
    from zdtest.sending.wire import Pool, Wire

READ: Final = 1
WRITE: Final = 2
AGAIN: Final = (BlockingIOError, InterruptedError)
PIECE: Final = 65_536


class Sink(Protocol):
    """Takes a reply that goes on and on, piece by piece; its line asks nothing of it in return."""

    def begun(self, line: Line, head: Head) -> None:
        """The head came, with a status that was asked for."""

    def body(self, line: Line, data: bytes) -> None:
        """A piece of content came."""

    def ended(self, line: Line) -> None:
        """The server ended the body as the protocol says; the line is closed."""

    def lost(self, line: Line | None, outcome: Outcome) -> None:
        """It broke off, or never began (`line` None)."""


class Line:
    """One connection with at most one exchange on it, or with a `sink` for a body without end."""

    __slots__ = (
        "alive",
        "body",
        "buffer",
        "checks",
        "connected",
        "cut",
        "exchange",
        "head",
        "keep",
        "number",
        "out",
        "rested",
        "secured",
        "sink",
        "sock",
        "watcher",
        "wire",
    )

    def __init__(
        self,
        wire: Wire,
        exchange: Exchange,
        sock: _socket.socket,
        keep: Pool | None,
        sink: Sink | None,
    ) -> None:
        self.wire = wire
        self.keep = keep
        self.sink = sink
        self.number = exchange.conn
        self.exchange: Exchange | None = exchange
        self.alive = True
        self.connected = False
        self.secured = wire.target.context is None
        self.cut = Outcome.closed
        self.rested = 0
        self.buffer = self.out = b""
        self.head: Head | None = None
        self.body: Body | None = None
        self.checks: list[Check] | None = None
        self.sock = sock
        exchange.line = self
        wire.lines.add(self)
        self.watcher = wire.loop.io(sock.fileno(), WRITE)
        self.watcher.start(self._connected)

    def use(self, exchange: Exchange) -> bool:
        """Send `exchange` on this kept connection; False if the server has closed it already."""
        if not self._rests():
            self.close()
            return False
        exchange.conn = self.number
        exchange.line = self
        self.exchange = exchange
        self._send(exchange)
        return True

    def expire(self) -> None:
        """The exchange ran out of time: say at which step, and close."""
        if self.alive:
            self._fail(self._late())

    def _late(self) -> Outcome:
        if not self.connected:
            return Outcome.connect_timeout
        if not self.secured:
            return Outcome.tls
        return Outcome.body_timeout if self._begun() else Outcome.timeout

    def close(self) -> None:
        """Close the socket and forget the connection; safe to call twice."""
        if self.alive:
            self.alive = False
            self.watcher.stop()
            self.watcher.close()
            self.sock.close()
            self.wire.lines.discard(self)
            if self.keep is not None and self.exchange is None:
                self.keep.remove(self)

    def drop(self) -> None:
        """Close a connection that is out of its pool already, which saves a search there."""
        self.keep = None
        self.close()

    # The connection.

    def _connected(self) -> None:
        error = self.sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
        if error:
            self._fail(NEVER_CONNECTED.get(error, Outcome.unsent))
            return
        self.connected = True
        self._watch(READ)
        self._established()

    def _established(self) -> None:
        if self.exchange is not None:
            self._send(self.exchange)

    def _watch(self, events: int) -> None:
        self.watcher.stop()
        self.watcher.events = events
        self.watcher.start(self._readable if events == READ else self._both)

    def _rests(self) -> bool:
        """Whether the parked connection still stands, and nothing came that answers nothing."""
        try:
            self.sock.recv(1, _socket.MSG_PEEK)
        except AGAIN:
            return True
        except OSError:
            pass
        return False

    def _send(self, exchange: Exchange) -> None:
        exchange.sent = now_ns()
        self._push(exchange.payload)

    def _push(self, data: bytes) -> None:
        """Give the kernel what it takes of `data`; the rest goes when it takes more."""
        try:
            sent = self.sock.send(data)
        except AGAIN:
            sent = 0
        except OSError:
            # A reply sent before the server closed may be here already: it is read first, and
            # the end that follows it is a reset.
            self.cut = Outcome.reset
            sent = len(data)
        if sent == len(data):
            if self.out:
                self.out = b""
                self._watch(READ)
        else:
            if not self.out:
                self._watch(READ | WRITE)
            self.out = data[sent:]

    def _both(self) -> None:
        """Send what had to wait, and read: a server may answer before it has heard all."""
        self._push(self.out)
        if self.alive:
            self._readable()

    def _receive(self) -> bytes:
        data: bytes = self.sock.recv(PIECE)
        return data

    def _readable(self) -> None:
        try:
            data = self._receive()
        except AGAIN:
            return
        except OSError:
            self._broke(Outcome.reset)
            return
        exchange = self.exchange
        if not data:
            self._ended()
        elif exchange is None and self.sink is None:
            # Talking out of turn on a parked connection.
            self.close()
        elif self.head is not None:
            self._take_body(data)
        elif exchange is not None:
            if not exchange.first:
                exchange.first = now_ns()
            self._take_head(exchange, data)

    # The reply.

    def _take_head(self, exchange: Exchange, data: bytes) -> None:
        """Read status and headers, once they are all there; interim replies are passed over."""
        wire = self.wire
        if self.buffer:
            data = self.buffer + data
        while True:
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                self.buffer = data
                if not may_begin(data):
                    self._fail(Outcome.http_5xx)
                return
            try:
                head = wire.read_head(data[:end])
            except Malformed:
                self._fail(Outcome.http_5xx)
                return
            if head.status >= 200 or head.status == 101:
                break
            data = data[end:]
        exchange.status = head.status
        exchange.version = head.version
        exchange.instance = head.instance
        plain = not head.digest and not exchange.texts and self.sink is None
        if plain and len(data) - end == head.length:
            exchange.size = head.length
            good = not wire.body or wire.body in data[end:]
            self._whole(exchange, head, good=good, keeps=head.keeps)
        else:
            self._begin_body(exchange, head, data[end:])

    def _begin_body(self, exchange: Exchange, head: Head, data: bytes) -> None:
        """Take a body that comes in pieces or in a transfer coding."""
        self.buffer = b""
        self.head = head
        self.body = body_of(head.length)
        if self.sink is not None:
            if head.status not in self.wire.expected:
                self._fail(unasked(head.status))
                return
            self.exchange = None
            self.sink.begun(self, head)
        else:
            self.checks = checks_of(head, self.wire.body, exchange.texts)
        if data or self.body.ended:
            self._take_body(data)

    def _take_body(self, data: bytes) -> None:
        body, sink = self.body, self.sink
        if body is None:
            raise AssertionError("a body without its decoder")
        try:
            data = body.feed(data)
        except Malformed:
            self._fail(Outcome.bad_body)
            return
        if sink is not None:
            if data:
                sink.body(self, data)
            if body.ended and self.alive:
                self.sink = None
                self.close()
                sink.ended(self)
            return
        if self.checks:
            for check in self.checks:
                check.feed(data)
        if body.ended:
            self._body_whole()

    def _body_whole(self) -> None:
        exchange, head, body = self.exchange, self.head, self.body
        if exchange is not None and head is not None and body is not None:
            exchange.size = body.size
            good = not self.checks or all(check.passed for check in self.checks)
            # What follows a reply that nobody asked for more makes the connection useless.
            self._whole(exchange, head, good=good, keeps=head.keeps and not body.extra)

    def _whole(self, exchange: Exchange, head: Head, *, good: bool, keeps: bool) -> None:
        """The reply is complete: judge it, and keep the connection or see it closed."""
        wire = self.wire
        self.exchange = self.head = self.body = self.checks = None
        self.buffer = b""
        if self.keep is None or not keeps or self.out:
            self._linger()
        else:
            self.rested = exchange.first
            if not self.keep.add(self):
                self.drop()
        if head.status not in wire.expected:
            outcome = unasked(head.status)
        elif not good or (head.id and strays(head, exchange.payload)):
            outcome = Outcome.bad_body
        elif wire.only_version and head.version != wire.only_version:
            outcome = Outcome.wrong_version
        else:
            outcome = Outcome.ok
        wire.end(exchange, outcome)

    def _linger(self) -> None:
        """Let the server close first, so that its side and not ours holds the TIME_WAIT."""
        if self.out:
            self.out = b""
            self._watch(READ)
        self.wire.linger(self)

    # The ends.

    def _begun(self) -> bool:
        """Whether a status line has come."""
        if self.head is None and self.exchange is not None:
            self.exchange.status = status_of(self.buffer)
            return self.exchange.status > 0
        return self.head is not None

    def _broke(self, outcome: Outcome) -> None:
        """The connection is gone; `outcome` is what that means before a status line."""
        if self.exchange is None and self.sink is None:
            self.close()
        elif not self.connected:
            self._fail(Outcome.refused)
        elif not self.secured:
            self._fail(Outcome.tls)
        else:
            self._fail(Outcome.truncated if self._begun() else outcome)

    def _told_so(self) -> bool:
        """Whether an end of the connection is the server's word that there is no more."""
        return True

    def _ended(self) -> None:
        """The server closed its side."""
        to_the_end = self.head is not None and self.head.length == TO_THE_END
        orderly = self.cut is Outcome.closed and self._told_so()
        if to_the_end and self.sink is None and orderly:
            # RFC 9112 section 6.3: without a length the body ends where the connection does.
            self._body_whole()
            self.close()
        else:
            self._broke(self.cut)

    def _fail(self, outcome: Outcome) -> None:
        exchange, self.exchange = self.exchange, None
        sink, self.sink = self.sink, None
        self.close()
        if sink is not None:
            sink.lost(self, outcome)
        elif exchange is not None:
            if self.body is not None:
                exchange.size = self.body.size
            self.wire.end(exchange, outcome)
