"""The page of a folder of releases: each scenario in each of them, and what changed in between."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from zdtest.judging.interval import rates
from zdtest.percent import between
from zdtest.report.comparison import LABEL, NOTE, differences, grid, spoken, tally
from zdtest.report.headline import SIGNS
from zdtest.report.number import NOTHING, count, html
from zdtest.report.overview import tag, unread_section
from zdtest.report.page import publish
from zdtest.results.compare import Comparison
from zdtest.results.release import Release
from zdtest.results.releases import Releases
from zdtest.results.result import Result, worst

_FLOOR = -5
"""The lowest rate that is drawn, as its power of ten."""
_HIGH, _STEP = 40, 9

_NOTE = (
    "The newest release first; in each, the worst verdict of its runs, and failed requests of all "
    "that were sent. Below them the exact 95 % interval of the failure rate (Clopper and Pearson, "
    "1934), as though each request failed by itself; drawn from the oldest release to the newest "
    "on a scale of powers of ten from 0.001 % at the bottom to 100 %. Scenarios whose verdict "
    "changed come first."
)


def write_history(releases: Releases, out: Path) -> Path:
    """Write the page of these releases at `out` and return its path.

    What could not be read is named, and in no figure. Raises RecordingError where the page cannot
    be written.
    """
    steps = releases.steps()
    body = f"<h1>History: {_many(releases)}</h1>"
    if steps:
        body += (
            f'<p class="what"><strong>{html(steps[0].new.label, LABEL)}</strong> since '
            f"{html(steps[0].old.label, LABEL)}: {html(tally(steps[0]))}</p>"
        )
    body += unread_section(releases.unread)
    if steps:
        body += (
            f'<section><h2>From release to release</h2><p class="note">{html(NOTE, 800)}</p>'
            f"{_steps(steps)}</section>"
        )
    return publish(out, "zdtest history", body + _scenarios(releases), script="sort.js")


def _many(releases: Releases) -> str:
    shown, older = len(releases.kept), releases.older
    if older:
        return f"the last {count(shown)} of {count(shown + older)} releases"
    return "1 release" if shown == 1 else f"{count(shown)} releases"


def _steps(steps: Sequence[Comparison]) -> str:
    """Return each step under its heading; all but the newest are folded."""
    parts = []
    for place, found in enumerate(steps):
        title = f"{html(found.old.label, LABEL)} → {html(found.new.label, LABEL)}"
        opened = "" if place else " open"
        parts.append(
            f"<details{opened}><summary><h3>{title}: {html(tally(found))}</h3></summary>"
            f"{differences(found)}</details>"
        )
    return "".join(parts)


def _scenarios(releases: Releases) -> str:
    """Return the table of all scenarios; nothing where no release could be read."""
    if not releases.kept:
        return "<p>No release is kept here: <code>zdtest release FOLDER</code> keeps one.</p>"
    lines = sorted(releases.scenarios().items(), key=lambda line: (not _changed(line[1]), line[0]))
    newest = [_head(one) for one in reversed(releases.kept)]
    rows = (
        f'<th scope="row" class="wrap">{spoken(name)}</th><td>{_drawn(runs)}</td>'
        + "".join(map(_cell, reversed(runs), reversed(_before(runs))))
        for name, runs in lines
    )
    return (
        f'<section><h2>Scenarios</h2><p class="note">{html(_NOTE, 800)}</p>'
        + grid("Scenarios", ("scenario", "failure rate", *newest), rows, kind="sorts", shown=False)
        + "</section>"
    )


def _head(one: Release) -> str:
    return f'{html(one.label, LABEL)}<br><span class="quiet">{_day(one.measured)}</span>'


def _day(at: float) -> str:
    """Return the moment as UTC, a dash for one that no clock told."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M") if at else NOTHING
    except (OverflowError, ValueError, OSError):
        return NOTHING


def _before(runs: Sequence[Sequence[Result]]) -> list[str]:
    """Return for each release the verdict in the last one before it that ran the scenario."""
    found, last = [], ""
    for each in runs:
        found.append(last)
        last = worst(each) or last
    return found


def _changed(runs: Sequence[Sequence[Result]]) -> bool:
    return len({worst(each) for each in runs if each}) > 1


@cache
def _rates(failed: int, requests: int) -> tuple[float, float]:
    return rates(failed, requests)


def _cell(runs: Sequence[Result], before: str) -> str:
    if not runs:
        return f"<td>{NOTHING}</td>"
    word = worst(runs)
    failed, requests = sum(one.failed for one in runs), sum(one.requests for one in runs)
    many = sum(one.verdict == word for one in runs)
    of = f"{count(many)} of {count(len(runs))} runs · " if len(runs) > 1 else ""
    new = before not in ("", word)
    was = ""
    if new:
        sign, spelled = SIGNS[before]
        was = f' <span class="quiet">was {sign}<span class="unseen"> {spelled}</span></span>'
    tone = ' class="changed"' if new else ""
    return (
        f"<td{tone}>{tag(word)}{was}<br>"
        f"{count(failed)} of {count(requests)}<br>"
        f'<span class="quiet">{of}{between(*_rates(failed, requests))}</span></td>'
    )


def _drawn(runs: Sequence[Sequence[Result]]) -> str:
    """Return the intervals of the cells as a picture, and a dash across each at what was seen."""
    bars, seen = "", ""
    for place, each in enumerate(runs):
        if not each:
            continue
        failed, requests = sum(one.failed for one in each), sum(one.requests for one in each)
        least, most = _rates(failed, requests)
        x = place * _STEP + _STEP // 2 + 1
        bars += f"M{x} {_at(least)}V{_at(most)}"
        seen += f"M{x - 3} {_at(failed / requests)}h6" if requests else ""
    width = len(runs) * _STEP + 2
    return (
        f'<svg aria-hidden="true" width="{width}" height="{_HIGH}" fill="none">'
        f'<path d="M0 1H{width}M0 {_HIGH - 1}H{width}" style="stroke: var(--line)"/>'
        f'<path d="{bars}" style="stroke: var(--p50)" stroke-width="3"/>'
        f'<path d="{seen}" style="stroke: var(--ink)" stroke-width="2"/></svg>'
    )


def _at(rate: float) -> str:
    """Return how far from the top a rate is drawn."""
    power = max(math.log10(rate), _FLOOR) if rate > 0 else _FLOOR
    return f"{1 + power / _FLOOR * (_HIGH - 2):.1f}"
