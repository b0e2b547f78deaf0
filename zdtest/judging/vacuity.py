"""Why a run with nothing broken may still prove nothing: each rule a small function."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from zdtest.duration import written
from zdtest.judging.deployed import unchanged, version
from zdtest.judging.evidence import Evidence
from zdtest.judging.phase import DEPLOY, UNDER_WAY, spans
from zdtest.percent import share
from zdtest.records import crew
from zdtest.records.numbering import Numbering
from zdtest.records.recording import PROXY_LOG
from zdtest.records.sample import CHANNELS, Mark, Outcome

REACHED = 0.99
"""The share of the offered rate that must have been reached."""

_TOLD_BY_JOURNAL = {
    "lost": ("lost", "key_lost"),
    "twice": ("twice", "key_twice"),
    "phantom": ("phantom",),
    "early": ("early",),
}
"""The promises that take the app's journal, and what is counted for each."""


def reasons(evidence: Evidence) -> list[str]:
    """Return everything that keeps the run from proving that its promises hold."""
    rules = (
        *(_interrupted, _ended, _asleep, _trailer, _damage, _workers, _numbers, _schedule),
        *(_rate, _generator, _deploy, _watched, _faults, version, unchanged, _settled, _requests),
        *(_channels, _keys, _journal, _proxy),
    )
    return [reason for rule in rules for reason in rule(evidence)]


def ailing(evidence: Evidence) -> list[str]:
    """Return which channels did not work before the deploy: told before all else that is unproved.

    What failed on them until they did is no evidence of the deploy, and breaks no promise.
    """
    found = []
    for channel in evidence.channels:
        rows = evidence.ailing_on(channel)
        if not len(rows):
            continue
        samples, row = evidence.samples, rows[0]
        status = f" {samples.status[row]}" if samples.status[row] else ""
        what = f"{Outcome(int(samples.outcome[row])).name}{status}"
        first = f"first {what} at +{samples.due[row] - evidence.began:.3f} s"
        if evidence.ok(channel):
            begun = f"channel {channel} did not work before the deploy"
            told = f"until its first good reply {len(rows)} requests failed, {first}"
        else:
            begun = f"channel {channel} never worked"
            told = f"{len(rows)} of {evidence.requests((channel,))} requests failed, {first}"
        found.append(
            f"{begun}: {told}. It is misconfigured, or was down already: "
            f"what the deploy does to it is not known"
        )
    return found


def _interrupted(evidence: Evidence) -> Iterator[str]:
    for mark in evidence.recording.marks:
        if mark.name == "run.interrupted":
            by = mark.about.get("by", "somebody")
            yield f"the run was interrupted by {by}{_when(evidence, mark)}"


def _ended(evidence: Evidence) -> Iterator[str]:
    """A load that somebody ended closes its recording as one does that was to end then."""
    for mark in evidence.recording.marks:
        if mark.name == "load.failed":
            yield f"{mark.about.get('why', 'the load failed')}{_when(evidence, mark)}"


def _when(evidence: Evidence, mark: Mark) -> str:
    if not len(evidence.samples):
        return " before the first request"
    return f" at +{mark.at - evidence.began:.3f} s"


def _asleep(evidence: Evidence) -> Iterator[str]:
    """The clock of the schedule stands still while the machine is suspended; users' does not."""
    for mark in evidence.recording.marks:
        if mark.name == "machine.suspended":
            yield f"the machine was suspended for {mark.about.get('seconds')} s: nothing was sent"


def _trailer(evidence: Evidence) -> Iterator[str]:
    trailer, rows = evidence.recording.trailer, len(evidence.samples)
    if trailer is None:
        yield evidence.recording.cut or "the recorder did not close its file"
        return
    if trailer.get("count") != rows:
        yield f"{rows} samples are on file, the recorder wrote {trailer.get('count')}"
    if trailer.get("dropped"):
        yield f"the recorder dropped {trailer['dropped']} samples"
    ended = float(trailer.get("ended") or 0.0)
    if trailer.get("interrupted") and not ended > evidence.window.end:
        yield "the load was interrupted before the deploy ended"


def _damage(evidence: Evidence) -> Iterator[str]:
    """What could not be read may have told of anything; the proxy's log has a rule of its own."""
    for name, lines in evidence.recording.damage.items():
        if name != PROXY_LOG:
            which = "1 line" if lines == 1 else f"{lines} lines"
            yield f"{name} is damaged: {which} of it cannot be read"


