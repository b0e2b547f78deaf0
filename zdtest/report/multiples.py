"""The ways to deploy as one picture: a band each, aligned on when the switch began."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zdtest.errors import RecordingError
from zdtest.judging.phase import Window
from zdtest.records.recording import Recording, Samples
from zdtest.records.sample import CHANNELS, Outcome
from zdtest.report.number import html, plain
from zdtest.report.svg import COLOUR, render
from zdtest.results.overview import ways
from zdtest.results.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

BEFORE, AFTER = 6.0, 9.0
"""Seconds that are shown around the switch."""

STEP = 0.1
MOST = 24
"""Bands at the most."""

_HIGH, _ROW = 0.8, 30


@dataclass(frozen=True, slots=True)
class Band:
    """Of the requests due in each `STEP` around the switch, how many of each kind: shares, 0..1."""

    name: str
    old: Floats
    new: Floats
    failed: Floats
    """NaN, as the others, where nothing was due."""

    @classmethod
    def of(cls, name: str, recording: Recording) -> Band | None:
        """Return the band of the recording; None without samples, or a deploy."""
        samples = recording.samples
        samples = samples.where(samples.channel != CHANNELS.index("control"))
        samples = samples.where(samples.outcome != Outcome.unsent)
        version = str(recording.manifest.get("new_version") or "")
        new = _of(samples, version)
        ok = samples.outcome == Outcome.ok
        first = np.flatnonzero(new & ok)
        window = Window.of(recording)
        if not len(samples) or not (len(first) or window.marked):
            return None
        zero = float(samples.due[first[0]]) if len(first) else window.begin
        edges = np.arange(-BEFORE, AFTER + STEP / 2, STEP)
        at = samples.due - zero

        def share(chosen: NDArray[np.bool_]) -> Floats:
            with np.errstate(invalid="ignore"):
                found: Floats = np.histogram(at[chosen], edges)[0] / np.histogram(at, edges)[0]
            return found

        return cls(name, share(ok & ~new), share(ok & new), share(~ok))


def multiples(results: Sequence[Result]) -> str:
    """Return the section with the picture; nothing where nothing was deployed undisturbed."""
    bands = list(_bands(results))
    if not bands:
        return ""
    note = (
        f"What came of the requests due at each moment, {BEFORE:g} seconds before the first reply "
        f"of the new version until {AFTER:g} after it, in steps of {STEP * 1e3:g} ms. Of each way "
        "the run with the most failures. Blank: nothing was due."
    )
    picture = render(
        lambda axes: _draw(axes, bands),
        name="multiples",
        about="; ".join(map(_told, bands)),
        size=(1040, _ROW * len(bands) + 40),
        box=(260, 34, 10, 6),
    )
    legend = "".join(
        f'<li><i style="--c:var(--{role})">&nbsp;</i>{name}</li>'
        for role, name in (("v0", "answered by the old version"), ("v1", "by the new"), _FAILED)
    )
    return (
        f'<section><h2>Around the switch</h2><p class="note">{html(note, 600)}</p>'
        f'<figure>{picture}</figure><ul class="legend">{legend}</ul></section>'
    )


_FAILED = ("bad", "failed")


def _bands(results: Sequence[Result]) -> list[Band]:
    found = []
    for way in ways(results)[:MOST]:
        runs = [
            one
            for one in results
            if (one.topology, one.variant, one.strategy)
            == (way.topology, way.variant, way.strategy)
            and one.undisturbed
        ]
        worst = max(runs, key=lambda one: one.failed)
        try:
            recording = Recording.read(worst.folder)
        except RecordingError:
            continue  # it was judged, and its samples were not kept
        name = f"{way.topology} {way.variant}, {way.strategy}".replace("_", " ")
        if band := Band.of(plain(name, 44), recording):
            found.append(band)
    return found


def _of(samples: Samples, version: str) -> NDArray[np.bool_]:
    if not version or version not in samples.versions:
        return np.zeros(len(samples), np.bool_)
    found: NDArray[np.bool_] = samples.version == samples.versions.index(version)
    return found


def _draw(axes: Axes, bands: Sequence[Band]) -> None:
    """Draw the bands from above: the old version below, the new one on it, what failed on top."""
    edges = np.arange(-BEFORE, AFTER + STEP / 2, STEP)
    for place, band in enumerate(bands):
        foot = len(bands) - 1 - place
        below = np.zeros(len(edges) - 1)
        for share, role in ((band.old, "v0"), (band.new, "v1"), (band.failed, "bad")):
            share = np.nan_to_num(share)
            values = foot + (below + share) * _HIGH, foot + below * _HIGH
            top, bottom = (np.append(each, each[-1]) for each in values)
            axes.fill_between(edges, bottom, top, step="post", color=COLOUR[role], linewidth=0)
            below = below + share
    axes.axvline(0, color=COLOUR["ink"], linewidth=1)
    axes.set_xlim(-BEFORE, AFTER)
    axes.set_ylim(-0.1, len(bands))
    axes.set_yticks([len(bands) - 1 - place + _HIGH / 2 for place in range(len(bands))])
    axes.set_yticklabels([band.name for band in bands])
    axes.set_xticks(np.arange(-BEFORE, AFTER + 1, 3))
    axes.set_xlabel("seconds from the first reply of the new version")


def _told(band: Band) -> str:
    """Return the band in words."""
    failed = np.nan_to_num(band.failed)
    if not failed.any():
        return f"{band.name}: nothing failed"
    at = np.flatnonzero(failed) * STEP - BEFORE
    worst = 100 * float(failed.max())
    return f"{band.name}: up to {worst:.0f} % failed, {at[0]:+.1f} to {at[-1] + STEP:+.1f} s"
