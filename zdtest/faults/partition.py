"""Nothing gets through either way, and nobody is told."""

from __future__ import annotations

from zdtest.duration import some
from zdtest.engine.detour.conditions import Conditions
from zdtest.faults.impaired import Impaired, kind


def partition(instance: str, *, path: str = "/", patience: str | float = "500ms") -> Impaired:
    """Return the fault that keeps back everything to and from `instance`, resets included.

    When healed all of it arrives, as TCP would send it again. Connections are still accepted:
    unlike in a real partition, by the proxy's kernel. No answer for `patience` is the proof.
    """
    return Impaired(
        name=f"partition {instance}",
        instance=instance,
        conditions=Conditions(held=True),
        shows=kind("silent"),
        path=path,
        patience=some(patience, what="patience"),
    )
