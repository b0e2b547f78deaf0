"""Where another clock is, and how sure that is: the truth must always lie within the error."""

from __future__ import annotations

import random

import pytest

from zdtest.fleet.clock import DRIFT, Clock, Round

MS = 1_000_000


def round_at(now: int, ahead: int, there: int, back: int, *, stay: int = 1000) -> Round:
    """Return a round that begins `now`, with these ways; their clock is `ahead` of ours."""
    came = now + there + ahead
    return Round(now, came, came + stay, now + there + stay + back)


def test_even_ways_tell_the_offset_exactly_and_uneven_ones_within_the_error() -> None:
    even = round_at(0, 5_000 * MS, 2 * MS, 2 * MS)
    assert even.offset == 5_000 * MS
    assert even.error == 2 * MS + 1
    for there, back in ((4 * MS, 0), (0, 4 * MS)):
        uneven = round_at(0, 5_000 * MS, there, back)
        assert abs(uneven.offset - 5_000 * MS) == 2 * MS
        assert uneven.error == 2 * MS + 1


@pytest.mark.parametrize("drift", [-DRIFT, -50e-6, 0.0, 50e-6, DRIFT])
def test_the_truth_lies_within_the_error_whatever_the_ways_take(drift: float) -> None:
    rng = random.Random(drift)
    clock = Clock(shared=False)
    start = rng.randrange(-(10**15), 10**15)
    now = 0
    for _ in range(2000):
        ahead = start + int(now * drift)
        there, back = (int(rng.expovariate(1 / MS)) + 50_000 for _ in range(2))
        clock.add(round_at(now, ahead, there, back))
        now += rng.randrange(1, 500 * MS)
        truth = start + int(now * drift)
        assert abs(clock.offset - truth) <= clock.error(now) + 2
    assert clock.jumps == 0
    assert clock.error(now) < 2 * MS


def test_the_best_round_stands_until_its_age_makes_it_the_worse_one() -> None:
    clock = Clock(shared=False)
    clock.add(round_at(0, 0, MS, MS))
    clock.add(round_at(100 * MS, 0, 3 * MS, MS))
    assert clock.offset == 0, "the slower round told less"
    later = 60_000 * MS
    assert clock.error(later) == pytest.approx(MS + DRIFT * later, rel=0.01)
    clock.add(round_at(later, 0, 3 * MS, MS))
    assert clock.offset == MS
    assert clock.error(later) < 3 * MS


def test_one_clock_is_certain_until_a_round_says_that_it_is_two() -> None:
    clock = Clock(shared=True)
    assert (clock.offset, clock.error(0)) == (0, 0)
    clock.add(round_at(0, 0, MS, 3 * MS))
    assert (clock.shared, clock.offset, clock.error(10**12)) == (True, 0, 0)
    clock.add(round_at(10 * MS, 40 * MS, MS, 3 * MS))
    assert not clock.shared
    assert abs(clock.offset - 40 * MS) <= clock.error(14 * MS)


def test_a_clock_that_jumps_is_counted_and_followed() -> None:
    clock = Clock(shared=False)
    clock.add(round_at(0, 0, MS, MS))
    clock.add(round_at(1000 * MS, 2 * MS, MS, MS))
    assert clock.jumps == 0, "two rounds may differ by both their errors"
    clock.add(round_at(2000 * MS, 50 * MS, 5 * MS, 5 * MS))
    assert clock.jumps == 1
    assert clock.offset == 50 * MS


def test_the_first_round_tells_the_offset() -> None:
    clock = Clock(shared=False)
    assert clock.rounds == 0
    clock.add(round_at(0, 7, 0, 0))
    assert (clock.offset, clock.rounds) == (7, 1)
