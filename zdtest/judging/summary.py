"""What a terminal shows of a verdict, in a few lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zdtest.duration import written
from zdtest.judging import phase
from zdtest.judging.interval import rates
from zdtest.judging.outage import Outage, downtime
from zdtest.judging.phase import Figures
from zdtest.percent import between, bound, failing, share
from zdtest.records.shown import shown

if TYPE_CHECKING:
    from zdtest.judging.verdict import Verdict

_SHOWN = 5
"""How many versions are told of."""


def summary(verdict: Verdict) -> str:
    """Return the verdict with its reasons first, then what was counted and timed."""
    lines = [
        f"{verdict.verdict.upper()}  {verdict.run}",
        *(f"  {reason}" for reason in verdict.reasons),
        *(f"  {scope}" for scope in verdict.scopes),
        verdict.emulated and f"  {verdict.emulated}",
        *(_counts(verdict) if verdict.requests else []),
        *verdict.blame.lines(),
        _writes(verdict),
        verdict.masked.text() if verdict.masked else "",
    ]
    return "\n".join(shown(line) for line in lines if line)


def _counts(verdict: Verdict) -> list[str]:
    before, under_way, window, after = (verdict.phases[name] for name in phase.PHASES)
    marked = verdict.window.marked
    return [
        _before(before, under_way) if marked else "",
        _failed(window, "in the deploy window") if marked else "",
        _failed(after, "after the deploy") if after.failed else "",
        f"{verdict.failed} of {verdict.requests} failed in the whole run: "
        f"{share(verdict.requests - verdict.failed, verdict.requests)} answered well",
        *_outages(verdict),
        _latencies(verdict),
        _versions(verdict),
    ]


def _before(before: Figures, under_way: Figures) -> str:
    """Return how many failed of those that fell due before the deploy, "" for none.

    Whose fault it was of those under way as it began is not told by that: no rate is made of them.
    """
    if not under_way.failed:
        return _failed(before, "before the deploy") if before.failed else ""
    failed, requests = (getattr(before, n) + getattr(under_way, n) for n in ("failed", "requests"))
    return (
        f"{failed} of {requests} failed that fell due before the deploy, "
        f"{under_way.failed} of them after it had begun"
    )


def _failed(figures: Figures, where: str) -> str:
    """Return how many failed there, and between what that puts the rate."""
    failed, requests = figures.failed, figures.requests
    if not requests:
        return f"no request fell {where}: nothing is known of it"
    told = f"failure rate below {bound(figures.failed_upper95)} at 95 %"
    if failed:
        told = f"{failing(failed, requests)} ({between(*rates(failed, requests))} at 95 %)"
    return f"{failed} of {requests} failed {where}: {told}"


def _outages(verdict: Verdict) -> list[str]:
    """Return how long channels were down, which is where nothing was answered ok, or failed so."""
    if not verdict.outages:
        return ["no outage was seen"]
    down = [one for one in verdict.outages if one.whole]
    partial = [one for one in verdict.outages if not one.whole]
    told = (("down", down), ("failing at times", partial))
    return [f"{what} {_lasted(found, verdict.began)}" for what, found in told if found]


def _lasted(found: Sequence[Outage], began: float) -> str:
    """Return where and for how long these were, and which was the longest."""
    worst = max(found, key=lambda outage: outage.max)
    channels = ", ".join(dict.fromkeys(outage.channel for outage in found))
    return (
        f"on {channels} for {_span(*downtime(found), any(one.open for one in found))} "
        f"in {len(found)} outage(s); the longest on {worst.channel} at "
        f"+{worst.start - began:.3f} s: {_span(worst.min, worst.max, worst.open)}, "
        f"{worst.failed} of {worst.total} requests failed"
    )


def _span(least: float, most: float, more: bool) -> str:
    """Return how long it was at least and at most, or at most as far as the run reached."""
    return f"{least * 1e3:.0f} to {most * 1e3:.0f} ms{' or more' if more else ''}"


def _latencies(verdict: Verdict) -> str:
    told = ", ".join(
        f"{name} {_pair(figures.p50, figures.p99)}"
        for name, figures in verdict.phases.items()
        if figures.p50 is not None and figures.p99 is not None
    )
    return f"p50/p99: {told or 'not known, no good reply could be timed'}"


def _pair(p50: float, p99: float) -> str:
    """Return two durations as ``8.6/12ms``, the unit told once where they share it."""
    told = written(p50), written(p99)
    for unit in ("ms", "s"):
        first, second = (value.removesuffix(unit) for value in told)
        if all(value.replace(".", "").isdigit() for value in (first, second)):
            return f"{first}/{second}{unit}"
    return "/".join(told)


def _versions(verdict: Verdict) -> str:
    """Return the versions that good replies told, the first few of many."""
    seen = list(verdict.versions.items())
    if not seen:
        return ""
    untold = verdict.requests - verdict.failed - sum(verdict.versions.values())
    told = [f"{count} good replies from {name}" for name, count in seen[:_SHOWN]]
    told += [f"{len(seen) - _SHOWN} more"] if len(seen) > _SHOWN else []
    told += [f"{untold} that told none"] if untold else []
    return f"versions: {', '.join(told)}"


def _writes(verdict: Verdict) -> str:
    told = verdict.writes
    if not told.sent:
        return ""
    if told.lost is None or told.twice is None:
        return "writes: the app keeps no journal, so lost or repeated ones cannot be seen"
    return (
        f"writes: {told.ok} of {told.sent} answered ok, {told.lost} lost, {told.twice} run "
        f"twice, {told.undecided} cut off that may have run"
    )
