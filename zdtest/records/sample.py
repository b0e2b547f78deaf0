"""What is recorded: a `Sample` is one scheduled request, a `Mark` one named moment of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum


class Outcome(IntEnum):
    """How a request ended; the numbers are the ones on disk, so they never change."""

    ok = 0
    """Expected status, whole body, body as expected."""
    refused = 1
    """The connection was refused or unreachable: never sent."""
    connect_timeout = 2
    """No connection in time: never sent."""
    dns = 3
    """The name did not resolve: never sent."""
    tls = 4
    """The TLS handshake failed: never sent."""
    reset = 5
    """Sent, then RST before a status line: it may have run."""
    closed = 6
    """Sent, then EOF before a status line: it may have run."""
    timeout = 7
    """Sent, no first byte in time: it may have run."""
    truncated = 8
    """A status line, then RST or EOF before the whole body."""
    body_timeout = 9
    """A status line, then not the whole body in time."""
    http_5xx = 10
    """A 5xx that was not asked for, or a reply that is not HTTP."""
    http_4xx = 11
    """A 4xx that was not asked for."""
    http_3xx = 12
    """A 1xx, 2xx or 3xx that was not asked for."""
    bad_body = 13
    """The right status with the wrong body."""
    wrong_version = 14
    """The right status from a version that was ruled out."""
    unsent = 15
    """The generator itself could not send it (no socket, no port left, too many in flight).

    It says nothing about the system: it never counts as failed, and it makes a run inconclusive.
    """


NEVER_SENT = frozenset(
    {Outcome.refused, Outcome.connect_timeout, Outcome.dns, Outcome.tls, Outcome.unsent}
)
"""Outcomes after which the system cannot have run the request."""

MAY_HAVE_RUN = frozenset(
    {Outcome.reset, Outcome.closed, Outcome.timeout, Outcome.truncated, Outcome.body_timeout}
)
"""Outcomes that leave open whether the system ran the request."""

CHANNELS = ("new", "reused", "idle", "slow", "write", "stream", "control")
"""The kinds of client; the position is the number on disk.

`control` is no part of the system: it asks an untouched echo server beside it, so that a host in
trouble is not mistaken for a system in trouble.
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """One scheduled request. Times are seconds on CLOCK_MONOTONIC; None is "never happened"."""

    id: str
    channel: str
    session: int
    due: float
    sent: float | None
    first_byte: float | None
    done: float
    outcome: Outcome
    status: int
    bytes: int
    version: str
    instance: str
    conn: int

    @property
    def latency(self) -> float:
        """Seconds from due to done: what a user waited, the generator's own lateness included."""
        return self.done - self.due


@dataclass(frozen=True, slots=True)
class Mark:
    """A named moment of the run, such as ``deploy.begin`` or ``fault.heal``, on the same clock."""

    at: float
    name: str
    about: Mapping[str, object] = field(default_factory=dict)
