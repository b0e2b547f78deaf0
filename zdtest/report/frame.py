"""A recording as the plots and tables want it: columns, phases and counts, by pandas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from zdtest.judging import phase
from zdtest.records.recording import Recording, Samples
from zdtest.records.sample import CHANNELS, Mark, Outcome
from zdtest.report.number import real

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]

CONTROL, STREAM = CHANNELS.index("control"), CHANNELS.index("stream")
SLOW = 1.0
"""Seconds beyond its think time after which a reply is drawn as slow, unless the SLO tells."""

LIFECYCLE = ("started", "ready", "term", "stopped")


@dataclass(frozen=True)
class Frame:
    """One run and its verdict; `zero` is the first due time, all other times count from it."""

    recording: Recording
    verdict: Mapping[str, Any]

    @property
    def samples(self) -> Samples:
        """The raw columns."""
        return self.recording.samples

    @cached_property
    def zero(self) -> float:
        """The first due time, seconds on the run's clock."""
        if len(self.samples):
            return float(self.samples.due[0])
        return self.recording.marks[0].at if self.recording.marks else 0.0

    @cached_property
    def at(self) -> Floats:
        """When each request was due, seconds since `zero`."""
        return self.samples.due - self.zero

    @cached_property
    def length(self) -> float:
        """Seconds from the first due time to the last, never quite zero."""
        return max(float(self.at[-1]) if len(self.at) else 0.0, 1e-3)

    @cached_property
    def judged(self) -> Flags:
        """Which rows speak of the system: not the control's, and sent at all."""
        unsent = self.samples.outcome == Outcome.unsent
        return np.asarray((self.samples.channel != CONTROL) & ~unsent)

    @cached_property
    def failed(self) -> Flags:
        """Which rows failed, the control's among them."""
        outcome = self.samples.outcome
        return np.asarray((outcome != Outcome.ok) & (outcome != Outcome.unsent))

    @cached_property
    def timed(self) -> Flags:
        """Which rows have a latency that counts: ok replies, but no messages of a stream."""
        return np.asarray(self.judged & ~self.failed & (self.samples.channel != STREAM))

    @cached_property
    def waited_ms(self) -> NDArray[np.float32]:
        """Milliseconds from due to done beyond the channel's think time, as the judge counts."""
        return np.asarray(self._excess, np.float32) * np.float32(1e-3)

    @cached_property
    def _excess(self) -> NDArray[np.int64]:
        return phase.excess(self.samples, self.recording.manifest.get("channels") or {})

    @property
    def _think(self) -> NDArray[np.int64]:
        return phase.think(self.recording.manifest.get("channels") or {})

    def telling(self, code: int) -> Flags:
        """Which rows tell how long a request takes in that phase, as the judge chooses them."""
        window = self.verdict.get("window")
        steady = real(window.get("steady_s")) if isinstance(window, dict) else None
        if steady is None:  # nothing was deployed
            return np.asarray(self.timed & (self.phase == code))
        told = phase.telling(self.samples, self.phase, code, self.zero + steady)
        return np.asarray(self.timed & told)

    def took_ms(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Milliseconds that these rows took, as the judge counts."""
        begin = phase.Window.of(self.recording).begin
        took = phase.took(self.samples, self._excess, rows, begin, self._think)
        return np.asarray(took * 1e-3, np.float64)

    @property
    def slow_ms(self) -> float:
        """The bound of a brownout, milliseconds."""
        slo = self.verdict.get("slo")
        told = real(slo.get("slow")) if isinstance(slo, dict) else None
        return (SLOW if told is None else told) * 1e3

    @cached_property
    def slow(self) -> Flags:
        """Which rows are ok replies slower than that, messages of a stream among them."""
        return np.asarray(self.judged & ~self.failed & (self.waited_ms > self.slow_ms))

    @cached_property
    def channels(self) -> list[str]:
        """The channels that were to be sent, in their usual order, the control last."""
        seen = {CHANNELS[code] for code in np.unique(self.samples.channel)}
        return [
            n for n in CHANNELS if n in seen or n in (self.recording.manifest["channels"] or {})
        ]

    @cached_property
    def window(self) -> tuple[float, float] | None:
        """Begin and end of the deploy, seconds since `zero`; None when no deploy was marked."""
        told = self.verdict.get("window")
        if isinstance(told, dict):
            begin, end = real(told.get("begin_s")), real(told.get("end_s"))
            if begin is not None and end is not None:
                return begin, end
        window = phase.Window.of(self.recording)
        if not window.marked:
            return None
        return window.begin - self.zero, min(window.end - self.zero, self.length)

    @cached_property
    def phases(self) -> dict[str, tuple[float, float]]:
        """Each phase's begin and end, seconds since `zero`."""
        if self.window is None:
            return {"baseline": (0.0, self.length)}
        begin, end = self.window
        return {"baseline": (0.0, begin), "deploy": (begin, end), "settle": (end, self.length)}

    @cached_property
    def phase(self) -> NDArray[np.uint8]:
        """Each row's phase, as the judge counts: its place in `PHASES`."""
        deploys = [(begin, end) for begin, end, _ in phase.spans(self.recording)]
        return phase.codes(self.samples, deploys)

    @cached_property
    def marks(self) -> list[Mark]:
        """Every mark and, where no engine told them, the app's own lifecycle."""
        marks = list(self.recording.marks)
        if not any(mark.name.startswith("app.") for mark in marks):
            for line in self.recording.journal or ():
                at = real(line.get("t"))
                if line.get("event") in LIFECYCLE and at is not None:
                    marks.append(Mark(at, f"app.{line['event']}", line))
        return sorted(marks, key=lambda mark: mark.at)

    @cached_property
    def versions(self) -> list[str]:
        """The versions that answered, the old one first, the new one next."""
        codes = np.unique(self.samples.version[self.judged & ~self.failed])
        seen = {self.samples.versions[code] for code in codes}
        told = [self.recording.manifest.get(key) for key in ("old_version", "new_version")]
        first = [word for word in told if isinstance(word, str) and word in seen]
        return list(dict.fromkeys([*first, *sorted(seen - {""}), *sorted(seen & {""})]))


def bins(at: Floats, wide: float) -> NDArray[np.int64]:
    """Return which bin each time falls in; an even schedule never straddles an edge by rounding."""
    return ((at + 1e-6) / wide).astype(np.int64)
