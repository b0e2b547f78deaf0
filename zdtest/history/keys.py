"""Exactly once with an Idempotency-Key: one effect a key, whoever executed it, and never none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from zdtest.history.sent import keys, name, replied
from zdtest.history.witness import SHOWN, Found, Witness
from zdtest.history.writes import executed
from zdtest.records.journal import FOREIGN, Journal
from zdtest.records.recording import Samples
from zdtest.records.sample import CHANNELS, Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray


def key_twice(journal: Iterable[Mapping[str, Any]], run: str) -> Found:
    """Return the keys of this run with more than one order, over all instances and versions.

    A key is of this run when one of its orders is. O(n log n) in the orders.
    """
    kept = Journal.of(journal)
    orders = kept.lines(run, "order")
    orders = orders.where(orders.key >= 0)
    codes, effects = np.unique(orders.key, return_counts=True)
    repeated = codes[(effects > 1) & np.isin(codes, orders.key[orders.seq != FOREIGN])]
    witnesses = []
    for key in repeated[:SHOWN].tolist():
        rows = np.flatnonzero(orders.key == key)
        who = [kept.processes[code].instance for code in orders.process[rows].tolist()]
        told = f"its key had {len(rows)} effects, on {', '.join(dict.fromkeys(who))}"
        first = rows[0]
        witnesses.append(Witness(_name(run, orders.seq[first]), orders.at[first], who[0], told))
    return Found(len(repeated), tuple(witnesses))


def key_lost(
    samples: Samples,
    journal: Iterable[Mapping[str, Any]],
    run: str,
    retries: NDArray[np.void],
) -> Found:
    """Return the keys under which a write was answered ok, and none ever ran.

    Each write has a key: that of one of the `retries` (`RETRY`) is an earlier one's. O(n log n).
    """
    lines = Journal.of(journal).lines(run, "order", "replayed")
    rows = np.flatnonzero(
        (samples.channel == CHANNELS.index("write")) & (samples.outcome == Outcome.ok)
    )
    seqs = samples.seq[rows].astype(np.int64)
    acked, firsts = np.unique(keys(seqs, retries), return_index=True)
    lost = ~np.isin(acked, keys(executed(lines)[1], retries))
    witnesses: list[Witness] = []
    for key, row in zip(acked[lost][:SHOWN].tolist(), rows[firsts[lost]].tolist(), strict=False):
        told = f"answered ok under the key of {name(run, key)}, which never had an effect"
        witnesses += replied(samples, run, np.array([row]), told)
    return Found(int(lost.sum()), tuple(witnesses))


def _name(run: str, seq: int) -> str:
    return "a request of another run" if seq == FOREIGN else name(run, seq)
