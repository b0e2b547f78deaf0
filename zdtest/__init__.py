"""zdtest proves whether a deployment really has zero downtime.

The names here are what a scenario needs; none of them loads anything beyond the standard library.
"""

from __future__ import annotations

from zdtest.errors import (
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
