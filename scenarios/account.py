"""What client, balancer and app each wrote down of a run with a fault in it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable

import numpy as np

from zdtest import Slo
from zdtest.records.recording import Recording, request_id
from zdtest.records.sample import CHANNELS, Outcome

# What is promised is no interruption. Latencies and holes in the schedule are measured and shown,
# but a shared machine's host takes both processors away for hundreds of milliseconds at a time,
# which says nothing about a balancer. An outage shorter than a hole that the report lists is not
# excluded. Where a fault makes users wait, the scenario says for how long by what was recorded.
UNINTERRUPTED = Slo(p99_ratio=None, p99_over=None, slow=None, hole="1s")
# A bad release is given up: nobody notices, and in the end only the old version answers.
ABORTED = dataclasses.replace(UNINTERRUPTED, deploy="aborted")
# A bad canary has a twentieth of the users until somebody sees that it is bad: no more than that of
# 200 in a second, in which all is over, also on a machine that stands still for half of it.
SEEN_BY_FEW = dataclasses.replace(ABORTED, failed=10, min_requests=50)
SEEN_WITHIN = 1.0
# A POST in flight on a server that dies is lost, whatever a balancer does, and is counted apart.
SAFE = dataclasses.replace(UNINTERRUPTED, channels=("new", "reused"))

_BESIDE = 0.1
"""Seconds in which on each channel a next one falls due, of which it is known what came of it."""


def held_up(recording: Recording, begin: float, end: float) -> float:
    """By how much at most the load itself was late between these moments, or right beside them.

    The requests to the control server tell, as they wait for nothing of the system's. What is late
    may have fallen due before the first of them did.
    """
    samples = recording.samples
    control = samples.where(samples.channel == CHANNELS.index("control"))
    near = (control.due >= begin - _BESIDE) & (control.due <= end + _BESIDE)
    control = control.where(near)
    # Of who was not let in nothing was sent.
    lag = np.where(np.isnan(control.lag), control.latency, control.lag)
    return float(lag.max() + np.diff(control.due).max())


class Account:
    """The three accounts of one run, which share ids and a clock."""

    def __init__(self, zd):
        self.recording = Recording.read(zd.folder)
        every = self.recording.samples
        self.samples = every.where(every.channel != CHANNELS.index("control"))
        self.due, self.done = self.samples.due, self.samples.done
        lag = self.samples.lag
        # Who was refused has sent nothing: then it is when the connection was due.
        self.sent = self.due + np.where(np.isnan(lag), 0, lag)
        self.failed = self.samples.outcome != Outcome.ok
        self.write = self.samples.channel == CHANNELS.index("write")
        log = zd.folder / "logs" / f"{zd.stack.balancer.name}.log"
        self.balancer = [
            json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")
        ]
        self.app = list(self.recording.journal)

    def ids(self, rows) -> set[str]:
        """The ids of the chosen samples, a mask."""
        return {request_id(self.recording.run, seq) for seq in self.samples.seq[rows].tolist()}

    def outcomes(self, rows) -> set[str]:
        return {Outcome(code).name for code in set(self.samples.outcome[rows].tolist())}

    def statuses(self, rows) -> set[int]:
        return set(self.samples.status[rows].tolist())

    def by(self, instance: str):
        """Which samples that instance answered."""
        names = self.samples.instances
        return self.samples.instance == (names.index(instance) if instance in names else -1)

    def within(self, begin: float, end: float):
        """Which samples were sent and answered between these moments."""
        return (self.sent >= begin) & (self.done <= end)

    def under_way(self, *moments: float) -> int:
        """How many had been sent and were not answered at one of these moments.

        Of them nothing says on which side of it they were dealt with: one or two, unless a machine
        that stood still sends at once what fell due meanwhile.
        """
        found = [(self.sent < at) & (self.done > at) for at in moments]
        return int(np.count_nonzero(np.any(found, axis=0)))

    @property
    def lateness(self) -> float:
        """By how much at most one was sent late while any failed: a second is as sharp as that."""
        due = self.due[self.failed]
        return held_up(self.recording, float(due.min()), float(due.max()))

    def mark(self, name: str, **about: object) -> float:
        """When that was marked first."""
        marks = self.recording.marks
        return next(m.at for m in marks if m.name == name and about.items() <= m.about.items())

    def said(self, event: str, **about: object) -> list[dict]:
        """What the balancer's log says of that event."""
        return [
            line
            for line in self.balancer
            if line["event"] == event and about.items() <= line.items()
        ]

    def journal(self, event: str, **about: object) -> list[dict]:
        """What the app's journal says of that event."""
        return [
            line for line in self.app if line["event"] == event and about.items() <= line.items()
        ]


def named(lines: Iterable[dict]) -> set[str]:
    """The request ids in these lines."""
    return {line["id"] for line in lines if "id" in line}


def assert_only_writes_in_flight_were_lost(account: Account, begun: float, dead: float) -> int:
    """Return how many: all failures are POSTs that a server had which died, each told 502.

    It died between these moments: before the kill, and after its end was noticed.
    """
    failed = account.failed
    assert not np.any(failed & ~account.write)
    lost = account.ids(failed)
    assert account.statuses(failed) <= {502}
    assert lost == named(account.said("failed"))
    assert np.all((account.sent[failed] <= dead) & (account.done[failed] >= begun))
    # It was on its way to the server that died, which never answered it.
    assert not lost & named(account.journal("answered"))
    return len(lost)
