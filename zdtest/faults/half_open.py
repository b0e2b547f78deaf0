"""New connections are accepted and lead nowhere, as to a peer that lost its memory of them."""

from __future__ import annotations

from zdtest.duration import some
from zdtest.engine.detour.conditions import Conditions
from zdtest.faults.impaired import Impaired, kind


def half_open(instance: str, *, path: str = "/", patience: str | float = "500ms") -> Impaired:
    """Return the fault that accepts new connections to `instance` and never answers on them.

    Those already open go on. The heal resets the half open ones. No answer to GET `path` for
    `patience` is the proof, so that has to be longer than the reply takes by itself.
    """
    return Impaired(
        name=f"half open {instance}",
        instance=instance,
        conditions=Conditions(half_open=True),
        shows=kind("silent"),
        path=path,
        patience=some(patience, what="patience"),
    )
