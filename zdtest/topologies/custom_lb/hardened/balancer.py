"""The load balancer of document 004, hardened until its promise holds.

    python balancer.py [--config targets.yml] [--port 8080] [--admin-port 8090]
                       [--target 127.0.0.1:8081 ...]

SIGTERM and SIGINT stop it once the requests in flight have been answered.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

if not __package__:  # Run by hand, as a file: PEP 366 names the package its siblings belong to.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    __package__ = "hardened"

from .admin import Admin
from .front import Front
from .log import log
from .ping import watch
from .pool import Pool
from .proxy import Proxy
from .settings import Place, Settings, settings_from
from .target import Rotation, Target


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight."""
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    rotation = Rotation(tuple(_target(place, settings) for place in settings.targets))
    front, admin = Front(Proxy(rotation, settings), settings), Admin(rotation)
    admin_port = await admin.start(settings.admin_port)
    log("listening", port=await front.start(), admin_port=admin_port)
    pings = [asyncio.create_task(watch(one, rotation, settings)) for one in rotation.targets]
    await asyncio.wait([asyncio.create_task(asked.wait()), *pings], return_when="FIRST_COMPLETED")
    await front.stop()
    _close(admin, pings, rotation)
    log("stopped")


def _target(place: Place, settings: Settings) -> Target:
    return Target(
        place.host,
        place.port,
        settings.fall,
        settings.rise,
        Pool(settings.pool_idle),
        weight=place.weight,
        eject_after=settings.eject_after,
        eject_rise=settings.eject_rise,
    )


def _close(admin: Admin, pings: list[asyncio.Task[None]], rotation: Rotation) -> None:
    admin.stop()
    for ping in pings:
        if ping.done():
            ping.result()  # A ping never ends by itself: show what it died of.
        ping.cancel()
    for target in rotation.targets:
        target.pool.close()


def main() -> None:
    """Run until stopped; exit 2 for settings that mean nothing, 1 for a port that is taken."""
    settings = settings_from()
    try:
        asyncio.run(run(settings))
    except OSError as error:
        sys.exit(f"cannot listen: {error.strerror}")


if __name__ == "__main__":
    main()
