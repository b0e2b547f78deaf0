"""The hardened balancer with one fault: ``python balancer.py MUTANT --config targets.yml``.

Each mutant is a function that replaces one thing of it before it starts; ``none`` replaces nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "zdtest" / "topologies" / "custom_lb"))

from hardened import balancer, exchange, http1, ping, proxy, target


def replaced(owner: Any, name: str, by: Any) -> Any:
    """Put `by` in the place of what is there, and return that; there must be something."""
    before = getattr(owner, name)
    setattr(owner, name, by)
    return before


def none() -> None:
    """Nothing is broken."""


def trusts_pings_only() -> None:
    """No second try, and no suspicion."""
    replaced(proxy.Proxy, "_another", lambda *_: None)
    replaced(proxy.Proxy, "_suspect", lambda *_: None)


def pings_rarely() -> None:
    """A ping at the start, and the next one when the deploy is over."""
    trusts_pings_only()
    settings = balancer.settings_from
    replaced(balancer, "settings_from", lambda: dataclasses.replace(settings(), ping_period=60.0))


def up_before_ready() -> None:
    """Whoever answers a ping, with whatever status, is up."""

    async def answered(*about: Any) -> Any:
        answer = await before(*about)
        return target.Ping.GOOD if answer is target.Ping.DRAIN else answer

    before = replaced(ping, "_ping", answered)


def blind_once_a_round() -> None:
    """Every fifth turn goes to the next one that ever answered, be it dead or not."""
    trusts_pings_only()
    turns = itertools.count(1)

    def next_one(self: Any, avoid: Any = None) -> Any:
        known = [one for one in self.targets if one.answered]
        turn = next(turns)
        return before(self, avoid) if turn % 5 or not known else known[turn // 5 % len(known)]

    before = replaced(target.Rotation, "next", next_one)


def shares_a_broken_connection() -> None:
    """A connection goes back into the pool whatever happened on it."""

    def close(self: Any, *, reusable: bool) -> None:
        before(self, reusable=True)

    before = replaced(exchange.Exchange, "close", close)


def swaps_replies() -> None:
    """Every fifth GET waits for another one, and takes its reply for its own."""
    turns = itertools.count(1)
    waiting: list[tuple[Any, asyncio.Future[Any]]] = []

    async def deliver(self: Any, request: Any, body: Any) -> Any:
        mine = await before(self, request, body)
        if request.method != b"GET" or request.path != b"/api":
            return mine
        if waiting:
            theirs, mine_told = waiting.pop()
            mine_told.set_result(mine)
            return theirs
        if next(turns) % 5:
            return mine
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        waiting.append((mine, told))
        return await told

    before = replaced(proxy.Proxy, "_deliver", deliver)


def retries_posts() -> None:
    """Everything may be sent again."""
    replaced(proxy, "repeatable", lambda *_, **__: True)


def drops_requests() -> None:
    """One request in ten is read and forgotten; its connection stays open."""
    turns = itertools.count(1)

    async def answer(*about: Any) -> bool:
        if next(turns) % 10 == 0:
            await asyncio.sleep(3600)
        return bool(await before(*about))

    before = replaced(proxy.Proxy, "answer", answer)


def answers_itself() -> None:
    """One POST in four is answered here."""
    turns = itertools.count(1)

    async def answer(self: Any, reader: Any, writer: Any, request: Any) -> bool:
        if request.method != b"POST" or next(turns) % 4:
            return bool(await before(self, reader, writer, request))
        async for _ in http1.pieces(reader, request.framing):
            pass
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        return True

    before = replaced(proxy.Proxy, "answer", answer)


def drain_cuts() -> None:
    """Who drains is left at once, by those too who wait for an answer."""
    trusts_pings_only()

    def pinged(self: Any, answer: Any) -> None:
        before(self, answer)
        if self.health is target.Health.DRAINING:
            for one in list(self.waiting):
                if one._connection is not None:
                    one._connection.abort()

    before = replaced(target.Target, "pinged", pinged)


if __name__ == "__main__":
    globals()[sys.argv.pop(1).replace("-", "_")]()
    balancer.main()
