"""The stream of events: numbered messages on a schedule that does not drift."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

from sample_app.settings import Settings


async def events(
    settings: Settings, *, every: float, first: int, lasting: float
) -> AsyncIterator[bytes]:
    """Yield server-sent events for `lasting` seconds, numbered from `first`, the first one at once.

    Each is due a whole number of `every` seconds after the first, however late the one before it
    was; ``due`` and ``sent`` in its data are CLOCK_MONOTONIC seconds.
    """
    begin = time.monotonic()
    told = {"version": settings.version, "instance": settings.instance}
    number = first
    while (due := begin + (number - first) * every) < begin + lasting:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        data = {"due": round(due, 6), "sent": round(time.monotonic(), 6), **told}
        yield f"id: {number}\ndata: {json.dumps(data)}\n\n".encode()
        number += 1
