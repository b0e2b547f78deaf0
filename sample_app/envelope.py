"""What every request and reply passes through: the journal, the request id, the farewell."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sample_app.journal import Journal
from sample_app.readiness import Readiness

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CLOSE = (b"connection", b"close")


class Envelope:
    """An ASGI app around another.

    A "request" line is in the journal before the request is handled, an "answered" line after its
    whole reply was handed to the connection, which does not say that the client got it. The
    request's X-Request-ID comes back with the reply. While the instance is not ready, replies say
    ``Connection: close``, so that clients leave before the listener does.
    """

    def __init__(self, app: ASGIApp, *, journal: Journal, readiness: Readiness) -> None:
        self._app, self._journal, self._readiness = app, journal, readiness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), None)
        request = None if given is None else given.decode("latin-1")
        method, path, begin = scope["method"], scope["path"], round(time.monotonic(), 6)
        self._journal.write("request", id=request, method=method, path=path, begin=begin)
        status = 0

        async def reply(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *self._headers(given)]
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self._journal.write("answered", id=request, status=status, begin=begin)

        await self._app(scope, receive, reply)

    def _headers(self, given: bytes | None) -> list[tuple[bytes, bytes]]:
        headers = [] if given is None else [(b"x-request-id", given)]
        return headers if self._readiness.ready else [*headers, _CLOSE]
