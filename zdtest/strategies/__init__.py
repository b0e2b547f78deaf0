"""How one version takes the place of another, a file each.

A strategy is any callable ``(stack, version, mark)``. It returns once `version` has taken over and
marks each step as ``deploy.step.begin`` and ``deploy.step.end``. The way back is the same call with
the version before, or `rollback` where the version before was kept.
"""

from __future__ import annotations

import inspect

from zdtest.errors import ConfigError, unknown
from zdtest.strategies.blue_green import blue_green
from zdtest.strategies.canary import canary
from zdtest.strategies.command import command
from zdtest.strategies.recreate import recreate
from zdtest.strategies.rollback import rollback
from zdtest.strategies.rolling import rolling
from zdtest.strategies.scripted import scripted
from zdtest.strategies.step import Strategy

__all__ = [
    "Strategy",
    "blue_green",
    "canary",
    "command",
    "expect_strategy",
    "find",
    "recreate",
    "rollback",
    "rolling",
    "scripted",
]


def expect_strategy(strategy: Strategy) -> str:
    """Return the strategy's name; raises ConfigError for what cannot deploy."""
    name = getattr(strategy, "__name__", type(strategy).__name__)
    makers: tuple[object, ...] = (blue_green, canary, command, rollback, rolling, scripted)
    if strategy in makers:
        raise ConfigError(f"{name} makes a strategy: expected {name}(…), with its parentheses")
    try:
        inspect.signature(strategy).bind(None, "v2", None)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"strategy {name}: expected a callable (stack, version, mark), such as rolling()"
        ) from error
    return name


def find(name: str) -> Strategy:
    """Return the strategy of that name, as it is without settings; raises ConfigError."""
    known = {
        "recreate": recreate,
        "rolling": rolling(),
        "blue_green": blue_green(),
        "canary": canary(),
        "rollback": rollback(),
        "scripted": scripted(),
    }
    if name not in known:
        raise unknown("strategy", name, known)
    return known[name]
