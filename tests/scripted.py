"""A server of raw sockets that does on each connection just what a test says, and a client's wait.

Its connections are served by threads. The loop under test is gevent's, in the test's own thread
and without monkey patching; `until` lets it run.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator

import gevent

from zdtest.sending.exchange import Exchange
from zdtest.sending.wire import Target, Wire

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
Script = Callable[["Peer"], None]


class Peer:
    """The server's end of one connection, and how often one came before it."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number
        self.heard = b""

    def hear(self) -> bytes:
        """Return the next request's head, b"" when there is none."""
        while b"\r\n\r\n" not in self.heard:
            data = self.sock.recv(65_536)
            if not data:
                return b""
            self.heard += data
        head, _, self.heard = self.heard.partition(b"\r\n\r\n")
        return head

    def take(self, size: int) -> int:
        """Return how much of a body of `size` bytes came, all of it unless the client stops."""
        left = size - len(self.heard)
        while left and (data := self.sock.recv(1 << 20)):
            left -= len(data)
        return size - left

    def say(self, *pieces: bytes) -> None:
        """Send each piece in a packet of its own."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number, piece in enumerate(pieces):
            if number:
                time.sleep(0.002)
            self.sock.sendall(piece)

    def end(self) -> None:
        """Say that nothing more follows; over TLS by its own word for that, close_notify."""
        if isinstance(self.sock, ssl.SSLSocket):
            self.sock.unwrap()
        else:
            self.cut()

    def cut(self) -> None:
        """Let the connection end, over TLS without a word."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Break off with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def wait_for_end(self) -> None:
        """Return once the client has closed."""
        with contextlib.suppress(OSError):
            while self.sock.recv(65_536):
                pass


class ScriptedServer:
    """Runs `script` on every connection; `seen` counts those that came."""

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._tls = tls
        self.seen = 0
        self._socks: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> ScriptedServer:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        for sock in self._socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._socks.append(sock)
                thread = threading.Thread(target=self._serve, args=(sock, self.seen), daemon=True)
                self.seen += 1
                self._threads.append(thread)
                thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            self._script(Peer(sock, number))
        sock.close()


def until(true: Callable[[], object], within: float = 5.0) -> None:
    """Let the loop run until `true`; fail when it does not come true in time."""
    end = time.monotonic() + within
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        gevent.sleep(0.001)


def target(port: int, **options: object) -> Target:
    """Return 127.0.0.1 at `port`."""
    return Target("127.0.0.1", port, **{"tls": False, "address": "127.0.0.1", **options})  # type: ignore[arg-type]


def request(seq: int = 0, *, body: bytes = b"", texts: tuple[bytes, ...] = ()) -> Exchange:
    """Return a request that is due now."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    return Exchange(None, seq, 0, time.monotonic_ns(), head + body, texts=texts)


class Client:
    """A wire to one place, and what came of everything it sent."""

    def __init__(self, place: Target, **options: object) -> None:
        self.ended: list[Exchange] = []
        self.wire = Wire(gevent.get_hub().loop, place, self.ended.append, **options)  # type: ignore[arg-type]

    def answer(self, exchange: Exchange, *, within: float = 5.0) -> Exchange:
        """Return `exchange` once it has ended; after `within` seconds its time is up."""
        end = time.monotonic() + within
        while exchange.outcome is None:
            if time.monotonic() > end:
                assert exchange.line is not None
                exchange.line.expire()
            gevent.sleep(0.001)
        assert self.ended.count(exchange) == 1
        return exchange


@contextlib.contextmanager
def client(place: Target | int, **options: object) -> Iterator[Client]:
    """Return a client that closes its connections in the end."""
    one = Client(target(place) if isinstance(place, int) else place, **options)
    try:
        yield one
    finally:
        one.wire.close()
        gevent.sleep(0)
