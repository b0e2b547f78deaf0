"""The only hands: what starts, signals and ends the processes of a system under test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["Engine", "Instance", "Marker", "silent"]


class Marker(Protocol):
    """Notes a named moment of the run."""

    def __call__(self, name: str, /, **about: object) -> None:
        """Note that it is now; any thread may call."""


def silent(name: str, /, **about: object) -> None:
    """Note nothing: the marker of who does not record."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One started process (tree): a restart gives another one, so it never means its successor."""

    name: str
    pid: int
    began: int
    """When it started, in the kernel's clock ticks: with `pid` it names one process for ever."""
    version: str
    log: Path
    log_from: int
    """Where in `log` its own output begins."""


class Engine(Protocol):
    """What a topology and a fault may do; everything started ends with the engine's context."""

    run_id: str
    folder: Path
    """The run's folder; logs go to ``logs/<name>.log`` in it."""

    def port(self) -> int:
        """Return a TCP port of 127.0.0.1 that nobody else gets while the engine lives."""

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        version: str = "",
    ) -> Instance:
        """Return the started instance; it may not serve yet. Raises EngineError."""

    def adopt(self, name: str, pid: int, *, beside: Instance, version: str = "") -> Instance:
        """Return the process `pid` that `beside` left running, from now on watched and named."""

    def run(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 60.0,
    ) -> Instance:
        """Return once the command has exited 0; raises EngineError with its output if not."""

    def stop(self, instance: Instance, grace: float = 10.0) -> None:
        """SIGTERM its main process; after `grace` seconds SIGKILL all of it. It has ended then."""

    def kill(self, instance: Instance) -> None:
        """SIGKILL all of it. It has ended then."""

    def signal(self, instance: Instance, name: str) -> None:
        """Send "HUP", "USR1", ... to its main process; "STOP" and "CONT" go to all of it."""

    def wait(self, instance: Instance, timeout: float) -> bool:
        """Return whether it has ended within `timeout` seconds."""

    def fate(self, instance: Instance) -> str:
        """Return how it ended ("exited 3", "killed by SIGKILL"), "" while it runs."""

    def logs(self, instance: Instance, tail: int = 20) -> str:
        """Return the last `tail` lines it printed."""
