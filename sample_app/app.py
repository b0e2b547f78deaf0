"""The endpoints of the guides' applications, and those that the measuring needs.

Every handler needs a worker, and there are as many as the settings say: as in Tomcat, a request
that finds them all busy waits its turn, a health check included. Handlers that block, which are
the plain functions, run on a worker's thread. Those marked `at_once` hold the worker while they
answer on the event loop: to them a thread would only be a detour, of twice their own cost.
Streams and downloads are sent without holding a worker, as Spring's emitters are.
"""

from __future__ import annotations

import hashlib
import math
import re
import socket
import time
from collections.abc import Awaitable, Callable
from functools import wraps

from anyio.to_thread import current_default_thread_limiter
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from sample_app import download
from sample_app.envelope import Envelope
from sample_app.events import events
from sample_app.journal import Journal
from sample_app.orders import KeyReused, Orders
from sample_app.readiness import Readiness
from sample_app.settings import Settings, SettingsError, duration
from sample_app.sickness import sickened
from sample_app.wrong_events import first_after
from sample_app.wrong_orders import orders as kept

LONGEST_SLEEP = 600_000
"""The longest sleep that may be asked for, in milliseconds."""

_FASTEST, _SLOWEST = 0.01, 60.0
_LONGEST_KEY = 255


def build(settings: Settings, journal: Journal, readiness: Readiness) -> ASGIApp:
    """Return the whole application; the orders already in the journal are known to it."""
    whose = {"instance": settings.instance, "version": settings.version}
    orders = kept(settings.release, journal, **whose)
    routes = Endpoints(settings, readiness, orders).routes()
    app = sickened(Starlette(routes=routes), settings.release, readiness)
    return Envelope(app, journal=journal, readiness=readiness)


def at_once(
    handler: Callable[[Endpoints, Request], Response],
) -> Callable[[Endpoints, Request], Awaitable[Response]]:
    """Return the handler, which never blocks, answering as soon as a worker is free."""

    async def answer(endpoints: Endpoints, request: Request) -> Response:
        async with current_default_thread_limiter():
            return handler(endpoints, request)

    return wraps(handler)(answer)


