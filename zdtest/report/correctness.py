"""What the client's account and the app's say together, check by check, with witnesses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from zdtest.report.frame import Frame
from zdtest.report.number import NOTHING, count, html, moment, real
from zdtest.report.tables import Show, table

MEANING = {
    "lost": "writes answered ok that never ran",
    "twice": "writes that ran more than once",
    "key_lost": "idempotency keys answered ok without an effect",
    "key_twice": "idempotency keys with more than one effect",
    "phantom": "requests that arrived and that nobody sent",
    "early": "requests accepted before ready or after the listener closed",
    "repeated": "requests that arrived more than once",
    "backwards": "replies that sent a session back from the new version",
    "stale": "replies of another version after the deploy had settled",
    "cut": "replies cut short",
    "altered": "whole replies with another body than asked for",
    "gaps": "messages that streams left out",
    "repeats": "messages that streams had sent already",
}
"""What each check of verdict.json counts."""


_JOURNAL = "the app's journal"
_VERSIONS = "--new-version, and replies that tell their version"
TAKES = {
    **dict.fromkeys(("lost", "twice", "phantom", "early", "repeated"), _JOURNAL),
    **dict.fromkeys(("key_lost", "key_twice"), f"{_JOURNAL}, and writes with a key (write+key)"),
    **dict.fromkeys(("backwards", "stale"), _VERSIONS),
    **dict.fromkeys(("gaps", "repeats"), "a stream whose messages are numbered"),
}
"""What it takes for a check to be known."""


def correctness(frame: Frame) -> str:
    """Return the section that counts each check and names its witnesses.

    What is not known is one line, with what would make it known.
    """
    told = frame.verdict.get("correctness")
    if not isinstance(told, dict):
        return ""
    witnesses = told.get("witnesses")
    seen: Mapping[str, Any] = witnesses if isinstance(witnesses, dict) else {}
    known = [name for name in MEANING if real(told.get(name)) is not None]
    unknown = [name for name in MEANING if name in told and name not in known]
    rows = pd.DataFrame(
        [
            {
                "check": name,
                "found": told[name],
                "meaning": MEANING[name],
                "witnesses": "; ".join(map(_witness, seen.get(name) or ())),
            }
            for name in known
        ],
        dtype=object,
    )
    columns: dict[str, tuple[str, Show]] = {
        "check": ("check", str),
        "found": ("found", count),
        "meaning": ("what it counts", str),
        "witnesses": ("the first of them", str),
    }
    body = table(rows, columns, caption="Correctness checks", alarming=("found",)) if known else ""
    note = "".join(
        f'<p class="note">{html(text, 2000)}</p>'
        for text in (_unknown(unknown), (_note(told) + _hidden(frame.verdict)).strip())
        if text
    )
    return f"<section><h2>Correctness</h2>{note}\n{body}</section>"


def _unknown(names: list[str]) -> str:
    """Return what is not known, by what would make it so; "" where all is."""
    by: dict[str, list[str]] = {}
    for name in names:
        by.setdefault(TAKES.get(name, "what is not on file"), []).append(name)
    told = [f"{', '.join(each)} (it takes {what})" for what, each in by.items()]
    return f"Not known: {'; '.join(told)}." if told else ""


def _note(told: Mapping[str, Any]) -> str:
    note = ""
    if (retried := real(told.get("retried"))) is not None:
        note += f" {count(retried)} writes were asked again under their key."
    if (resumed := real(told.get("resumed"))) is not None:
        note += f" {count(resumed)} times a stream went on where it had been left."
    if open_ones := real(told.get("undecided")):
        ran = real(told.get("undecided_ran"))
        rest = "" if ran is None else f", and {count(ran)} of them did"
        note += f" {count(open_ones)} writes were sent and not answered: they may have run{rest}."
    return note


def _hidden(verdict: Mapping[str, Any]) -> str:
    """Return that nobody knows what a proxy hid, where that is so."""
    if "masked" not in verdict or verdict["masked"] is not None:
        return ""
    return " No proxy's log is on file: whether one hid failures by trying again is not known."


def _witness(one: object) -> str:
    if not isinstance(one, dict):
        return NOTHING
    at = real(one.get("at_s"))
    words = [
        str(one.get("id") or NOTHING),
        "" if at is None else f"at {moment(at)}",
        f"on {one['instance']}" if one.get("instance") else "",
        f"({one['told']})" if one.get("told") else "",
    ]
    return " ".join(filter(None, words))
