"""The judgement of a run: holds, broken or inconclusive, with everything that led to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zdtest.blame.attribution import Blame
from zdtest.blame.masked import Masked
from zdtest.history import CHECKS, History, Writes
from zdtest.judging import deployed, phase, promise, vacuity
from zdtest.judging.capacity import Capacity, capacity
from zdtest.judging.evidence import Evidence
from zdtest.judging.interval import upper_rate
from zdtest.judging.outage import Outage, downtime
from zdtest.judging.phase import Figures, Window
from zdtest.judging.slo import Slo
from zdtest.judging.summary import summary
from zdtest.records.recording import Recording
from zdtest.records.sample import Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA = 2
"""Version of verdict.json; 2 tells causes, price, faults and what was emulated."""

HOLDS, BROKEN, INCONCLUSIVE = "holds", "broken", "inconclusive"

_MEANT = {
    "done": "",
    "aborted": "promised: the deploy is given up",
    "again": "promised: a deploy that failed is made again, and done",
}
"""What a verdict says of what was to become of the deploy."""


@dataclass(frozen=True, slots=True)
class Channel:
    """What one channel amounts to; downtimes in seconds, at least and at most."""

    requests: int
    failed: int
    downtime: tuple[float, float]
    open: bool
    """Whether one of its outages had begun before the run, or went on when it ended: the longest
    that it was down is not known then, only that it may be more than that."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a run was judged. Times are seconds on the recording's clock, `began` its first due."""

    verdict: str
    """``holds``, ``broken`` or ``inconclusive``."""
    reasons: tuple[str, ...]
    """What was broken first, then why the run proves less than it could; empty when it holds."""
    run: str
    emulated: str
    """What stood in for something that the machine lacks, "" where nothing did."""
    slo: Slo
    began: float
    window: Window
    steady: float
    """Until when what fell due tells how long a request takes without a deploy."""
    requests: int
    """Requests that were sent or tried; `control` and `unsent` are never counted."""
    failed: int
    unsent: int
    undecided: int
    """Requests without a full reply that may have run."""
    offered_rate: float | None
    reached_rate: float | None
    phases: Mapping[str, Figures]
    channels: Mapping[str, Channel]
    outages: tuple[Outage, ...]
    brownouts: tuple[Outage, ...]
    downtime: tuple[float, float]
    """Seconds in which at least one channel was in an outage, at least and at most: or more, where
    one of the outages is open."""
    versions: Mapping[str, int]
    """Ok replies by version."""
    mixed: float
    """Seconds of due time in which both versions answered."""
    stale: int
    """Replies that were not from the new version after the deploy had settled."""
    history: History
    """What the client's account and the app's say together."""
    masked: Masked | None
    """What the proxy's log says of the requests answered ok, None where there is none."""
    blame: Blame
    """The cause of each failed request."""
    price: Capacity
    """What the deploy cost beside the failures."""
    faults: tuple[str, ...]
    """What was broken on purpose meanwhile, such as ``kill a``."""
    worst: float | None
    """The lowest availability of any 100 ms, 0..1; None where nothing was due."""
    suspect: Mapping[str, tuple[tuple[float, float], ...]]
    """Windows of doubt: the control ``failed`` or was ``slow``, the generator ``stalled``."""
    doubtful: int
    """Failures that do not stand, because they fell into those."""
    unchecked: str
    """That nobody looked whether anything was deployed, "" where somebody did."""

    @property
    def writes(self) -> Writes:
        """What became of the writes."""
        return self.history.writes

    @property
    def failed_upper95(self) -> float:
        """The failure rate is below this at 95 % (exact binomial, one-sided)."""
        return upper_rate(self.failed, self.requests)

    @property
    def scope(self) -> str:
        """What is promised other than usual, and what is not checked; "" where nothing is.

        That the deploy is aborted, some channels alone, with how those left out fared, and each
        other promise with its default.
        """
        return "; ".join(self.scopes)

    @property
    def scopes(self) -> list[str]:
        """The parts of the scope."""
        told = (_MEANT[self.slo.deploy], self._left_out(), self.slo.changes(), self.unchecked)
        return [one for one in told if one]

    def _left_out(self) -> str:
        spoken = self.slo.channels
        silent = {name: one for name, one in self.channels.items() if name not in (spoken or ())}
        if spoken is None or not silent:
            return ""
        failed = sum(one.failed for one in silent.values())
        requests = sum(one.requests for one in silent.values())
        return (
            f"promised for {' and '.join(spoken)} alone: "
            f"on {' and '.join(silent)} {failed} of {requests} failed"
        )

    def as_json(self) -> dict[str, object]:
        """Return what verdict.json holds: milliseconds, and ``_s`` seconds from `began`."""
        least, most = self.downtime
        return {
            "schema": SCHEMA,
            "run": self.run,
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "scope": self.scope,
            "emulated": self.emulated,
            "requests": self.requests,
            "failed": self.failed,
            "failed_upper95": self.failed_upper95,
            "unsent": self.unsent,
            "undecided": self.undecided,
            "offered_rate": self.offered_rate,
            "reached_rate": self.reached_rate,
            "window": {
                "begin_s": self.window.begin - self.began if self.window.marked else None,
                "end_s": self.window.end - self.began if self.window.ended else None,
                "steady_s": self.steady - self.began if self.window.marked else None,
            },
            "phases": {name: figures.as_json() for name, figures in self.phases.items()},
            "channels": {name: _channel_json(told) for name, told in self.channels.items()},
            "downtime_min_ms": least * 1e3,
            "downtime_max_ms": most * 1e3,
            "downtime_open": any(outage.open for outage in self.outages),
            "availability_100ms_worst": self.worst,
            "outages": [self._outage_json(outage) for outage in self.outages],
            "brownouts": [self._outage_json(outage) for outage in self.brownouts],
            "versions": dict(self.versions),
            "mixed_ms": self.mixed * 1e3,
            "stale": self.stale,
            "writes": {
                name: getattr(self.writes, name)
                for name in ("sent", "ok", "lost", "twice", "undecided", "phantom")
            },
            "masked": None if self.masked is None else self.masked.as_json(self.began),
            "blame": self.blame.as_json(self.began),
            "price": self.price.as_json(),
            "faults": list(self.faults),
            "correctness": self._correctness(),
            "suspect": {
                **{f"{name}_s": self._spans(spans) for name, spans in self.suspect.items()},
                "failed": self.doubtful,
            },
            "slo": self.slo.as_dict(),
        }

    def _correctness(self) -> dict[str, object]:
        """Return what each check counted, null where it lacks the account that it takes."""
        found = {name: getattr(self.history, name) for name in CHECKS}
        return {
            **{name: check.count for name, check in found.items()},
            "retried": self.history.retried,
            "resumed": self.history.resumed,
            "undecided": self.writes.undecided,
            "undecided_ran": self.writes.undecided_ran,
            "witnesses": {
                name: [witness.as_json(self.began) for witness in check.witnesses]
                for name, check in found.items()
                if check.witnesses
            },
        }

    def _outage_json(self, outage: Outage) -> dict[str, object]:
        return {
            "channel": outage.channel,
            "start_s": outage.start - self.began,
            "min_ms": outage.min * 1e3,
            "max_ms": outage.max * 1e3,
            "failed": outage.failed,
            "total": outage.total,
            "outcomes": dict(outage.outcomes),
            "open_start": outage.open_start,
            "open_end": outage.open_end,
        }

    def _spans(self, spans: tuple[tuple[float, float], ...]) -> list[list[float]]:
        return [[begin - self.began, end - self.began] for begin, end in spans]

    def summary(self) -> str:
        """Return the verdict in a few lines for a terminal."""
        return summary(self)


