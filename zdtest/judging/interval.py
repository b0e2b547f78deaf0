"""Exact bounds from counts alone: how large a failure rate, how large a percentile may truly be.

Bounds are one-sided and hold at `CONFIDENCE` whatever the distribution of latencies: a count is
binomial, and so is the number of replies below a percentile.
"""

from __future__ import annotations

import math
from collections.abc import Callable

CONFIDENCE = 0.95
"""How often a bound holds; both bounds of a pair together hold at least 90 % of the time."""


def upper_rate(
    failed: int, requests: int, confidence: float = CONFIDENCE, close: float = 0.0
) -> float:
    """Return the highest rate at which so few failures are not yet a surprise.

    Clopper & Pearson (1934), one-sided. About 3 / requests when nothing failed, 1.0 when
    nothing was asked. It is no more than `close` too high.
    """
    if failed >= requests:
        return 1.0
    if failed == 0:
        return -math.expm1(math.log1p(-confidence) / requests)
    return _root(lambda rate: at_most(failed, requests, rate) > 1 - confidence, close)


def lower_rate(failed: int, requests: int) -> float:
    """Return the lowest rate at which so many failures are not yet a surprise."""
    return 1 - upper_rate(requests - failed, requests) if failed else 0.0


def rates(failed: int, requests: int) -> tuple[float, float]:
    """Return between what the failure rate lies at `CONFIDENCE`, both bounds together.

    To a billionth, outwards: a page has thousands of them.
    """
    each, close = (1 + CONFIDENCE) / 2, 1e-9
    least = 1 - upper_rate(requests - failed, requests, each, close) if failed else 0.0
    return max(0.0, least), upper_rate(failed, requests, each, close)


def requests_needed(rate: float) -> int:
    """Return how many requests, none failed, put `upper_rate` below `rate`: 29,956 for 1e-4."""
    needed = math.ceil(math.log1p(-CONFIDENCE) / math.log1p(-rate))
    return needed if upper_rate(0, needed) < rate else needed + 1


def nearest_rank(percent: int, count: int) -> int:
    """Return which of `count` ordered values, from 1, is the percentile: no interpolation."""
    return max(1, -(-percent * count // 100))


def lower_rank(percent: int, count: int) -> int:
    """Return the rank whose value the true percentile is not below, 0 where there is none.

    Order statistics: the r-th value is above the percentile only when fewer than r are below it.
    """
    share = percent / 100
    return _last(count, lambda rank: at_most(rank - 1, count, share) <= 1 - CONFIDENCE)


def upper_rank(percent: int, count: int) -> int | None:
    """Return the rank whose value the true percentile is not above, None where there is none."""
    share = percent / 100
    rank = _last(count, lambda rank: at_most(rank - 1, count, share) < CONFIDENCE) + 1
    return rank if rank <= count else None


def at_most(hits: int, trials: int, share: float) -> float:
    """Return the probability of at most `hits` in `trials` when each hits with `share`."""
    if hits < 0:
        return 0.0
    if hits >= trials or share <= 0:
        return 1.0
    if share >= 1:
        return 0.0
    return _beta(trials - hits, hits + 1, 1 - share)


def as_uneven(hits: int, trials: int, other_hits: int, other_trials: int) -> float:
    """Return how often chance alone puts so many of all hits, or more, on the first side.

    R. A. Fisher's exact test (1922), one-sided: the tail of the hypergeometric distribution.
    """
    total, all_hits = trials + other_trials, hits + other_hits
    ways = choose(total, all_hits)
    most = min(trials, all_hits)
    return math.fsum(
        math.exp(choose(trials, k) + choose(other_trials, all_hits - k) - ways)
        for k in range(hits, most + 1)
    )


def choose(n: int, k: int) -> float:
    """Return the logarithm of the number of ways to choose `k` of `n`."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _root(above: Callable[[float], bool], close: float = 0.0) -> float:
    """Return where `above` turns false on 0..1, the side that is never too low."""
    low, high = 0.0, 1.0
    while (middle := (low + high) / 2) not in (low, high) and high - low > close:
        low, high = (middle, high) if above(middle) else (low, middle)
    return high


def _last(count: int, true: Callable[[int], bool]) -> int:
    """Return the largest of 1..count for which `true` still holds, 0 where it never does."""
    low, high = 0, count + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if true(middle) else (low, middle)
    return low


def _beta(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b).

    Its continued fraction (DLMF 8.17.22) converges fast on this side of the mean; the other side
    is one minus its mirror image.
    """
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta(b, a, 1 - x)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(scale + a * math.log(x) + b * math.log1p(-x)) / a
    return front * _fraction(a, b, x)


def _fraction(a: float, b: float, x: float) -> float:
    """Return the continued fraction of `_beta`, by Lentz's method."""
    tiny = 1e-300
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1), tiny)
    value = d
    for m in range(1, 1_000_000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _not_zero(1 + term * d, tiny)
            c = _not_zero(1 + term / c, tiny)
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value


def _not_zero(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny
