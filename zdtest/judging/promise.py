"""The promises of an `Slo`, each a small function from the evidence to what it found broken."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zdtest.duration import written
from zdtest.history import Found
from zdtest.judging.evidence import Evidence
from zdtest.judging.interval import lower_rank, lower_rate, requests_needed, upper_rank, upper_rate
from zdtest.judging.outage import downtime
from zdtest.judging.phase import BASELINE, DEPLOY, SETTLE, percentile, ranked
from zdtest.percent import bound
from zdtest.records.recording import request_id
from zdtest.records.sample import CHANNELS, Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Ints = NDArray[np.int64]
    Rows = NDArray[np.intp]

_WRONG = (Outcome.truncated, Outcome.bad_body, Outcome.wrong_version)
_SUSPECT = "but only while the host or the generator was in trouble: suspect"
_LATENCIES = ((DEPLOY, "in the deploy window"), (SETTLE, "after the deploy"))
"""Whose p99 is held to the baseline's: a release may be slow only once the deploy is over."""
_TIMES = (2, 3, 5, 10, 20, 50, 100)
"""How many times as many requests are tried out where there were too few."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A promise that was not kept (`stands`), or of which that cannot be told."""

    promise: str
    text: str
    stands: bool


def findings(evidence: Evidence) -> list[Finding]:
    """Return what was found against each promise, in the order of the `Slo`."""
    checks = (
        *(_failed, _wrong, _p99, _slow, _writes, _arrivals, _backwards),
        *(_streams, _stale, _deploy, _masked, _longest, _downtime, _rate),
    )
    return [found for check in checks for found in check(evidence)]


def _counted(
    name: str, allowed: int | None, seen: int, doubtful: int, text: str, where: str = ""
) -> Iterator[Finding]:
    """Yield a finding where more than `allowed` were seen; it stands on those beyond doubt."""
    if allowed is not None and seen > allowed:
        stands = seen - doubtful > allowed
        note = "" if stands else f", {_SUSPECT}"
        yield Finding(name, f"{text}, allowed {allowed}{where}{note}", stands)


def _failed(evidence: Evidence) -> Iterator[Finding]:
    rows, doubtful = evidence.failed_on(evidence.channels)
    text = f"{len(rows)} of {evidence.asked(evidence.channels)} requests failed"
    first, doubted = _first(evidence, rows), int(doubtful.sum())
    yield from _counted("failed", evidence.slo.failed, len(rows), doubted, text, first)


def _wrong(evidence: Evidence) -> Iterator[Finding]:
    rows, doubtful = evidence.failed_on(evidence.channels)
    wrong = np.isin(evidence.samples.outcome[rows], _WRONG)
    rows, doubted = rows[wrong], int(doubtful[wrong].sum())
    text, first = f"{len(rows)} replies were cut short or wrong", _first(evidence, rows)
    yield from _counted("bad_body", evidence.slo.bad_body, len(rows), doubted, text, first)
    found = evidence.history.odd
    text = "{} replies answered ok were not as long as asked for"
    yield from _checked(evidence, "bad_body", evidence.slo.bad_body, found, text)


def _slow(evidence: Evidence) -> Iterator[Finding]:
    if evidence.slo.slow is None:
        return
    rows = evidence.slow(evidence.channels)
    doubtful = evidence.suspect.latency(evidence.samples, rows)
    worst = int(evidence.excess[rows].max(initial=0)) * 1e-6
    text = (
        f"{len(rows)} replies took longer than {written(evidence.slo.slow)} beyond think time, "
        f"the slowest {written(worst)}"
    )
    where = _first(evidence, rows) + _by_design(evidence, rows, evidence.slo.slow)
    yield from _counted("slow", 0, len(rows), int(doubtful.sum()), text, where)


def _by_design(evidence: Evidence, rows: Rows, slow: float) -> str:
    """Return what to do about the channels of these rows that were as slow before the deploy."""
    told = ""
    for name in (CHANNELS[code] for code in np.unique(evidence.samples.channel[rows]).tolist()):
        before = evidence.excess[evidence.replied((name,), BASELINE)]
        pauses = name == "stream"  # Each wait ends with the pause, so only the longest are whole.
        usual = percentile(before, 99 if pauses else 50) * 1e-6 if len(before) else 0.0
        if usual > slow:
            channel = evidence.recording.manifest.get("channels", {}).get(name, {})
            whole = written(usual + float(channel.get("think") or 0.0))
            most = math.ceil(percentile(before, 99) * 1e-6)
            what = f"half of the replies on {name} took {whole} or more"
            what = f"{name} was silent for {whole}" if pauses else what
            told += (
                f"; {what} before the deploy too: "
                f"where that is by design, {name}~{whole} tells so, or promise slow={most}s"
            )
    return told


