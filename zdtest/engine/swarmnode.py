"""One machine of a cluster: a container of the run with a Docker Engine of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from io import BytesIO
from types import TracebackType
from typing import IO, Any

import docker

from zdtest.engine import Container, Network, daemon, probe
from zdtest.engine.docker import DockerEngine, asked
from zdtest.errors import EngineError

READY_WITHIN = 60.0
_PATIENCE = 60.0
_CONNECTIONS = 32
"""At a time: one for each container's output, one for the events, a few for questions."""


class Node:
    """Runs while entered, and answers once `ready` has returned.

    Its container has the node's name in `network`. The ports `publish` of it are reached at ports
    of 127.0.0.1. Its engine's socket is in the run's folder.
    """

    def __init__(
        self, engine: DockerEngine, name: str, network: Network, publish: Sequence[int]
    ) -> None:
        self.name = name
        self._engine = engine
        self._ports = {port: engine.port() for port in publish}
        self._socket = engine.folder / f"{name}.sock"
        self._container = Container(image="node", network=network, publish=self._ports, nested=True)

    def __enter__(self) -> Node:
        with ExitStack() as tidy:
            folder = os.open(self._engine.folder, os.O_PATH | os.O_DIRECTORY)
            tidy.callback(os.close, folder)
            # A socket's path may have a hundred letters or so, and the run's folder more: this is
            # short, leads there for us and all our children, and is gone with us.
            self.docker_host = f"unix:///proc/{os.getpid()}/fd/{folder}/{self._socket.name}"
            self.instance = self._engine.start(
                self.name,
                ["--host", f"unix:///run/zdtest/{self._socket.name}", "--group", str(os.getgid())],
                env={"SHARED": str(self._engine.folder.absolute())},
                container=self._container,
            )
            self._tidy = tidy.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._tidy:
            if not self._engine.host.left:
                self._engine.kill(self.instance)
                self._socket.unlink(missing_ok=True)

    def at(self, port: int) -> int:
        """Return the port of 127.0.0.1 that leads to this port of the node, one of `publish`."""
        return self._ports[port]

    def ready(self, timeout: float = READY_WITHIN) -> None:
        """Return once its engine answers.

        Raises EngineError with its output, as soon as it ends, else after `timeout` seconds.
        """
        probe.until(
            f"{self.name} ready",
            self._missing,
            timeout=timeout,
            evidence=lambda: self._engine.logs(self.instance),
        )
        with asked(self.name):
            self.client = docker.DockerClient(
                base_url=self.docker_host, timeout=_PATIENCE, max_pool_size=_CONNECTIONS
            )
        self._tidy.callback(self.client.close)
        self.address = self.execute("hostname", "-i").strip()

    def _missing(self) -> str:
        if fate := self._engine.fate(self.instance):
            said = self._engine.logs(self.instance)
            raise EngineError(f"{self.name} {fate} before it was ready\n{said}")
        there = daemon.probe(self.docker_host)
        return there if isinstance(there, str) else ""

    def execute(self, *argv: str, timeout: float = _PATIENCE) -> str:
        """Return what the command printed on the node; raises EngineError unless it exits 0."""
        return self._engine.execute(self.instance, argv, timeout=timeout)

    def load(self, tar: IO[bytes]) -> None:
        """Take in the images that are in the tar; other nodes may read it at the same time."""
        with asked(f"images on {self.name}"), open(f"/proc/self/fd/{tar.fileno()}", "rb") as own:
            self.client.images.load(own)

    def build(self, dockerfile: str, tag: str) -> None:
        """Have its engine know, as `tag`, what the Dockerfile makes of images that it has."""
        with asked(f"image {tag} on {self.name}"):
            self.client.images.build(fileobj=BytesIO(dockerfile.encode()), tag=tag, rm=True)

    def joined(self) -> Mapping[str, Any]:
        """Return what it says about the swarm that it is in."""
        with asked(self.name):
            told: Mapping[str, Any] = self.client.info()["Swarm"]
        return told
