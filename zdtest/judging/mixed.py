"""For how long two versions answered: what the spans from first to last reply have in common.

A version that comes and is taken back, as a canary's, is mixed for as long as it answered. Who
switches at once, and back at once, counts as mixed in between: by spans that cannot be told apart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import numpy as np

from zdtest.records.recording import Samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.intp]

Span = tuple[float, float]


def mixed(samples: Samples, rows: Rows, versions: Collection[str] | None) -> float:
    """Return the seconds of due time in which two of the versions answered.

    `rows` are the system's ok replies. Without named `versions` it is any two that replies told.
    """
    told = samples.version[rows]
    first, last = np.full((2, len(samples.versions)), -1)
    # Of what is put in one place again and again the last one stays.
    first[told[::-1]], last[told] = rows[::-1], rows
    spans = [
        (float(samples.due[first[code]]), float(samples.due[last[code]]))
        for code, name in enumerate(samples.versions)
        if name and last[code] >= 0 and (versions is None or name in versions)
    ]
    return shared(spans)


def shared(spans: Iterable[Span]) -> float:
    """Return the seconds that are in two of the spans or more."""
    total, reached, counted = 0.0, -np.inf, -np.inf
    for first, last in sorted(spans):
        both = min(last, reached)
        total += max(0.0, both - max(first, counted))
        counted, reached = max(counted, both), max(reached, last)
    return float(total)
