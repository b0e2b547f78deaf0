"""The promises of an `Slo`, each a small function from the evidence to what it found broken."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from zdtest.duration import written
from zdtest.history import Found
from zdtest.judging.evidence import Evidence
from zdtest.judging.finding import SUSPECT, Finding
from zdtest.judging.interval import lower_rate, requests_needed, upper_rate
from zdtest.judging.outage import downtime
from zdtest.judging.p99 import p99
from zdtest.judging.phase import BASELINE, DEPLOY, UNDER_WAY, percentile
from zdtest.percent import bound
from zdtest.records.recording import request_id
from zdtest.records.sample import CHANNELS, Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.intp]

_TORN = "but lines of the app's journal cannot be read, which may tell otherwise"
_WRONG = (Outcome.truncated, Outcome.bad_body, Outcome.wrong_version)


def findings(evidence: Evidence) -> list[Finding]:
    """Return what was found against each promise, in the order of the `Slo`."""
    checks = (
        *(_failed, _wrong, p99, _slow, _writes, _arrivals, _backwards),
        *(_streams, _stale, _deploy, _masked, _longest, _downtime, _rate),
    )
    return [found for check in checks for found in check(evidence)]


def _counted(
    name: str,
    allowed: int | None,
    seen: int,
    doubtful: int,
    text: str,
    where: str = "",
    doubt: str = SUSPECT,
) -> Iterator[Finding]:
    """Yield a finding where more than `allowed` were seen; it stands on those beyond doubt."""
    if allowed is not None and seen > allowed:
        stands = seen - doubtful > allowed
        note = "" if stands else f", {doubt}"
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
    found = evidence.history.odd
    if odd := found.count or 0:
        also = f"{odd} replies answered ok were not as long as asked for"
        text = f"{text}, and {also}" if len(rows) else also
    seen, where = len(rows) + odd, first or found.first(evidence.began)
    yield from _counted("bad_body", evidence.slo.bad_body, seen, doubted, text, where)


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
    if evidence.left_out("write"):
        return
    found, slo, history = evidence.writes, evidence.slo, evidence.history
    unread = evidence.damage_of_journal
    text = f"{{}} of {found.ok} writes answered ok were lost"
    yield from _checked(evidence, "lost", slo.lost, history.lost, text, unread)
    text = f"{{}} of {found.sent} writes ran more than once"
    yield from _checked(evidence, "twice", slo.twice, history.twice, text)
    text = "{} idempotency keys were answered ok and never had an effect"
    yield from _checked(evidence, "lost", slo.lost, history.key_lost, text, unread)
    text = "{} idempotency keys had more than one effect"
    yield from _checked(evidence, "twice", slo.twice, history.key_twice, text)


def _arrivals(evidence: Evidence) -> Iterator[Finding]:
    slo, history = evidence.slo, evidence.history
    text = "{} requests arrived that nobody sent"
    yield from _checked(evidence, "phantom", slo.phantom, history.phantom, text)
    text = "{} requests were accepted before the instance was ready or after it stopped listening"
    # One line about its life is enough to be wrong about all that it served.
    doubtful = (history.early.count or 0) if evidence.damage_of_journal else 0
    yield from _checked(evidence, "early", slo.early, history.early, text, doubtful)


def _streams(evidence: Evidence) -> Iterator[Finding]:
    if evidence.left_out("stream"):
        return
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
    evidence: Evidence,
    name: str,
    allowed: int | None,
    found: Found,
    text: str,
    doubtful: int = 0,
) -> Iterator[Finding]:
    """Yield a finding where a check of the history found more than allowed.

    Nothing excuses it but a line of the journal that cannot be read, and may tell of what lacks.
    """
    seen, first = found.count or 0, found.first(evidence.began)
    yield from _counted(name, allowed, seen, doubtful, text.format(seen), first, _TORN)


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
        yield Finding(name, f"{what} at least {written(seen)}, {SUSPECT}", False)


def _rate(evidence: Evidence) -> Iterator[Finding]:
    """The failure rate in the deploy window must be proved, not only not disproved.

    What the deploy did to those that were under way as it began counts against the proof; as each
    was there for having taken long, how many of them failed disproves nothing.
    """
    required = evidence.slo.require_rate
    if required is None:
        return
    rows, doubtful = evidence.failed_on(evidence.channels, DEPLOY)
    total, failed = evidence.asked(evidence.channels, DEPLOY), len(rows)
    before = len(evidence.failed_on(evidence.channels, UNDER_WAY)[0])
    if upper_rate(failed + before, total + before) < required:
        return
    stands = lower_rate(failed - int(doubtful.sum()), total) > required
    also = f", and {before} that were under way as it began" if before else ""
    text = (
        f"{failed} of {total} failed in the deploy window{also}: the failure rate is only known to "
        f"be below {bound(upper_rate(failed + before, total + before))}, required "
        f"{bound(required)}: takes {requests_needed(required)} requests without a failure"
    )
    yield Finding("require_rate", text, stands)
