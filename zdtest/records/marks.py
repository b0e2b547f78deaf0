"""The marks of a run, read back from ``events.jsonl``."""

from __future__ import annotations

from pathlib import Path

from zdtest.records.jsonlines import is_time, objects
from zdtest.records.sample import Mark


def marks(path: Path) -> tuple[tuple[Mark, ...], int]:
    """Return the marks in that file in the order of their times, and how many lines are none.

    A line cut short is none. Without a file there are neither.
    """
    text = path.read_bytes() if path.exists() else b""
    lines = [line for line in text.splitlines() if line.strip()]
    found = [
        Mark(float(line.pop("t")), str(line.pop("mark")), line)
        for line in objects(lines)
        if is_time(line.get("t")) and isinstance(line.get("mark"), str)
    ]
    return tuple(sorted(found, key=lambda mark: mark.at)), len(lines) - len(found)
