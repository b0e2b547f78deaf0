from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from zdtest.judging.outage import availability, brownouts, doubted, downtime, episodes, outages
from zdtest.records.recording import ROW, Samples
from zdtest.records.sample import CHANNELS, Outcome

LETTERS = {
    ".": Outcome.ok,
    "x": Outcome.refused,
    "r": Outcome.reset,
    "t": Outcome.timeout,
    "u": Outcome.unsent,
}


def drawn(picture: str, step: float = 0.1, channel: str = "new", began: float = 0.0) -> Samples:
    """Return one sample a letter, `step` seconds apart: ``..xx.`` failed twice."""
    rows = np.zeros(len(picture), ROW)
    rows["due"] = np.round((began + step * np.arange(len(picture))) * 1e9)
    rows["outcome"] = [LETTERS[letter] for letter in picture]
    rows["channel"] = CHANNELS.index(channel)
    return Samples.from_rows(rows)


def failed(samples: Samples) -> np.ndarray:
    return ~np.isin(samples.outcome, [Outcome.ok, Outcome.unsent])


def found(picture: str, step: float = 0.1, merge: float = 1.0):
    samples = drawn(picture, step)
    return episodes(samples, failed(samples), merge)


def test_an_outage_lasted_from_first_to_last_failure_and_within_the_ok_samples_around():
    (outage,) = found("...xxxx...")
    assert (outage.start, outage.end) == pytest.approx((0.3, 0.6))
    assert outage.min == pytest.approx(0.3)
    assert outage.max == pytest.approx(0.5)
    assert (outage.channel, outage.failed, outage.total) == ("new", 4, 4)
    assert not outage.open_start
    assert not outage.open_end


def test_nothing_is_reported_where_nothing_happened():
    assert found("." * 50) == []
    assert found("") == []


def test_one_failure_lasted_no_time_at_least_and_two_intervals_at_most():
    (outage,) = found("..x..")
    assert outage.min == 0
    assert outage.max == pytest.approx(0.2)


def test_failures_at_most_a_second_apart_are_one_outage():
    (outage,) = found("..x.........x..", step=0.1)
    assert (outage.failed, outage.total) == (2, 11)


def test_failures_more_than_a_second_apart_are_two():
    first, second = found("..x..........x..", step=0.1)
    assert (first.end, second.start) == pytest.approx((0.2, 1.3))
    assert (first.max, second.max) == pytest.approx((0.2, 0.2))


def test_the_distance_that_splits_is_the_callers():
    assert len(found("..x...x..", merge=0.3)) == 2
    assert len(found("..x...x..", merge=0.5)) == 1


def test_different_classes_do_not_split_an_outage():
    (outage,) = found(".xxrt.")
    assert outage.outcomes == {"refused": 2, "reset": 1, "timeout": 1}


def test_a_partial_outage_counts_what_was_answered_in_between():
    (outage,) = found("..x..x..x..x...")
    assert (outage.failed, outage.total) == (4, 10)


def test_an_outage_at_the_start_of_the_schedule_is_open_there():
    (outage,) = found("xx..")
    assert outage.open_start
    assert not outage.open_end
    assert outage.max == pytest.approx(0.2)


def test_an_outage_at_the_end_of_the_schedule_is_open_there():
    (outage,) = found("..xx")
    assert outage.open_end
    assert not outage.open_start
    assert outage.max == pytest.approx(0.2)


def test_a_channel_that_never_answered_is_one_outage_open_at_both_ends():
    (outage,) = found("xxxx")
    assert outage.open_start
    assert outage.open_end
    assert outage.min == outage.max == pytest.approx(0.3)


def test_what_the_generator_could_not_send_neither_failed_nor_was_ok():
    (outage,) = found(".uxuuxu.")
    assert (outage.failed, outage.total) == (2, 2)
    assert outage.min == pytest.approx(0.3)
    assert outage.max == pytest.approx(0.7)
    assert found("uuuu") == []


def test_at_a_slow_pace_neighbouring_failures_are_two_outages_within_the_same_ok_samples():
    first, second = found(".xx.", step=2.0)
    assert (first.min, second.min) == (0, 0)
    assert first.max == second.max == pytest.approx(6.0)
    assert downtime([first, second])[1] == pytest.approx(6.0)


def together(*parts: Samples) -> Samples:
    rows = np.zeros(sum(map(len, parts)), ROW)
    for name in ("due", "outcome", "channel"):
        rows[name] = np.concatenate(
            [getattr(p, name) * (1e9 if name == "due" else 1) for p in parts]
        )
    return Samples.from_rows(rows)


