"""A `KeyedLane` writes with Idempotency-Keys, and asks again where an outcome is open.

A retry is a request of its own: it has its own id and sample, and takes the place of a fresh write
in a later slot, as a client that knows nothing better would ask. So the schedule stays as it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from zdtest.channel import Channel
from zdtest.records.sample import MAY_HAVE_RUN, NEVER_SENT, Outcome
from zdtest.sending.exchange import Exchange
from zdtest.sending.generator import Lane
from zdtest.sending.wire import Wire

OPEN: Final = MAY_HAVE_RUN | {Outcome.http_5xx}
"""Outcomes after which a client cannot know whether its write took effect."""


class KeyedLane(Lane):
    """The `write` channel with a key a write; `retried` is told of each one asked again.

    A key is the id of its first request. A retry that is never sent leaves the key as open as it
    was, so it is asked again too.
    """

    def __init__(
        self, spec: Channel, wire: Wire, *, retried: Callable[[int, int], None], **options: Any
    ) -> None:
        super().__init__(spec, wire, **options)
        self._retried = retried
        self._open: deque[Exchange] = deque()
        self._take, wire.finish = wire.finish, self._finish

    def exchange(self, run: bytes, seq: int, due: int, now: int) -> Exchange:
        """Return the write that falls due now: the one open for longest, or a fresh one."""
        exchange = super().exchange(run, seq, due, now)
        exchange.key = seq
        if self._open:
            before = self._open.popleft()
            exchange.key, exchange.session = before.key, before.session
            self._retried(seq, exchange.key)
        key = b"\r\nIdempotency-Key: %s-%08x" % (run, exchange.key)
        exchange.payload = b"%s%s-%08x%s%s" % (self._head, run, seq, key, self._tail)
        return exchange

    def _finish(self, exchange: Exchange) -> None:
        self._take(exchange)
        if exchange.channel is self:
            again = exchange.key != exchange.seq
            if exchange.outcome in OPEN or (again and exchange.outcome in NEVER_SENT):
                self._open.append(exchange)
