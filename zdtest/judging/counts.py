"""How many samples there are of each kind, counted in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zdtest.judging.phase import PHASES
from zdtest.records.recording import Samples
from zdtest.records.sample import CHANNELS, Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]


def by_outcome(samples: Samples, phases: NDArray[np.uint8]) -> Ints:
    """Return how many samples there are by [phase, channel, outcome]."""
    shape = (len(PHASES), len(CHANNELS), len(Outcome))
    keys = (phases.astype(np.uint16) * shape[1] + samples.channel) * shape[2] + samples.outcome
    return np.bincount(keys, minlength=int(np.prod(shape))).reshape(shape)


def by_version(samples: Samples, phases: NDArray[np.uint8]) -> Ints:
    """Return how many ok replies of the system there are by [phase, version code]."""
    ok = (samples.outcome == Outcome.ok) & (samples.channel != CHANNELS.index("control"))
    shape = (len(PHASES), len(samples.versions), 2)
    # The smallest type that holds every key keeps ten million of them in the cache.
    keys = phases.astype(np.min_scalar_type(int(np.prod(shape))))
    keys *= keys.dtype.type(shape[1])
    keys = (keys + samples.version) * 2 + ok
    found: Ints = np.bincount(keys, minlength=int(np.prod(shape))).reshape(shape)[:, :, 1]
    return found
