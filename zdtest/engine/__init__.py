"""The only hands: what starts, signals and ends the processes of a system under test.

`ProcessEngine` (process.py) runs them as they are, `DockerEngine` (docker.py) in containers; a
topology that describes an instance as a command and a `Container` runs on both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

__all__ = ["Container", "Containers", "Engine", "Instance", "Marker", "Network", "silent"]


class Marker(Protocol):
    """Notes a named moment of the run."""

    def __call__(self, name: str, /, **about: object) -> None:
        """Note that it is now; any thread may call.

        One that is heard of later tells ``happened``, in seconds on CLOCK_MONOTONIC.
        """


def silent(name: str, /, **about: object) -> None:
    """Note nothing: the marker of who does not record."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One started process (tree): a restart gives another one, so it never means its successor."""

    name: str
    pid: int
    """Its main process, in this machine's numbering also where it runs in a container."""
    began: int
    """When it started, in the kernel's clock ticks: with `pid` it names one process for ever."""
    version: str
    log: Path
    log_from: int
    """Where in `log` its own output begins."""


@dataclass(frozen=True, slots=True)
class Network:
    """A bridge network of the run, in which containers find each other by their names."""

    name: str
    gateway: str
    """This machine's address on it, such as ``172.18.0.1``."""


@dataclass(frozen=True, slots=True)
class Container:
    """What an instance in a container is besides its command; plain processes need none of it.

    The run's folder is there, writable, at the path that it has on this machine.
    """

    image: str = "app"
    """One of those that `zdtest.engine.images` provides: ``app``, ``haproxy``, ``nginx``, …"""
    network: Network | None = None
    """None: the machine's own, where 127.0.0.1 is what it is for everybody else."""
    publish: Mapping[int, int] = field(default_factory=dict)
    """Ports inside, each with the port of 127.0.0.1 that leads to it."""
    mounts: Mapping[str, Path] = field(default_factory=dict)
    """Absolute paths inside, each with the file or folder of this machine seen there, read-only."""
    nested: bool = False
    """Whether it runs containers itself, with all the rights and the volume that this takes."""


class Engine(Protocol):
    """What a topology and a fault may do; everything started ends with the engine's context."""

    run_id: str
    folder: Path
    """The run's folder; logs go to ``logs/<name>.log`` in it."""

    @property
    def host(self) -> Engine:
        """The engine of this machine's plain processes: itself, or the one beside it."""

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
        container: Container | None = None,
    ) -> Instance:
        """Return the started instance; it may not serve yet. Raises EngineError."""

    def adopt(self, name: str, pid: int, *, beside: Instance, version: str = "") -> Instance:
        """Return the process `pid` that `beside` left running, from now on watched and named."""

    def execute(self, instance: Instance, argv: Sequence[str], *, timeout: float = 30.0) -> str:
        """Return what the command printed, run where the running `instance` runs.

        Raises EngineError, with that output, unless it exits 0 in time.
        """

    def run(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 60.0,
    ) -> Instance:
        """Return once the command has exited 0 on this machine, in no container.

        Raises EngineError with its output if it exits otherwise, or not in time.
        """

    def stop(self, instance: Instance, grace: float = 10.0) -> None:
        """SIGTERM its main process; after `grace` seconds SIGKILL all of it. It has ended then."""

    def kill(self, instance: Instance) -> None:
        """SIGKILL all of it. It has ended then."""

    def signal(self, instance: Instance, name: str) -> None:
        """Send "HUP", "USR1", ... to its main process; "STOP" and "CONT" go to all of it."""

    def frozen(self, instance: Instance) -> bool:
        """Return whether all of it stands still, as after "STOP"."""

    def wait(self, instance: Instance, timeout: float) -> bool:
        """Return whether it has ended within `timeout` seconds."""

    def fate(self, instance: Instance) -> str:
        """Return how it ended ("exited 3", "killed by SIGKILL"), "" while it runs."""

    def logs(self, instance: Instance, tail: int = 20) -> str:
        """Return the last `tail` lines it printed."""


@runtime_checkable
class Containers(Protocol):
    """An engine of containers: what a topology can ask of it beyond `Engine`."""

    @property
    def environment(self) -> Mapping[str, str]:
        """What scripts need to reach this engine and to label what they make.

        ``DOCKER_HOST``; ``COMPOSE``, the command of Docker Compose, "" where there is none;
        ``ZD_RUN``, ``ZD_OWNER`` and ``ZD_KEPT``, the values of the labels ``zdtest.run``,
        ``zdtest.owner`` and ``zdtest.kept``.
        """

    def image(self, name: str) -> str:
        """Return the tag of the image of that name, having built it where it is missing."""

    @property
    def documented(self) -> bool:
        """Whether the documents' own images are to be run where ours stand in for them."""

    def used(self) -> list[dict[str, object]]:
        """Return the images asked for so far: ``name``, ``version``, ``tag``, ``id``, ``size``."""

    def network(self, name: str) -> Network:
        """Return the run's bridge network of that name, made when first asked for."""

    def attach(self, name: str) -> Instance:
        """Return the running container that a script labelled ``zdtest.instance=<name>``.

        From now on it is watched and named. Raises EngineError where there is none of this run.
        """

    def container(self, instance: Instance) -> str:
        """Return the name by which ``docker`` knows the instance's container."""
