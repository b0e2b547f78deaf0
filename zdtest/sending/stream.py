"""Server-sent events under load: a `Station` is one subscriber with one message due at a time.

A station's slots come evenly, one every `think` seconds. A slot is ok when a message arrives after
it is due and before it runs out of time; it fails as its connection fails. A stream that breaks off
fails the slot then waiting, or the next one, and the slot after that subscribes again, with
``Last-Event-ID`` as the standard asks. So every slot is one sample, and a cut is never lost between
two messages.

A server that ends the body in due form (the last chunk, or all of a told length) has not cut it:
that is how a stream is moved to another instance. The slot then waiting subscribes again at once,
and has failed only when that brings no message either. The end of a body that has neither chunks
nor a length looks the same as a cut, and counts as one.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Final

from zdtest.records.sample import Outcome
from zdtest.sending.exchange import Exchange, now_ns
from zdtest.sending.line import Line
from zdtest.sending.reply import Head
from zdtest.sending.wire import Wire

_END_OF_EVENT: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_DATA: Final = re.compile(rb"(?:^|[\r\n])data")
_ID: Final = re.compile(rb"(?:^|[\r\n])id: ?([^\r\n\0]*)")
_NUMBER: Final = re.compile(rb"[0-9]{1,18}")
_LONGEST: Final = 1 << 20

Heard = Callable[[int, int, int, int], None]
"""Told of each numbered message: nanoseconds, its number, the station's, 1 when it resumed."""


class Station:
    """One subscriber of an event stream; `heard` is told of each message whose id is a number."""

    def __init__(self, wire: Wire, number: int = 0, heard: Heard | None = None) -> None:
        self._wire = wire
        self.number = number
        self._heard = heard
        self._resumed = 0
        self._waiting: deque[Exchange] = deque()
        self._line: Line | None = None
        self._head: Head | None = None
        self._cut: Outcome | None = None
        self._again = False
        self._text = b""
        self.last_id = b""

    def due(self, exchange: Exchange) -> None:
        """Wait for the message that is due now, subscribing first where there is no stream."""
        if self._cut is not None:
            outcome, self._cut = self._cut, None
            exchange.sent = now_ns()
            self._wire.end(exchange, outcome)
            return
        self._waiting.append(exchange)
        if self._line is not None and self._head is not None:
            self._join(exchange, self._line, self._head)
        elif len(self._waiting) == 1:
            self._subscribe(exchange)

    def _subscribe(self, exchange: Exchange) -> None:
        self._text = b""
        if self.last_id:
            self._resumed = 1
            head = exchange.payload[:-4].partition(b"\r\nLast-Event-ID: ")[0]
            exchange.payload = b"%s\r\nLast-Event-ID: %s\r\n\r\n" % (head, self.last_id)
        self._wire.open(exchange, sink=self)

    def _join(self, exchange: Exchange, line: Line, head: Head) -> None:
        """Let `exchange` wait on the stream that stands; it counts as sent from now."""
        exchange.line = line
        exchange.conn = line.number
        exchange.sent = exchange.sent or now_ns()
        exchange.status, exchange.version, exchange.instance = (
            head.status,
            head.version,
            head.instance,
        )

    def begun(self, line: Line, head: Head) -> None:
        """The stream stands: every slot that waits, waits on it."""
        self._line, self._head = line, head
        for exchange in self._waiting:
            self._join(exchange, line, head)

    def body(self, line: Line, data: bytes) -> None:
        """A piece of the stream came: every slot now waiting has its message once one is whole."""
        # An event longer than any we look at is cut short, not kept.
        self._text = (self._text + data)[-_LONGEST:]
        *events, self._text = _END_OF_EVENT.split(self._text)
        for event in events:
            if told := _ID.search(event):
                self._note(told[1])
        if any(map(_DATA.search, events)):
            self._message(len(data))

    def _note(self, id: bytes) -> None:
        self.last_id = id
        if self._heard is not None and _NUMBER.fullmatch(id):
            self._heard(now_ns(), int(id), self.number, self._resumed)
            self._resumed = 0

    def _message(self, size: int) -> None:
        self._again = False
        now = now_ns()
        waiting, self._waiting = self._waiting, deque()
        for exchange in waiting:
            exchange.first = now
            exchange.size = size
            self._wire.end(exchange, Outcome.ok)

    def ended(self, line: Line) -> None:
        """The server ended the stream in due form: slots that wait subscribe again, but once."""
        self._line = None
        if not self._waiting:
            return
        if self._again:
            self._fail(Outcome.truncated)
        else:
            self._again = True
            self._subscribe(self._waiting[0])

    def lost(self, line: Line | None, outcome: Outcome) -> None:
        """The stream is gone: the slots waiting fail, or the next one does if none was."""
        was_open = self._line is not None
        self._line = None
        if not self._waiting and was_open:
            self._cut = outcome
        self._fail(outcome)

    def _fail(self, outcome: Outcome) -> None:
        self._again = False
        waiting, self._waiting = self._waiting, deque()
        for exchange in waiting:
            self._wire.end(exchange, outcome)
