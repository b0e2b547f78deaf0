"""Asks each target, at a fixed rate and side by side, whether it takes requests."""

from __future__ import annotations

import asyncio
import time

from .http1 import BadMessage, read_reply, written
from .log import log
from .pool import connect
from .settings import Settings
from .target import Health, Ping, Rotation, Target


async def watch(target: Target, rotation: Rotation, settings: Settings) -> None:
    """The target's health follows its pings, until cancelled.

    While it answers none of them, what waits for it and can be repeated goes elsewhere.
    """
    due = time.monotonic()
    while True:
        answer = await _ping(target, settings)
        before = target.health  # A request may have found something out meanwhile.
        target.pinged(answer)
        if target.health is not before:
            _changed(target, before)
        if target.health is Health.DOWN and answer is Ping.MISS and rotation.open:
            target.give_up("its pings are not answered")
        target.pool.sweep()
        due = max(due + settings.ping_period, time.monotonic())
        await asyncio.sleep(due - time.monotonic())


def _changed(target: Target, before: Health) -> None:
    if before is Health.UNKNOWN and target.health is Health.DOWN and not target.weight:
        return  # A spare that was never there has not been removed from anything.
    events = {"up": "registered", "draining": "draining", "down": "removed"}
    log(events[target.health.value], target=target.name, misses=target.fails)
    if not target.open:
        target.pool.close()


async def _ping(target: Target, settings: Settings) -> Ping:
    headers = [(b"Host", target.name.encode()), (b"Connection", b"close")]
    head = written(b"GET %b HTTP/1.1" % settings.ping_path.encode(), headers)
    try:
        async with asyncio.timeout(settings.ping_timeout):
            status = await _status(target, head, settings.ping_timeout)
    except (OSError, asyncio.IncompleteReadError, BadMessage):
        return Ping.MISS
    if status == 503:
        return Ping.DRAIN
    return Ping.GOOD if 200 <= status < 300 else Ping.BAD


async def _status(target: Target, head: bytes, timeout: float) -> int:
    connection = await connect(target.host, target.port, timeout)
    try:
        connection.writer.write(head)
        return (await read_reply(connection.reader, b"GET", b"")).status
    finally:
        connection.abort()
