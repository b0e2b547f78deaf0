from __future__ import annotations

from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zdtest.judging.interval import (
    at_most,
    lower_rank,
    lower_rate,
    nearest_rank,
    requests_needed,
    upper_rank,
    upper_rate,
)
from zdtest.percent import bound, failing, share


def exactly_at_most(hits: int, trials: int, share: float) -> float:
    return sum(comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(hits + 1))


def test_zero_of_29_956_is_the_first_to_prove_a_failure_rate_below_one_in_ten_thousand():
    assert upper_rate(0, 29_956) < 1e-4 <= upper_rate(0, 29_955)
    assert requests_needed(1e-4) == 29_956


def test_no_failure_proves_a_rate_of_about_three_over_the_requests():
    assert upper_rate(0, 6000) == pytest.approx(3 / 6000, rel=0.01)


def test_the_upper_bound_is_the_one_in_the_tables():
    assert upper_rate(1, 10) == pytest.approx(0.394163, abs=1e-6)
    assert lower_rate(1, 10) == pytest.approx(0.005116, abs=1e-6)


@pytest.mark.parametrize(("failed", "requests"), [(0, 0), (5, 5)])
def test_nothing_is_known_where_nothing_was_asked_or_all_failed(failed: int, requests: int):
    assert upper_rate(failed, requests) == 1.0


@pytest.mark.parametrize("rate", [0.5, 0.1, 1e-3, 1e-6, 1e-12])
def test_the_requests_needed_are_enough_and_one_less_is_not(rate: float):
    needed = requests_needed(rate)
    assert upper_rate(0, needed) < rate
    assert rate < 1e-9 or upper_rate(0, needed - 1) >= rate


@settings(database=None, deadline=None, max_examples=60)
@given(st.integers(1, 200), st.data())
def test_the_binomial_distribution_agrees_with_adding_it_up(trials: int, data: st.DataObject):
    hits = data.draw(st.integers(0, trials))
    chance = data.draw(st.floats(0.001, 0.999))
    assert at_most(hits, trials, chance) == pytest.approx(
        exactly_at_most(hits, trials, chance), abs=1e-9
    )


@settings(database=None, deadline=None, max_examples=40)
@given(st.integers(1, 300), st.data())
def test_at_the_upper_bound_so_few_failures_are_a_one_in_twenty_surprise(
    requests: int, data: st.DataObject
):
    failed = data.draw(st.integers(0, requests - 1))
    assert at_most(failed, requests, upper_rate(failed, requests)) == pytest.approx(0.05, abs=1e-6)
    assert lower_rate(failed, requests) <= failed / requests <= upper_rate(failed, requests)


def test_ten_million_requests_are_no_trouble():
    assert upper_rate(5_000_000, 10_000_000) == pytest.approx(0.50026, abs=1e-5)


def test_the_nearest_rank_needs_no_floating_point():
    assert [nearest_rank(99, n) for n in (1, 99, 100, 101, 200)] == [1, 99, 99, 100, 198]
    assert nearest_rank(50, 4) == 2


def test_a_p99_has_no_upper_bound_below_299_values():
    assert upper_rank(99, 298) is None
    assert upper_rank(99, 299) == 299


def test_a_median_has_no_lower_bound_where_even_the_smallest_value_may_be_above_it():
    assert lower_rank(50, 4) == 0
    assert lower_rank(50, 5) == 1


def test_a_single_value_is_hardly_ever_above_the_p99():
    assert lower_rank(99, 1) == 1


@settings(database=None, deadline=None, max_examples=40)
@given(st.integers(1, 2000), st.sampled_from([50, 99]))
def test_the_ranks_are_the_tightest_that_hold_at_95_percent(count: int, percent: int):
    chance = percent / 100
    low, high = lower_rank(percent, count), upper_rank(percent, count)
    assert low == 0 or at_most(low - 1, count, chance) <= 0.05
    assert at_most(low, count, chance) > 0.05
    assert high is None or at_most(high - 1, count, chance) >= 0.95
    assert at_most((high or count + 1) - 2, count, chance) < 0.95


@pytest.mark.parametrize(
    ("part", "whole", "printed"),
    [
        (100, 100, "100 %"),
        (0, 0, "none"),
        (0, 5, "0.00 %"),
        (11963, 12000, "99.69 %"),
        (29_999, 30_000, "99.996 %"),
        (9_999_999, 10_000_000, "99.99999 %"),
    ],
)
def test_a_percentage_is_printed_so(part: int, whole: int, printed: str):
    assert share(part, whole) == printed


@settings(database=None, deadline=None)
@given(st.integers(1, 10**12), st.data())
def test_a_percentage_never_shows_100_when_one_is_missing(whole: int, data: st.DataObject):
    part = data.draw(st.integers(0, whole - 1) | st.just(whole - 1))
    assert float(share(part, whole).removesuffix(" %")) < 100


@settings(database=None, deadline=None)
@given(st.integers(1, 10**12), st.data())
def test_what_failed_is_never_printed_as_less_than_it_is_and_100_only_where_all_did(
    whole: int, data: st.DataObject
):
    part = data.draw(st.integers(0, whole) | st.just(whole - 1) | st.just(min(1, whole)))
    printed = float(failing(part, whole).removesuffix(" %"))
    assert printed >= part / whole * 100 * (1 - 1e-12)
    assert (printed == 100) == (part == whole)


@pytest.mark.parametrize(
    ("part", "whole", "printed"),
    [
        (0, 5, "0 %"),
        (59, 252, "23.42 %"),
        (206, 206, "100 %"),
        (9999, 10_000, "99.99 %"),
        (1, 40_000, "0.0025 %"),
    ],
)
def test_what_failed_is_printed_so(part: int, whole: int, printed: str):
    assert failing(part, whole) == printed


@settings(database=None, deadline=None)
@given(st.floats(1e-9, 1.0))
def test_a_bound_is_never_printed_lower_than_it_is(rate: float):
    assert float(bound(rate).removesuffix(" %")) >= rate * 100 * (1 - 1e-8)


def test_a_bound_is_printed_with_two_digits():
    assert [bound(rate) for rate in (0.0, 0.0002496, 0.0873, 1.0)] == [
        "0 %",
        "0.025 %",
        "8.8 %",
        "100 %",
    ]
