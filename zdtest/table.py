"""The table at the end of a pytest run: a line a scenario, what was measured, what was expected."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zdtest.judging.interval import lower_rate, upper_rate
from zdtest.percent import bound

_RESULTS = {
    "passed": "as expected",
    "xfailed": "as predicted: the document's promise breaks",
    "xpassed": "NOT as predicted",
    "failed": "FAILED",
    "error": "ERROR",
}
_NOT_JUDGED = "not judged"
_VERDICTS = ("holds", "broken", "inconclusive", _NOT_JUDGED)
_REPEAT = re.compile(r"\[repeat\d+\]|-repeat\d+(?=\])|repeat\d+-(?=.*\])")
"""What the id of a repeated test has more than the id of the test itself."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one scenario measured; "" where it was not judged."""

    node: str
    claim: str
    topology: str
    verdict: str
    promised_for: str
    """The channels that the promises speak of, "" for all."""
    failed: str
    downtime: str
    deploy_failed: int = 0
    deploy_requests: int = 0
    mutant: str = ""
    """The fault that was put into it on purpose, "" for none."""

    @property
    def scenario(self) -> str:
        """The test's name without what all of them begin with."""
        return self.node.partition("::")[2].removeprefix("test_")

    @property
    def file(self) -> str:
        """Where the test stands."""
        return self.node.partition("::")[0]

    @classmethod
    def of(cls, node: str, facts: Mapping[str, Any]) -> Row:
        """Return the row from the properties that the plugin put on a test's report."""
        told = {name.removeprefix("zdtest."): value for name, value in facts.items()}
        judged = "verdict" in told
        least, most = told.get("downtime_min_ms", 0.0), told.get("downtime_max_ms", 0.0)
        more = " or more" if told.get("downtime_open") else ""
        return cls(
            node=node,
            claim=str(told.get("claim", "")),
            topology=str(told.get("topology", "")),
            verdict=str(told.get("verdict", _NOT_JUDGED)),
            promised_for=str(told.get("promised_for", "")),
            failed=f"{told['failed']:,} of {told['requests']:,}" if judged else "",
            downtime=f"{least:,.0f} to {most:,.0f} ms{more}" if most else "none" if judged else "",
            deploy_failed=int(told.get("deploy_failed", 0)),
            deploy_requests=int(told.get("deploy_requests", 0)),
            mutant=str(told.get("mutant", "")),
        )


def table(rows: Sequence[Row], results: Mapping[str, str]) -> str:
    """Return the rows as aligned text; `results` is pytest's category by node id."""
    heads = ("claim", "topology", "scenario", "verdict", "failed", "downtime", "so")
    names = _names(rows)
    lines = [
        (
            row.claim,
            row.topology,
            names[row.node],
            f"{row.verdict} on {row.promised_for}" if row.promised_for else row.verdict,
            row.failed,
            row.downtime,
            _so(row, results),
        )
        for row in rows
    ]
    return _aligned(heads, lines)


def _names(rows: Sequence[Row]) -> dict[str, str]:
    """Return what each test is called, by its id: with its file where there are several so."""
    files: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        files[row.topology, row.scenario].add(row.file)
    return {
        row.node: f"{row.scenario} ({row.file.rpartition('/')[2]})"
        if len(files[row.topology, row.scenario]) > 1
        else row.scenario
        for row in rows
    }


def kills(rows: Iterable[Row], results: Mapping[str, str]) -> str:
    """Return how many of the mutants were caught, each time, and which were not."""
    mutants: dict[str, bool] = {}
    for row in filter(lambda row: row.mutant, rows):
        caught = results.get(row.node, "") == "passed"
        mutants[row.mutant] = mutants.get(row.mutant, True) and caught
    missed = [name for name, caught in mutants.items() if not caught]
    more = f"; not caught: {', '.join(missed)}" if missed else ""
    return f"mutants: {len(mutants) - len(missed)} of {len(mutants)} caught{more}"


def rates(rows: Sequence[Row], results: Mapping[str, str], times: int) -> str:
    """Return a line for all repeats of a scenario: how many had which verdict, of how many.

    Behind each count stands the rate that it may truly be, by its exact bounds (`interval`); behind
    the requests that failed in the deploy windows of all repeats, what rate is not yet excluded.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    names = _names(rows)
    for row in rows:
        groups[_REPEAT.sub("", row.node)].append(row)
    told = {row.verdict for row in rows}
    verdicts = [one for one in _VERDICTS if one in told or one != _NOT_JUDGED]
    heads = ("claim", "topology", "scenario", "runs", *verdicts, "failed in deploys", "so")
    lines = []
    for group in groups.values():
        first, counts = group[0], Counter(row.verdict for row in group)
        so = Counter(_so(row, results) for row in group)
        lines.append(
            (
                first.claim,
                first.topology,
                _REPEAT.sub("", names[first.node]),
                str(len(group)),
                *(_rate(counts[verdict], len(group)) for verdict in verdicts),
                _pooled(group),
                ", ".join(f"{count} {what}" for what, count in so.most_common()),
            )
        )
    said = f"each {times} times; beside a count the rate it may truly be, each bound at 95 %"
    return f"{said}\n{_aligned(heads, lines)}"


def _rate(count: int, runs: int) -> str:
    least, most = lower_rate(count, runs), upper_rate(count, runs)
    return f"{count} ({int(least * 1000) / 10:g} to {bound(most)})"


def _pooled(group: Sequence[Row]) -> str:
    """Return what failed in the deploy windows of all, and below which rate that is."""
    failed = sum(row.deploy_failed for row in group)
    requests = sum(row.deploy_requests for row in group)
    return f"{failed:,} of {requests:,} (below {bound(upper_rate(failed, requests))})"


def _so(row: Row, results: Mapping[str, str]) -> str:
    category = results.get(row.node, "")
    if category == "xfailed" and row.verdict != "broken":
        return "xfailed, and no promise broke"
    return _RESULTS.get(category, category)


def _aligned(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    lines = list(lines)
    widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (heads, *lines)
    )
