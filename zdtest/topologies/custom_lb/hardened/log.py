"""The balancer's own log: one JSON object a line on stdout."""

from __future__ import annotations

import json
import time


def log(event: str, **about: object) -> None:
    """One line says what happened, with the monotonic time in seconds."""
    print(json.dumps({"t": round(time.monotonic(), 6), "event": event, **about}), flush=True)
