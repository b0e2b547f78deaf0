"""How often chance alone makes two sides look as different as they do."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from zdtest.judging.interval import choose

CHANCE = 0.01
"""How often chance alone may look like a difference of one scenario's failures or latencies."""

_DRAWS = 4000
_BOUNDS = (0.25, 99.75)

_EXACT = 100
"""Values on the smaller side beyond which the sum of their ranks is as good as normal."""

_SAME = 1e-7
"""Chances whose logarithms are no further apart are the same: what is left is rounding."""

_COUNTS = 45.0
"""What is e^45 times less likely than the first of its tail adds nothing that could be told."""


def apart(old: Sequence[float], new: Sequence[float]) -> tuple[float, float] | None:
    """Return between what bounds the difference of the medians lies, None where it may be chance.

    The ranks and the bootstrap both have to say so. Ranks are sure of it: of two sides of one kind
    they say so in less than `CHANCE` of all pairs, whatever the values are and however many. The
    bootstrap says by how much.
    """
    longer, shorter = ranks(old, new) < CHANCE / 2, ranks(new, old) < CHANCE / 2
    if not (longer or shorter):
        return None
    least, most = bootstrap(old, new)
    return (least, most) if (longer and least > 0) or (shorter and most < 0) else None


def ranks(low: Sequence[float], high: Sequence[float]) -> float:
    """Return how often chance alone puts `high` so far above `low`: one-sided, exact.

    Of all ways in which these values could fall on the two sides, those in which no more pairs of
    them stand the other way round (H. B. Mann and D. R. Whitney, 1947); what is equal does.
    """
    few, many = sorted((len(low), len(high)))
    pairs = few * many
    wrong = pairs - int(np.searchsorted(np.sort(low), high).sum())
    if few > _EXACT:
        deviation = math.sqrt(pairs * (few + many + 1) / 12)
        return math.erfc((pairs / 2 - wrong - 0.5) / deviation / math.sqrt(2)) / 2
    # The Gaussian binomial coefficient, as a power series up to where it is needed: one more value
    # of the smaller side a step, divided by how many more ways that makes.
    ways = np.zeros(wrong + 1)
    ways[0] = 1.0
    for size in range(1, few + 1):
        ways[many + size :] -= ways[: -(many + size)].copy()
        folded = np.append(ways, np.zeros(-len(ways) % size)).reshape(-1, size)
        ways = folded.cumsum(axis=0).ravel()[: len(ways)] * (size / (many + size))
    return float(ways.sum())


def bootstrap(old: Sequence[float], new: Sequence[float]) -> tuple[float, float]:
    """Return between what bounds the difference of the medians lies.

    By drawing anew from each side (B. Efron, 1979); the same values give the same bounds. Of a few
    values it is too sure, whatever bounds it is asked for: `apart` does not take its word for it.
    """
    draw = np.random.default_rng(0)
    medians = [
        np.median(draw.choice(np.asarray(side), (_DRAWS, len(side))), axis=1) for side in (old, new)
    ]
    least, most = np.percentile(medians[1] - medians[0], _BOUNDS)
    return float(least), float(most)


def fisher(failed: int, requests: int, other_failed: int, other_requests: int) -> float:
    """Return how often chance alone parts these failures so unevenly: two-sided, exact.

    Of all ways in which as many failures could fall on the two sides, those no likelier than this
    one (R. A. Fisher, 1922). 1.0 where nothing or everything failed.
    """
    total, all_failed = requests + other_requests, failed + other_failed
    if not 0 < all_failed < total or not requests or not other_requests:
        return 1.0

    def chance(k: int) -> float:
        return (
            choose(requests, k) + choose(other_requests, all_failed - k) - choose(total, all_failed)
        )

    least, most = max(0, all_failed - other_requests), min(requests, all_failed)
    here = chance(failed) + _SAME
    # It rises to its mode and falls from there: only what is in the two tails is added up.
    mode = (requests + 1) * (all_failed + 1) // (total + 2)
    below = least + bisect_right(range(least, mode + 1), here, key=chance)
    above = mode + 1 + bisect_left(range(mode + 1, most + 1), -here, key=lambda k: -chance(k))
    tails = (range(below - 1, least - 1, -1), range(above, most + 1))
    return min(1.0, math.fsum(part for tail in tails for part in _outwards(map(chance, tail))))


def _outwards(tail: Iterable[float]) -> Iterator[float]:
    """Yield the chances of a tail, of which these are the logarithms, as far as they count."""
    first = None
    for each in tail:
        first = each if first is None else first
        if each < first - _COUNTS:
            return
        yield math.exp(each)
