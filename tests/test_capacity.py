from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from zdtest.judging.capacity import Capacity, capacity
from zdtest.records.recording import ROW, Recording, Samples
from zdtest.records.sample import Mark, Outcome

Told = tuple[float, str, Mapping[str, object]]
UP = ("a", "b", "c", "d")


def event(at: float, name: str, instance: str) -> Told:
    return at, name, {"instance": instance}


def line(at: float, name: str, instance: str, **about: object) -> dict[str, object]:
    return {"t": at, "event": name, "instance": instance, **about}


def came(instance: str, at: float) -> list[Told]:
    return [event(at - 0.5, "app.started", instance), event(at, "app.ready", instance)]


def went(instance: str, at: float) -> list[Told]:
    return [event(at, "app.term", instance), event(at + 0.5, "app.stopped", instance)]


def requests(*spans: tuple[float, float, Mapping[str, float]]) -> Samples:
    """Return samples due evenly in each span, so many a second from each instance."""
    dues, codes = [np.empty(0)], [np.empty(0, int)]
    for begin, end, rates in spans:
        for name, rate in rates.items():
            dues.append(np.arange(begin, end, 1 / rate))
            codes.append(np.full(len(dues[-1]), 1 + UP.index(name)))
    rows = np.zeros(sum(map(len, dues)), ROW)
    rows["due"] = np.concatenate(dues) * 1e9
    rows["instance"] = np.concatenate(codes)
    return Samples.from_rows(rows, instances=("", *UP))


def recorded(
    marks: Sequence[Told],
    samples: Samples | None = None,
    *,
    journal: Sequence[Mapping[str, object]] | None = None,
    deploy: tuple[float, float] | None = (10.0, 20.0),
) -> Recording:
    told = [*marks]
    if deploy:
        told += [(deploy[0], "deploy.begin", {}), (deploy[1], "deploy.end", {})]
    return Recording(
        folder=Path(),
        manifest={"run": "made-up"},
        samples=requests() if samples is None else samples,
        marks=tuple(Mark(*one) for one in sorted(told, key=lambda one: one[0])),
        trailer=None,
        journal=None if journal is None else tuple(journal),
    )


OLD = [*came("a", 1), *came("b", 1)]


def test_rolling_has_one_of_two_ready_and_twice_the_load_on_the_other() -> None:
    marks = OLD + [m for name, at in (("a", 11), ("b", 14)) for m in went(name, at)]
    marks += [m for name, at in (("a", 13), ("b", 16)) for m in came(name, at)]
    both, one, other = {"a": 50, "b": 50}, {"b": 100}, {"a": 100}
    samples = requests(
        (5, 11, both), (11, 13, one), (13, 14, both), (14, 16, other), (16, 25, both)
    )
    found = capacity(recorded(marks, samples))
    assert found == Capacity(2, 1, 2, pytest.approx(2, rel=0.02), 10.0, None, running=2)


def test_blue_green_runs_twice_the_instances_and_misses_none() -> None:
    marks = [*OLD, *came("c", 12), *came("d", 12), *went("a", 15), *went("b", 15.2)]
    old, new = {"a": 50, "b": 50}, {"c": 50, "d": 50}
    found = capacity(recorded(marks, requests((5, 14, old), (14, 25, new))))
    assert found == Capacity(2, 2, 4, pytest.approx(1, rel=0.02), 10.0, None, running=2)


def test_a_set_kept_without_users_is_no_part_of_the_usual_load() -> None:
    marks = [*OLD, *came("c", 1), *came("d", 1), (15.0, "deploy.switch", {})]
    samples = requests((5, 15, {"a": 50, "b": 50}), (15, 25, {"c": 50, "d": 50}))
    found = capacity(recorded(marks, samples))
    assert (found.instances, found.load) == (4, pytest.approx(1, rel=0.02))


def test_one_process_of_a_name_at_a_time_is_one_instance_in_whatever_order_it_is_told() -> None:
    # The end is told by a thread of its own: now and then after the successor's start.
    late = [event(11, "app.term", "a"), event(12.01, "app.stopped", "a")]
    found = capacity(recorded([*OLD, *late, *came("a", 12.5)]))
    assert (found.lowest, found.peak) == (1, 2)


def test_what_comes_up_under_the_name_of_one_that_still_serves_is_another() -> None:
    """So a swarm does it that starts the new task of a place before it stops the old one."""
    old, new = {"version": "v1"}, {"version": "v2"}
    journal = [line(1, "ready", name, **old) for name in "ab"]
    marks = [(0.5, "app.started", {"instance": name, **old}) for name in "ab"]
    for at, name in ((11, "a"), (14, "b")):
        marks += [(at - 0.5, "app.started", {"instance": name, **new})]
        marks += [(at + 2, "app.stopped", {"instance": name, **old})]
        journal += [line(at, "ready", name, **new), line(at + 1, "term", name, **old)]
    found = capacity(recorded(marks, journal=journal))
    assert (found.instances, found.lowest, found.peak) == (2, 2, 3)


def test_who_takes_the_place_of_one_that_has_ended_never_ran_beside_it() -> None:
    old, new = {"instance": "a", "version": "v1"}, {"instance": "a", "version": "v2"}
    marks = [(0.5, "app.started", old), (1, "app.ready", old), (12, "app.term", old)]
    late = [(12.0, "app.started", new), (12.01, "app.stopped", old), (13, "app.ready", new)]
    found = capacity(recorded([*marks, *late]))
    assert (found.instances, found.lowest, found.peak) == (1, 0, 1)


