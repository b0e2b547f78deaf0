"""An HTTP/1.1 client with no retry of any kind, built for honest load.

Every request is sent once, on one connection, and ends in exactly one `Outcome`. Nothing here
blocks, so a reply that stalls never delays another request. Clients made for comfort resend a
request on a kept connection that broke (geventhttpclient, aiohttp) and so hide just the failures
looked for.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final

from zdtest.records.sample import Outcome
from zdtest.sending.connection import NEVER_CONNECTED, Place, begun
from zdtest.sending.exchange import Exchange, now_ns
from zdtest.sending.line import Line, Sink
from zdtest.sending.reply import head_reader
from zdtest.sending.tls import TlsLine

__all__ = ["Exchange", "Pool", "Target", "Wire", "now_ns"]

_LINGER_NS: Final = 1_000_000_000


class Target:
    """Where requests go: the places of a name, none while it has no address, and TLS if asked for.

    New connections of each channel go to all of them in turn.
    """

    def __init__(
        self, host: str, port: int, *, tls: bool, verify: bool = True, address: str | None = None
    ) -> None:
        self.host = host
        self.port = port
        self._turns: dict[Hashable, int] = {}
        self.move([address] if address else [])
        self.context = _tls_context(verify) if tls else None

    def move(self, addresses: Sequence[str]) -> None:
        """Send new connections to these addresses from now on."""
        self.places = tuple(Place.of(address, self.port) for address in addresses)

    def next(self, of: Hashable) -> Place | None:
        """Return where the next connection of that channel goes, None while there is nowhere."""
        places = self.places
        if len(places) < 2:
            return places[0] if places else None
        turn = self._turns.get(of, 0)
        self._turns[of] = turn + 1
        return places[turn % len(places)]

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.context else 80) else f"{host}:{self.port}"


def _tls_context(verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


class Pool:
    """Kept connections of one channel, used in turn; more than `most` at rest are let go."""

    __slots__ = ("_lines", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self._lines: deque[Line] = deque()

    def __len__(self) -> int:
        return len(self._lines)

    def take(self) -> Line | None:
        """Return the connection that has rested longest, out of the pool; None when it is empty."""
        return self._lines.popleft() if self._lines else None

    def add(self, line: Line) -> bool:
        """Put `line` to rest; False when the pool is full."""
        if len(self._lines) >= self.most:
            return False
        self._lines.append(line)
        return True

    def remove(self, line: Line) -> None:
        """Forget `line`, if it rests here."""
        if line in self._lines:
            self._lines.remove(line)

    def trim(self, before: int, fewest: int) -> None:
        """Close those at rest since before that instant, but for the `fewest` latest."""
        lines = self._lines
        while len(lines) > fewest and lines[0].rested < before:
            lines.popleft().drop()


class Wire:
    """Opens connections to one `Target` on the gevent `loop` and tells `finish` how each ends."""

    def __init__(
        self,
        loop: Any,
        target: Target,
        finish: Callable[[Exchange], None],
        *,
        expected: frozenset[int] = frozenset({200}),
        body: bytes = b"",
        only_version: bytes = b"",
        version_header: str = "X-App-Version",
        instance_header: str = "X-App-Instance",
    ) -> None:
        self.loop = loop
        self.target = target
        self.finish = finish
        self.expected = expected
        self.body = body
        self.only_version = only_version
        self.read_head = head_reader(version_header, instance_header)
        self.opened = 0
        self.lines: set[Line] = set()
        self._lingering: deque[tuple[int, Line]] = deque()

    def open(
        self, exchange: Exchange, *, keep: Pool | None = None, sink: Sink | None = None
    ) -> None:
        """Send `exchange` on a fresh connection, which joins `keep` once it can be used again.

        With a `sink` the body of the reply is a stream, and goes there as it comes; how the
        exchange ends is then the sink's to say.
        """
        self.opened += 1
        exchange.conn = self.opened
        outcome = Outcome.dns
        if place := self.target.next(exchange.channel):
            try:
                sock = begun(place)
            except OSError as error:
                outcome = NEVER_CONNECTED.get(error.errno or 0, Outcome.unsent)
            else:
                (TlsLine if self.target.context else Line)(self, exchange, sock, keep, sink)
                return
        if sink is not None:
            sink.lost(None, outcome)
        else:
            self.end(exchange, outcome)

    def end(self, exchange: Exchange, outcome: Outcome) -> None:
        """Close the account of `exchange`; a second call changes nothing."""
        if exchange.outcome is None:
            exchange.done = now_ns()
            exchange.outcome = outcome
            exchange.line = None
            self.finish(exchange)

    def linger(self, line: Line) -> None:
        """Give the server a second to close `line`, which is its to close."""
        self._lingering.append((now_ns() + _LINGER_NS, line))

    def sweep(self, now: int) -> None:
        """Close the connections whose server had its second to close them, and has not."""
        while self._lingering and now > self._lingering[0][0]:
            self._lingering.popleft()[1].close()

    def close(self) -> None:
        """Close every connection; what is still on its way stays with its owner."""
        for line in list(self.lines):
            line.close()
        self._lingering.clear()
