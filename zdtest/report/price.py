"""What the deploy cost beside the failures: instances missing or extra, memory, load, time."""

from __future__ import annotations

from zdtest.duration import written
from zdtest.report.frame import Frame
from zdtest.report.number import NOTHING, count, html, real
from zdtest.report.tables import facts
from zdtest.results.overview import megabytes


def price(frame: Frame) -> str:
    """Return the section about it, nothing where none was deployed or no instance is known."""
    told = frame.verdict.get("price")
    told = told if isinstance(told, dict) else {}
    instances, peak = real(told.get("instances")), real(told.get("peak"))
    if not frame.recording.spans("deploy") or (not instances and not peak):
        return ""
    memory = told.get("memory")
    memory = memory if isinstance(memory, dict) else {}
    load, deploy, back = (real(told.get(name)) for name in ("load", "deploy_s", "rollback_s"))
    shown = {
        "ready at the least": f"{count(told.get('lowest'))} of {count(instances)} instances",
        "processes": f"{count(told.get('running'))} before, {count(peak)} at the most",
        "peak memory MB (× before)": megabytes(
            real(memory.get("peak_bytes")), real(memory.get("ratio"))
        ),
        "load of the busiest": NOTHING if load is None else f"× {load:.2f} of the usual",
        "deploy": NOTHING if deploy is None else written(deploy),
        "way back": NOTHING if back is None else written(back),
    }
    note = (
        "Instances of the app, by the engine's account and the app's own; the memory is that of "
        "their processes, each page shared out among those that hold it."
    )
    return f'<section><h2>What it cost</h2><p class="note">{html(note)}</p>{facts(shown)}</section>'
