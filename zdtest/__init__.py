"""zdtest proves whether a deployment really has zero downtime.

The names here are what a scenario needs; none of them loads anything beyond the standard library.
"""

from __future__ import annotations

# Before the strategy of that name: whoever imported the module later would put it in its place.
import zdtest.command  # noqa: F401
from zdtest.errors import (
    CommandError,
    ConfigError,
    DeployFailed,
    DeployTimeout,
    EngineError,
    EngineMissing,
    FaultError,
    Inconclusive,
    LoadFailed,
    RecordingError,
    SloViolation,
    ZdError,
)
from zdtest.judging.slo import Slo
from zdtest.strategies import (
    Strategy,
    blue_green,
    canary,
    command,
    recreate,
    rollback,
    rolling,
)

__version__ = "0.1.0"

__all__ = [
    "CommandError",
    "ConfigError",
    "DeployFailed",
    "DeployTimeout",
    "EngineError",
    "EngineMissing",
    "FaultError",
    "Inconclusive",
    "LoadFailed",
    "RecordingError",
    "Slo",
    "SloViolation",
    "Strategy",
    "ZdError",
    "blue_green",
    "canary",
    "command",
    "recreate",
    "rollback",
    "rolling",
]
