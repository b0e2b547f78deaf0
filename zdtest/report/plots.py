"""Throughput and latency of a run, by Matplotlib; what every plot has in common.

The timeline shares one horizontal scale and the margins, so that all line up on the page.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from zdtest.report import series
from zdtest.report.frame import Frame
from zdtest.report.number import ms
from zdtest.report.svg import COLOUR, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True)
class Sheet:
    """The size a plot is drawn at, pixels: `WIDE` for a desk or paper, `NARROW` for a phone."""

    name: str
    width: int
    left: int = 70
    right: int = 14

    @property
    def inner(self) -> int:
        """Width of the plotted area."""
        return self.width - self.left - self.right


WIDE = Sheet("wide", 1040)
NARROW = Sheet("narrow", 400, left=52, right=8)


def throughput(frame: Frame, sheet: Sheet) -> str:
    """Return ok replies per second by version, stacked, and the failures on top."""
    wide = series.step(frame, sheet.inner // 3)
    table = series.throughput(frame, wide)
    edges = np.append(table.index.to_numpy(), frame.length)

    def draw(axes: Axes) -> None:
        base = np.zeros(len(table))
        for name, colour in zip(table, _colours(table), strict=True):
            over = base + table[name].to_numpy()
            axes.stairs(
                over,
                edges,
                baseline=base,
                fill=True,
                facecolor=COLOUR[colour],
                edgecolor=COLOUR["page"],
                hatch="////" if name == "failed" else None,
                linewidth=0,
                zorder=2,
            )
            base = over
        axes.set_ylim(0, max(float(base.max()) * 1.12, 1))
        _plain_axes(axes, frame)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}/s"))

    about = f"Replies per second by version, in steps of {ms(wide * 1e3)}; failures on top."
    return _plot(draw, "throughput", about, sheet, 190)


def latency(frame: Frame, sheet: Sheet) -> str:
    """Return p50, p99 and the maximum of ok replies over time, on a logarithmic scale."""
    wide = series.step(frame, sheet.inner // 6)
    table = series.latency(frame, wide).clip(lower=0.01)

    def draw(axes: Axes) -> None:
        at = table.index.to_numpy()
        for name, form in (("p99", "--"), ("p50", "-"), ("max", "o")):
            axes.plot(at, table[name].to_numpy(), form, **_pen(name), zorder=3)
        axes.set_yscale("log")
        low, high = table["p50"].min(), table["max"].max()
        if np.isfinite(low):
            axes.set_ylim(10 ** np.floor(np.log10(low)), 10 ** np.ceil(np.log10(high * 1.01)))
        _plain_axes(axes, frame)
        axes.yaxis.set_major_locator(LogLocator(10, numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))

    about = f"Latency of ok replies per {ms(wide * 1e3)}: median, 99th percentile and maximum."
    return _plot(draw, "latency", about, sheet, 220)


def _pen(name: str) -> dict[str, Any]:
    return {"color": COLOUR[name], "linewidth": 1.6, "markersize": 5, "markeredgewidth": 0}


def seconds(axes: Axes, frame: Frame) -> None:
    """Give a plot the run's seconds as its horizontal scale."""
    axes.set_xlim(0, frame.length)
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}s"))


def _tick(value: float) -> str:
    """Return milliseconds as a power of ten is written."""
    return f"{value:g}ms" if value < 1000 else f"{value / 1000:g}s"


def _edges(axes: Axes, frame: Frame) -> None:
    """Draw the deploy's begin and end over what hides its shade."""
    for at in frame.window or ():
        axes.axvline(at, color=COLOUR["quiet"], linewidth=0.8, dashes=(2, 2), zorder=4)


def _plain_axes(axes: Axes, frame: Frame) -> None:
    """Give a plot under the timeline its scale, grid and the deploy's shade."""
    seconds(axes, frame)
    phases(axes, frame)
    _edges(axes, frame)
    axes.grid(axis="y", zorder=0)
    axes.set_axisbelow(True)


def phases(axes: Axes, frame: Frame, y: float | None = None) -> None:
    """Shade the deploy and, where `y` says so, name the phases at that height."""
    if frame.window is not None:
        axes.axvspan(*frame.window, color=COLOUR["deploy"], linewidth=0, zorder=0)
    if y is None:
        return
    for name, (begin, end) in frame.phases.items():
        middle = (max(begin, 0) + min(end, frame.length)) / 2
        if 0 < middle < frame.length:
            weight = "bold" if name == "deploy" else "normal"
            axes.text(middle, y, name, ha="center", color=COLOUR["quiet"], weight=weight)


def _colours(table: pd.DataFrame) -> list[str]:
    """Return the role of each column of `throughput`: the versions' in order, failures' last."""
    return [f"v{min(i, 4)}" for i in range(len(table.columns) - 1)] + ["bad"]


def _plot(draw: Callable[[Axes], None], name: str, about: str, sheet: Sheet, height: int) -> str:
    return render(
        draw,
        name=f"{name}-{sheet.name}",
        about=about,
        size=(sheet.width, height),
        box=(sheet.left, 26, sheet.right, 8),
    )