def _first(evidence: Evidence, rows: Rows, *, named: bool = False) -> str:
    """Return where to look first: ``; first refused on new at +3.012 s``, or its id if `named`."""
    if not len(rows):
        return ""
    samples, row = evidence.samples, rows[0]
    outcome = Outcome(int(samples.outcome[row]))
    what = "" if outcome == Outcome.ok else f"{outcome.name} "
    if named:
        what = f"{request_id(evidence.recording.run, int(samples.seq[row]))} "
    channel = CHANNELS[samples.channel[row]]
    return f"; first {what}on {channel} at +{samples.due[row] - evidence.began:.3f} s"


def _writes(evidence: Evidence) -> Iterator[Finding]:
    found, slo, history = evidence.writes, evidence.slo, evidence.history
    text = f"{{}} of {found.ok} writes answered ok were lost"
    yield from _checked(evidence, "lost", slo.lost, history.lost, text)
    text = f"{{}} of {found.sent} writes ran more than once"
    yield from _checked(evidence, "twice", slo.twice, history.twice, text)
    text = "{} idempotency keys were answered ok and never had an effect"
    yield from _checked(evidence, "lost", slo.lost, history.key_lost, text)
    text = "{} idempotency keys had more than one effect"
    yield from _checked(evidence, "twice", slo.twice, history.key_twice, text)


def _arrivals(evidence: Evidence) -> Iterator[Finding]:
    slo, history = evidence.slo, evidence.history
    text = "{} requests arrived that nobody sent"
    yield from _checked(evidence, "phantom", slo.phantom, history.phantom, text)
    text = "{} requests were accepted before the instance was ready or after it stopped listening"
    yield from _checked(evidence, "early", slo.early, history.early, text)


def _streams(evidence: Evidence) -> Iterator[Finding]:
    slo, history = evidence.slo, evidence.history
    for name, allowed, found, text in (
        ("gaps", slo.gaps, history.gaps, "{} messages were left out of the streams"),
        ("repeats", slo.repeats, history.repeats, "{} messages of the streams came again"),
    ):
        if allowed is not None and found.count is None:
            told = f"no stream's message with a number for an id is on file, so {name} are unknown"
            yield Finding(name, told, False)
        yield from _checked(evidence, name, allowed, found, text)


def _backwards(evidence: Evidence) -> Iterator[Finding]:
    text = "{} replies sent a session back from the new version"
    found, allowed = evidence.history.backwards, evidence.slo.backwards
    if allowed is not None and found.count is None:
        told = "no reply told the new version, so whether a session went back is unknown"
        yield Finding("backwards", told, False)
    yield from _checked(evidence, "backwards", allowed, found, text)


def _checked(
    evidence: Evidence, name: str, allowed: int | None, found: Found, text: str
) -> Iterator[Finding]:
    """Yield a finding where a check of the history found more than allowed; nothing excuses it."""
    seen = found.count or 0
    yield from _counted(name, allowed, seen, 0, text.format(seen), found.first(evidence.began))


def _stale(evidence: Evidence) -> Iterator[Finding]:
    text = f"{{}} replies not from {evidence.stays} after the deploy"
    found = evidence.stale(evidence.channels)
    seen, first = found.count or 0, found.first(evidence.began)
    where = first + _until(evidence, found)
    yield from _counted("stale", evidence.slo.stale, seen, 0, text.format(seen), where)


def _until(evidence: Evidence, found: Found) -> str:
    """Return how long stale replies went on, and which `converge` would have allowed them."""
    if found.last is None:
        return ""
    end, last = evidence.window.end, found.last
    seen = evidence.last_ok(evidence.channels)
    told = f"; the last {written(last - end)} after the deploy's end"
    if last >= seen:
        return f"{told}, when the run ended"
    allowed = math.floor((last - end) * 1e3) + 1
    return f"{told}, of {written(seen - end)} seen (converge={allowed}ms would allow them)"


def _deploy(evidence: Evidence) -> Iterator[Finding]:
    aborted = evidence.slo.deploy == "aborted"
    if aborted and evidence.window.ended and not evidence.ends.given_up:
        yield Finding("deploy", "the deploy was done, promised was that it is aborted", True)


def _masked(evidence: Evidence) -> Iterator[Finding]:
    found = evidence.masked
    if found is None:
        return
    rows = evidence.on(evidence.channels, found.rows)
    doubtful = int(evidence.suspect.failure(evidence.samples, rows).sum())
    text = f"{len(rows)} requests were answered ok only after the proxy had tried again"
    first = _first(evidence, rows, named=True)
    yield from _counted("masked", evidence.slo.masked, len(rows), doubtful, text, first)


def _longest(evidence: Evidence) -> Iterator[Finding]:
    allowed = evidence.slo.longest_outage
    if allowed is not None:
        seen, standing = (
            max((o.min for o in evidence.charged(evidence.channels, standing=only)), default=0.0)
            for only in (False, True)
        )
        yield from _lasted("longest_outage", allowed, seen, standing, "the longest outage lasted")


def _downtime(evidence: Evidence) -> Iterator[Finding]:
    allowed = evidence.slo.downtime
    if allowed is not None:
        seen, standing = (
            downtime(evidence.charged(evidence.channels, standing=only))[0]
            for only in (False, True)
        )
        yield from _lasted("downtime", allowed, seen, standing, "all outages together lasted")


