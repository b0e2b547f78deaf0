"""What became of the writes: lost after their ok, or run twice. Client samples x app journal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zdtest.history.sent import answered, keys, name
from zdtest.history.witness import SHOWN, Witness
from zdtest.records.journal import FOREIGN, Journal, Lines
from zdtest.records.recording import Samples, request_id
from zdtest.records.sample import CHANNELS, MAY_HAVE_RUN, NEVER_SENT, Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from zdtest.records.journal import Ints

_ORDER, _REPLAYED = 0, 1


@dataclass(frozen=True, slots=True)
class Writes:
    """The writes of a run; `lost`, `twice` and `phantom` are None where there is no journal."""

    sent: int
    ok: int
    lost: int | None
    """Answered ok, and never executed."""
    twice: int | None
    """Executed more than once; the client never sends one again."""
    undecided: int
    """Sent without a full reply: may have run once, and neither is wrong."""
    phantom: int | None = None
    """Executed under an id of this run that nobody sent."""
    lost_ids: tuple[str, ...] = ()
    """The first few lost."""
    twice_ids: tuple[str, ...] = ()
    """The first few run twice."""
    undecided_ran: int | None = None
    """How many of the undecided ran, by the journal."""
    lost_seen: tuple[Witness, ...] = ()
    """When those lost were answered, and by whom."""
    twice_seen: tuple[Witness, ...] = ()
    """When and where those run twice ran."""


def writes(
    samples: Samples,
    journal: Iterable[Mapping[str, Any]] | None,
    run: str,
    *,
    whole: bool = True,
    retries: NDArray[np.void] | None = None,
) -> Writes:
    """Return what became of the run's writes, from its samples and the app's journal.

    A write with a key that was answered with an earlier one's order counts as executed where that
    order is; so does one of the `retries` (`RETRY`) whose key had its effect under another id. An
    id that is not on file is a phantom only where the recording is `whole`.
    """
    rows = np.flatnonzero(samples.channel == CHANNELS.index("write"))
    seqs, outcomes = samples.seq[rows].astype(np.int64), samples.outcome[rows]
    sent = seqs[~np.isin(outcomes, list(NEVER_SENT))]
    ok = seqs[outcomes == Outcome.ok]
    undecided = seqs[np.isin(outcomes, list(MAY_HAVE_RUN))]
    if journal is None:
        return Writes(len(sent), len(ok), None, None, len(undecided))
    kept = Journal.of(journal)
    orders, settled = executed(kept.lines(run, "order", "replayed"))
    ran, times = np.unique(orders.seq, return_counts=True)
    known = np.isin(ran, sent)
    lost = ok[~np.isin(keys(ok, retries), keys(settled, retries))]
    twice = ran[known & (times > 1)]
    unsent = ~known if whole else np.isin(ran, seqs) & ~known
    return Writes(
        sent=len(sent),
        ok=len(ok),
        lost=len(lost),
        twice=len(twice),
        undecided=len(undecided),
        phantom=int(unsent.sum()),
        lost_ids=tuple(request_id(run, seq) for seq in lost[:SHOWN].tolist()),
        twice_ids=tuple(request_id(run, seq) for seq in twice[:SHOWN].tolist()),
        undecided_ran=int(np.isin(undecided, settled).sum()),
        lost_seen=answered(samples, run, lost[:SHOWN], "answered ok and never ran"),
        twice_seen=tuple(_ran(kept, orders, run, seq) for seq in twice[:SHOWN].tolist()),
    )


def executed(lines: Lines) -> tuple[Lines, Ints]:
    """Return the orders of this run, and the numbers of all requests that one stands for.

    `lines` are those of the events order and replayed, in this order.
    """
    orders = lines.where(lines.event == _ORDER)
    replayed = lines.where((lines.event == _REPLAYED) & (lines.key >= 0))
    effective = replayed.seq[np.isin(replayed.key, orders.key)]
    ours = orders.where(orders.seq != FOREIGN)
    return ours, np.concatenate([ours.seq, effective])


def _ran(journal: Journal, orders: Lines, run: str, seq: int) -> Witness:
    """Return when and where one request ran."""
    rows = np.flatnonzero(orders.seq == seq)
    at, who = orders.at[rows], [journal.processes[code].instance for code in orders.process[rows]]
    told = f"ran {len(rows)} times"
    if len(rows) > 1 and at[-1] == at[-1]:
        told += f", again {(at[1] - at[0]) * 1e3:.0f} ms later on {who[1] or 'nobody told'}"
    return Witness(name(run, seq), float(at[0]), who[0], told)
