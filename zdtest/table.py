"""The table at the end of a pytest run: a line a scenario, what was measured, what was expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_RESULTS = {
    "passed": "as expected",
    "xfailed": "as predicted: the document's promise breaks",
    "xpassed": "NOT as predicted",
    "failed": "FAILED",
    "error": "ERROR",
}


@dataclass(frozen=True, slots=True)
class Row:
    """What one scenario measured; "" where it was not judged."""

    node: str
    claim: str
    topology: str
    verdict: str
    failed: str
    downtime: str

    @classmethod
    def of(cls, node: str, facts: Mapping[str, Any]) -> Row:
        """Return the row from the properties that the plugin put on a test's report."""
        told = {name.removeprefix("zdtest."): value for name, value in facts.items()}
        judged = "verdict" in told
        least, most = told.get("downtime_min_ms", 0.0), told.get("downtime_max_ms", 0.0)
        return cls(
            node=node,
            claim=str(told.get("claim", "")),
            topology=str(told.get("topology", "")),
            verdict=str(told.get("verdict", "not judged")),
            failed=f"{told['failed']:,} of {told['requests']:,}" if judged else "",
            downtime=f"{least:,.0f} to {most:,.0f} ms" if most else "none" if judged else "",
        )


def table(rows: Sequence[Row], results: Mapping[str, str]) -> str:
    """Return the rows as aligned text; `results` is pytest's category by node id."""
    heads = ("claim", "topology", "scenario", "verdict", "failed", "downtime", "so")
    lines = [
        (
            row.claim,
            row.topology,
            row.node.partition("::")[2].removeprefix("test_"),
            row.verdict,
            row.failed,
            row.downtime,
            _RESULTS.get(results.get(row.node, ""), results.get(row.node, "")),
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (heads, *lines)
    )
