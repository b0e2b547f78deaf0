"""Only so many bytes a second get through."""

from __future__ import annotations

from zdtest.engine.detour.conditions import Conditions
from zdtest.errors import ConfigError
from zdtest.faults.impaired import Impaired
from zdtest.faults.proof import Sight

_PATIENCE = 10.0
_LEAST = 0.05
"""A transfer shorter than this proves no limit."""


def bandwidth(instance: str, rate: float, *, path: str = "/download?bytes=65536") -> Impaired:
    """Return the fault that passes `rate` bytes a second in each direction of a connection.

    The reply to GET `path` is the proof: it has to last 50 ms and 10 s at that rate.
    """
    limit = Conditions(rate=rate)
    if not rate:
        raise ConfigError(f"bandwidth {rate}: expected bytes a second, more than 0")

    def shows(sight: Sight) -> str:
        least = 0.9 * len(sight.reply) / rate
        if sight.kind != "reply" or least < _LEAST:
            return f"{len(sight.reply)} bytes prove nothing at {rate:g} B/s: {sight}"
        return "" if sight.took >= least else f"expected {least:.3f}s at least: {sight}"

    return Impaired(
        name=f"bandwidth {instance}",
        instance=instance,
        conditions=limit,
        shows=shows,
        path=path,
        patience=_PATIENCE,
    )
