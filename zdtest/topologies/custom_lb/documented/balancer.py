"""The load balancer of document 004, as the document describes it.

Targets come from a yml. Each is pinged once a second; three misses in a row take it out of the
queue of usable servers, and the next good ping puts it back. A request goes to the next server of
the queue, and its reply is returned. Anything that goes wrong on the way is a 500.

    python balancer.py [--config targets.yml] [--port 8080] [--target 127.0.0.1:8081 ...]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections import deque
from dataclasses import dataclass, fields, replace
from pathlib import Path
from urllib.parse import urlsplit

import yaml

Headers = list[tuple[str, str]]
HOP_BY_HOP = {"connection", "content-length", "expect", "keep-alive", "transfer-encoding"}


@dataclass(frozen=True, slots=True)
class Target:
    """A server to balance over, written ``host:port``."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """What targets.yml says; seconds throughout."""

    port: int
    targets: tuple[Target, ...]
    ping_path: str
    ping_period: float
    ping_timeout: float
    misses: int


@dataclass(frozen=True, slots=True)
class Message:
    """One whole request or reply; `start` is its request line or status line."""

    start: str
    headers: Headers
    body: bytes = b""

    def header(self, name: str) -> str:
        """Return the first value of a header, or an empty string."""
        return next((v for n, v in self.headers if n.lower() == name), "")

    def written(self, *extra: tuple[str, str]) -> bytes:
        """Return the bytes to send: end-to-end headers, then `extra`, then the body."""
        kept = [(n, v) for n, v in self.headers if n.lower() not in HOP_BY_HOP]
        lines = [self.start, *(f"{n}: {v}" for n, v in (*kept, *extra)), "", ""]
        return "\r\n".join(lines).encode("latin-1") + self.body


def log(event: str, **about: object) -> None:
    """Print one JSON line that carries the monotonic time in seconds."""
    line = {"t": round(time.monotonic(), 6), "event": event, **about}
    print(json.dumps(line), flush=True)


async def read_head(reader: asyncio.StreamReader) -> Message:
    """Return the start line and the headers; ValueError when they are none."""
    raw = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    start, *lines = raw.removesuffix("\r\n\r\n").split("\r\n")
    pairs = [line.partition(":") for line in lines]
    if start.count(" ") < 1 or not all(colon for _, colon, _ in pairs):
        raise ValueError(f"not an HTTP message: {start[:80]!r}")
    return Message(start, [(name, value.strip()) for name, _, value in pairs])


async def read_body(reader: asyncio.StreamReader, head: Message) -> bytes | None:
    """Return the whole body, or None when no header says how long it is."""
    if head.header("transfer-encoding").lower() == "chunked":
        return await read_chunks(reader)
    length = head.header("content-length")
    return await reader.readexactly(int(length)) if length else None


async def read_chunks(reader: asyncio.StreamReader) -> bytes:
    """Return the data of a chunked body, trailers read and dropped."""
    body = bytearray()
    while size := int((await reader.readline()).partition(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    while (await reader.readline()).strip():
        pass
    return bytes(body)


async def read_reply(reader: asyncio.StreamReader, method: str) -> Message:
    """Return the whole final reply; one without a length ends with its connection."""
    head = await read_head(reader)
    while (status := head.start.split(" ")[1]).startswith("1"):
        head = await read_head(reader)
    if method == "HEAD" or status in ("204", "304"):
        return head
    body = await read_body(reader, head)
    return replace(head, body=await reader.read() if body is None else body)


async def forward(target: Target, request: Message) -> Message:
    """Return the target's whole reply to `request`, over a connection of its own."""
    reader, writer = await asyncio.open_connection(target.host, target.port)
    try:
        framed = request.header("content-length") or request.header("transfer-encoding")
        length = [("Content-Length", str(len(request.body)))] if framed else []
        writer.write(request.written(*length, ("Connection", "close")))
        return await read_reply(reader, request.start.split(" ")[0])
    finally:
        writer.close()


class UsableServers:
    """The queue of servers that answer pings, taken in turn."""

    def __init__(self, targets: tuple[Target, ...]) -> None:
        self._queue = deque(targets)

    def next(self) -> Target:
        """Return the server whose turn it is; LookupError when none is usable."""
        if not self._queue:
            raise LookupError("no usable server")
        self._queue.rotate(-1)
        return self._queue[-1]

    def register(self, target: Target) -> None:
        """Put a server back into the queue, once."""
        if target not in self._queue:
            self._queue.append(target)
            log("registered", target=str(target))

    def remove(self, target: Target, misses: int) -> None:
        """Take a server out of the queue."""
        if target in self._queue:
            self._queue.remove(target)
            log("removed", target=str(target), misses=misses)


