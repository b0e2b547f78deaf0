"""What a swarm says about a service's tasks, and whether the service is what it was told to be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PAUSED = ("paused", "rollback_paused")
"""The states in which an update waits for a person."""

_DONE = ("", "completed", "rollback_completed")
_NEVER_COMPARED = ("Runtime", "Placement")
"""What a task is not told, and what makes no new one of a task that stays where it may be."""


@dataclass(frozen=True, slots=True)
class Task:
    """One try to run a container of a service; the next one in its place is another task."""

    id: str
    service: str
    place: str
    """Its number among its service's tasks, or the node of a service that runs on every node."""
    node: str
    """The node's name, "" before it is given to one."""
    image: str
    state: str
    """``pending``, ``preparing``, ``running``, ``shutdown``, ``failed`` or ``rejected``."""
    wanted: str
    """What the swarm wants of it, ``running`` or ``shutdown``."""
    error: str
    since: str
    """When it came to be in its state, as the manager writes it, in UTC."""
    container: str
    """The container's id on its node, "" before there is one."""

    def __str__(self) -> str:
        where = f" on {self.node}" if self.node else ""
        told = f": {self.error}" if self.error else ""
        return f"{self.service}.{self.place}{where}: {self.state}, wanted {self.wanted}{told}"


def tasks(
    told: Iterable[Mapping[str, Any]], services: Mapping[str, str], nodes: Mapping[str, str]
) -> list[Task]:
    """Return the tasks, the oldest first, with names for the ids of `services` and `nodes`."""
    found = []
    for one in sorted(told, key=lambda one: str(one["CreatedAt"])):
        status = one["Status"]
        node = nodes.get(one.get("NodeID", ""), "")
        found.append(
            Task(
                id=one["ID"],
                service=services.get(one["ServiceID"], one["ServiceID"]),
                place=str(one.get("Slot") or node),
                node=node,
                image=one["Spec"]["ContainerSpec"]["Image"],
                state=status["State"],
                wanted=one["DesiredState"],
                error=status.get("Err", ""),
                since=status["Timestamp"],
                container=status.get("ContainerStatus", {}).get("ContainerID", ""),
            )
        )
    return found


def update_state(service: Mapping[str, Any]) -> str:
    """Return how far its last update is, ``updating`` or so; "" when it never had one."""
    return str((service.get("UpdateStatus") or {}).get("State", ""))


def unsettled(
    service: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]], ready: Iterable[str]
) -> str:
    """Return in words what `service` lacks, "" when all of it runs as specified, and nothing else.

    `ready` are the ids of the nodes that answer: what others are said to run does not count.
    """
    name, state = service["Spec"]["Name"], update_state(service)
    template, mode = service["Spec"]["TaskTemplate"], service["Spec"]["Mode"]
    there = set(ready)
    running = [
        one for one in tasks if one["Status"]["State"] == "running" and one.get("NodeID") in there
    ]
    current = [
        one for one in running if one["DesiredState"] == "running" and _same(one["Spec"], template)
    ]
    if "Replicated" in mode:
        wanted = int(mode["Replicated"].get("Replicas", 0))
    else:  # one on every node that it may be on, which the swarm knows
        wanted = max(1, sum(one["DesiredState"] == "running" for one in tasks))
    if len(current) != wanted:
        return f"{name}: {len(current)} of {wanted} tasks run as specified {state}".rstrip()
    if old := len(running) - len(current):
        return f"{name}: {old} earlier tasks still run"
    return "" if state in _DONE else f"{name}: {state}"


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether a task made of the one is what the other asks for."""
    return _compared(one) == _compared(other)


def _compared(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in spec.items() if name not in _NEVER_COMPARED}
