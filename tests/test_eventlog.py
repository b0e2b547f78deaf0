"""The marks of a run, as they are on disk."""

from __future__ import annotations

import json
import time
from pathlib import Path

from zdtest.records.eventlog import EventLog


def test_a_mark_is_when_it_was_noted_or_when_it_is_said_to_have_happened(tmp_path: Path) -> None:
    mark = EventLog(tmp_path / "events.jsonl")
    began = time.monotonic()
    mark("app.started", instance="a")
    mark("app.stopped", instance="a", happened=began - 1)
    mark.close()
    first, second = map(json.loads, (tmp_path / "events.jsonl").read_text().splitlines())
    assert first.pop("t") >= began
    assert second.pop("noted") >= began
    assert first == {"mark": "app.started", "instance": "a"}
    assert second == {"mark": "app.stopped", "instance": "a", "t": began - 1}
