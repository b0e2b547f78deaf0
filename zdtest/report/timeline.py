"""The plot of the deploy: a lane a channel, with phases, marks, faults and outages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from zdtest.report import series
from zdtest.report.frame import Frame
from zdtest.report.number import ms, plain, real
from zdtest.report.plots import Sheet, phases, seconds
from zdtest.report.svg import COLOUR, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

LANE, ROW, LABEL_ROWS = 30, 15, 8
"""Heights in pixels of a lane and of a row of labels, and how many such rows there may be."""

LINES = 300
"""How many marks are drawn at most; the table of events has them all."""

_ABOVE = {"badtint": 1.0, "ok": 2.0, "slow": 2.1, "bad": 2.2}
"""What is drawn over what."""

GLYPH = 5.7
"""Width of a character of a label, pixels; on the safe side of the page's fonts."""


@dataclass(frozen=True, slots=True)
class Label:
    """A mark's line at `x` seconds and its text in row `row`, None where no row was free."""

    x: float
    text: str
    row: int | None


def timeline(frame: Frame, sheet: Sheet) -> str:
    """Return the deploy as lanes, a channel each, with phases, marks, faults and outages."""
    labels = place(_told(frame), frame.length, sheet.inner)
    rows = 1 + max((1 + label.row for label in labels if label.row is not None), default=0)
    top, lanes = rows * ROW + 6, len(frame.channels) * LANE
    height = top + lanes + 34

    def draw(axes: Axes) -> None:
        axes.set_ylim(top + lanes, 0)
        axes.set_yticks(
            [top + LANE * (i + 0.68) for i in range(len(frame.channels))], frame.channels
        )
        axes.tick_params(axis="y", labelcolor=COLOUR["ink"])
        seconds(axes, frame)
        phases(axes, frame, y=ROW * 0.75)
        _faults(axes, frame)
        for i, channel in enumerate(frame.channels):
            _lane(axes, frame, channel, top + LANE * i, sheet)
        _labels(axes, labels, bottom=top + lanes)

    return render(
        draw,
        name=f"timeline-{sheet.name}",
        about=_about(frame),
        size=(sheet.width, height),
        box=(sheet.left, 34, sheet.right, 0),
    )


def place(told: Iterable[tuple[float, str]], length: float, inner: int) -> list[Label]:
    """Return the labels in rows so that no text is crossed by another text or by a later line.

    A label stands right of its line, which runs down from it. One that begins under the text of
    an earlier one goes a row further down; where no row is left it is a line without a text.
    """
    labels: list[Label] = []
    open_until: list[tuple[float, int]] = []
    for x, text in sorted(told):
        at = x / length * inner
        open_until = [(end, row) for end, row in open_until if end > at]
        row = max((row + 1 for _, row in open_until), default=0)
        fits = text[: max(int((inner - at - 6) / GLYPH), 0)]
        if len(fits) < len(text):
            fits = fits[:-1] + "…" if len(fits) > 4 else ""
        shown = bool(fits) and row < LABEL_ROWS
        labels.append(Label(x, fits, row if shown else None))
        if shown:
            open_until.append((at + len(fits) * GLYPH + 8, row))
    return labels


def _told(frame: Frame) -> list[tuple[float, str]]:
    """Return each mark that gets a line of its own, with its words."""
    told = []
    for mark in frame.marks:
        at = mark.at - frame.zero
        if 0 <= at <= frame.length and (text := words(mark.name, mark.about)):
            told.append((at, plain(text, 40)))
    return told[:LINES]


def words(name: str, about: object) -> str:
    """Return a mark in words for its label; "" for one that is shown in another way."""
    told = about if isinstance(about, dict) else {}
    kind, _, what = name.partition(".")
    if kind in ("app", "process"):
        return f"{told.get('instance') or told.get('version') or kind} {what}"
    if kind == "engine":
        ill = what.startswith("container.health_status") or what == "container.oom"
        return f"{told.get('instance') or kind} {what.rpartition('.')[2]}" if ill else ""
    if name == "deploy.step.begin":
        return f"step {told.get('step', '')}".strip()
    if name == "fault.begin":
        return f"fault {told.get('fault', '')}".strip()
    if kind in ("load", "deploy", "fault"):
        return ""
    return name


def _faults(axes: Axes, frame: Frame) -> None:
    for begin, end, _ in frame.recording.spans("fault"):
        low, high = begin - frame.zero, min(end - frame.zero, frame.length)
        axes.axvspan(low, high, color=COLOUR["fault"], linewidth=0, zorder=0.5)