def _workers(evidence: Evidence) -> Iterator[str]:
    yield from crew.faults(evidence.recording.trailer)


def _numbers(evidence: Evidence) -> Iterator[str]:
    if evidence.recording.trailer is None:
        return
    numbers = Numbering.of(evidence.samples, until=evidence.window.end)
    if numbers.impossible:
        yield (
            f"a request has the number {numbers.total - 1}, of {len(evidence.samples)} on file: "
            f"samples.arrows is damaged"
        )
    elif numbers.missing:
        yield f"{numbers.missing} of the first {numbers.total} requests are not on file"
    if numbers.doubled:
        yield f"{numbers.doubled} requests have the number of another one"


def _schedule(evidence: Evidence) -> Iterator[str]:
    """The schedule is even: where nothing fell due, rows are missing or a clock was moved."""
    samples, began = evidence.samples, evidence.began
    for name, told in evidence.recording.manifest.get("channels", {}).items():
        due = samples.due[samples.channel == CHANNELS.index(name)] if name in CHANNELS else ()
        interval = float(told.get("interval") or 0.0)
        if len(due) < 2 or not interval:
            continue
        steps = np.diff(due)
        widest = int(steps.argmax())
        if steps[widest] > 2 * interval + evidence.slo.hole:
            yield (
                f"on {name} nothing fell due for {written(float(steps[widest]))} at "
                f"+{due[widest] - began:.3f} s, though every {written(interval)} something should"
            )


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
    for name, windows in zip(_senders(evidence), evidence.suspect.holes, strict=True):
        for begin, end in windows:
            if begin <= window.end and end >= window.begin:
                yield (
                    f"{name} stalled for {(end - begin) * 1e3:.0f} ms at "
                    f"+{begin - began:.3f} s, inside the deploy window: an outage could hide there"
                )


def _senders(evidence: Evidence) -> list[str]:
    """Return what to call each process that sent, by number."""
    stalls, workers = evidence.suspect.stalls, crew.carried(evidence.recording.trailer)
    if len(stalls) == 1:
        return ["the load generator"]
    return [crew.named(one) for one in workers] or [f"worker {n}" for n in range(len(stalls))]


def _deploy(evidence: Evidence) -> Iterator[str]:
    ends, promised = evidence.ends, evidence.slo.deploy
    failure = ends.last_failure if promised == "again" else ends.failure
    if not evidence.window.marked:
        yield "no deploy was marked in this run (deploy.begin)"
    elif not evidence.window.ended:
        yield "the deploy's end was not marked (deploy.end)"
    elif ends.never_began:
        yield f"the deploy never began: {ends.never_began}"
    elif ends.broke_off:
        yield f"the deploy broke off: {ends.broke_off}"
    elif failure and promised != "aborted":
        yield f"the deploy failed: {failure}"
    elif failure and ends.timed_out:
        yield f"nobody gave the deploy up, we ended it: {failure}"
    elif promised == "again" and not ends.failure:
        yield "no deploy failed, so none was made again as promised"


def _watched(evidence: Evidence) -> Iterator[str]:
    """The deploy lies within the load, else it was not all seen, or a clock was moved."""
    trailer, window = evidence.recording.trailer or {}, evidence.window
    began, ended = trailer.get("began"), trailer.get("ended")
    if began is None or ended is None or not window.marked:
        return
    told = evidence.recording.manifest.get("channels", {}).values()
    intervals = [float(one.get("interval") or 0.0) for one in told]
    slack = evidence.slo.stall + min(intervals, default=0.0)
    if window.begin < began - slack:
        yield f"the deploy began {written(began - window.begin)} before the load did"
    if window.ended and window.end > ended + slack and not trailer.get("interrupted"):
        yield f"the deploy ended {written(window.end - ended)} after the load did"


def _faults(evidence: Evidence) -> Iterator[str]:
    """Of a fault that did nothing, or came when nobody asked, nothing is known."""
    recording = evidence.recording
    trailer = recording.trailer or {}
    began, ended = trailer.get("began"), trailer.get("ended")
    for begin, end, about in recording.spans("fault"):
        name = about.get("fault", "a fault")
        told = [
            mark
            for mark in recording.marks
            if begin <= mark.at <= end and mark.about.get("fault") == about.get("fault")
        ]
        errors = [mark.about["error"] for mark in told if "error" in mark.about]
        if errors:
            yield f"fault {name}: {errors[0]}"
        elif not any(mark.name == "fault.proven" for mark in told):
            yield f"fault {name} was never proven to take effect"
        elif end == np.inf:
            yield f"fault {name} was never proven to be gone"
        elif began is not None and ended is not None and (end < began or begin > ended):
            yield f"fault {name} came while no load was on"


