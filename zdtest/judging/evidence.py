"""What a recording shows, worked out once for all promises: plain numbers, nothing judged yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zdtest.blame.masked import Masked
from zdtest.history import Found, History, Writes, stale
from zdtest.judging import phase, suspect
from zdtest.judging.ailing import well_since
from zdtest.judging.counts import by_outcome, by_version
from zdtest.judging.ends import Ends
from zdtest.judging.mixed import mixed
from zdtest.judging.outage import Outage, availability, doubted, outages
from zdtest.judging.phase import Window
from zdtest.judging.slo import Slo
from zdtest.judging.suspect import Suspect
from zdtest.records import crew
from zdtest.records.recording import Recording, Samples
from zdtest.records.sample import CHANNELS, MAY_HAVE_RUN, Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Rows = NDArray[np.intp]
    Ints = NDArray[np.int64]

_CONTROL, _STREAM = CHANNELS.index("control"), CHANNELS.index("stream")
_PASSING = (Outcome.ok, Outcome.unsent)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the promises ask of a recording; the system is every channel but `control`."""

    recording: Recording
    slo: Slo
    window: Window
    suspect: Suspect
    phase: NDArray[np.uint8]
    steady: float
    """Until when what fell due tells how long a request takes without a deploy."""
    excess: Ints
    """Latency beyond think time of every sample, whole microseconds."""
    counts: Ints
    """Samples by [phase, channel, outcome]."""
    versions: Ints
    """Ok replies of the system by [phase, version code]."""
    failed: Rows
    """The failed requests of the system."""
    doubtful: Bools
    """Which of those do not stand."""
    ailing: Bools
    """Which of those fell due before their channel worked at all: none of the deploy's doing."""
    history: History
    """What the client's account and the app's say together."""
    masked: Masked | None
    """What the client's account and the proxy's say together, None where there is no such log."""

    @classmethod
    def of(cls, recording: Recording, slo: Slo) -> Evidence:
        """Return what `recording` shows, seen with the bounds of `slo`."""
        samples, manifest = recording.samples, recording.manifest
        window = Window.of(recording)
        phases = phase.codes(samples, [(begin, end) for begin, end, _ in phase.spans(recording)])
        channels: Mapping[str, Mapping[str, Any]] = manifest.get("channels", {})
        doubts = suspect.find(samples, slo.stall, slo.hole, _workers(recording))
        failed = np.flatnonzero((samples.channel != _CONTROL) & ~np.isin(samples.outcome, _PASSING))
        counts, excess = by_outcome(samples, phases), phase.excess(samples, channels)
        thinks = phase.think(channels)
        timed = (samples.outcome == Outcome.ok) & ~np.isin(samples.channel, (_CONTROL, _STREAM))
        since = well_since(samples, counts, window.begin)
        return cls(
            recording=recording,
            slo=slo,
            window=window,
            suspect=doubts,
            phase=phases,
            steady=phase.steady(samples, timed, excess, window.begin, thinks, slo.p99_limit),
            excess=excess,
            counts=counts,
            versions=by_version(samples, phases),
            failed=failed,
            doubtful=doubts.failure(samples, failed),
            ailing=samples.due[failed] < since[samples.channel[failed]],
            history=History.of(
                recording,
                _new_version(recording),
                stays=_stays(recording, slo),
                settled=_settled(recording, window, slo),
            ),
            masked=Masked.of(recording),
        )

    @property
    def samples(self) -> Samples:
        """All samples of the recording."""
        return self.recording.samples

    @property
    def began(self) -> float:
        """The first due time: where ``start_s`` counts from."""
        return float(self.samples.due[0]) if len(self.samples) else 0.0

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that the promises speak of."""
        return self.slo.spoken(self.recording.manifest) or self.seen

    def left_out(self, channel: str) -> bool:
        """Whether the promises speak of other channels alone."""
        return self.slo.channels is not None and channel not in self.channels

    @property
    def seen(self) -> tuple[str, ...]:
        """The system's channels in the manifest, or with a sample."""
        told = self.recording.manifest.get("channels", {})
        sampled = self.counts.sum(axis=(0, 2))
        return tuple(
            name
            for code, name in enumerate(CHANNELS)
            if code != _CONTROL and (name in told or sampled[code])
        )

    def requests(self, channels: tuple[str, ...], *phases: int) -> int:
        """Return how many requests of these channels (and phases, else all) were sent or tried."""
        counts = self._of(channels, phases)
        return int(counts.sum() - counts[:, :, Outcome.unsent].sum())

    def failures(self, channels: tuple[str, ...], *phases: int) -> int:
        """Return how many of those failed."""
        counts = self._of(channels, phases)
        return self.requests(channels, *phases) - int(counts[:, :, Outcome.ok].sum())

    def ok(self, channel: str) -> int:
        """Return how many requests of the channel were answered ok."""
        return int(self._of((channel,), ())[:, :, Outcome.ok].sum())

    def last_ok(self, channels: tuple[str, ...]) -> float:
        """Return when the last request of these channels fell due that was answered ok."""
        ok = self._on(channels)[self.samples.channel] & (self.samples.outcome == Outcome.ok)
        return float(self.samples.due[ok].max(initial=-np.inf))

    def outcome(self, *outcomes: Outcome) -> int:
        """Return how many samples of the system ended so."""
        return int(self._of(self.seen, ())[:, :, list(outcomes)].sum())

    @property
    def undecided(self) -> int:
        """How many requests may have run, though their answer never came."""
        return self.outcome(*MAY_HAVE_RUN)

    def _of(self, channels: tuple[str, ...], phases: tuple[int, ...]) -> Ints:
        rows = self.counts[list(phases)] if phases else self.counts
        found: Ints = rows[:, [CHANNELS.index(name) for name in channels]]
        return found

    def failed_on(self, channels: tuple[str, ...], *phases: int) -> tuple[Rows, Bools]:
        """Return the failed rows of these channels (and phases), and which of them are doubtful.

        Those of a channel that did not work yet are left out.
        """
        on = self._on(channels)[self.samples.channel[self.failed]] & ~self.ailing
        if phases:
            on &= np.isin(self.phase[self.failed], phases)
        return self.failed[on], self.doubtful[on]

    def ailing_on(self, channel: str) -> Rows:
        """Return the failed rows of the channel from before it worked; none where it was well."""
        return self.on((channel,), self.failed[self.ailing])

    def asked(self, channels: tuple[str, ...], *phases: int) -> int:
        """Return how many there were, less those that failed before their channel worked."""
        ill = self.on(channels, self.failed[self.ailing])
        if phases:
            ill = ill[np.isin(self.phase[ill], phases)]
        return self.requests(channels, *phases) - len(ill)

    def on(self, channels: tuple[str, ...], rows: Rows) -> Rows:
        """Return those of the rows that are on these channels."""
        return rows[self._on(channels)[self.samples.channel[rows]]]

    def replied(self, channels: tuple[str, ...], only: int | None = None) -> Bools:
        """Return which samples of these channels (and that phase, else all) are ok replies."""
        chosen: Bools = self._on(channels)[self.samples.channel]
        chosen &= self.samples.outcome == Outcome.ok
        if only is not None:
            chosen &= self.phase == only
        return chosen

    def timed(self, channels: tuple[str, ...], code: int) -> Bools:
        """Return which of those have a latency that tells how long a request takes in that phase.

        A message of a stream comes when it comes: it is late once the stream was silent for too
        long, but not quick because the next one happened to be near. What was only under way as the
        deploy began says something of the time before, not of that of the deploy.
        """
        chosen = self.replied(tuple(name for name in channels if name != "stream"))
        return chosen & phase.telling(self.samples, self.phase, code, self.steady)

    def took(self, chosen: Bools | Rows) -> Ints:
        """Return what these took beyond their think time, whole microseconds."""
        return phase.took(self.samples, self.excess, chosen, self.window.begin, self.think)

    @property
    def think(self) -> Ints:
        """How long a reply takes by design, whole microseconds by channel code."""
        return phase.think(self.recording.manifest.get("channels", {}))

    @staticmethod
    def _on(channels: tuple[str, ...]) -> Bools:
        return np.array([name in channels for name in CHANNELS])

    def slow(self, channels: tuple[str, ...]) -> Rows:
        """Return the ok replies of these channels that are slower than promised."""
        if self.slo.slow is None:
            return np.empty(0, np.intp)
        beyond = self.excess > round(self.slo.slow * 1e6)
        return np.flatnonzero(beyond & self.replied(channels) if beyond.any() else beyond)

    def outages(self, channels: tuple[str, ...]) -> list[Outage]:
        """Return the outages of these channels, whatever they prove."""
        rows = self.on(channels, self.failed)
        return self._sized(self._mask(rows))

    def charged(self, channels: tuple[str, ...], *, standing: bool) -> list[Outage]:
        """Return those that count against a promise; `standing` looks past doubtful failures too.

        Failures that do not count neither belong to an outage nor end one.
        """
        rows, doubtful = self.failed_on(channels)
        rows = rows[~doubtful] if standing else rows
        among = ~self._mask(np.setdiff1d(self.on(channels, self.failed), rows, assume_unique=True))
        return self._sized(self._mask(rows), among)

    def _sized(self, bad: Bools, among: Bools | None = None) -> list[Outage]:
        """Return when these were bad, with what the workers' clocks leave uncertain."""
        found = outages(self.samples, bad, self.slo.merge, among=among, think=self.think)
        trailer = self.recording.trailer
        return doubted(found, crew.clock_error(trailer), crew.lookup(trailer))

    def brownouts(self) -> list[Outage]:
        """Return when replies were ok but slower than promised."""
        return self._sized(self._mask(self.slow(self.seen)), self.samples.outcome == Outcome.ok)

    def _mask(self, rows: Rows) -> Bools:
        mask = np.zeros(len(self.samples), np.bool_)
        mask[rows] = True
        return mask

    def availability(self) -> Ints:
        """Return (ok, total) of the system for each 100 ms."""
        system = (self.samples.channel != _CONTROL) & (self.samples.outcome != Outcome.unsent)
        return availability(self.samples.due[system], self._mask(self.failed)[system])

    @property
    def writes(self) -> Writes:
        """What became of the writes."""
        return self.history.writes

    @property
    def damage_of_journal(self) -> int:
        """How many lines of the app's journal cannot be read: each may have told of anything."""
        return self.recording.damage.get("journal.jsonl", 0)

    @property
    def new_version(self) -> str | None:
        """The version that the run deploys, where it names one."""
        named: Any = self.recording.manifest.get("new_version")
        return None if named is None else str(named)

    @property
    def stays(self) -> str | None:
        """The version that alone answers once the deploy is over, where it is named."""
        return _stays(self.recording, self.slo)

    @property
    def ends(self) -> Ends:
        """How the deploys ended."""
        return Ends.of(self.recording)

    @property
    def deploys(self) -> bool:
        """Whether a deploy of the run's own was marked, and not only a time or a fault."""
        by: Any = self.recording.manifest.get("strategy")
        return by != "duration" and bool(self.recording.spans("deploy"))

    @property
    def told(self) -> Mapping[str, int]:
        """The ok replies of each version that one told."""
        totals = self.versions.sum(axis=0).tolist()
        return {
            name: count
            for name, count in zip(self.samples.versions, totals, strict=True)
            if name and count
        }

    @property
    def unchanged(self) -> str:
        """The one version that replies told, from the first phase to the last; "" otherwise.

        Who told none at first, or none in the end, may be another one. What was under way as the
        deploy began is no phase of its own: all of that may be such as never tells one.
        """
        phases = (phase.BASELINE, phase.DEPLOY, phase.SETTLE)
        replied = [code for code in phases if self.versions[code].sum()]
        if len(self.told) != 1:
            return ""
        (only,) = self.told
        return only if all(self.replies(only, code) for code in replied) else ""

    def replies(self, version: str | None, *phases: int) -> int:
        """Return how many ok replies came from `version` (in these phases, else in all)."""
        if version not in self.samples.versions or not version:
            return 0
        rows = self.versions[list(phases)] if phases else self.versions
        return int(rows[:, self.samples.versions.index(version)].sum())

    def stale(self, channels: tuple[str, ...]) -> Found:
        """Return the ok replies not from the version that stays though the deploy had settled.

        None where that was not named or never seen: then nothing was deployed.
        """
        settled = _settled(self.recording, self.window, self.slo)
        return stale(self.samples, self.recording.run, self.stays, settled, channels)

    def mixed(self) -> float:
        """Return the seconds of due time in which both versions answered, of any where unnamed.

        Zero for an atomic switch, however many were in flight, and where there is one version.
        """
        named = (self.recording.manifest.get("old_version"), self.new_version)
        versions = {str(name) for name in named} if None not in named else None
        return mixed(self.samples, np.flatnonzero(self.replied(self.seen)), versions)


