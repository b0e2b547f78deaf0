"""From when on what fails on a channel can be the deploy's doing.

A channel that was asked before the deploy, and had not one good reply until it began, is
misconfigured or was down already. What fails there before its first good reply tells nothing of the
deploy: it breaks no promise, and keeps the run from proving one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zdtest.judging.phase import BASELINE
from zdtest.records.recording import Samples
from zdtest.records.sample import CHANNELS, Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


def well_since(samples: Samples, counts: Ints, begin: float) -> Floats:
    """Return for each channel the due time from which on its failures count.

    That is minus infinity for one that worked before `begin`, or was not asked until then; else its
    first good reply, infinity where none came. `counts` are samples by [phase, channel, outcome].
    """
    since = np.full(len(CHANNELS), -np.inf)
    before = counts[BASELINE]
    failed = before.sum(axis=1) - before[:, Outcome.ok] - before[:, Outcome.unsent]
    for code in np.flatnonzero((failed > 0) & (before[:, Outcome.ok] == 0)):
        good = np.flatnonzero((samples.channel == code) & (samples.outcome == Outcome.ok))
        first = float(samples.due[good[0]]) if len(good) else np.inf
        # One that was asked before and answered meanwhile was well.
        since[code] = first if first >= begin or first == np.inf else -np.inf
    return since
