"""The TCP proxy that network faults are made with, a process of its own.

``python -m zdtest.engine.detour.proxy PORT TARGET ADMIN [SEED]`` passes connections to
127.0.0.1:PORT on to 127.0.0.1:TARGET, half-closes and resets included, and takes orders on
127.0.0.1:ADMIN. It listens as long as the target does, so where the target refuses connections, so
does the proxy: to a balancer "refused, never sent" and "reset, may have run" are two different
things.

An order is one JSON line, answered by one: ``{"set": {"latency": 0.2}}`` sets all of the
conditions; ``{"reset": true}`` resets every open connection; ``{}`` only asks. The answer tells the
conditions, and how many connections are open, half open, and were accepted so far; or the
``error``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import sys
from dataclasses import asdict
from typing import Any

from zdtest.engine.detour.conditions import CLEAN, Conditions
from zdtest.engine.detour.link import End, Link
from zdtest.engine.listening import listens
from zdtest.errors import ConfigError

_LOOK = 0.01


class Proxy:
    """The links between `port` and `target`, and the conditions on all of them."""

    def __init__(self, port: int, target: int, seed: int) -> None:
        self._port = port
        self._target = target
        self._seed = seed
        self._conditions = CLEAN
        self._links: set[Link] = set()
        self._accepted = 0

    async def mirror(self) -> None:
        """Listen while the target does, until cancelled."""
        server: asyncio.Server | None = None
        while True:
            there = listens(self._target)
            if there and server is None:
                server = await asyncio.get_running_loop().create_server(
                    self._accept, "127.0.0.1", self._port, backlog=4096
                )
            elif not there and server is not None:
                server.close()
                server = None
            await asyncio.sleep(_LOOK)

    async def order(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry out one order and answer it."""
        with contextlib.suppress(ConnectionError):
            answer = self._obey(await reader.readline())
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    def _obey(self, line: bytes) -> dict[str, Any]:
        try:
            order = json.loads(line)
            if "set" in order:
                self._set(Conditions.of(order["set"]))
            if order.get("reset"):
                for link in list(self._links):
                    link.reset()
        except (ValueError, TypeError, AttributeError, ConfigError) as error:
            return {"error": str(error)}
        half = sum(link.half_open for link in self._links)
        counts = {"open": len(self._links), "half_open": half, "accepted": self._accepted}
        return {"conditions": asdict(self._conditions), **counts}

    def _set(self, conditions: Conditions) -> None:
        self._conditions = conditions
        for link in list(self._links):
            link.changed()

    def _accept(self) -> End:
        self._accepted += 1
        link = Link(
            self._target,
            lambda: self._conditions,
            self._links.discard,
            f"{self._seed}:{self._accepted}",
        )
        self._links.add(link)
        return link.client


async def serve(port: int, target: int, admin: int, seed: int = 0) -> None:
    """Pass on and obey until cancelled."""
    proxy = Proxy(port, target, seed)
    async with await asyncio.start_server(proxy.order, "127.0.0.1", admin):
        if not listens(admin):
            sys.exit("this kernel does not tell who listens: expected one with inet_diag")
        await proxy.mirror()


if __name__ == "__main__":
    _most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (_most, _most))
    asyncio.run(serve(*(int(word) for word in sys.argv[1:5])))
