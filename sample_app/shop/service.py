"""What the shop's services have in common: health, journal, releases."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from sample_app.envelope import Envelope
from sample_app.journal import Journal
from sample_app.readiness import Readiness
from sample_app.settings import Settings
from sample_app.sickness import sickened


def served(
    routes: Sequence[Route], settings: Settings, journal: Journal, readiness: Readiness
) -> ASGIApp:
    """Return the whole service: these routes, and ``/health``, 503 while it is not ready."""

    async def health(request: Request) -> Response:
        if readiness.ready:
            return JSONResponse({"status": "OK"})
        return JSONResponse({"status": "draining"}, 503)

    app = Starlette(routes=[Route("/health", health), *routes])
    return Envelope(
        sickened(app, settings.release, readiness), journal=journal, readiness=readiness
    )
