"""A `TlsLine` is a connection over TLS, by memory BIOs, so that nothing blocks here either."""

from __future__ import annotations

import contextlib
import ssl

from zdtest.sending.exchange import Exchange, now_ns
from zdtest.sending.line import AGAIN, PIECE, Line


class TlsLine(Line):
    """The same state machine, with a handshake before it and records around it."""

    __slots__ = ("_inward", "_notified", "_outward", "_tls")

    def _established(self) -> None:
        context = self.wire.target.context
        if context is None:
            raise AssertionError("a TLS line needs a TLS context")
        self._notified = False
        self._inward, self._outward = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._inward, self._outward, server_hostname=self.wire.target.host
        )
        with contextlib.suppress(*AGAIN):
            self._handshake()

    def _handshake(self) -> None:
        """Go on with the handshake; raises BlockingIOError until the server has said more."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            raise BlockingIOError from None
        finally:
            self._push_records()
        self.secured = True
        super()._established()

    def _readable(self) -> None:
        super()._readable()
        if self.alive and self._notified:
            # It came with the last of the content, and its sender need not close the socket.
            self._ended()

    def _told_so(self) -> bool:
        # RFC 9112 section 9.8: anybody on the way can end a connection, only the server says so.
        return self._notified

    def _rests(self) -> bool:
        # What came may be no more than a session ticket.
        try:
            self._receive()
        except AGAIN:
            return True
        except OSError:
            pass
        return False

    def _send(self, exchange: Exchange) -> None:
        exchange.sent = now_ns()
        self._tls.write(exchange.payload)
        self._push_records()

    def _push_records(self) -> None:
        if records := self._outward.read():
            self._push(self.out + records)

    def _receive(self) -> bytes:
        """Return content, b"" at the end; raises BlockingIOError while there is none.

        `ssl.SSLError` is an OSError: whatever breaks the handshake breaks the connection.
        """
        records = self.sock.recv(PIECE)
        if records:
            self._inward.write(records)
        else:
            self._inward.write_eof()
        if not self.secured:
            self._handshake()
        found = bytearray()
        try:
            while part := self._tls.read(PIECE):
                found += part
            self._notified = True
        except ssl.SSLWantReadError:
            if not found:
                raise BlockingIOError from None
        except ssl.SSLZeroReturnError:
            self._notified = True
        except ssl.SSLEOFError:
            pass
        return bytes(found)
