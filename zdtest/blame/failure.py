"""A failed request with all that is known of it, and what it was blamed on."""

from __future__ import annotations

from dataclasses import dataclass

from zdtest.blame.lives import Life
from zdtest.records.proxylog import Passage
from zdtest.records.sample import CHANNELS, Outcome


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed request, with all that is known of it."""

    id: str
    channel: int
    sent: float
    done: float
    outcome: Outcome
    status: int
    instance: str
    """Who the reply says that it came from, "" where it does not."""
    arrivals: tuple[tuple[Life, float], ...]
    """Who began to work on it, and when."""
    answered: float
    """When the last of them says that it had answered, `NEVER` where it does not."""
    answer: int
    """With which status, 0 where that is not told."""
    passage: Passage | None
    """Whom the proxy asked, None where its log does not have it."""


@dataclass(frozen=True, slots=True)
class Blamed:
    """One request with its cause, and why."""

    failure: Failure
    cause: str
    why: str

    def as_json(self, began: float) -> dict[str, object]:
        """Return the fields of verdict.json."""
        one = self.failure
        return {
            "id": one.id,
            "channel": CHANNELS[one.channel],
            "sent_s": one.sent - began,
            "done_s": one.done - began,
            "outcome": one.outcome.name,
            "status": one.status or None,
            "why": self.why,
        }