def _lane(axes: Axes, frame: Frame, channel: str, top: float, sheet: Sheet) -> None:
    """Draw one channel: a thin band while ok, taller where slow, tallest where requests failed."""
    table = series.lane(frame, channel, sheet.inner)
    floor = top + LANE * 0.92
    low, high = table["left"].to_numpy(), table["right"].to_numpy()
    share = table["failed"].to_numpy()
    seen = np.minimum(np.maximum(high, low + 3 * frame.length / sheet.inner), frame.length)
    _bars(axes, low, high, floor, np.where(share < 1, LANE * 0.44, 0.0), "ok")
    # One slow or failed request of thousands is three pixels wide, so that it is seen at all.
    _bars(axes, low, seen, floor, np.where(table["slow"] & (share < 1), LANE * 0.58, 0.0), "slow")
    _bars(axes, low, seen, floor, np.where(share > 0, LANE * (0.6 + 0.28 * share), 0.0), "bad")
    _outages(axes, frame, channel, top)


def _bars(
    axes: Axes,
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    floor: float,
    tall: NDArray[np.float64],
    role: str,
) -> None:
    """Draw bars that stand on `floor` as one path; neighbours of equal height become one bar."""
    rows = pd.DataFrame({"low": low, "high": high, "tall": tall})
    apart = rows["low"] - rows["high"].shift() > 1e-6 * rows["high"].max()
    group = (apart | (rows["tall"] != rows["tall"].shift())).cumsum()
    bars = rows.groupby(group).agg({"low": "first", "high": "max", "tall": "first"})
    bars = bars[bars["tall"] > 0]
    if bars.empty:
        return
    x, w, h = (bars[name].to_numpy() for name in ("low", "high", "tall"))
    up = floor - h
    flat = np.full_like(x, floor)
    corners = np.stack([[x, flat], [x, up], [w, up], [w, flat], [x, flat]]).transpose(2, 0, 1)
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * len(bars)
    path = Path(corners.reshape(-1, 2), np.array(codes, Path.code_type))
    axes.add_artist(PathPatch(path, facecolor=COLOUR[role], linewidth=0, zorder=_ABOVE[role]))


def _at_most(outage: Mapping[str, Any]) -> str:
    """Return how long it lasted at the most, or at the least where the run saw no end of it."""
    if outage.get("open_start") or outage.get("open_end"):
        return f"≥ {ms(outage.get('min_ms'))}"
    return f"≤ {ms(outage.get('max_ms'))}"


def _outages(axes: Axes, frame: Frame, channel: str, top: float) -> None:
    """Shade each outage of the channel and write the longest one's length beside it."""
    found = [o for o in frame.verdict.get("outages") or () if o.get("channel") == channel]
    longest: Any = max(found, key=lambda o: real(o.get("max_ms")) or 0.0, default={})
    low = np.array([real(o.get("start_s")) or 0.0 for o in found])
    high = low + np.array([real(o.get("min_ms")) or 0.0 for o in found]) / 1e3
    _bars(axes, low, high, top + LANE, np.full(len(found), float(LANE)), "badtint")
    if not found:
        return
    start, end = low[found.index(longest)], high[found.index(longest)]
    late = end > frame.length * 0.9
    axes.annotate(
        _at_most(longest),
        (start if late else end, top + LANE * 0.36),
        xytext=(-4 if late else 4, 0),
        textcoords="offset pixels",
        ha="right" if late else "left",
        color=COLOUR["bad"],
        weight="bold",
        zorder=5,
    )


def _labels(axes: Axes, labels: Iterable[Label], bottom: float) -> None:
    for label in labels:
        y = ROW * (1 + (label.row or 0))
        axes.plot([label.x] * 2, [y + 2, bottom], color=COLOUR["quiet"], linewidth=0.8, zorder=4)
        if label.row is not None:
            axes.annotate(
                label.text,
                (label.x, y + ROW * 0.8),
                xytext=(4, 0),
                textcoords="offset pixels",
                fontsize=10,
                zorder=4,
            )


def _about(frame: Frame) -> str:
    """Return the timeline in words, for those who cannot see it."""
    outages = frame.verdict.get("outages") or ()
    window = (
        f"deployed from {frame.window[0]:.3f}s to {frame.window[1]:.3f}s"
        if frame.window
        else "no deploy was marked"
    )
    return (
        f"Timeline of {frame.length:.1f}s with a lane for each of {', '.join(frame.channels)}; "
        f"{window}; {len(outages)} outages, listed in the table below."
    )
