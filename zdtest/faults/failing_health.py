"""The health check fails while everything else works; or the other way round, by its path."""

from __future__ import annotations

from zdtest.engine.detour.conditions import Conditions
from zdtest.engine.detour.link import ANSWERED
from zdtest.faults.impaired import Impaired
from zdtest.faults.proof import Sight


def failing_health(instance: str, *, path: str = "/ping", status: int = 500) -> Impaired:
    """Return the fault that answers GET `path` with `status` before `instance` sees it.

    With ``path="/api"`` it is the other asymmetry: all health checks good, and no service.
    """
    return Impaired(
        name=f"failing health {instance}",
        instance=instance,
        conditions=Conditions(answer=status, only=f"GET {path}"),
        shows=_answered,
        path=path,
    )


def _answered(sight: Sight) -> str:
    """By the proxy's own header: the app may have sent the status itself."""
    return "" if ANSWERED.encode() in sight.reply else f"the instance answered: {sight}"