class Endpoints:
    """One method an endpoint."""

    def __init__(self, settings: Settings, readiness: Readiness, orders: Orders) -> None:
        self._settings, self._readiness, self._orders = settings, readiness, orders
        self._host = socket.gethostname()

    def routes(self) -> list[Route]:
        """Return the routes; the one that takes any single word comes last."""
        return [
            Route("/", self.root),
            Route("/ping", self.ping),
            Route("/api", self.api),
            Route("/healthcheck", self.healthcheck),
            Route("/healthcheck/{ms}", self.slow_healthcheck),
            Route("/profiles", self.profiles),
            Route("/healths", self.healths),
            Route("/health", self.health),
            Route("/ready", self.ready),
            Route("/livez", self.livez),
            Route("/orders", self.place_order, methods=["POST"]),
            Route("/orders/{order}", self.find_order),
            Route("/events", self.events),
            Route("/download", self.download),
            Route("/{ms}", self.slow_root),
        ]

    @at_once
    def root(self, request: Request) -> Response:
        """Answer the host's name and the time (000)."""
        return self._host_and_time()

    def slow_root(self, request: Request) -> Response:
        """Answer the same after the asked sleep (000)."""
        time.sleep(_asked_sleep(request))
        return self._host_and_time()

    @at_once
    def healthcheck(self, request: Request) -> Response:
        """Answer ok (000)."""
        return self._while_ready("ok")

    def slow_healthcheck(self, request: Request) -> Response:
        """Answer the same after the asked sleep (000)."""
        time.sleep(_asked_sleep(request))
        return self._while_ready("ok")

    @at_once
    def profiles(self, request: Request) -> Response:
        """Answer the active profiles (001)."""
        return PlainTextResponse(", ".join(self._settings.profiles))

    @at_once
    def healths(self, request: Request) -> Response:
        """Answer UP, also while draining: the document's app knows nothing better (001)."""
        return PlainTextResponse("UP")

    @at_once
    def health(self, request: Request) -> Response:
        """Answer the deploy name, also while draining (003)."""
        return PlainTextResponse(self._settings.deploy_name)

    @at_once
    def ping(self, request: Request) -> Response:
        """Answer pong (004)."""
        return self._while_ready("pong")

    @at_once
    def api(self, request: Request) -> Response:
        """Answer who this is (004)."""
        whose = {"version": self._settings.version, "instance": self._settings.instance}
        return JSONResponse({**whose, "deploy": self._settings.deploy_name, "host": self._host})

    @at_once
    def ready(self, request: Request) -> Response:
        """Answer whether the instance wants traffic."""
        return self._while_ready("ready")

    @at_once
    def livez(self, request: Request) -> Response:
        """Answer that the process is alive and has a worker to say so."""
        return PlainTextResponse("alive")

    async def place_order(self, request: Request) -> Response:
        """Run an order once per call, or once per Idempotency-Key where there is one."""
        key = request.headers.get("idempotency-key")
        if key is not None and not 0 < len(key) <= _LONGEST_KEY:
            raise _bad("Idempotency-Key", f"1 to {_LONGEST_KEY} characters")
        size, body = 0, hashlib.sha256()
        try:
            async for chunk in request.stream():
                size += len(chunk)
                body.update(chunk)
        except ClientDisconnect:
            return Response(status_code=400)  # half a body is no order, and nobody reads this
        named = request.headers.get("x-request-id")
        try:
            order, repeat = await run_in_threadpool(
                self._orders.place, request=named, key=key, size=size, sha256=body.hexdigest()
            )
        except KeyReused as error:
            raise HTTPException(422, str(error)) from error
        headers = {"Location": f"/orders/{order.order}"}
        if repeat:
            headers["Idempotent-Replayed"] = "true"
        return JSONResponse(order.told(), 201, headers)

    def find_order(self, request: Request) -> Response:
        """Answer an order that any instance ran."""
        order = self._orders.find(request.path_params["order"])
        if order is None:
            raise HTTPException(404)
        return JSONResponse(order.told())

    async def events(self, request: Request) -> Response:
        """Stream numbered events, from 1 or from the one after Last-Event-ID."""
        every = _asked_time(request, "every", "1s")
        lasting = _asked_time(request, "for", "") if "for" in request.query_params else math.inf
        last = _whole("Last-Event-ID", request.headers.get("last-event-id", "0"), 10**15)
        first = first_after(last, self._settings.release)
        body = events(self._settings, every=every, first=first, lasting=lasting)
        # The second has an nginx before it pass each event on, and collect none.
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(body, headers=headers, media_type="text/event-stream")

    async def download(self, request: Request) -> Response:
        """Send a body of the asked length, its hash in X-Content-SHA256."""
        query = request.query_params
        length = _whole("bytes", query.get("bytes", str(1 << 20)), download.LARGEST)
        headers = {"X-Content-SHA256": await run_in_threadpool(download.digest, length)}
        if not _whole("chunked", query.get("chunked", "0"), 1):
            headers["Content-Length"] = str(length)
        body = download.stream(length)
        return StreamingResponse(body, headers=headers, media_type="application/octet-stream")

    def _host_and_time(self) -> Response:
        return PlainTextResponse(f"{self._host}, current time : {time.time_ns() // 1_000_000}")

    def _while_ready(self, answer: str) -> Response:
        if self._readiness.ready:
            return PlainTextResponse(answer)
        return PlainTextResponse("draining", 503)


def _asked_time(request: Request, name: str, default: str) -> float:
    try:
        asked = duration(request.query_params.get(name, default), what=name)
    except SettingsError as error:
        raise HTTPException(400, str(error)) from error
    if not _FASTEST <= asked <= _SLOWEST:
        raise _bad(name, "10ms to 60s")
    return asked


def _asked_sleep(request: Request) -> float:
    ms = request.path_params["ms"]
    if not re.fullmatch(r"[+-]?[0-9.]*[0-9][0-9.]*", ms):
        raise HTTPException(404)
    return _whole("ms", ms, LONGEST_SLEEP) / 1e3


def _whole(name: str, given: str, most: int) -> int:
    if re.fullmatch("[0-9]{1,16}", given) and int(given) <= most:
        return int(given)
    raise _bad(name, f"a whole number from 0 to {most}")


def _bad(name: str, expected: str) -> HTTPException:
    return HTTPException(400, f"{name}: expected {expected}")
