"""What differs between two releases, as a page tells it: worse, better, and measured otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from zdtest.report.number import count, html
from zdtest.results.compare import REPEATS, Change, Comparison
from zdtest.results.settings import Pair, told

LABEL = 40
"""Letters of a release's label that a page shows."""

_CLOSE = ' style="margin: 0"'

_WORDS = 30
"""Letters that stand on one line."""

NOTE = (
    "Changes beyond chance: verdicts; failures where fewer than 1 in 100 such pairs would differ "
    "so by chance (Fisher's exact test); latencies, and failures where both had some, by the "
    f"ranks and the bootstrap of {REPEATS} repeats or more on each side. Requests of one outage "
    "fail together: a change of failures says that these runs differ, not that the next ones will. "
    "Of a hundred scenarios that did not change, one may be told by chance all the same."
)
"""What a change is told by."""


def tally(found: Comparison) -> str:
    """Return in a few words how much got worse and better."""
    if found.nothing:
        return "no scenario is in both: nothing was compared"
    counts = [
        f"{count(len(changes))} {word}"
        for word, changes in (
            *(("worse", found.worse), ("better", found.better)),
            *(("no longer proved", found.unproved), ("gone", found.only_old)),
        )
        if changes
    ]
    return ", ".join(counts) or "nothing beyond chance"


def since_line(found: Comparison | None) -> str:
    """Return what changed since the release before, in a line; nothing where there was none."""
    if found is None:
        return ""
    label = html(found.old.label, LABEL)
    return f'<p class="what"><a href="#since">Since {label}</a>: {html(tally(found))}</p>'


def since_section(found: Comparison | None, page: str) -> str:
    """Return the same at length, with a link to the history's page where there is one."""
    if found is None:
        return ""
    more = f' <a href="{page}">All releases</a>' if page else ""
    return (
        f'<section id="since"><h2>Since {html(found.old.label, LABEL)}</h2>'
        f'<p class="note">{html(NOTE, 800)}{more}</p>{differences(found)}</section>'
    )


def differences(found: Comparison) -> str:
    """Return the changes as a table, what nothing could be said of, and what else differs."""
    parts = [_changes(found)]
    if not found.nothing:
        same = f"{count(found.same)} scenarios without a difference beyond chance."
        parts.append(f'<p class="note">{same} {html(_silence(found))}</p>')
    parts.append(_listed("No longer proved: most runs are inconclusive", found.unproved))
    for one, names in ((found.old, found.only_old), (found.new, found.only_new)):
        parts.append(_listed(f"Only in {one.label}", names))
    parts += [_environment(found), _configuration(found)]
    parts.append(_listed("Not read", (*found.old.unread, *found.new.unread)))
    return "".join(parts)


def grid(
    caption: str, heads: Sequence[str], rows: Iterable[str], *, kind: str = "", shown: bool = True
) -> str:
    """Return a table of heads and rows that are HTML already; the caption may be for ears only."""
    tone = "" if shown else ' class="unseen"'
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    lines = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{html(caption)}">'
        f'<table class="{kind}"><caption{tone}>{html(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def spoken(scenario: str) -> str:
    """Return a scenario's name as a page shows it."""
    return html(scenario.replace("_", " "), 160)


def _changes(found: Comparison) -> str:
    if found.nothing:
        return f'<p class="alarm">{html(tally(found).capitalize())}.</p>'
    if not found.changes:
        return "<p>Nothing got worse or better beyond chance.</p>"
    heads = ("so", "scenario", "what", "from → to", "measured otherwise")
    rows = (_change(found, change) for change in (*found.worse, *found.better))
    return grid("Worse and better", heads, rows)


def _change(found: Comparison, change: Change) -> str:
    word, tone = ("▼ worse", "broken") if change.worse else ("▲ better", "holds")
    otherwise = ", ".join(found.configuration.get(change.scenario, {}))
    return (
        f'<th scope="row"><span class="tag {tone}">{word}</span></th>'
        f'<td class="wrap">{spoken(change.scenario)}</td><td>{html(change.what)}</td>'
        f'<td class="wrap">{html(change.says.replace("->", "→"))}</td>'
        f'<td class="wrap">{html(otherwise)}</td>'
    )


def _silence(found: Comparison) -> str:
    return f"{found.silence().capitalize()}." if found.untold else ""


def _listed(title: str, names: Sequence[str], style: str = "") -> str:
    if not names:
        return ""
    lines = "".join(f"<li>{spoken(name)}</li>" for name in names)
    return (
        f"<details{style}><summary>{html(title, LABEL + 20)}: {count(len(names))}</summary>"
        f"<ul>{lines}</ul></details>"
    )


def _environment(found: Comparison) -> str:
    if not found.environment:
        return ""
    rows = (_pair(name, pair) for name, pair in found.environment.items())
    return grid("Measured on another", ("what", *_labels(found)), rows)


def _configuration(found: Comparison) -> str:
    if not found.configuration:
        return ""
    rows = (
        _pair(name, (old, new)) + f"<td>{_listed('Scenarios', where, _CLOSE)}</td>"
        for (name, old, new), where in found.otherwise().items()
    )
    return grid("Measured otherwise", ("what", *_labels(found), "where"), rows)


def _labels(found: Comparison) -> tuple[str, str]:
    return html(found.old.label, LABEL), html(found.new.label, LABEL)


def _pair(name: str, pair: Pair) -> str:
    """Return what it was, and is; what takes more than a few words may take several lines."""
    shown = [html(told(name, value)) for value in pair]
    wraps = ' class="wrap"'
    cells = (f"<td{wraps if len(value) > _WORDS else ''}>{value}</td>" for value in shown)
    return f'<th scope="row">{html(name)}</th>' + "".join(cells)
