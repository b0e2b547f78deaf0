"""Exactly once with an Idempotency-Key: one effect a key, whoever executed it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from zdtest.history.sent import name
from zdtest.history.witness import SHOWN, Found, Witness
from zdtest.journal import FOREIGN, Journal


def key_twice(journal: Iterable[Mapping[str, Any]], run: str) -> Found:
    """Return the keys of this run with more than one order, over all instances and versions.

    A key is of this run when one of its orders is. O(n log n) in the orders.
    """
    kept = Journal.of(journal)
    orders = kept.lines(run, "order")
    orders = orders.where(orders.key >= 0)
    keys, effects = np.unique(orders.key, return_counts=True)
    repeated = keys[(effects > 1) & np.isin(keys, orders.key[orders.seq != FOREIGN])]
    witnesses = []
    for key in repeated[:SHOWN].tolist():
        rows = np.flatnonzero(orders.key == key)
        who = [kept.processes[code].instance for code in orders.process[rows].tolist()]
        told = f"its key had {len(rows)} effects, on {', '.join(dict.fromkeys(who))}"
        first = rows[0]
        witnesses.append(Witness(_name(run, orders.seq[first]), orders.at[first], who[0], told))
    return Found(len(repeated), tuple(witnesses))


def _name(run: str, seq: int) -> str:
    return "a request of another run" if seq == FOREIGN else name(run, seq)
