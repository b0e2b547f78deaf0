"""The admin API, on a loopback port of its own: who is in rotation, and how much of it.

GET /targets, PUT /targets/{host:port}/weight with 0..100, PUT /targets/{host:port}/drain with
true or false, PUT /weights with {host:port: 0..100, ...}, all of them at once or none. Bodies are
JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from functools import partial
from http import HTTPStatus

from .http1 import HEAD_LIMIT, BadMessage, Truncated, pieces, read_request, values, written
from .log import log
from .settings import is_weight
from .target import Rotation

Answer = tuple[int, object]

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_PATHS = ("/targets", "/targets/ID/weight", "/targets/ID/drain", "/weights")


class Admin:
    """Shows the targets, and sets their weight and whether they are drained."""

    def __init__(self, rotation: Rotation) -> None:
        self._rotation = rotation
        self._targets = {target.name: target for target in rotation.targets}
        self._server: asyncio.Server | None = None

    async def start(self, port: int) -> int:
        """Listen on the loopback address; returns the port. Raises OSError when it is taken.

        Another machine has no way to connect.
        """
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=HEAD_LIMIT)
        return int(self._server.sockets[0].getsockname()[1])

    def stop(self) -> None:
        """No new connection is taken."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gone = (OSError, asyncio.IncompleteReadError, Truncated)
        with contextlib.suppress(*gone), contextlib.closing(writer):
            try:
                async with asyncio.timeout(5):
                    status, value = await self._answer(reader)
            except BadMessage as bad:
                status, value = bad.status, {"error": str(bad)}
            text = json.dumps(value).encode() + b"\n"
            headers = [
                (b"Content-Type", b"application/json"),
                (b"Content-Length", b"%d" % len(text)),
                (b"Connection", b"close"),
            ]
            start = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()
            writer.write(written(start, headers) + text)

    async def _answer(self, reader: asyncio.StreamReader) -> Answer:
        request = await read_request(reader)
        body = b"".join([piece async for piece in pieces(reader, request.framing)])
        host = b"".join(values(request.headers, b"host")).decode("latin-1")
        if host.rpartition(":")[0] not in _LOOPBACK and host not in _LOOPBACK:
            # A page in this machine's browser reaches loopback too, under its own site's name.
            return _error(403, f"called as {host!r}: expected one of {', '.join(_LOOPBACK)}")
        if request.path == b"/targets":
            if request.method != b"GET":
                return _error(405, "expected GET")
            return 200, [target.state() for target in self._rotation.targets]
        return self._put(request.path.decode("latin-1"), request.method, body)

    def _put(self, path: str, method: bytes, body: bytes) -> Answer:
        match path.split("/")[1:]:
            case ["weights"]:
                put = self._weigh
            case ["targets", name, "weight"]:
                put = partial(self._weigh_one, name)
            case ["targets", name, "drain"]:
                put = partial(self._drain, name)
            case _:
                return _error(404, f"{path}: expected one of {', '.join(_PATHS)}")
        if method != b"PUT":
            return _error(405, "expected PUT")
        try:
            return put(json.loads(body))
        except (ValueError, RecursionError):
            return _error(400, f"{body[:80].decode('latin-1')!r}: expected JSON")

    def _weigh(self, weights: object) -> Answer:
        """Set all the weights, or none of them where one means nothing."""
        if not isinstance(weights, dict) or not weights:
            return _error(400, 'expected weights by target, such as {"127.0.0.1:8081": 5}')
        for name, weight in weights.items():
            if name not in self._targets:
                return self._unknown(400, name)
            if not is_weight(weight):
                expected = "expected a whole number from 0 to 100"
                return _error(400, f"weight {json.dumps(weight)[:80]} of {name}: {expected}")
        self._rotation.weigh({self._targets[name]: weight for name, weight in weights.items()})
        log("weights", weights=weights)
        return 200, [target.state() for target in self._rotation.targets]

    def _weigh_one(self, name: str, weight: object) -> Answer:
        if name not in self._targets:
            return self._unknown(404, name)
        status, value = self._weigh({name: weight})
        return status, self._targets[name].state() if status == 200 else value

    def _drain(self, name: str, value: object) -> Answer:
        if name not in self._targets:
            return self._unknown(404, name)
        if not isinstance(value, bool):
            return _error(400, f"drain {json.dumps(value)[:80]}: expected true or false")
        target = self._targets[name]
        target.held = value
        log("drain", target=name, value=value)
        if not target.open:
            target.pool.close()
        return 200, target.state()

    def _unknown(self, status: int, name: str) -> Answer:
        known = ", ".join(self._targets)
        return _error(status, f"unknown target {name[:80]!r}: expected one of {known}")


def _error(status: int, what: str) -> Answer:
    return status, {"error": what}
