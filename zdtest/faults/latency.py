"""What an instance sends arrives later, and not evenly."""

from __future__ import annotations

from zdtest.duration import seconds
from zdtest.engine.detour.conditions import Conditions
from zdtest.errors import ConfigError
from zdtest.faults.impaired import Impaired, later

_LEAST = 0.02


def latency(
    instance: str, by: str | float, *, jitter: str | float = 0, path: str = "/"
) -> Impaired:
    """Return the fault that delays what `instance` sends `by` so long, plus or minus `jitter`.

    Order is kept, as TCP would. The difference has to be 20 ms or more to be told from none.
    """
    delay, spread = seconds(by, what="latency"), seconds(jitter, what="jitter")
    if delay - spread < _LEAST:
        raise ConfigError(f"latency {by} with jitter {jitter}: expected 20ms left at least")
    return Impaired(
        name=f"latency {instance}",
        instance=instance,
        conditions=Conditions(latency=delay, jitter=spread),
        shows=later(delay - spread),
        path=path,
        patience=1.0 + 4 * (delay + spread),
    )
