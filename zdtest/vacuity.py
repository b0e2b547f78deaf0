"""Why a run with nothing broken may still prove nothing: each rule a small function."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from zdtest.evidence import Evidence
from zdtest.percent import share
from zdtest.phase import BASELINE, DEPLOY
from zdtest.sample import Outcome

REACHED = 0.99
"""The share of the offered rate that must have been reached."""


def reasons(evidence: Evidence) -> list[str]:
    """Return everything that keeps the run from proving that its promises hold."""
    rules = (_interrupted, _trailer, _rate, _generator, _deploy, _version, _requests, _channels)
    return [reason for rule in rules for reason in rule(evidence)]


def _interrupted(evidence: Evidence) -> Iterator[str]:
    for mark in evidence.recording.marks:
        if mark.name == "run.interrupted":
            by, at = mark.about.get("by", "somebody"), mark.at - evidence.began
            when = f" at +{at:.3f} s" if len(evidence.samples) else " before the first request"
            yield f"the run was interrupted by {by}{when}"


def _trailer(evidence: Evidence) -> Iterator[str]:
    trailer, rows = evidence.recording.trailer, len(evidence.samples)
    if trailer is None:
        yield f"the recorder did not close its file: {rows} samples were read, more may be missing"
        return
    if trailer.get("count") != rows:
        yield f"{rows} samples are on file, the recorder wrote {trailer.get('count')}"
    if trailer.get("dropped"):
        yield f"the recorder dropped {trailer['dropped']} samples"
    ended = float(trailer.get("ended") or 0.0)
    if trailer.get("interrupted") and not ended > evidence.window.end:
        yield "the load was interrupted before the deploy ended"


def _rate(evidence: Evidence) -> Iterator[str]:
    trailer = evidence.recording.trailer
    if trailer is None:
        return
    offered, reached = trailer.get("offered_rate"), trailer.get("reached_rate")
    if offered is None or reached is None:
        yield "the recorder did not say which rate it reached"
    elif reached < REACHED * offered:
        yield f"only {reached:.1f} of {offered:.1f} requests/s were reached, needs 99 %"


def _generator(evidence: Evidence) -> Iterator[str]:
    unsent = evidence.outcome(Outcome.unsent)
    if unsent:
        total = evidence.requests(evidence.seen) + unsent
        yield (
            f"the load generator could not send {unsent} of {total} requests "
            f"({share(total - unsent, total)} sent)"
        )
    window, began = evidence.window, evidence.began
    for begin, end in evidence.suspect.stalled:
        held = end - begin > evidence.slo.hole
        if held and begin <= window.end and end >= window.begin:
            yield (
                f"the load generator stalled for {(end - begin) * 1e3:.0f} ms at "
                f"+{begin - began:.3f} s, inside the deploy window: an outage could hide there"
            )


def _deploy(evidence: Evidence) -> Iterator[str]:
    if not evidence.window.marked:
        yield "no deploy was marked in this run (deploy.begin)"
    elif not evidence.window.ended:
        yield "the deploy's end was not marked (deploy.end)"


def _version(evidence: Evidence) -> Iterator[str]:
    new, old = evidence.new_version, evidence.recording.manifest.get("old_version")
    if new is None:
        return
    if new == old:
        yield f"old and new version are both {new}: the switch cannot be observed"
    elif not evidence.replies(new):
        yield f"the new version {new} was never observed"
    elif evidence.replies(new, BASELINE) == _told(evidence) > 0:
        yield f"the new version {new} already answered every request before the deploy"


def _told(evidence: Evidence) -> int:
    """Return how many replies before the deploy told any version."""
    unknown = evidence.samples.versions.index("")
    return int(np.delete(evidence.versions[BASELINE], unknown).sum())


def _requests(evidence: Evidence) -> Iterator[str]:
    needed = evidence.slo.min_requests
    found = evidence.requests(evidence.channels, DEPLOY)
    if evidence.window.marked and found < needed:
        yield f"only {found} requests fell inside the deploy window, needs {needed}"


def _channels(evidence: Evidence) -> Iterator[str]:
    if not len(evidence.samples):
        yield "no request was recorded"
    for channel in evidence.channels:
        if not evidence.ok(channel):
            yield f"channel {channel} has no ok reply"