def _settled(evidence: Evidence) -> Iterator[str]:
    """Who answers in the end has to be seen where it is promised."""
    slo, stays = evidence.slo, evidence.stays
    if slo.stale is None or not evidence.window.ended:
        return
    if evidence.stale(evidence.channels).count is not None:
        return
    if slo.deploy == "aborted":
        who = f"the old version {stays}" if stays else "the old version"
        yield f"that {who} alone answers afterwards was not seen"
    elif evidence.replies(stays):
        yield "nothing was answered after the deploy had settled: who answers then was not seen"


def _requests(evidence: Evidence) -> Iterator[str]:
    needed, window = evidence.slo.min_requests, evidence.window
    found = evidence.requests(evidence.channels, DEPLOY)
    if not window.marked:
        return
    if found >= needed:
        yield from _unseen(evidence)
        return
    few = f"only {found} requests fell due inside the deploy window, needs {needed}"
    if window.ended and len(evidence.samples):
        few += f": it took {written(window.end - window.begin)}; let the command wait until the "
        few += f"deploy is over{_faster(evidence, needed / found if found else 0.0)}"
    yield few


def _unseen(evidence: Evidence) -> Iterator[str]:
    """Of several deploys one may be so short that nothing was asked in it."""
    samples = evidence.samples
    asked = np.isin(samples.channel, [CHANNELS.index(name) for name in evidence.channels])
    due = samples.due[asked & (samples.outcome != Outcome.unsent)]
    for begin, end, _ in spans(evidence.recording):
        if end == np.inf:
            continue  # which is said by itself
        if np.searchsorted(due, begin) == np.searchsorted(due, end, "right"):
            at = f"+{begin - evidence.began:.3f} s"
            yield f"no request fell due inside the deploy at {at}: it took {written(end - begin)}"


def _faster(evidence: Evidence, times: float) -> str:
    """Return at which rate so many times as many would have come, "" where that is not known."""
    # A tenth more: how many fall into so short a time depends on where it begins.
    rate = float(evidence.recording.manifest.get("rate") or 0.0) * times * 1.1
    return f", or send {math.ceil(rate):,} requests/s" if rate else ""


def _channels(evidence: Evidence) -> Iterator[str]:
    if not len(evidence.samples):
        yield "no request was recorded"
    for channel in evidence.channels:
        if not evidence.ok(channel):
            if not len(evidence.ailing_on(channel)):
                yield f"channel {channel} has no ok reply"
        elif evidence.window.marked and not evidence.requests((channel,), UNDER_WAY, DEPLOY):
            yield f"no request of channel {channel} fell inside the deploy window"


def _keys(evidence: Evidence) -> Iterator[str]:
    """A write asked again stands for one whose key may have had its effect under another id."""
    if evidence.history.unkept:
        yield (
            "retries.arrows is missing, or was not closed: which writes were asked again under "
            "their key is unknown, and so is what became of them"
        )


def _journal(evidence: Evidence) -> Iterator[str]:
    """Where the app keeps a journal, a promise that takes it is not kept by its being lost."""
    history = evidence.history
    if not evidence.recording.manifest.get("journal"):
        return
    for name, checks in _TOLD_BY_JOURNAL.items():
        told = [getattr(history, one).count for one in checks if one == name or history.keyed]
        known = None not in told or (name == "lost" and history.unkept)  # which has said why
        if getattr(evidence.slo, name) is not None and not known:
            yield f"the app's journal is missing, or lacks what tells {name}: that is unknown"


def _proxy(evidence: Evidence) -> Iterator[str]:
    """Whoever promises that nothing was tried again has to have the proxy's word for it."""
    if evidence.slo.masked is None:
        return
    found = evidence.masked
    if found is None:
        yield "there is no proxy's log, so how many requests it tried again is unknown"
        return
    known, unknown = (
        len(evidence.on(evidence.channels, rows)) for rows in (found.logged, found.unlogged)
    )
    if unknown:
        total = known + unknown
        yield (
            f"the proxy's log lacks {unknown} of {total} requests answered ok: how many of them it "
            f"tried again is unknown"
        )
    elif not known:
        yield "the proxy's log has no request answered ok: how many it tried again is unknown"