def test_the_journal_knows_better_than_marks_when_an_instance_listens_and_stops() -> None:
    marks = [event(0, "app.started", name) for name in "ab"]
    journal = [line(1, "ready", name) for name in "ab"]
    journal += [line(12, "draining", "a"), line(14, "term", "b", ignored=True)]
    found = capacity(recorded(marks, journal=journal))
    assert (found.instances, found.lowest, found.peak) == (2, 1, 2)


def test_a_crash_within_the_deploy_counts_against_it_and_one_before_or_after_does_not() -> None:
    crash = [event(12, "app.stopped", "a")]
    assert capacity(recorded(OLD + crash)).lowest == 1
    assert capacity(recorded(OLD + crash, deploy=(13, 20))).instances == 1
    assert capacity(recorded(OLD + crash, deploy=(5, 11))).lowest == 2


def test_what_ends_with_the_stack_after_the_load_is_no_part_of_it() -> None:
    """A run is judged before its stack has ended, and afterwards again: to the same price."""
    samples = requests((5, 25, {"a": 50}))
    after = [*went("a", 26), *went("b", 26)]
    early, late = (recorded(m, samples, deploy=None) for m in (OLD, OLD + after))
    assert capacity(early) == capacity(late) == Capacity(2, 2, 2, None, None, None, running=2)


def test_load_is_told_only_of_stretches_long_enough_to_count_in() -> None:
    marks = [*OLD, event(10.2, "app.term", "a"), event(10.4, "app.ready", "a")]
    marks += [(at, "deploy.step.begin", {}) for at in np.arange(10.6, 20, 0.4)]
    samples = requests((5, 25, {"a": 50, "b": 50}))
    assert capacity(recorded(marks, samples)).load is None
    assert capacity(recorded(OLD, samples)).load == pytest.approx(1, rel=0.02)


def test_only_ok_replies_that_tell_their_instance_are_load() -> None:
    samples = requests((5, 25, {"a": 50, "b": 50}), (12, 15, {"c": 400}))
    samples.outcome[samples.instance == 3] = Outcome.http_5xx
    assert capacity(recorded(OLD, samples)).load == pytest.approx(1, rel=0.02)


def test_the_way_back_is_timed_from_the_decision_to_the_last_weight() -> None:
    back = [(17.0, "deploy.rollback.begin", {}), (17.25, "deploy.rollback.end", {})]
    assert capacity(recorded([*OLD, *back])).rollback == 0.25
    assert capacity(recorded([*OLD, *back[:1]])).rollback is None


def test_a_run_without_a_deploy_or_without_baseline_has_no_price() -> None:
    assert capacity(recorded(OLD, deploy=None)) == Capacity(2, 2, 2, None, None, None, running=2)
    assert capacity(recorded([])) == Capacity(0, 0, 0, None, 10.0, None)
    assert capacity(recorded(OLD, requests((11, 20, {"a": 5})))).load is None


def test_one_that_takes_the_place_of_its_like_start_first_is_counted_beside_it() -> None:
    """The same version under the same name: a swarm that updates a setting, or is forced to."""
    same = {"instance": "w.1", "version": "v1"}
    old = [(1.0, "app.started", same), (2.0, "app.ready", same)]
    new = [(11.0, "app.started", same), (12.0, "app.ready", same)]
    gone = [(13.0, "app.term", same), (14.0, "app.stopped", same)]
    found = capacity(recorded([*old, *new, *gone]))
    assert (found.instances, found.lowest, found.running, found.peak) == (1, 1, 1, 2)
    told = [(2.0, "ready"), (12.0, "ready"), (13.0, "term"), (13.1, "draining"), (13.9, "stopped")]
    journal = [line(at, name, "w.1", version="v1") for at, name in told]
    found = capacity(recorded([*old, *new, *gone], journal=journal))
    assert (found.instances, found.lowest, found.running, found.peak) == (1, 1, 1, 2)


def test_a_process_that_tells_which_one_it_is_is_not_taken_for_its_neighbour() -> None:
    """The new one dies as it boots; the old one of that name goes on."""
    starts = [(0.5, "app.started", {"instance": "a"}), (11.0, "app.started", {"instance": "a"})]
    journal = [line(1, "ready", "a", process="1f"), line(12, "ready", "a", process="2e")]
    journal += [line(13, "stopped", "a", process="2e")]
    gone = [(13.5, "app.stopped", {"instance": "a"})]
    found = capacity(recorded([*starts, *gone], journal=journal))
    assert (found.instances, found.lowest, found.peak) == (1, 1, 2)


def test_who_stops_only_to_be_started_again_was_away_meanwhile() -> None:
    marks = [*came("a", 1), *went("a", 11), *came("a", 13)]
    found = capacity(recorded(marks))
    assert (found.instances, found.lowest, found.peak) == (1, 0, 1)


def test_several_deploys_took_as_long_as_they_did_without_what_lay_between() -> None:
    first = [(4.0, "deploy.begin", {}), (5.0, "deploy.end", {})]
    assert capacity(recorded([*OLD, *first], deploy=(9.0, 12.0))).deploy == 4.0
    never = capacity(recorded([*OLD, *first[:1]], deploy=(9.0, 12.0)))
    assert never.deploy is None, "one of them did not end"
