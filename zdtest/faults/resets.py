"""Connections end with RST, at once or in the middle of a reply."""

from __future__ import annotations

from zdtest.engine.detour.conditions import Conditions
from zdtest.faults.impaired import Impaired, kind


def resets(instance: str, *, after: int = 0, path: str = "/") -> Impaired:
    """Return the fault that resets connections after so many bytes of `instance` have passed.

    With 0 the open connections are reset at once, and the new ones when a request is sent on them,
    which `instance` never sees.
    The reply to GET `path`, which is the proof, has to be longer than `after`.
    """
    return Impaired(
        name=f"resets {instance}",
        instance=instance,
        conditions=Conditions(reset_after=after),
        shows=kind("reset", "cut"),
        path=path,
    )
