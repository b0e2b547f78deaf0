"""Whose fault it was: the failed requests by their causes, what would mend each, and examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from zdtest.report.frame import Frame
from zdtest.report.number import count, html, moment, real
from zdtest.report.tables import Show, prose, table


def blame(frame: Frame) -> str:
    """Return the section about the causes, nothing where nothing failed or none were told."""
    told = frame.verdict.get("blame")
    told = told if isinstance(told, dict) else {}
    causes = {name: one for name, one in told.items() if isinstance(one, dict)}
    if not causes:
        return ""
    total = sum(int(real(one.get("failed")) or 0) for one in causes.values())
    unknown = int(real(causes.get("unknown", {}).get("failed")) or 0)
    note = (
        "Each failed request has one cause: from the client's account, the proxy's log, the app's "
        "journal and what the engine tells of the processes, joined by the request's id and the "
        f"run's clock. Unexplained: {count(unknown)} of {count(total)}."
    )
    rows = pd.DataFrame([_row(name, one) for name, one in causes.items()], dtype=object)
    columns: dict[str, tuple[str, Show]] = {
        "cause": ("cause", str),
        "failed": ("failed", count),
        "says": ("what it means", prose),
        "mend": ("what would mend it", prose),
    }
    return (
        f'<section><h2>Whose fault</h2><p class="note">{html(note, 600)}</p>\n'
        f"{table(rows, columns, caption='Failed requests by cause')}{_witnesses(causes)}</section>"
    )


def _row(name: str, one: Mapping[str, Any]) -> dict[str, object]:
    return {
        "cause": name,
        "failed": one.get("failed"),
        "says": one.get("says"),
        "mend": one.get("mend"),
    }


def _witnesses(causes: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the first requests of each cause, and why it is said to be theirs."""
    seen = [
        {"cause": name, **witness, "ended": _ended(witness)}
        for name, one in causes.items()
        for witness in _list(one.get("witnesses"))
        if isinstance(witness, dict)
    ]
    columns: dict[str, tuple[str, Show]] = {
        "id": ("id", str),
        "cause": ("cause", str),
        "channel": ("channel", str),
        "sent_s": ("sent", moment),
        "done_s": ("ended", moment),
        "ended": ("as", str),
        "why": ("why", prose),
    }
    rows = pd.DataFrame(seen, columns=list(columns), dtype=object)
    return table(rows, columns, caption="The first of each cause") if seen else ""


def _ended(witness: Mapping[str, Any]) -> str:
    return " ".join(str(word) for word in (witness.get("outcome"), witness.get("status")) if word)


def _list(told: object) -> list[Any]:
    return told if isinstance(told, list) else []
