"""What client, nginx and app each wrote down of a run behind an nginx."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np

from zdtest.records.recording import Recording, request_id
from zdtest.records.sample import CHANNELS, Outcome
from zdtest.topologies.access_log import is_request


class Behind:
    """The three accounts of one run, which share the requests' ids."""

    def __init__(self, zd) -> None:
        self.recording = Recording.read(zd.folder)
        every = self.recording.samples
        self.samples = every.where(every.channel != CHANNELS.index("control"))
        lag = self.samples.lag
        # Who was refused has sent nothing: then it is when the connection was due.
        self.sent = self.samples.due + np.where(np.isnan(lag), 0, lag)
        self.failed = self.samples.outcome != Outcome.ok
        self.write = self.samples.channel == CHANNELS.index("write")
        lines = (zd.folder / "logs" / "proxy.log").read_bytes().splitlines()
        self.nginx = {one["id"]: one for one in map(json.loads, filter(is_request, lines))}
        self.app = list(self.recording.journal)
        self.arrived = Counter(line["id"] for line in self.journal("request") if line["id"])

    def ids(self, rows) -> set[str]:
        """The ids of the chosen samples, a mask."""
        return {request_id(self.recording.run, seq) for seq in self.samples.seq[rows].tolist()}

    def statuses(self, rows) -> set[int]:
        return set(self.samples.status[rows].tolist())

    def by(self, instance: str):
        """Which samples that instance answered."""
        names = self.samples.instances
        return self.samples.instance == (names.index(instance) if instance in names else -1)

    def journal(self, event: str, **about: object) -> list[dict]:
        """What the app's journal says of that event."""
        return [
            line for line in self.app if line["event"] == event and about.items() <= line.items()
        ]

    def mark(self, name: str, **about: object) -> float:
        """When that was marked first."""
        marks = self.recording.marks
        return next(m.at for m in marks if m.name == name and about.items() <= m.about.items())

    def tries(self, request: str) -> list[str]:
        """The servers that nginx sent that request to, in turn."""
        return self.nginx[request]["upstream_addr"].split(", ")

    def twice(self) -> set[str]:
        """The requests that more than one instance was given, or one more than once."""
        return {request for request, times in self.arrived.items() if times > 1}

    def answered(self, since: float) -> float:
        """When the first request that was sent after `since` was answered well."""
        good = ~self.failed & (self.samples.due >= since)
        return float(np.min(self.samples.done[good]))
