"""What every strategy is made of: what it asks of a stack, and steps that are marked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from zdtest.engine import Marker
from zdtest.errors import ConfigError, DeployFailed, EngineError, fact
from zdtest.topology import Stack, Switched

Strategy = Callable[[Stack, str, Marker], None]


def expect(stack: Stack, strategy: str) -> None:
    """Raise ConfigError, with what it can do, for a stack that cannot do `strategy`."""
    if strategy not in stack.strategies:
        raise _unable(stack, strategy)


def switched(stack: Stack, strategy: str) -> Switched:
    """Return the stack as one that takes weights and has spare slots.

    Raises ConfigError, with what it can do, where it has not.
    """
    expect(stack, strategy)
    if not isinstance(stack, Switched):
        raise _unable(stack, strategy)
    return stack


def slots(stack: Switched, strategy: str, count: int) -> tuple[str, ...]:
    """Return the first `count` spare slots; raises ConfigError where there are fewer."""
    if len(stack.spares) < count:
        raise ConfigError(f"{strategy} needs {count} spare slots: has {len(stack.spares)}")
    return stack.spares[:count]


def awaited(stack: Stack, name: str, version: str, mark: Marker) -> None:
    """Return once the instance is ready, and mark it; raises EngineError in time."""
    stack.ready(name)
    mark("app.ready", instance=name, version=version)


@contextmanager
def step(mark: Marker, name: str, version: str, *, kind: str = "step") -> Iterator[None]:
    """Mark the step's begin and end; an engine's failure in it is the deploy's.

    A step moves users. What comes before has another `kind`, ``deploy.<kind>.begin``.
    """
    mark(f"deploy.{kind}.begin", step=name, version=version)
    try:
        yield
    except Exception as error:
        mark(f"deploy.{kind}.end", step=name, version=version, error=fact(error))
        if not isinstance(error, EngineError):
            raise
        raise DeployFailed(f"{name}: {error}") from error
    mark(f"deploy.{kind}.end", step=name, version=version)


def _unable(stack: Stack, strategy: str) -> ConfigError:
    able = ", ".join(stack.strategies)
    return ConfigError(f"this topology cannot do {strategy}: expected one of {able}")
