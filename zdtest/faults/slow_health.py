"""The health check answers late, and everything else on time."""

from __future__ import annotations

from zdtest.duration import seconds
from zdtest.engine.detour.conditions import Conditions
from zdtest.errors import ConfigError
from zdtest.faults.impaired import Impaired, later

_LEAST = 0.02


def slow_health(instance: str, by: str | float, *, path: str = "/ping") -> Impaired:
    """Return the fault that delays replies to GET `path` of `instance`; a clean way for the rest.

    It goes by the first bytes of a request, so it also meets a path that begins so.
    """
    delay = seconds(by, what="delay")
    if delay < _LEAST:
        raise ConfigError(f"slow_health by {by}: expected 20ms at least")
    return Impaired(
        name=f"slow health {instance}",
        instance=instance,
        conditions=Conditions(latency=delay, only=f"GET {path}"),
        shows=later(delay),
        path=path,
        patience=1.0 + 2 * delay,
    )