def judge(recording: Recording, slo: Slo) -> Verdict:
    """Return the verdict on `recording` by the promises of `slo`; nothing is written.

    Broken when one promise was not kept by evidence that stands; inconclusive when nothing is
    broken but the run proves nothing; holds otherwise.
    """
    evidence = Evidence.of(recording, slo)
    found = promise.findings(evidence)
    broken = [finding.text for finding in found if finding.stands]
    unsure = [finding.text for finding in found if not finding.stands]
    notes = [*vacuity.ailing(evidence), *unsure, *vacuity.reasons(evidence)]
    notes = [f"inconclusive: {note}" for note in notes]
    verdict = BROKEN if broken else INCONCLUSIVE if notes else HOLDS
    return _verdict(evidence, verdict, tuple(broken + notes))


def _verdict(evidence: Evidence, verdict: str, reasons: tuple[str, ...]) -> Verdict:
    recording, everything = evidence.recording, evidence.seen
    trailer: Mapping[str, Any] = recording.trailer or {}
    outages = tuple(evidence.outages(everything))
    return Verdict(
        verdict=verdict,
        reasons=reasons,
        run=recording.run,
        emulated=str(recording.manifest.get("emulated") or ""),
        slo=evidence.slo,
        began=evidence.began,
        window=evidence.window,
        steady=evidence.steady,
        requests=evidence.requests(everything),
        failed=evidence.failures(everything),
        unsent=evidence.outcome(Outcome.unsent),
        undecided=evidence.undecided,
        offered_rate=trailer.get("offered_rate", recording.manifest.get("rate")),
        reached_rate=trailer.get("reached_rate"),
        phases=_phases(evidence),
        channels={name: _channel(evidence, name, outages) for name in everything},
        outages=outages,
        brownouts=tuple(evidence.brownouts()),
        downtime=downtime(outages),
        versions=evidence.told,
        mixed=evidence.mixed(),
        stale=evidence.history.stale.count or 0,
        history=evidence.history,
        masked=evidence.masked,
        blame=Blame.of(recording, evidence.failed, evidence.doubtful),
        price=capacity(recording),
        faults=tuple(str(about.get("fault", "")) for _, _, about in recording.spans("fault")),
        worst=_worst(evidence.availability()),
        suspect={
            name: tuple(getattr(evidence.suspect, name)) for name in ("failed", "slow", "stalled")
        },
        doubtful=int(evidence.doubtful.sum()),
        unchecked=deployed.unchecked(evidence),
    )


