"""A Docker swarm of the run's own: its nodes are containers, and nobody's engine becomes one."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from zdtest.engine import probe, subnet, swarmtask
from zdtest.engine.docker import DockerEngine, asked
from zdtest.engine.swarmnode import READY_WITHIN, Node
from zdtest.engine.swarmtask import Task
from zdtest.errors import ConfigError, EngineError

NO_IPVS = "emulated: no IPVS"
"""What a report says of a cluster whose kernel has no load balancer for the swarm's own use."""

_SWARM_PORT = 2377
_STACK = "com.docker.stack.namespace"
_SHOWN = 12
_IPVS = "ipvsadm -A -f 4242 -s rr && ipvsadm -D -f 4242 && echo there || echo missing"


class Cluster:
    """A manager and workers, joined and ready while entered; all of it ends with the context.

    Every node has the `images`, and its ports `publish` are reached as its `Node.at` tells. The
    run's folder is on every node at the path that it has on this machine.
    """

    def __init__(
        self,
        engine: DockerEngine,
        nodes: int,
        *,
        images: Sequence[str] = ("app",),
        publish: Sequence[int] = (),
    ) -> None:
        self._engine = engine
        self._count = nodes
        self._images = images
        self._publish = publish
        self.nodes: list[Node] = []

    def __enter__(self) -> Cluster:
        with ExitStack() as tidy:
            network = self._engine.network("nodes", subnet=tidy.enter_context(subnet.lent()))
            self.nodes = [
                tidy.enter_context(Node(self._engine, f"node{number}", network, self._publish))
                for number in range(1, self._count + 1)
            ]
            for node in self.nodes:
                node.ready()
            self._join()
            self.load(*self._images)
            self.ipvs = self.manager.execute("sh", "-c", _IPVS).split()[-1] == "there"
            self._tidy = tidy.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._tidy.close()

    @property
    def manager(self) -> Node:
        """The node that the swarm is managed on: the first one."""
        return self.nodes[0]

    @property
    def emulated(self) -> str:
        """What a report has to say of it, "" where a service's own address and ingress work."""
        return "" if self.ipvs else NO_IPVS

    @property
    def environment(self) -> Mapping[str, str]:
        """What a script of this machine needs for its ``docker`` to talk to the manager.

        ``DOCKER_HOST`` is good as long as this process lives.
        """
        return {**self._engine.environment, "DOCKER_HOST": self.manager.docker_host}

    def docker(self, *argv: str, timeout: float = 60.0) -> str:
        """Return what ``docker`` with these arguments printed, run on the manager.

        Raises EngineError with that unless it exits 0.
        """
        return self.manager.execute("docker", *argv, timeout=timeout)

    def load(self, *images: str) -> None:
        """Have every node know those of `zdtest.engine.images`, under the tags they have here."""
        if not images:
            return
        try:
            with tempfile.TemporaryFile() as tar:
                self._engine.save(images, tar)
                tar.flush()
                with ThreadPoolExecutor(len(self.nodes)) as pool:
                    list(pool.map(lambda node: node.load(tar), self.nodes))
        except OSError as error:
            raise EngineError(f"images for the nodes: {error.strerror or error}") from error

    def tag(self, image: str, *names: str) -> None:
        """Have every node know the loaded image, one of `zdtest.engine.images`, by these names."""
        for node in self.nodes:
            for name in names:
                node.execute("docker", "tag", self._engine.image(image), name)

    def release(
        self,
        image: str,
        version: str,
        env: Mapping[str, str] | None = None,
        *,
        base: str = "app",
        command: Sequence[str] = (),
    ) -> None:
        """Have every node know ``image:version``: the loaded `base` with this in its environment.

        What runs in it calls itself by APP_VERSION, which is `version`. `command` is run instead of
        the base's.
        """
        told = {"APP_VERSION": version, **(env or {})}
        lines = [f"FROM {self._engine.image(base)}"]
        lines += [f"ENV {name}={json.dumps(value)}" for name, value in told.items()]
        lines += [f"CMD {json.dumps(list(command))}"] if command else []
        dockerfile = "\n".join(lines) + "\n"
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(lambda node: node.build(dockerfile, f"{image}:{version}"), self.nodes))

    def deploy(
        self, stack: str, *files: Path, env: Mapping[str, str] | None = None, timeout: float = 60.0
    ) -> list[str]:
        """Return the services of the stack, just deployed from these files of the run's folder.

        They may not run yet. `env` is what the files' variables stand for. Raises EngineError.
        """
        for file in files:
            if not file.absolute().is_relative_to(self._engine.folder.absolute()):
                raise ConfigError(f"{file}: expected a stack file in {self._engine.folder}")
        self.manager.execute(
            *("env", *(f"{name}={value}" for name, value in (env or {}).items())),
            *("docker", "stack", "deploy", "--resolve-image", "never"),
            *(word for file in files for word in ("--compose-file", str(file.absolute()))),
            stack,
            timeout=timeout,
        )
        labels = {"label": f"{_STACK}={stack}"}
        return [one["Spec"]["Name"] for one in self._told("services", labels)]

    def settle(self, *services: str, timeout: float = 60.0) -> dict[str, str]:
        """Return once all tasks of the services, all by default, run as specified, and no others.

        Tells how the last update of each went: ``completed``, ``rollback_completed``, "" without
        one. Raises EngineError with the tasks' errors when an update pauses, else after `timeout`
        seconds.
        """
        probe.until(
            f"{', '.join(services) or 'all services'} settled",
            lambda: self._unsettled(services),
            timeout=timeout,
            evidence=lambda: self._evidence(services),
        )
        return {
            one["Spec"]["Name"]: swarmtask.update_state(one) for one in self._services(services)
        }

    def tasks(self, *services: str) -> list[Task]:
        """Return the tasks of these services, of all by default, ended ones too; oldest first."""
        names = {one["ID"]: one["Spec"]["Name"] for one in self._services(services)}
        nodes = {one["ID"]: one["Description"]["Hostname"] for one in self._told("nodes")}
        told = [one for one in self._told("tasks") if one.get("ServiceID") in names]
        return swarmtask.tasks(told, names, nodes)

    def _join(self) -> None:
        """Make a swarm of the nodes; each is ready for tasks on return."""
        address = self.manager.address
        swarm = self.manager.client.swarm
        with asked(f"{self.manager.name} as the swarm's manager"):
            swarm.init(advertise_addr=address, listen_addr=f"{address}:{_SWARM_PORT}")
            swarm.reload()
            token = swarm.attrs["JoinTokens"]["Worker"]
        for node in self.nodes[1:]:
            with asked(f"{node.name} joins the swarm"):
                node.client.swarm.join(
                    remote_addrs=[f"{address}:{_SWARM_PORT}"],
                    join_token=token,
                    advertise_addr=node.address,
                    listen_addr=f"{node.address}:{_SWARM_PORT}",
                )
        probe.until("the swarm's nodes ready", self._not_ready, timeout=READY_WITHIN)

    def _not_ready(self) -> str:
        ready = self._ready()
        lacking = len(self.nodes) - len(ready)
        return f"{lacking} of {len(self.nodes)} are not" if lacking else ""

    def _ready(self) -> set[str]:
        """Return the ids of the nodes that the manager hears from."""
        return {one["ID"] for one in self._told("nodes") if one["Status"]["State"] == "ready"}

    def _unsettled(self, names: Sequence[str]) -> str:
        ready, told = self._ready(), self._told("tasks")
        lacking = []
        for service in self._services(names):
            name, state = service["Spec"]["Name"], swarmtask.update_state(service)
            if state in swarmtask.PAUSED:
                why = service["UpdateStatus"].get("Message", "")
                raise EngineError(f"{name}: {state}: {why}\n{self._evidence([name])}")
            own = [one for one in told if one.get("ServiceID") == service["ID"]]
            lacking.append(swarmtask.unsettled(service, own, ready))
        return "; ".join(filter(None, lacking))

    def _services(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return what the manager tells of the services, all by default."""
        told = self._told("services")
        there = {one["Spec"]["Name"]: one for one in told}
        for name in names:
            if name not in there:
                known = ", ".join(sorted(there)) or "none"
                raise EngineError(f"no service {name} in the swarm: there is {known}")
        return [there[name] for name in names or there]

    def _evidence(self, names: Sequence[str]) -> str:
        return "\n".join(map(str, self.tasks(*names)[-_SHOWN:]))

    def _told(self, what: str, filters: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """Return what the manager tells of its ``services``, ``tasks`` or ``nodes``."""
        with asked(f"{what} of the swarm"):
            told: list[dict[str, Any]] = getattr(self.manager.client.api, what)(filters)
        return told
