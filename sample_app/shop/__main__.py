"""``python -m sample_app.shop front|product|coupon``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from sample_app.journal import Journal
from sample_app.process import lived, refused
from sample_app.readiness import Readiness
from sample_app.settings import Settings, SettingsError
from sample_app.shop.settings import FrontSettings

if TYPE_CHECKING:
    from starlette.types import ASGIApp

PORTS = {"front": 8080, "product": 3001, "coupon": 3002}
"""Where each service listens unless PORT says otherwise."""


def main() -> int:
    """Live one whole life and return its exit code: 2 where its words make no sense."""
    service = " ".join(sys.argv[1:])
    if service not in PORTS:
        return refused(f"{service!r}: expected one of {', '.join(PORTS)}")
    try:
        front = FrontSettings.of(os.environ)
    except SettingsError as error:
        return refused(str(error))

    def build(settings: Settings, journal: Journal, readiness: Readiness) -> ASGIApp:
        from sample_app.shop import coupon, product  # slow: a part of the boot
        from sample_app.shop import service as shop
        from sample_app.shop.front import routes

        behind = {"product": product.ROUTES, "coupon": coupon.ROUTES}
        own = behind.get(service) or routes(settings, journal, readiness, front)
        return shop.served(own, settings, journal, readiness)

    return lived({"PORT": str(PORTS[service])} | dict(os.environ), build)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Workers that still sleep cannot be woken, and a normal exit would wait for them.
    os._exit(code)
