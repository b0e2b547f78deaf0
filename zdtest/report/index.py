"""The list of runs: each with its verdict, the newest first."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from zdtest.errors import RecordingError
from zdtest.report.comparison import since_line, since_section
from zdtest.report.headline import SIGNS, subject, verdict_word, when
from zdtest.report.multiples import multiples
from zdtest.report.number import NOTHING, count, html, real, span
from zdtest.report.overview import (
    claims_section,
    foreseen_section,
    unread_section,
    ways_section,
)
from zdtest.report.page import REPORT, VERDICT, publish, read_verdict
from zdtest.results.release import loaded
from zdtest.results.releases import HISTORY, INDEX, Releases
from zdtest.results.result import Result, read_all


@dataclass(frozen=True, slots=True)
class _Run:
    folder: Path
    manifest: dict[str, Any]
    verdict: dict[str, Any] | None
    began: float

    @classmethod
    def read(cls, folder: Path) -> _Run | None:
        try:
            manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(manifest, dict):
            return None
        try:
            verdict: dict[str, Any] | None = dict(read_verdict(folder))
        except RecordingError:
            verdict = None
        clock = manifest.get("clock")
        wall = real(clock.get("wall")) if isinstance(clock, dict) else None
        return cls(folder, manifest, verdict, wall or 0.0)


def write_index(folders: Iterable[Path], out: Path) -> Path:
    """Write the first page of the runs in `folders` at `out` and return its path.

    It has the claims that they check, the ways to deploy side by side, what changed since the
    newest release in the folder `history` beside it, and all of them, the newest first. A folder
    that holds no run is left out; a run without a verdict is listed as not judged, and is in no
    figure. Raises RecordingError when the page cannot be written.
    """
    folders = [folder for folder in folders if (folder / "manifest.json").is_file()]
    results, unread = read_all(filter(loaded, folders))
    releases = Releases.read(out.parent / HISTORY)
    since = releases.since(results)

    def link(one: Result) -> str:
        return _link(one.folder / REPORT, out.parent)

    runs = [run for run in map(_Run.read, folders) if run is not None]
    runs.sort(key=lambda run: (-run.began, run.folder.name))
    heads = ("verdict", "claim", "what", "failed", "downtime", "run")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    rows = "\n".join(f"<tr>{_row(run, out.parent)}</tr>" for run in runs)
    body = (
        f"<h1>{_title(results)}</h1>{_foreseen(results)}{since_line(since)}"
        f"{claims_section(results, link)}{ways_section(results)}"
        f"{multiples(results)}{foreseen_section(results)}"
        f"{since_section(since, _link(out.parent / HISTORY / INDEX, out.parent))}"
        f"{unread_section((*unread, *releases.unread))}<h2>Runs</h2>"
        f'<div class="scroll"><table class="sorts">'
        f"<caption>{count(len(runs))} runs, the newest first</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
    return publish(out, "zdtest runs", body, script="sort.js")


def _title(results: list[Result]) -> str:
    """Return how many of the runs have which verdict."""
    told = Counter(one.verdict for one in results)
    counts = ", ".join(f"{count(told[word])} {word}" for word in ("holds", "broken") if told[word])
    rest = told["inconclusive"]
    return f"Runs: {counts or 'none judged'}" + (f", {count(rest)} inconclusive" if rest else "")


def _foreseen(results: list[Result]) -> str:
    """Return how many of the broken runs had to be, or were known to be; nothing without any."""
    broken = [one for one in results if one.verdict == "broken"]
    mutants = sum(bool(one.mutant) for one in broken)
    known = sum(bool(one.expected) and not one.mutant for one in broken)
    told = [
        f"mutants, which have to be caught: {count(mutants)}" if mutants else "",
        f"known to break, and why, before they ran: {count(known)}" if known else "",
    ]
    if not any(told):
        return ""
    rest = len(broken) - mutants - known
    told.append(f"others: {count(rest)}" if rest else "")
    line = f"Of the broken ones: {'; '.join(filter(None, told))}."
    return f'<p class="what">{html(line)}</p>'


def _link(page: Path, base: Path) -> str:
    """Return where the page is, as seen from `base`; "" where it is not."""
    if not page.exists():
        return ""
    return f"./{quote(Path(os.path.relpath(page.resolve(), base.resolve())).as_posix())}"


def _row(run: _Run, base: Path) -> str:
    clock = run.manifest.get("clock")
    at = real(clock.get("monotonic")) if isinstance(clock, dict) else None
    page = run.folder / REPORT
    link = _link(page, base)
    name = html(when(run.manifest, at or 0.0) or run.manifest.get("run"))
    told = f'<a href="{link}">{name}</a>' if link else name
    verdict = run.verdict or {}
    failed = f"{count(verdict.get('failed'))} of {count(verdict.get('requests'))}"
    cells = [
        html(_claim(run.manifest), 160),
        html(subject(run.manifest), 120),
        html(failed if verdict else NOTHING),
        html(_downtime(verdict)),
        told,
    ]
    wraps = ' class="wrap"'
    tones = (wraps, wraps, "", "", "")
    shown = (f"<td{tone}>{cell}</td>" for tone, cell in zip(tones, cells, strict=True))
    return _verdict(run) + "".join(shown)


def _claim(manifest: dict[str, Any]) -> str:
    """Return which documented claim the run checks, or what its test is called."""
    claim = manifest.get("claim")
    if isinstance(claim, dict) and claim.get("id"):
        return f"{claim['id']}: {claim.get('says', '')}"
    return str(manifest.get("test") or NOTHING).replace("_", " ")


def _downtime(verdict: dict[str, Any]) -> str:
    if not verdict:
        return NOTHING
    low, high = verdict.get("downtime_min_ms"), verdict.get("downtime_max_ms")
    if real(high) is None:
        channels = (verdict.get("channels") or {}).values()
        worst: dict[str, Any]
        worst = max(channels, key=lambda c: real(c.get("downtime_max_ms")) or 0.0, default={})
        low, high = worst.get("downtime_min_ms"), worst.get("downtime_max_ms")
    more = verdict.get("downtime_open")
    return span(low, high, more) if real(high) or more else "none"


def _verdict(run: _Run) -> str:
    if run.verdict is None:
        judged = (run.folder / VERDICT).exists()
        told = "not read" if judged else "not judged"
        return f'<th scope="row"><span class="tag">{told}</span></th>'
    word = verdict_word(run.verdict)
    sign, spelled = SIGNS[word]
    return f'<th scope="row"><span class="tag {word}">{sign} {spelled}</span></th>'
