"""Whether the system did what it said: checks of the client's samples against the app's journal.

Each check is a pure function in a module of its own. What it counts is proven by what both sides
wrote down; a request that was sent and never answered may have run or not, so it proves nothing and
is counted apart, as undecided. A count is None where nobody kept the account that it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from zdtest.history.arrivals import early, phantom, repeated
from zdtest.history.backwards import backwards
from zdtest.history.bodies import altered, cut, odd
from zdtest.history.keys import key_lost, key_twice
from zdtest.history.messages import Message, gaps, repeats
from zdtest.history.stale import stale
from zdtest.history.witness import UNKNOWN, Found, Witness
from zdtest.history.writes import Writes, writes
from zdtest.records import crew
from zdtest.records.beside import Beside
from zdtest.records.journal import Journal
from zdtest.records.numbering import Numbering
from zdtest.records.recording import Recording, Samples

__all__ = [
    "CHECKS",
    "Found",
    "History",
    "Message",
    "Witness",
    "Writes",
    "altered",
    "backwards",
    "cut",
    "early",
    "gaps",
    "key_lost",
    "key_twice",
    "odd",
    "phantom",
    "repeated",
    "repeats",
    "stale",
    "writes",
]


CHECKS = (
    *("lost", "twice", "key_lost", "key_twice", "phantom", "early", "repeated"),
    *("backwards", "stale", "cut", "altered", "gaps", "repeats"),
)
"""The names of all checks, each a `Found` of `History`."""


@dataclass(frozen=True, slots=True)
class History:
    """What all checks found in one run; about n log n in its requests and journal lines."""

    writes: Writes
    lost: Found
    """Writes answered ok and never executed."""
    twice: Found
    """Writes executed more than once."""
    key_lost: Found
    """Idempotency keys with an ok answer and without an effect."""
    key_twice: Found
    """Idempotency keys with more than one effect, over all instances."""
    phantom: Found
    """Requests of this run that arrived or ran, and that nobody sent."""
    early: Found
    """Requests accepted before the instance was ready, or after it had stopped listening."""
    repeated: Found
    """Requests of any method that arrived more than once: somebody on the way repeats them."""
    backwards: Found
    """Replies with which a session fell back from the new version."""
    stale: Found
    """Ok replies of another version than the new one after the deploy had settled."""
    cut: Found
    """Replies that began with a status line and did not end."""
    altered: Found
    """Whole replies with a body that is not the one asked for, those of `odd` included."""
    odd: Found
    """Those answered ok, of another length than asked for."""
    gaps: Found
    """Numbers that streams left out."""
    repeats: Found
    """Messages of a stream whose number had been passed already."""
    retried: int | None
    """Writes asked again under their key: where there was none, keys were never put to the test."""
    resumed: int | None
    """Streams asked to go on after a message: where there was none, nor was that."""
    keyed: bool
    """Whether writes carried an Idempotency-Key."""
    unkept: bool
    """Whether they did, and the account of those asked again is gone or not whole."""

    @classmethod
    def of(
        cls,
        recording: Recording,
        new: str | None,
        *,
        stays: str | None = None,
        settled: float | None = None,
    ) -> History:
        """Return the history of `recording`, whose new version is `new` where one is known.

        From `settled` on, seconds on its clock, nothing but the version that `stays` (by default
        `new`) should answer; None where that is not known.
        """
        samples, run = recording.samples, recording.run
        lines = None if recording.journal is None else Journal.of(recording.journal)
        channels: Mapping[str, Mapping[str, Any]] = recording.manifest.get("channels", {})
        again, heard = recording.retries, recording.messages
        rows = None if again is None else again.rows
        told = writes(samples, lines, run, whole=_whole(recording), retries=rows)
        keyed = again is not None or any(one.get("keyed") for one in channels.values())
        unkept = keyed and (again is None or not again.whole)
        if unkept:
            # One whose key is not on file may have had its effect under another id.
            told = replace(told, lost=None, lost_ids=(), lost_seen=())
        return cls(
            writes=told,
            lost=Found(told.lost, told.lost_seen),
            twice=Found(told.twice, told.twice_seen),
            key_lost=_key_lost(recording, lines),
            backwards=backwards(
                samples,
                run,
                new,
                streams=_told_apart(channels),
                slack=2 * crew.clock_error(recording.trailer),
            ),
            stale=stale(samples, run, stays or new, settled),
            cut=cut(samples, run),
            altered=altered(samples, run, channels),
            odd=odd(samples, run, channels),
            **_arrivals(samples, lines, run, whole=_whole(recording), keyed=keyed),
            **_streams(heard if heard is not None and heard.whole else None),
            retried=None if again is None else len(again),
            resumed=None if heard is None else int(heard.rows["resumed"].sum()),
            keyed=keyed,
            unkept=unkept,
        )


def _whole(recording: Recording) -> bool:
    """Whether every request that was sent is on file."""
    trailer, numbers = recording.trailer or {}, Numbering.of(recording.samples)
    counted = trailer.get("count") == len(recording.samples) and not trailer.get("dropped")
    return counted and not numbers.missing


def _arrivals(
    samples: Samples, journal: Journal | None, run: str, *, whole: bool, keyed: bool
) -> dict[str, Found]:
    if journal is None:
        return dict.fromkeys(("key_twice", "phantom", "early", "repeated"), UNKNOWN)
    return {
        # Where no write carried a key, what the app calls its keys are no Idempotency-Keys.
        "key_twice": key_twice(journal, run) if keyed else UNKNOWN,
        "phantom": phantom(samples, journal, run, whole=whole),
        "early": early(journal, run),
        "repeated": repeated(samples, journal, run),
    }


def _key_lost(recording: Recording, journal: Journal | None) -> Found:
    keyed = recording.retries
    if journal is None or keyed is None or not keyed.whole:
        return UNKNOWN
    return key_lost(recording.samples, journal, recording.run, keyed.rows)


def _told_apart(channels: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a stream's session is one of its subscribers, which recordings once did not tell."""
    return "stations" in channels.get("stream", {})


def _streams(seen: Beside | None) -> dict[str, Found]:
    """Return what the messages tell; without a numbered one that is nothing."""
    if seen is None or not len(seen):
        return {"gaps": UNKNOWN, "repeats": UNKNOWN}
    return {"gaps": gaps(seen.rows), "repeats": repeats(seen.rows)}