def test_each_channel_has_outages_of_its_own_in_order_of_start():
    samples = together(drawn("...xx...."), drawn(".xx......", channel="write"))
    assert [o.channel for o in outages(samples, failed(samples))] == ["write", "new"]


def test_the_downtime_of_the_run_counts_overlapping_channels_once():
    samples = together(drawn("...xxxx.."), drawn("..xxx....", channel="write"))
    both = outages(samples, failed(samples))
    least, most = downtime(both)
    assert least == pytest.approx(0.4)
    assert most == pytest.approx(0.6)


def test_no_outage_is_no_downtime():
    assert downtime([]) == (0.0, 0.0)


def test_a_brownout_is_the_same_for_slow_replies_and_looks_past_failures():
    samples = drawn("....x....")
    slow = np.array([letter == "s" for letter in "..sx" + "s...."]) & (samples.outcome == 0)
    slow[[2, 3, 5]] = True
    (brownout,) = brownouts(samples, slow)
    assert (brownout.failed, brownout.total) == (3, 3)
    assert brownout.min == pytest.approx(0.3)
    assert brownout.max == pytest.approx(0.5)


def test_availability_is_counted_in_every_tenth_of_a_second():
    samples = drawn("..xx....", step=0.05)
    assert availability(samples.due, failed(samples)).tolist() == [[2, 2], [0, 2], [2, 2], [2, 2]]


def test_availability_tells_apart_nothing_due_and_nothing_answered():
    samples = drawn(".x.", step=0.2)
    assert availability(samples.due, failed(samples)).tolist()[:4] == [
        [1, 1],
        [0, 0],
        [0, 1],
        [0, 0],
    ]


def test_availability_of_nothing_is_nothing():
    samples = drawn("")
    assert availability(samples.due, failed(samples)).shape == (0, 2)


@settings(database=None, deadline=None, max_examples=200)
@given(
    rate=st.integers(5, 2000),
    start=st.floats(0.5, 3.0),
    length=st.floats(0.0, 3.0),
    jitter=st.integers(0, 2**32 - 1),
)
def test_the_bounds_hold_the_truth_to_within_one_send_interval_at_each_end(
    rate: int, start: float, length: float, jitter: int
):
    rng = np.random.default_rng(jitter)
    due = np.arange(0, 8, 1 / rate) + rng.uniform(0, 1 / rate)
    down = (due >= start) & (due < start + length)
    rows = np.zeros(len(due), ROW)
    rows["due"], rows["outcome"] = np.round(due * 1e9), np.where(down, 1, 0)
    samples = Samples.from_rows(rows)
    seen = episodes(samples, failed(samples))
    assert len(seen) == bool(down.any())
    for outage in seen:
        slack = 1e-8
        assert outage.min - slack <= length <= outage.max + slack
        assert outage.max - outage.min <= 2 / rate + slack
        assert outage.earliest - slack <= start <= outage.start + slack
        assert outage.end - slack <= start + length <= outage.latest + slack


@settings(database=None, deadline=None, max_examples=150)
@given(st.text("....xu", max_size=60), st.sampled_from([0.05, 0.2, 0.5, 3.0]))
def test_the_fast_search_agrees_with_looking_at_one_sample_after_the_other(
    picture: str, merge: float
):
    assume("x" in picture)
    told = [(i, c) for i, c in enumerate(picture) if c != "u"]
    groups: list[list[int]] = []
    for i, letter in told:
        if letter == "x":
            near = groups and round((i - groups[-1][-1]) * 0.1, 6) <= merge + 1e-9
            groups[-1].append(i) if near else groups.append([i])
    seen = found(picture, merge=merge + 1e-6)
    assert [o.failed for o in seen] == [len(group) for group in groups]
    for outage, group in zip(seen, groups, strict=True):
        before = [i for i, c in told if i < group[0] and c == "."]
        after = [i for i, c in told if i > group[-1] and c == "."]
        inside = [i for i, _ in told if group[0] <= i <= group[-1]]
        assert outage.total == len(inside)
        assert outage.earliest == pytest.approx(0.1 * (before or [told[0][0]])[-1])
        assert outage.latest == pytest.approx(0.1 * (after or [told[-1][0]])[0])
        assert (outage.open_start, outage.open_end) == (not before, not after)


SLOW = np.array([2_000_000 if name == "slow" else 0 for name in CHANNELS])


def lives(*spans: tuple[float, float], channel: str = "slow") -> Samples:
    """Return failures that fell due and were over at these times."""
    rows = np.zeros(len(spans), ROW)
    rows["due"] = [round(due * 1e9) for due, _ in spans]
    rows["done"] = [round((done - due) * 1e6) for due, done in spans]
    rows["outcome"], rows["channel"] = Outcome.reset, CHANNELS.index(channel)
    return Samples.from_rows(rows)


