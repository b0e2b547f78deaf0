"""Somebody leaves the balancer's configuration so that it would not start with it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from zdtest.errors import ConfigError, EngineError, FaultError
from zdtest.faults.proof import Heal
from zdtest.topology import Stack

_NONSENSE = "\nno_such_directive;\n"


@runtime_checkable
class Configured(Protocol):
    """The stack's balancer has a configuration that can be tested without being used."""

    @property
    def config(self) -> Path:
        """A file of it that no deploy writes."""

    def test_config(self) -> None:
        """Raise EngineError, with what the balancer says, for one that it would not start with."""


@dataclass(frozen=True, slots=True)
class BrokenConfig:
    """A line that means nothing at the end of `config`; its heal puts the file back as it was."""

    @property
    def name(self) -> str:
        """What it does to what."""
        return "broken config"

    def check(self, stack: Stack) -> None:
        """Raise ConfigError where there is no configuration to break."""
        _configured(stack, self.name)

    def inject(self, stack: Stack) -> Callable[[], None]:
        """Return the heal once the balancer refuses its configuration."""
        configured = _configured(stack, self.name)
        configured.test_config()
        whole = configured.config.read_text()
        heal = Heal(lambda: self._mend(configured, whole))
        configured.config.write_text(whole + _NONSENSE)
        try:
            configured.test_config()
        except EngineError:
            return heal
        heal()
        raise FaultError(f"{self.name} not in effect: {configured.config} is accepted as it is")

    def _mend(self, configured: Configured, whole: str) -> None:
        configured.config.write_text(whole)
        try:
            configured.test_config()
        except EngineError as error:
            raise FaultError(f"{self.name} not gone: {error}") from error


def broken_config() -> BrokenConfig:
    """Return the fault by which the balancer cannot start again, and does not know."""
    return BrokenConfig()


def _configured(stack: Stack, fault: str) -> Configured:
    if not isinstance(stack, Configured):
        raise ConfigError(f"{fault}: this stack has no configuration that can be tested")
    return stack
