"""What an engine says that happens is heard, whatever one piece of it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from scripted import until

from zdtest.engine.dockerevents import DockerEvents
from zdtest.errors import EngineError


class Told:
    """A client whose engine says that these containers start, and then nothing more."""

    def __init__(self, *containers: str) -> None:
        self._containers = containers

    def events(self, **_: object) -> Told:
        return self

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        for name in self._containers:
            actor = {"ID": name, "Attributes": {"name": name}}
            yield {"Type": "container", "Action": "start", "Actor": actor, "timeNano": 1}

    def close(self) -> None:
        pass


@pytest.mark.parametrize("error", [EngineError("no such container: b"), KeyError("version")])
def test_what_nobody_can_make_sense_of_hides_nothing_that_follows(error: Exception) -> None:
    marks: list[tuple[str, object]] = []

    def hear(container: str, what: str, labels: Mapping[str, str], at: float) -> None:
        if container == "b":
            raise error

    def mark(name: str, **about: object) -> None:
        marks.append((name, about.get("instance", about.get("error"))))

    with DockerEvents(Told("a", "b", "c"), "label", mark, hear):
        until(lambda: len(marks) == 3)
    assert marks == [
        ("engine.container.start", "a"),
        ("engine.unheard", str(error)),
        ("engine.container.start", "c"),
    ]
