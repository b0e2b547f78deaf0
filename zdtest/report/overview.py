"""The first page of many runs: the claims, the ways to deploy, and what could not be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from zdtest.report.headline import SIGNS
from zdtest.report.number import count, html
from zdtest.results.claims import DOCUMENTS
from zdtest.results.foreseen import foreseen, told
from zdtest.results.overview import COLUMNS, UNCHECKED, VARIANTS, Judged, claims, unchecked, ways
from zdtest.results.result import Result

Link = Callable[[Result], str]
"""Where a run's page is, as seen from this one."""


def tag(word: str) -> str:
    """Return a verdict as a page shows it, a dash for none."""
    if word not in SIGNS:
        return '<span class="tag">–</span>'
    sign, spelled = SIGNS[word]
    return f'<span class="tag {word}">{sign} {spelled}</span>'


def claims_section(results: Sequence[Result], link: Link) -> str:
    """Return every claim with what came of it in each variant; nothing where none was checked."""
    found = claims(results)
    if not found:
        return ""
    head = _head(("claim", "what it says", *_HEADS.values(), "why"))
    rows: list[str] = []
    source: str | None = None
    for one in found:
        if one.claim.source != source:
            source = one.claim.source
            title = f"{source}: {DOCUMENTS[source]}" if source else "claims of others"
            rows.append(f'<tr><th colspan="5" scope="colgroup">{html(title)}</th></tr>')
        rows.append(_claim(one, link))
    note = (
        "A verdict is the worst one of the runs in which nothing was broken on purpose, or of all "
        "for a claim about what breaks; the others are listed beside them. Hardened is the "
        "smallest change found that keeps the promise."
    )
    return (
        f'<section><h2>What the guides claim</h2><p class="note">{note}</p>'
        f"{_table('Claims', head, rows, 'stacks')}{_unchecked(results)}</section>"
    )


def _unchecked(results: Sequence[Result]) -> str:
    left = unchecked(results)
    if not left:
        return ""
    lines = "".join(f"<li>{html(one.id)}: {html(one.words)}</li>" for one in left)
    ids = ", ".join(html(one.id) for one in left)
    return f"<details><summary>{UNCHECKED}: {ids}</summary><ul>{lines}</ul></details>"


_HEADS = dict(zip(VARIANTS, ("as documented", "hardened"), strict=True))


def _claim(one: Judged, link: Link) -> str:
    cells = "".join(
        f'<td data-head="{_HEADS[name]}">{tag(one.verdict(name))}{_runs(one, name, link)}</td>'
        for name in VARIANTS
    )
    why = one.why("documented") or one.why("hardened")
    words = html(one.claim.words)
    return (
        f'<tr><th scope="row">{html(one.claim.id)}</th><td class="wrap">{words}</td>'
        f'{cells}<td class="wrap">{html(why)}</td></tr>'
    )


def _runs(one: Judged, variant: str, link: Link) -> str:
    runs = one.runs.get(variant, ())
    if not runs:
        return ""
    lines = "".join(f"<li>{_run(each, link)}</li>" for each in runs)
    return f"<details><summary>{_many(len(runs))}</summary><ul>{lines}</ul></details>"


def _many(runs: int) -> str:
    return "1 run" if runs == 1 else f"{count(runs)} runs"


def _run(one: Result, link: Link) -> str:
    sign = SIGNS[one.verdict][0]
    name = html((one.test or one.run).replace("_", " "), 80)
    there = link(one)
    shown = f'<a href="{there}">{name}</a>' if there else name
    return f'{sign} {shown} <span class="quiet">{count(one.failed)} of {count(one.requests)}</span>'


def ways_section(results: Sequence[Result]) -> str:
    """Return the ways to deploy side by side; nothing where nothing was deployed undisturbed."""
    found = ways(results)
    if not found:
        return ""
    head = _head(name for name, _ in COLUMNS)
    rows = [
        "<tr>"
        + f'<th scope="row">{tag(way.verdict)}</th>'
        + "".join(f"<td>{html(show(way))}</td>" for _, show in COLUMNS[1:])
        + "</tr>"
        for way in found
    ]
    note = (
        "Good releases, nothing broken on purpose. Failures are added up over the runs of a way, "
        "latencies and times are their medians, downtime, mixed versions and memory the most of "
        "any run. Memory is what the app's processes held, beside what they held before. "
        "“Of a bad release” is what failed where the new version was bad."
    )
    return (
        f'<section><h2>Ways to deploy</h2><p class="note">{note}</p>'
        f"{_table('Ways to deploy', head, rows, 'sorts')}</section>"
    )


def foreseen_section(results: Sequence[Result]) -> str:
    """Return how much had the cause known beforehand; nothing where none was told."""
    found = foreseen(results)
    if not found:
        return ""
    head = _head(("scenario", "what is to blame", "runs", "failed", "as foreseen", "unknown"))
    rows = [
        f'<tr><th scope="row">{html(one.scenario.replace("_", " "))}</th>'
        f'<td class="wrap">{html(" or ".join(one.causes))}</td><td>{count(one.runs)}</td>'
        f"<td>{count(one.failed)}</td><td>{count(one.right)} ({html(one.share)})</td>"
        f"<td>{count(one.unknown)}</td></tr>"
        for one in found
    ]
    note = (
        "Where a configuration is known to be bad, what is to blame was told before it ran, from "
        "its document and its programs' sources, and the failures' causes are held to it."
    )
    return (
        f'<section><h2>Whose fault, as foreseen</h2><p class="note">{note} '
        f"{html(told(found).removeprefix('blame: '))}.</p>"
        f"{_table('Causes as foreseen', head, rows)}</section>"
    )


def unread_section(unread: Sequence[str]) -> str:
    """Return what could not be read, and is in no figure; nothing where all could."""
    if not unread:
        return ""
    lines = "".join(f"<li>{html(one, 600)}</li>" for one in unread)
    return f'<section><h2>Not read</h2><p class="alarm">In no figure:</p><ul>{lines}</ul></section>'


def _head(names: Iterable[str]) -> str:
    return "".join(f'<th scope="col">{html(name)}</th>' for name in names)


def _table(caption: str, head: str, rows: Sequence[str], kind: str = "") -> str:
    lines = "\n".join(rows)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{html(caption)}">'
        f'<table class="{kind}"><caption class="unseen">{html(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead>"
        f"<tbody>{lines}</tbody></table></div>"
    )
