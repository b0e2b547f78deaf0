"""An HTTP/1.1 server small and quick enough that what a client measures is not the server.

One epoll loop, no thread, no framework. ``/<ms>`` answers after that many milliseconds,
``/events?every=<ms>`` is an endless SSE stream, every other path and method answers at once.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import os
import random
import re
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, NamedTuple

BODY = b"the whole truth\n"
OK = b"HTTP/1.1 200 OK\r\nX-App-Version: v1\r\nContent-Length: %d\r\n\r\n" % len(BODY)
STREAM = (
    b"HTTP/1.1 200 OK\r\nX-App-Version: v1\r\nContent-Type: text/event-stream\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
EVERY_MS = 100.0

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ID = re.compile(rb"\r\nx-request-id: *(\S+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_EVERY = re.compile(rb"[?&]every=(\d+)")
_RST = struct.pack("ii", 1, 0)
_MANY = 65_536
_GIVEN: set[int] = set()


class Request(NamedTuple):
    method: bytes
    path: bytes
    id: bytes
    close: bool


class Link:
    """One accepted connection; `serving` is the request that still waits for its answer."""

    __slots__ = ("fd", "inbox", "served", "serving", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.inbox = b""
        self.served = 0
        self.serving: Request | None = None

    @property
    def ended(self) -> bool:
        return self.sock.fileno() == -1


def free_port() -> int:
    """Return a port outside the ephemeral range.

    While an ephemeral port has no listener, a client that connects to it may be given that very
    port as its own and so reach itself; and another process may take it before it is back. Who
    asks for several gets several: none is given twice.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        if port in _GIVEN:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _GIVEN.add(port)
            return port


class TinyServer:
    """Listens on 127.0.0.1:`port` from now on and answers while `serve` runs."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.requests = 0
        self.connections = 0
        self.links: dict[int, Link] = {}
        self.muted = False
        self._timers: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = itertools.count()
        self._epoll = select.epoll()
        self.listen()

    def serve(self, until: int) -> None:
        """Serve until the file descriptor `until` has reached its end."""
        with contextlib.suppress(PermissionError):  # a plain file or /dev/null can't be awaited
            self._epoll.register(until, select.EPOLLIN)
        while True:
            for fd, _ in self._epoll.poll(self._patience()):
                if fd == until and not os.read(until, 4096):
                    return
                self._handle(fd)
            while self._timers and self._timers[0][0] <= time.monotonic():
                _, _, call, about = heapq.heappop(self._timers)
                call(*about)

    def at(self, when: float, call: Callable[..., None], *about: Any) -> None:
        """Call at that monotonic instant."""
        heapq.heappush(self._timers, (when, next(self._numbers), call, about))

    def catch_up(self) -> None:
        """Handle all that has arrived by now, and nothing that comes of it, however soon."""
        for fd, _ in self._epoll.poll(0, _MANY):
            self._handle(fd)

    def _patience(self) -> float:
        """Return how long to wait: whole milliseconds, so that the last one is spun away."""
        if not self._timers:
            return -1
        return max(0, math.floor((self._timers[0][0] - time.monotonic()) * 1e3)) / 1e3

    def _handle(self, fd: int) -> None:
        if fd == self._listener.fileno():
            self._accept()
        elif link := self.links.get(fd):
            self._receive(link)

    # -- connections

    def listen(self) -> None:
        """Accept connections from now on."""
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen(65_535)
        self._listener.setblocking(False)
        self._epoll.register(self._listener, select.EPOLLIN)

    def refuse(self) -> None:
        """Refuse connections from now on; those not yet accepted are reset by the kernel."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = self._listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                link = self.links[sock.fileno()] = Link(sock)
                self.connections += 1
                self._epoll.register(link.fd, select.EPOLLIN)
                self._receive(link)

    def _receive(self, link: Link) -> None:
        try:
            data = link.sock.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            return self.end(link)
        link.inbox += data
        while (end := link.inbox.find(b"\r\n\r\n") + 4) > 3:
            head = link.inbox[:end]
            length = _LENGTH.search(head)
            end += int(length[1]) if length else 0
            if len(link.inbox) < end:
                return
            link.inbox = link.inbox[end:]
            self._request(link, head)

    def write(self, link: Link, data: bytes) -> None:
        """Send part of a reply, unless the connection has ended meanwhile."""
        if not link.ended:
            try:
                link.sock.send(data)
            except OSError:
                self.end(link)

    def reply(self, link: Link, data: bytes) -> None:
        """Send a whole reply; its request is no longer in service."""
        request, link.serving = link.serving, None
        self.write(link, data)
        if request and request.close:
            self.end(link)

    def end(self, link: Link) -> None:
        """Close the connection."""
        if not link.ended:
            del self.links[link.fd]
            link.sock.close()

    def reset(self, link: Link) -> None:
        """End the connection with RST."""
        if not link.ended:
            link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
            self.end(link)

    # -- requests

    def _request(self, link: Link, head: bytes) -> None:
        method, path, _ = head.split(b" ", 2)
        id = _ID.search(head)
        request = Request(method, path, id[1] if id else b"", _CLOSE.search(head) is not None)
        self.requests += 1
        link.served += 1
        link.serving = request
        self.received(link, request)

    def received(self, link: Link, request: Request) -> None:
        """Do what a request that has just arrived asks for; a subclass may do something else."""
        self.answer(link, request)

    def answer(self, link: Link, request: Request) -> None:
        """Answer as the path says."""
        path = request.path.partition(b"?")[0]
        if path == b"/events":
            every = _EVERY.search(request.path)
            self.write(link, STREAM)
            self._message(link, time.monotonic(), float(every[1] if every else EVERY_MS) / 1e3, 0)
        elif path[1:].isdigit():
            self.at(time.monotonic() + int(path[1:]) / 1e3, self.reply, link, OK + BODY)
        else:
            self.reply(link, OK + BODY)

    def _message(self, link: Link, due: float, every: float, number: int) -> None:
        """Send a stream's message unless muted, and plan the next, evenly whatever the delays."""
        if not link.ended:
            message = b"id: %d\ndata: %d\n\n" % (number, number)
            if not self.muted:
                self.write(link, b"%x\r\n%s\r\n" % (len(message), message))
            self.at(due + every, self._message, link, due + every, every, number + 1)
