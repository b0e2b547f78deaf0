"""The report of a run: one HTML file that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from zdtest.errors import RecordingError
from zdtest.records.recording import Recording
from zdtest.report import evidence, provenance
from zdtest.report.blame import blame
from zdtest.report.correctness import correctness
from zdtest.report.frame import Frame
from zdtest.report.headline import headline, subject, verdict_word
from zdtest.report.masked import masked
from zdtest.report.number import html
from zdtest.report.price import price
from zdtest.results.result import judgement

REPORT = "report.html"
VERDICT = "verdict.json"

_SECTIONS = (
    headline,
    evidence.timeline,
    evidence.throughput,
    evidence.latency,
    evidence.outages,
    price,
    blame,
    masked,
    correctness,
    evidence.outcomes,
    evidence.failed,
    provenance.health,
    provenance.ran,
    provenance.again,
)


def write_report(run_folder: Path) -> Path:
    """Write ``report.html`` into a judged run's folder, whole or not at all, and return its path.

    The same folder always gives the same bytes. Raises RecordingError when the run cannot be
    read, was not judged yet or the page cannot be written.
    """
    recording = Recording.read(run_folder)
    frame = Frame(recording, read_verdict(run_folder))
    body = "\n".join(section(frame) for section in _SECTIONS)
    word = verdict_word(frame.verdict)
    return publish(run_folder / REPORT, f"{word}: {subject(recording.manifest)}", body)


def read_verdict(run_folder: Path) -> Mapping[str, Any]:
    """Return the judgement in a run's folder; RecordingError where it lacks what its schema has."""
    if not (run_folder / VERDICT).exists():
        raise RecordingError(f"not judged yet: {run_folder}; expected {VERDICT}")
    return judgement(run_folder)


def publish(path: Path, title: str, body: str, *, script: str = "") -> Path:
    """Write a whole page at `path` in one step and return the path.

    A `script` is a file beside this one; the page runs that and no other.
    """
    here = Path(__file__)
    code = f"\n{here.with_name(script).read_text('utf-8').strip()}\n" if script else ""
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    page = Template(here.with_name("page.html").read_text("utf-8")).substitute(
        title=html(title),
        css=here.with_name("page.css").read_text("utf-8").strip(),
        body=body,
        policy=f" script-src 'sha256-{digest}';" if code else "",
        script=f"\n<script>{code}</script>" if code else "",
    )
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(page, "utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise RecordingError(
            f"cannot write {path}: {error.strerror}; expected a writable folder"
        ) from error
    return path