class Balancer:
    """Pings the targets and forwards requests to the usable ones."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.usable = UsableServers(settings.targets)

    async def run(self) -> None:
        """Serve on the loopback address and ping, until cancelled."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.settings.port)
        log("listening", port=server.sockets[0].getsockname()[1])
        async with server, asyncio.TaskGroup() as pings:
            for target in self.settings.targets:
                pings.create_task(self._watch(target))

    async def _watch(self, target: Target) -> None:
        missed, due = 0, time.monotonic()
        while True:
            if await self._answers(target):
                missed = 0
                self.usable.register(target)
            else:
                missed += 1
                log("missed", target=str(target), misses=missed)
                if missed >= self.settings.misses:
                    self.usable.remove(target, missed)
            due += self.settings.ping_period
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _answers(self, target: Target) -> bool:
        ping = Message(f"GET {self.settings.ping_path} HTTP/1.1", [("Host", str(target))])
        try:
            async with asyncio.timeout(self.settings.ping_timeout):
                return (await forward(target, ping)).start.split(" ")[1].startswith("2")
        except Exception:
            return False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gone = (ConnectionError, asyncio.IncompleteReadError)
        with contextlib.suppress(*gone), contextlib.closing(writer):
            try:
                while await self._answer(reader, writer):
                    pass
            except (ValueError, asyncio.LimitOverrunError):
                writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await read_head(reader)
        if head.header("expect").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request = replace(head, body=await read_body(reader, head) or b"")
        reply = await self._reply(request)
        keep = head.start.endswith("HTTP/1.1") and head.header("connection").lower() != "close"
        length = str(len(reply.body))
        if head.start.startswith("HEAD "):
            reply, length = replace(reply, body=b""), reply.header("content-length") or length
        connection = ("Connection", "keep-alive" if keep else "close")
        writer.write(reply.written(("Content-Length", length), connection))
        await writer.drain()
        return keep

    async def _reply(self, request: Message) -> Message:
        target = None
        try:
            target = self.usable.next()
            reply = await forward(target, request)
            return replace(reply, start=f"HTTP/1.1 {reply.start.partition(' ')[2]}")
        except Exception as error:
            reason = str(error) or type(error).__name__
            where = target and str(target)
            log("failed", target=where, id=request.header("x-request-id"), reason=reason)
            text = [("Content-Type", "text/plain; charset=utf-8")]
            return Message("HTTP/1.1 500 Internal Server Error", text, f"{reason}\n".encode())


def settings_from(arguments: list[str] | None = None) -> Settings:
    """Return what the yml says, overridden by the command line; exit 2 when it can't mean it."""
    parser = argparse.ArgumentParser(description="round robin over targets that answer /ping")
    beside = Path(__file__).with_name("targets.yml")
    parser.add_argument("--config", type=Path, default=beside, help="default: %(default)s")
    parser.add_argument("--port", type=int, help="port to listen on, 0 for any free one")
    parser.add_argument("--target", action="append", metavar="HOST:PORT", help="repeat for more")
    given = parser.parse_args(arguments)
    try:
        said = yaml.safe_load(given.config.read_text("utf-8"))
        urls = given.target or [f"{t['host']}:{t['port']}" for t in said["targets"]]
        said["targets"] = tuple(parsed(url) for url in urls)
        said["port"] = said["port"] if given.port is None else given.port
        return Settings(**{field.name: said[field.name] for field in fields(Settings)})
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        parser.error(f"{given.config}: {type(error).__name__}: {error}")


def parsed(url: str) -> Target:
    """Return the target of ``http://host:port`` or ``host:port``; ValueError for another."""
    parts = urlsplit(url if "//" in url else f"http://{url}")
    if parts.scheme != "http" or not parts.hostname or not parts.port:
        raise ValueError(f"target {url!r}: expected http://host:port")
    return Target(parts.hostname, parts.port)


def main() -> None:
    """Run until interrupted."""
    settings = settings_from()
    try:
        asyncio.run(Balancer(settings).run())
    except KeyboardInterrupt:
        pass
    except OSError as error:
        sys.exit(f"cannot listen on port {settings.port}: {error.strerror}")


if __name__ == "__main__":
    main()
