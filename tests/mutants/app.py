"""The sample app with one thing changed that is no release: ``python app.py CHANGE``."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

from starlette.responses import PlainTextResponse, Response

from sample_app import app, lifecycle, orders
from sample_app.__main__ import main

COMMIT = 0.5
"""Seconds for which `slow_commit` keeps an answer back."""

BOOT = 0.8
"""Seconds for which `boots_in_public` listens before it is ready."""


def slow_commit() -> None:
    """Not broken: an order is kept at once, and answered once it is kept elsewhere too."""
    before = orders.Orders.place

    def place(*about: Any, **more: Any) -> Any:
        found = before(*about, **more)
        time.sleep(COMMIT)
        return found

    orders.Orders.place = place  # type: ignore[method-assign]


def boots_in_public() -> None:
    """Not broken: it listens, and says 503 to health checks, for so long before it is ready."""
    before = lifecycle.Lifecycle._boot

    async def boot(self: lifecycle.Lifecycle) -> bool:
        await asyncio.sleep(BOOT)
        return await before(self)

    lifecycle.Lifecycle._boot = boot  # type: ignore[method-assign]


def claims_ready() -> None:
    """Its health checks are good as soon as it listens."""
    boots_in_public()

    def ready(_: app.Endpoints, answer: str) -> Response:
        return PlainTextResponse(answer)

    assert callable(app.Endpoints._while_ready)
    app.Endpoints._while_ready = ready  # type: ignore[method-assign]


if __name__ == "__main__":
    globals()[sys.argv.pop(1).replace("-", "_")]()
    code = main()
    sys.stdout.flush()
    os._exit(code)
