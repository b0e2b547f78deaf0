"""A stack whose instances are the tasks of a swarm's services."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from zdtest.engine import Engine, Instance, probe
from zdtest.errors import ConfigError, EngineError

if TYPE_CHECKING:
    from zdtest.engine.swarm import Cluster
    from zdtest.engine.swarmhistory import SwarmHistory
    from zdtest.engine.swarmtask import Task

_BACK_WITHIN = 60.0


@contextmanager
def swarm(
    engine: Engine,
    nodes: int,
    names: Mapping[str, str],
    *,
    images: Sequence[str] = ("app",),
    publish: Sequence[int] = (),
) -> Iterator[tuple[Cluster, SwarmHistory]]:
    """Yield a cluster of the run's own, and who follows its tasks, by these names for services.

    Raises ConfigError for an engine that has no containers.
    """
    from zdtest.engine.docker import DockerEngine
    from zdtest.engine.swarm import Cluster
    from zdtest.engine.swarmhistory import SwarmHistory

    if not isinstance(engine, DockerEngine):
        raise ConfigError("a swarm's nodes are containers: expected --zd-engine docker")
    with (
        Cluster(engine, nodes, images=images, publish=publish) as cluster,
        SwarmHistory(engine, cluster, names) as history,
    ):
        yield cluster, history


class Services:
    """The tasks of `service`, which the swarm itself starts, ends and replaces.

    `history` names them and knows those of the other services as well, by `instance`. A stack adds
    where users come in and how it deploys, by the document's own commands (`script`).
    """

    strategies: tuple[str, ...] = ("scripted",)

    def __init__(
        self, engine: Engine, cluster: Cluster, history: SwarmHistory, service: str
    ) -> None:
        self.engine = engine
        self.cluster = cluster
        self.history = history
        self.service = service
        self.journal: Path | None = engine.folder.absolute() / "journal.jsonl"

    @property
    def emulated(self) -> str:
        """What a report has to say of the cluster, "" where nothing stands in for anything."""
        return self.cluster.emulated

    @property
    def instances(self) -> tuple[str, ...]:
        """The names of the service's tasks that the swarm wants to run, by their slots."""
        return tuple(self._wanted(self.service))

    def instance(self, name: str) -> Instance:
        """Return what the swarm last started under that name, of whichever service."""
        return self.history.instance(name)

    def start(self, name: str, version: str) -> None:
        """Raise EngineError: which tasks there are is for the swarm to say."""
        raise EngineError(f"{name} at {version}: the swarm starts its tasks, by `docker service`")

    def stop(self, name: str) -> None:
        """Stop its container as ``docker stop`` does; the swarm starts another one in its place."""
        self.engine.stop(self.instance(name), grace=10)

    def wanted(self, name: str) -> bool:
        """Return whether the swarm wants something to run under that name."""
        return bool(self._task(name))

    def revive(self, one: Instance) -> bool:
        """Leave it to the swarm."""
        return False

    def ready(self, name: str, timeout: float = _BACK_WITHIN) -> None:
        """Return once the swarm says that it runs, and it does; raises EngineError in time."""

        def missing() -> str:
            if (task := self._task(name)) is None:
                return f"the swarm wants no {name}"
            if task.state != "running":
                return str(task)
            one = self.history.of(task)
            return "its container is not known yet" if one is None else self.engine.fate(one)

        probe.until(f"{name} runs", missing, timeout=timeout, evidence=self._evidence)

    def script(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        timeout: float,
    ) -> str:
        """Return what the document's command printed, run beside the swarm's manager.

        Raises EngineError with its last lines unless it exits 0 within `timeout` seconds.
        """
        told = {**self.cluster.environment, **(env or {})}
        ran = self.engine.host.run("deploy", argv, env=told, cwd=cwd, timeout=timeout)
        return self.engine.host.logs(ran, 1000)

    def _task(self, name: str) -> Task | None:
        """Return the newest task under that name that the swarm wants to run."""
        found = [one for one in self.cluster.tasks() if one.wanted == "running"]
        return next((one for one in reversed(found) if self.history.called(one) == name), None)

    def _wanted(self, service: str) -> list[str]:
        tasks = self.cluster.tasks(service)
        slots = {one.place: one for one in tasks if one.wanted == "running"}
        return [self.history.called(slots[place]) for place in sorted(slots, key=_number)]

    def _evidence(self) -> str:
        return "\n".join(map(str, self.cluster.tasks()[-12:]))


def _number(place: str) -> tuple[int, str]:
    return (int(place), "") if place.isdigit() else (0, place)
