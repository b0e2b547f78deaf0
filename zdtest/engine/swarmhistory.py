"""What became of a swarm's tasks, on the run's clock: a history, marks, and who runs now."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any

from docker.errors import DockerException
from requests.exceptions import RequestException

from zdtest.engine import Instance
from zdtest.engine.docker import DockerEngine
from zdtest.engine.dockerevents import DockerEvents
from zdtest.engine.swarm import Cluster
from zdtest.engine.swarmnode import Node
from zdtest.engine.swarmtask import Task
from zdtest.errors import EngineError, fact

FILE = "tasks.jsonl"
"""The history's name in the run's folder."""

_STEP = 0.1
_TASK = "com.docker.swarm.task.name"
_SERVICE = "com.docker.swarm.service.name"
_MARKED = ("running", "complete", "shutdown", "failed", "rejected")


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a service a task is: what its label says, ``shop_front.2.<task>``."""

    service: str
    slot: str

    @classmethod
    def of(cls, labels: Mapping[str, str]) -> Place:
        """Return the place of the task's container with these labels."""
        service, task = labels[_SERVICE], labels[_TASK]
        return cls(service, task.removeprefix(f"{service}.").partition(".")[0])


class SwarmHistory:
    """Follows the tasks of `cluster` while entered, and watches their containers as instances.

    `names` tells for each service what its instances are called: ``{"shop_front": "front.{slot}",
    "edge_haproxy": "proxy"}``; containers of other services are heard of only. What runs a version
    says so in its environment, as APP_VERSION.

    ``tasks.jsonl`` in the run's folder has a line for each change that the manager tells of a task:
    `t` is when it came to be in its state, by the manager's account, seconds on CLOCK_MONOTONIC;
    for a change of what is wanted, when that was seen. It is asked ten times a second: states that
    last shorter may be missing.
    """

    def __init__(self, engine: DockerEngine, cluster: Cluster, names: Mapping[str, str]) -> None:
        self._engine = engine
        self._cluster = cluster
        self._mark = engine.on_event
        self._names = names
        self._shift = time.monotonic() - time.time()
        self._last: dict[str, Instance] = {}
        self._by_container: dict[str, Instance] = {}
        self._known = threading.Condition()
        self._over = threading.Event()
        self._file = engine.folder / FILE
        self._told: dict[str, Task] = {}
        self._follower = threading.Thread(target=self._follow, name="swarm history", daemon=True)

    def __enter__(self) -> SwarmHistory:
        with ExitStack() as tidy:
            for node in self._cluster.nodes:
                tidy.enter_context(
                    DockerEvents(node.client, _TASK, self._mark, self._heard(node), self._called)
                )
            for node in self._cluster.nodes:
                self._find(node)
            self._follower.start()
            self._tidy = tidy.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._tidy.close()
        self._follower.join(5)

    def instance(self, name: str) -> Instance:
        """Return what was last started under that name; raises KeyError where nothing was."""
        with self._known:
            return self._last[name]

    def of(self, task: Task) -> Instance | None:
        """Return what runs in the task's container, or ran there; None before it is known."""
        with self._known:
            return self._by_container.get(task.container)

    def called(self, task: Task) -> str:
        """Return what the instance in the task's place is called."""
        return self._name(task.service, task.place)

    def _name(self, service: str, slot: str) -> str:
        """Return the instance's name; that of its place for a service without one."""
        return self._names.get(service, f"{service}.{{slot}}").format(slot=slot)

    def _called(self, labels: Mapping[str, str]) -> str:
        place = Place.of(labels)
        return self._name(place.service, place.slot)

    def _heard(self, node: Node) -> Callable[[str, str, Mapping[str, str], float], None]:
        def hear(container: str, what: str, labels: Mapping[str, str], at: float) -> None:
            if what == "start":
                # One that is gone already was nobody's instance.
                with suppress(DockerException, RequestException):
                    self._take(node, container, at)
            elif what == "kill" and labels.get("signal") == "15":
                with self._known:
                    instance = self._by_container.get(container)
                if instance:
                    self._engine.told_to_end(instance, at)

        return hear

    def _find(self, node: Node) -> None:
        """Take what has been running on the node since before it was followed."""
        for container in node.client.containers.list(filters={"label": _TASK}):
            self._take(
                node, container.id, _seconds(container.attrs["State"]["StartedAt"]) + self._shift
            )

    def _take(self, node: Node, container: str, began: float) -> None:
        with self._known:
            if container in self._by_container:
                return
            found = node.client.containers.get(container)
            if Place.of(found.labels).service not in self._names:
                return
            name = self._called(found.labels)
            instance = self._engine.take(found, name, _version(found), began)
            self._by_container[container] = self._last[name] = instance

    def _follow(self) -> None:
        with self._file.open("a", encoding="utf-8", buffering=1) as file:
            while not self._over.wait(_STEP):
                try:
                    tasks = self._cluster.tasks()
                except (EngineError, KeyError) as error:
                    if not self._over.is_set():
                        self._mark("swarm.unheard", error=fact(error))
                    continue
                for task in tasks:
                    if (before := self._told.get(task.id)) != task:
                        self._told[task.id] = task
                        file.write(json.dumps(self._line(task, before)) + "\n")

    def _line(self, task: Task, before: Task | None) -> dict[str, object]:
        """Return the change of the task, having marked it where it is one of its state."""
        changed = before is None or before.state != task.state
        at = round(_seconds(task.since) + self._shift if changed else time.monotonic(), 6)
        name = self.called(task)
        told = {"service": task.service, "slot": task.place, "node": task.node}
        if changed and task.state in _MARKED:
            error = {"error": task.error} if task.error else {}
            self._mark(
                f"swarm.task.{task.state}", instance=name, node=task.node, **error, happened=at
            )
        return {
            "t": at,
            "instance": name,
            **told,
            "task": task.id,
            "state": task.state,
            "wanted": task.wanted,
            "error": task.error,
            "image": task.image,
            "container": task.container,
        }


def _seconds(stamp: str) -> float:
    """Return the wall's time of what a manager or an engine writes, UTC to the nanosecond."""
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")


def _version(container: Any) -> str:
    """Return what the container's environment says, "" where it does not."""
    told = dict(one.partition("=")[::2] for one in container.attrs["Config"]["Env"] or ())
    return str(told.get("APP_VERSION", ""))