def _phases(evidence: Evidence) -> dict[str, Figures]:
    everything = evidence.seen
    return {
        name: phase.figures(
            evidence.requests(everything, code),
            evidence.failures(everything, code),
            _latencies(evidence, code),
        )
        for code, name in enumerate(phase.PHASES)
    }


def _latencies(evidence: Evidence, code: int) -> NDArray[np.int64]:
    """Return what the replies of a phase took; those under way were chosen by having taken long."""
    if code == phase.UNDER_WAY:
        return np.empty(0, np.int64)
    return evidence.took(evidence.timed(evidence.seen, code))


def _channel(evidence: Evidence, name: str, outages: tuple[Outage, ...]) -> Channel:
    own = [outage for outage in outages if outage.channel == name]
    return Channel(
        requests=evidence.requests((name,)),
        failed=evidence.failures((name,)),
        downtime=downtime(own),
        open=any(outage.open for outage in own),
    )


def _channel_json(channel: Channel) -> dict[str, object]:
    least, most = channel.downtime
    return {
        "requests": channel.requests,
        "failed": channel.failed,
        "downtime_min_ms": least * 1e3,
        "downtime_max_ms": most * 1e3,
        "downtime_open": channel.open,
    }


def _worst(availability: NDArray[np.int64]) -> float | None:
    """Return the lowest share of ok among the steps in which something was due."""
    due = availability[availability[:, 1] > 0]
    return float((due[:, 0] / due[:, 1]).min()) if len(due) else None