def least(samples: Samples, merge: float = 5.0) -> list[float]:
    return [one.min for one in outages(samples, failed(samples), merge, think=SLOW)]


def test_what_was_under_way_at_one_moment_can_have_been_hit_by_an_outage_of_none() -> None:
    samples = lives((1.0, 2.5), (1.5, 2.5), (2.5, 2.5))
    assert least(samples) == [0.0]
    assert outages(samples, failed(samples), 5.0)[0].min == pytest.approx(1.5), "had they no time"


def test_what_was_never_under_way_together_was_hit_by_an_outage_in_between() -> None:
    assert least(lives((1.0, 1.2), (4.0, 4.1))) == pytest.approx([2.8])
    assert least(lives((1.0, 3.0), (1.1, 1.2), (4.0, 4.1))) == pytest.approx([2.8])


def test_after_its_think_time_a_request_was_late_already_and_was_not_hit_later() -> None:
    """One that ran out of time after 7 s would have been answered after 2 s."""
    assert least(lives((1.0, 8.0), (5.0, 12.0))) == pytest.approx([2.0])


def test_each_outage_is_sized_by_its_own_failures() -> None:
    samples = lives((1.0, 1.0), (3.0, 3.0), (20.0, 20.5), (20.5, 20.5))
    assert least(samples) == pytest.approx([2.0, 0.0])


@settings(database=None, deadline=None, max_examples=200)
@given(
    lengths=st.lists(st.floats(0.31, 2.0), min_size=30, max_size=30),
    begin=st.floats(3.0, 6.0),
    length=st.floats(0.0, 4.0),
)
def test_no_outage_is_said_to_have_lasted_longer_at_least_than_it_did(
    lengths: list[float], begin: float, length: float
) -> None:
    """Of requests that take up to two seconds, each that an outage meets is cut as it meets it."""
    due = np.arange(len(lengths)) * 0.3
    answered = due + np.array(lengths)
    hit = (answered >= begin) & (due <= begin + length)
    cut = [(at, max(at, begin)) for at in due[hit].tolist()]
    (found,) = least(lives(*cut), merge=100.0)
    assert found <= length + 1e-6


def test_the_downtime_of_what_takes_its_time_counts_what_is_certain() -> None:
    slow = lives((1.0, 2.5), (2.5, 2.5))
    both = outages(slow, failed(slow), 5.0, think=SLOW)
    both += outages(*(lambda one: (one, failed(one)))(drawn("..xxx..", began=4.0)))
    assert downtime(both)[0] == pytest.approx(0.2)


def test_an_outage_with_an_end_that_was_not_seen_is_open() -> None:
    assert [found(picture)[0].open for picture in ("xx..", "..xx", ".xx.")] == [True, True, False]


@settings(database=None, deadline=None, max_examples=200)
@given(
    pauses=st.lists(st.floats(0.05, 0.4), min_size=40, max_size=40),
    took=st.lists(st.floats(0.0, 0.3), min_size=40, max_size=40),
    begin=st.floats(2.0, 4.0),
    length=st.floats(0.0, 3.0),
)
def test_a_name_that_was_gone_was_gone_for_as_long_as_its_lookups_leave_open(
    pauses: list[float], took: list[float], begin: float, length: float
) -> None:
    """A lookup tells how it was in the midst of it, and requests go by the last that has ended."""
    asked = np.cumsum(np.array(pauses) + np.array([0.0, *took[:-1]]))
    known = asked + np.array(took)
    gone = ((asked + known) / 2 >= begin) & ((asked + known) / 2 < begin + length)
    due = np.arange(0.0, 20.0, 0.01)
    last = np.searchsorted(known, due, "right") - 1
    rows = np.zeros(len(due), ROW)
    rows["due"] = np.round(due * 1e9)
    rows["outcome"] = np.where((last >= 0) & gone[np.maximum(last, 0)], Outcome.dns, Outcome.ok)
    samples = Samples.from_rows(rows)
    moved = np.flatnonzero(np.diff(gone.astype(int)) != 0) + 1
    unsure = max((known[moved] - asked[moved - 1]).tolist(), default=0.0)
    told = doubted(outages(samples, failed(samples), 5.0), 0.0, unsure)
    for one in told:
        assert one.min - 1e-6 <= length <= one.max + 1e-6
        assert downtime(told) == pytest.approx((one.min, one.max))


def test_lookups_leave_nothing_open_where_no_name_was_without_an_address() -> None:
    (one,) = doubted(found(".xxx."), 0.0, 0.1)
    assert (one.error, one.sooner) == (0.0, 0.0)
