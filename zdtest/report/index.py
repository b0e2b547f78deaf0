"""The list of runs: each with its verdict, the newest first."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from zdtest.errors import RecordingError
from zdtest.report.headline import SIGNS, subject, verdict_word, when
from zdtest.report.number import NOTHING, count, html, real, span
from zdtest.report.page import REPORT, publish, read_verdict


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
    """Write a page at `out` that lists the runs in `folders`, newest first, and return its path.

    A folder that holds no run is left out; a run without a verdict is listed as not judged.
    Raises RecordingError when the page cannot be written.
    """
    runs = [run for run in map(_Run.read, folders) if run is not None]
    runs.sort(key=lambda run: (-run.began, run.folder.name))
    heads = ("verdict", "claim", "what", "failed", "downtime", "run")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    rows = "\n".join(f"<tr>{_row(run, out.parent)}</tr>" for run in runs)
    body = (
        "<h1>Runs</h1>"
        f'<div class="scroll"><table><caption>{count(len(runs))} runs, the newest first</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
    return publish(out, "zdtest runs", body)


def _row(run: _Run, base: Path) -> str:
    clock = run.manifest.get("clock")
    at = real(clock.get("monotonic")) if isinstance(clock, dict) else None
    page = run.folder / REPORT
    link = quote(Path(os.path.relpath(page.resolve(), base.resolve())).as_posix())
    name = html(when(run.manifest, at or 0.0) or run.manifest.get("run"))
    told = f'<a href="./{link}">{name}</a>' if page.exists() else name
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
    return span(low, high) if real(high) else "none"


def _verdict(run: _Run) -> str:
    if run.verdict is None:
        return '<th scope="row"><span class="tag">not judged</span></th>'
    word = verdict_word(run.verdict)
    sign, spelled = SIGNS[word]
    return f'<th scope="row"><span class="tag {word}">{sign} {spelled}</span></th>'
