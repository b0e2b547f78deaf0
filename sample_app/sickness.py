"""How a broken release spoils what it answers: ASGI apps around the good one, none when off.

Business paths are all but `HEALTH`, which balancers and deploy scripts ask.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse

from sample_app.readiness import Readiness
from sample_app.release import LIMIT_MB, Release

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEALTH = ("/ping", "/ready", "/livez", "/healthcheck", "/healths", "/health", "/profiles")
"""The paths that are no business."""

_FLIPPED = bytes(byte ^ 0x20 for byte in range(256))
_OUT_OF_MEMORY = 137
_MB = 1 << 20


def sickened(app: ASGIApp, release: Release, readiness: Readiness) -> ASGIApp:
    """Return the app as that release has it: the very same where its answers are in order."""
    make = _SICK.get(release.name)
    return app if make is None else make(app, release, readiness)


def _business(scope: Scope) -> bool:
    path: str = scope["path"]
    return path not in HEALTH and not path.startswith("/healthcheck/")


class _Sick:
    """Answers 500: at once, but healthy; or some time after it was ready, to everything."""

    def __init__(self, app: ASGIApp, release: Release, readiness: Readiness) -> None:
        self._app, self._after, self._readiness = app, release.amount, readiness
        self._wholly = release.does("sick-after")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sick = self._over() if self._wholly else _business(scope)
        app: ASGIApp = PlainTextResponse("sick", 500) if sick else self._app
        await app(scope, receive, send)

    def _over(self) -> bool:
        return time.monotonic() - self._readiness.since >= self._after


class _Slow:
    """Gives every business reply so much later."""

    def __init__(self, app: ASGIApp, release: Release, _: Readiness) -> None:
        self._app, self._late = app, release.amount

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _business(scope):
            await asyncio.sleep(self._late)
        await self._app(scope, receive, send)


class _WrongBody:
    """Flips bit 0x20 of every byte of a business body: ``UP`` is ``up``, a space is a NUL."""

    def __init__(self, app: ASGIApp, _: Release, __: Readiness) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def flipped(message: Message) -> None:
            if "body" in message:
                message["body"] = message["body"].translate(_FLIPPED)
            await send(message)

        await self._app(scope, receive, flipped if _business(scope) else send)


class _CutsBody:
    """Sends the head and half of a body's first piece, then closes the connection."""

    def __init__(self, app: ASGIApp, _: Release, __: Readiness) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _business(scope):
            await self._app(scope, receive, send)
            return
        done = False

        async def halved(message: Message) -> None:
            nonlocal done
            if done:
                return
            if message.get("body"):
                half = message["body"][: len(message["body"]) // 2]
                message, done = {**message, "body": half, "more_body": True}, True
            await send(message)
            if done:
                raise _Cut

        try:
            await self._app(scope, receive, halved)
        except BaseException as error:
            # Starlette wraps what a stream raises. The server closes what was not completed.
            if not done or isinstance(error, asyncio.CancelledError):
                raise


class _Cut(Exception):
    """The reply ends here."""


class _Leak:
    """Keeps memory of every business request, until the limit kills the process as it would."""

    def __init__(self, app: ASGIApp, release: Release, _: Readiness) -> None:
        self._app, self._each = app, int(release.amount)
        self._kept: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _business(scope):
            if (len(self._kept) + 1) * self._each > LIMIT_MB:
                os._exit(_OUT_OF_MEMORY)  # process 1 of a container could not kill itself
            self._kept.append(b"\x01" * (self._each * _MB))
        await self._app(scope, receive, send)


class _LateListener:
    """Takes requests after the listener should have closed, and never answers them."""

    def __init__(self, app: ASGIApp, _: Release, readiness: Readiness) -> None:
        self._app, self._readiness = app, readiness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._readiness.over:
            await asyncio.Event().wait()
        await self._app(scope, receive, send)


_SICK: Mapping[str, Callable[[ASGIApp, Release, Readiness], ASGIApp]] = {
    "sick-at-once": _Sick,
    "sick-after": _Sick,
    "slow": _Slow,
    "wrong-body": _WrongBody,
    "cuts-body": _CutsBody,
    "leak": _Leak,
    "late-listener": _LateListener,
}
