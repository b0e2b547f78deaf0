"""What chance alone may do is told by exact tests, and they are held to what they promise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from zdtest.results.chance import CHANCE, apart, ranks


@pytest.mark.parametrize(("old", "new"), [(5, 5), (5, 20), (5, 100), (100, 5)])
def test_of_two_sides_of_one_kind_no_more_are_told_apart_than_is_promised(
    old: int, new: int
) -> None:
    """The bootstrap alone told 21 of 1,000 pairs of 5 and 100 apart, and 13 of 5 and 20."""
    draw, pairs = np.random.default_rng(5), 2000
    told = [
        apart(draw.lognormal(0, 0.5, old).tolist(), draw.lognormal(0, 0.5, new).tolist())
        for _ in range(pairs)
    ]
    assert sum(bounds is not None for bounds in told) <= CHANCE * pairs


@pytest.mark.parametrize(("old", "new"), [(5, 5), (5, 100), (100, 5)])
def test_what_is_twice_as_slow_is_told_apart_all_the_same(old: int, new: int) -> None:
    draw = np.random.default_rng(5)
    for _ in range(20):
        bounds = apart(draw.normal(10, 0.5, old).tolist(), draw.normal(20, 1, new).tolist())
        assert bounds
        assert 7 < bounds[0] < bounds[1] < 14


@pytest.mark.parametrize(("few", "many"), [(1, 1), (2, 3), (3, 2), (4, 4), (1, 7)])
def test_the_ranks_count_every_way_in_which_as_few_pairs_stand_the_other_way(
    few: int, many: int
) -> None:
    def wrong(places: tuple[int, ...]) -> int:
        others = [place for place in range(few + many) if place not in places]
        return sum(low > high for low in places for high in others)

    ways = list(itertools.combinations(range(few + many), few))
    for places in ways:
        others = [place for place in range(few + many) if place not in places]
        as_few = sum(wrong(each) <= wrong(places) for each in ways)
        assert ranks(places, others) == pytest.approx(as_few / len(ways), rel=1e-9)


def test_what_is_equal_on_both_sides_speaks_for_no_difference() -> None:
    assert ranks([1.0] * 50, [1.0] * 50) == pytest.approx(1)
    assert ranks([1, 2, 3], [3, 4, 5]) == pytest.approx(2 / 20), "as though that 3 were the less"
    assert apart([0.0] * 20, [0.0] * 20) is None


def test_of_very_many_values_the_ranks_are_told_as_quickly_and_as_well() -> None:
    high = np.linspace(0.08, 1.08, 1000)
    exact, quick = (ranks(np.linspace(0, 1, few), high) for few in (100, 101))
    assert exact == pytest.approx(quick, rel=0.05)
    assert 0 < ranks(high - 0.04, high) < 0.01
