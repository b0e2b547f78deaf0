"""Whether the old version still answered once the deploy had settled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from zdtest.history.sent import replied
from zdtest.history.witness import SHOWN, UNKNOWN, Found, Witness
from zdtest.records.recording import Samples
from zdtest.records.sample import CHANNELS, Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SYSTEM = tuple(name for name in CHANNELS if name != "control")


def stale(
    samples: Samples,
    run: str,
    new: str | None,
    settled: float | None,
    channels: Sequence[str] = _SYSTEM,
) -> Found:
    """Return the ok replies of another version than `new` to requests due after `settled`.

    One that tells no version is of another on a channel whose replies tell theirs: it may be
    anybody's. None where nothing settled, where nothing was answered ok after that, and where
    nothing was deployed: no ok reply of the new version. O(n).
    """
    if settled is None or not new or new not in samples.versions:
        return UNKNOWN
    ok = (samples.outcome == Outcome.ok) & _on(samples, _SYSTEM)
    arrived = samples.version == samples.versions.index(new)
    if not (ok & arrived).any():
        return UNKNOWN
    late = int(np.searchsorted(samples.due, settled, "right"))
    if not (ok & _on(samples, channels))[late:].any():
        return UNKNOWN
    untold = samples.version == samples.versions.index("")
    telling = np.bincount(samples.channel[ok & ~untold], minlength=len(CHANNELS)) > 0
    old = ok & ~arrived & telling[samples.channel]
    rows = np.flatnonzero((old & _on(samples, channels))[late:]) + late
    witnesses: list[Witness] = []
    for row in rows[:SHOWN].tolist():
        who = samples.versions[samples.version[row]] or "one that tells no version"
        after = f"{(samples.due[row] - settled) * 1e3:.0f} ms after {new} alone was to answer"
        witnesses += replied(samples, run, np.array([row]), f"answered by {who} {after}")
    last = float(samples.due[rows[-1]]) if len(rows) else None
    return Found(len(rows), tuple(witnesses), last)


def _on(samples: Samples, channels: Sequence[str]) -> NDArray[np.bool_]:
    on: NDArray[np.bool_] = np.array([name in channels for name in CHANNELS])[samples.channel]
    return on
