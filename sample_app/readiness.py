"""Whether the instance wants traffic."""

from __future__ import annotations

import time


class Readiness:
    """Not ready before the boot is over, nor after SIGTERM; ready in between.

    `since` is when it became ready, on CLOCK_MONOTONIC; `over` says that the listener should be
    closed.
    """

    __slots__ = ("over", "ready", "since")

    def __init__(self) -> None:
        self.ready = self.over = False
        self.since = float("inf")

    def begin(self) -> None:
        """Be ready from now on."""
        self.ready, self.since = True, time.monotonic()
