"""What client, edge, services and swarm each wrote down of a run of the shop."""

from __future__ import annotations

import json

import numpy as np
from account import Account

from zdtest import history
from zdtest.records.journal import Journal
from zdtest.records.sample import CHANNELS, Outcome


class Shop(Account):
    """The accounts of one run; those of the tasks and of the services behind the front as well."""

    def __init__(self, zd) -> None:
        super().__init__(zd)
        self.folder = zd.folder
        lines = (zd.folder / "tasks.jsonl").read_text().splitlines()
        self.tasks = [json.loads(line) for line in lines]
        self.behind = Journal.read(zd.folder / zd.stack.backends)
        self.wrong = self.samples.outcome == Outcome.bad_body

    def on(self, *channels: str):
        """Which samples are of these channels."""
        return np.isin(self.samples.channel, [CHANNELS.index(one) for one in channels])

    def task(self, instance: str, state: str, tag: str, since: float = 0.0) -> dict:
        """What is told first of a task in that place of that image, in that state."""
        return next(
            line
            for line in self.tasks
            if (line["instance"], line["state"]) == (instance, state)
            and line["image"].endswith(f":{tag}")
            and line["t"] >= since
        )

    def left(self, instance: str, tag: str) -> float:
        """When the swarm wanted the task in that place of that image no longer."""
        return next(
            line["t"]
            for line in self.tasks
            if (line["instance"], line["wanted"]) == (instance, "shutdown")
            and line["image"].endswith(f":{tag}")
        )

    def ends(self, version: str, name: str = "front") -> dict[str, float]:
        """When the processes of that version ended which the swarm had told to."""
        told = {
            mark.about["instance"]
            for mark in self.recording.marks
            if mark.name == "app.term" and mark.about.get("version") == version
        }
        return {
            mark.about["instance"]: mark.at
            for mark in reversed(self.recording.marks)
            if mark.name == "app.stopped"
            and mark.about.get("version") == version
            and mark.about["instance"] in told
            and mark.about["instance"].startswith(f"{name}.")
        }

    def cut_at(self, moments):
        """Which failed samples were cut within half a second of one of these moments."""
        return (
            self.failed
            & np.isin(self.samples.outcome, [Outcome.closed, Outcome.reset, Outcome.truncated])
            & np.any([np.abs(self.done - moment) < 0.5 for moment in moments], axis=0)
        )

    def said_by(self, *names: str) -> str:
        """What these instances printed."""
        logs = (self.folder / "logs" / f"{name}.log" for name in names)
        return "".join(log.read_text() for log in logs if log.exists())

    def early_behind(self) -> int:
        """How many calls a service behind the front took before it was ready, or too late."""
        found = history.early(self.behind, self.recording.run).count
        assert found is not None
        return found


def assert_each_left_after_its_successor_was_healthy(shop: Shop, names, old: str, new: str) -> None:
    """Claim 2b: the swarm wants the old task until the new one in its place runs, for Docker."""
    for name in names:
        runs = shop.task(name, "running", new)
        assert runs["t"] <= shop.left(name, old) + 0.2, name
