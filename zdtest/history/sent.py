"""Where the requests of a check are among the samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zdtest.history.witness import Witness
from zdtest.records.recording import NEVER, Samples, request_id

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from zdtest.records.journal import Ints
    from zdtest.records.recording import Floats


def name(run: str, seq: int) -> str:
    """Return the id of the request with that number, also where it can have none."""
    return request_id(run, seq) if seq >= 0 else f"{run}-?"


def keys(seqs: Ints, retries: NDArray[np.void] | None) -> Ints:
    """Return the number of the write whose key each of these carries; a fresh one has its own."""
    if retries is None or not len(retries):
        return seqs
    known = retries[np.argsort(retries["seq"], kind="stable")]
    place = np.minimum(np.searchsorted(known["seq"], seqs), len(known) - 1)
    found: Ints = np.where(known["seq"][place] == seqs, known["key"][place].astype(np.int64), seqs)
    return found


def moments(samples: Samples, rows: NDArray[np.intp]) -> Floats:
    """Return when each of these was sent, or fell due where it was not."""
    sent = samples.sent_us[rows]
    return samples.due[rows] + np.where(sent == NEVER, 0, sent) * 1e-6


def replied(samples: Samples, run: str, rows: NDArray[np.intp], told: str) -> tuple[Witness, ...]:
    """Return the samples in these rows as witnesses, each when it was sent."""
    at = moments(samples, rows)
    return tuple(
        Witness(
            name(run, int(samples.seq[row])),
            float(when),
            samples.instances[samples.instance[row]],
            told,
        )
        for row, when in zip(rows.tolist(), at.tolist(), strict=True)
    )


def answered(samples: Samples, run: str, seqs: Ints, told: str) -> tuple[Witness, ...]:
    """Return the requests with these numbers as witnesses."""
    return replied(samples, run, np.flatnonzero(np.isin(samples.seq, seqs)), told)
