"""A `Fault` is a disturbance that can be undone; and the powers a stack needs for some of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from zdtest.engine import Instance
from zdtest.engine.detour.detour import Detour
from zdtest.errors import ConfigError
from zdtest.topology import Stack


class Fault(Protocol):
    """A value: it holds what to do, and nothing happens before `inject`."""

    @property
    def name(self) -> str:
        """What it does to what, such as ``kill a``."""

    def inject(self, stack: Stack) -> Callable[[], None]:
        """Return its heal once it is proven that the fault is in effect.

        The heal returns once it is proven that the fault is gone; it may be called twice. Either
        raises FaultError where the proof did not come in time; after an `inject` that raised,
        nothing of the fault is left. Raises ConfigError for what the stack or the host cannot do.
        """


@runtime_checkable
class Checked(Protocol):
    """A fault that can tell beforehand whether it can be made at all."""

    def check(self, stack: Stack) -> None:
        """Raise ConfigError for what the stack or the host cannot do; nothing else happens."""


@runtime_checkable
class Detoured(Protocol):
    """The stack leads its connections through proxies: network faults are possible."""

    @property
    def detours(self) -> Mapping[str, Detour]:
        """The proxy before each instance, by the instance's name; ``front`` is the users' way."""


@runtime_checkable
class Ported(Protocol):
    """The stack tells where its instances themselves listen."""

    @property
    def ports(self) -> Mapping[str, int]:
        """The port of each instance on 127.0.0.1, by its name."""


@runtime_checkable
class Balancing(Protocol):
    """The stack has one balancer, which can be ended and started again."""

    @property
    def balancer(self) -> Instance:
        """What the engine last started as the balancer."""

    def start_balancer(self) -> None:
        """Start it as it was started first; it serves on return. Raises EngineError."""


def detour(stack: Stack, name: str, fault: str) -> Detour:
    """Return the proxy before `name`; raises ConfigError where there is none."""
    if not isinstance(stack, Detoured) or not stack.detours:
        raise ConfigError(f"{fault}: this stack has no proxies: expected one raised with them")
    if name not in stack.detours:
        known = ", ".join(stack.detours)
        raise ConfigError(f"{fault}: no proxy before {name!r}: expected one of {known}")
    return stack.detours[name]