def _lasted(
    name: str, allowed: float, seen: float, standing: float, what: str
) -> Iterator[Finding]:
    """Yield a finding where an outage lasted longer than allowed even at its least."""
    if standing > allowed:
        text = f"{what} at least {written(standing)}, allowed {written(allowed)}"
        yield Finding(name, text, True)
    elif seen > allowed:
        yield Finding(name, f"{what} at least {written(seen)}, {_SUSPECT}", False)


def _rate(evidence: Evidence) -> Iterator[Finding]:
    """The failure rate in the deploy window must be proved, not only not disproved."""
    required = evidence.slo.require_rate
    if required is None:
        return
    rows, doubtful = evidence.failed_on(evidence.channels, DEPLOY)
    total, failed = evidence.asked(evidence.channels, DEPLOY), len(rows)
    if upper_rate(failed, total) < required:
        return
    stands = lower_rate(failed - int(doubtful.sum()), total) > required
    text = (
        f"{failed} of {total} failed in the deploy window: the failure rate is only known to be "
        f"below {bound(upper_rate(failed, total))}, required {bound(required)}: "
        f"takes {requests_needed(required)} requests without a failure"
    )
    yield Finding("require_rate", text, stands)


def _p99(evidence: Evidence) -> Iterator[Finding]:
    """Broken when a phase's p99 is over the limit even with both p99s at their kindest bound."""
    if evidence.slo.p99_ratio is None and evidence.slo.p99_over is None:
        return
    if not evidence.window.marked:
        return
    steady = evidence.timed(evidence.channels, BASELINE)
    if not steady.any():
        yield Finding("p99", "no ok reply in the baseline to compare p99 with", False)
        return
    for code, where in _LATENCIES:
        moved = evidence.timed(evidence.channels, code)
        if moved.any():
            yield from _held(evidence, steady, moved, where)
        elif code == DEPLOY or evidence.window.ended:
            yield Finding("p99", f"no ok reply {where} to compare p99 with", False)


def _held(evidence: Evidence, steady: Bools, moved: Bools, where: str) -> Iterator[Finding]:
    """Yield what is wrong with the p99 of the replies in `moved`, against those in `steady`."""
    every = [evidence.excess[found] for found in (steady, moved)]
    clean = [evidence.excess[_clean(evidence, found)] for found in (steady, moved)]
    text = _compared(evidence, where, *every)
    beyond_doubt = _compared(evidence, where, *clean) if all(map(len, clean)) else None
    if beyond_doubt is not None:
        stands = _beyond_chance(evidence, 1, *clean)
        note = "" if stands else f": too few requests to be sure{_enough(evidence, *clean)}"
        yield Finding("p99", beyond_doubt + note, stands)
    elif text is not None:
        yield Finding("p99", f"{text}, {_SUSPECT}", False)


def _clean(evidence: Evidence, replies: Bools) -> Bools | Rows:
    """Return the replies whose latency stands."""
    if not evidence.suspect.late:
        return replies
    rows = np.flatnonzero(replies)
    return rows[~evidence.suspect.latency(evidence.samples, rows)]


def _compared(evidence: Evidence, where: str, baseline: Ints, moved: Ints) -> str | None:
    """Return what is wrong with a phase's p99, None when it is within the limit."""
    steady, found = percentile(baseline, 99), percentile(moved, 99)
    limit = _limit(evidence, steady)
    if found <= limit:
        return None
    return (
        f"p99 {where} {written(found * 1e-6)} (of {len(moved)} replies), allowed "
        f"{written(limit * 1e-6)}: baseline p99 {written(steady * 1e-6)} (of {len(baseline)})"
    )


def _limit(evidence: Evidence, steady: int) -> float:
    """Return what a phase's p99 may be, microseconds, when the baseline's is `steady`."""
    ratio, over = evidence.slo.p99_ratio, evidence.slo.p99_over
    limits = [] if ratio is None else [ratio * max(steady, 0)]
    return min(limits + ([] if over is None else [steady + over * 1e6]))


def _beyond_chance(evidence: Evidence, times: int, baseline: Ints, moved: Ints) -> bool:
    """Whether the lower 95 % bound of one p99 is over the limit by the upper bound of the other.

    Had there been so many `times` as many replies, each of these as often.
    """
    above, below = upper_rank(99, times * len(baseline)), lower_rank(99, times * len(moved))
    if above is None or not below:
        return False
    steady = ranked(baseline, -(-above // times))
    return ranked(moved, -(-below // times)) > _limit(evidence, steady)


def _enough(evidence: Evidence, baseline: Ints, moved: Ints) -> str:
    """Return how many times as many would have decided it, had they gone on like these."""
    for times in _TIMES:
        if _beyond_chance(evidence, times, baseline, moved):
            rate = float(evidence.recording.manifest.get("rate") or 0.0)
            faster = f" (a rate of {times * rate:,.6g}/s, or so many times as long)" if rate else ""
            return f", {times} times as many like these would do{faster}"
    return f", nor would {_TIMES[-1]} times as many like these do"
