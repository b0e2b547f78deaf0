"""The workers of a recording, as its trailer tells of them; none where one process sent it all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Trailer = Mapping[str, Any] | None

_LOOKUP = 1.0
"""What is taken where nobody told, as a killed load: names were once looked up every second."""


def carried(trailer: Trailer) -> Sequence[Mapping[str, Any]]:
    """Return the workers that carried a stripe of the load, in the order of their numbers."""
    return [one for one in (trailer or {}).get("workers", ()) if one["worker"] is not None]


def faults(trailer: Trailer) -> list[str]:
    """Return who did not do its part, and what became of it: one line a worker."""
    return [
        f"{named(one)} {one['why']}" for one in (trailer or {}).get("workers", ()) if one["why"]
    ]


def named(worker: Mapping[str, Any]) -> str:
    """Return what a worker is called; one that was not let in has no number."""
    number = "" if worker["worker"] is None else f" {worker['worker']}"
    return f"worker{number} ({worker['name']})"


def lookup(trailer: Trailer) -> float:
    """Return the seconds by which a name may have changed before that was found, at most."""
    told = (trailer or {}).get("lookup_ms")
    return _LOOKUP if told is None else float(told) / 1e3


def clock_error(trailer: Trailer) -> float:
    """Return the seconds that a moment on file may be off the master's clock, at most."""
    return max((float(one["clock_error_ms"]) for one in carried(trailer)), default=0.0) / 1e3
