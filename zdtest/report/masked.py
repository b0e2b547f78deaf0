"""What the proxy hid from users: requests that it had to try again, with the first of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from zdtest.report.frame import Frame
from zdtest.report.number import NOTHING, count, html, moment, real
from zdtest.report.tables import Show, facts, table


def masked(frame: Frame) -> str:
    """Return the section about masked failures, nothing where the verdict tells of no proxy."""
    told = frame.verdict.get("masked")
    if not isinstance(told, dict):
        return ""
    requests, logged = real(told.get("requests")) or 0, real(told.get("logged")) or 0
    note = (
        "Requests that users saw answered as expected, though an attempt of the proxy's failed "
        "first. One that arrived at the app more than once ran, or began to run, twice."
    )
    if requests:
        body = facts(_facts(told)) + _table(told)
    else:
        body = f"<p>None of {count(logged)} requests answered as expected.</p>"
    return (
        f'<section><h2>Masked failures ({count(requests)})</h2><p class="note">{html(note)}</p>\n'
        f"{_unlogged(told)}{body}</section>"
    )


def _unlogged(told: Mapping[str, Any]) -> str:
    """Return how much of the run the proxy's log does not know, "" where it knows all."""
    unknown, known = real(told.get("unlogged")) or 0, real(told.get("logged")) or 0
    if not unknown:
        return ""
    return (
        f'<p class="alarm">The proxy’s log lacks {count(unknown)} of {count(known + unknown)} '
        f"requests answered as expected: it may have tried those again as well.</p>"
    )


def _facts(told: Mapping[str, Any]) -> dict[str, object]:
    twice = told.get("twice")
    return {
        "requests by method": _counts(told.get("by_method")),
        "on channel write": count(told.get("writes")),
        "failed attempts": count(told.get("attempts_failed")),
        "by server": _counts(told.get("by_upstream")),
        "arrived more than once": "not known: no journal tells" if twice is None else count(twice),
    }


def _counts(told: object) -> str:
    if not isinstance(told, dict):
        return NOTHING
    return ", ".join(f"{name or 'not told'}: {count(number)}" for name, number in told.items())


def _table(told: Mapping[str, Any]) -> str:
    seen = [one for one in _list(told.get("witnesses")) if isinstance(one, dict)]
    rows = pd.DataFrame([_row(one) for one in seen], dtype=object)
    columns: dict[str, tuple[str, Show]] = {
        "id": ("id", str),
        "at": ("answered", moment),
        "method": ("method", str),
        "attempts": ("attempts", count),
        "statuses": ("statuses", str),
        "upstreams": ("servers", str),
        "arrived": ("arrived", count),
    }
    more = int(real(told.get("requests")) or 0) - len(seen)
    rest = f"<p>The other {count(more)} are in logs/proxy.log.</p>" if more > 0 else ""
    return table(rows, columns, caption="The first masked failures") + rest


def _row(one: Mapping[str, Any]) -> dict[str, object]:
    statuses, servers = _list(one.get("statuses")), _list(one.get("upstreams"))
    return {
        "id": one.get("id"),
        "at": one.get("at_s"),
        "method": one.get("method"),
        "attempts": len(servers),
        "statuses": " → ".join(str(status or "none") for status in statuses),
        "upstreams": " → ".join(str(server or "not told") for server in servers),
        "arrived": one.get("arrived"),
    }


def _list(told: object) -> list[Any]:
    return told if isinstance(told, list) else []