def _seen_versions(samples: Samples) -> tuple[str, str] | None:
    """Return the versions of the first and the last ok reply that tells one."""
    told = (samples.version != samples.versions.index("")) & (samples.outcome == Outcome.ok)
    rows = np.flatnonzero(told & (samples.channel != _CONTROL))
    if not len(rows):
        return None
    first, last = samples.version[rows[[0, -1]]]
    return samples.versions[first], samples.versions[last]


def _settled(recording: Recording, window: Window, slo: Slo) -> float | None:
    """Return from when on only the version that stays should answer, None where none is known."""
    known = _stays(recording, slo) is not None
    # A worker's clock may be ahead by so much: then its due times come that much too late.
    doubt = crew.clock_error(recording.trailer)
    return window.end + slo.converge + doubt if known and window.ended else None


def _stays(recording: Recording, slo: Slo) -> str | None:
    """Return the version that alone should answer in the end: the old one after an abort.

    That need not be named, it was there first.
    """
    aborted = slo.deploy == "aborted"
    named: Any = recording.manifest.get("old_version" if aborted else "new_version")
    if named is None and aborted and (seen := _seen_versions(recording.samples)):
        return seen[0]
    return None if named is None else str(named)


def _new_version(recording: Recording) -> str | None:
    """Return the version that the run deploys, or ends with where it names none."""
    named: Any = recording.manifest.get("new_version")
    seen = _seen_versions(recording.samples)
    if named is not None:
        return str(named)
    return seen[1] if seen and seen[0] != seen[1] else None


def _workers(recording: Recording) -> int:
    """Return how many processes sent it; the manifest has to do where there is no trailer."""
    told: Any = recording.manifest.get("workers")
    return len(crew.carried(recording.trailer)) or (told if isinstance(told, int) else 0) or 1
