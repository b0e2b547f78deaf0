from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import pytest

from zdtest.engine import Engine, Instance
from zdtest.errors import ConfigError, DeployFailed, EngineError
from zdtest.strategies import (
    Strategy,
    blue_green,
    canary,
    command,
    expect_strategy,
    find,
    recreate,
    rollback,
    rolling,
)
from zdtest.strategies.canary import weighed
from zdtest.topology import Counters, Replaces, Switched

Told = list[tuple[str, ...]]


class Recorded:
    """A stack that only writes down what is asked of it, and fails where it is told to."""

    url = "http://127.0.0.1:1"
    instances: tuple[str, ...] = ("a", "b")
    journal = None

    def __init__(self, strategies: tuple[str, ...] = ("rolling", "recreate"), fails: str = ""):
        self.did: Told = []
        self.strategies = strategies
        self.engine = cast(Engine, self)
        self._fails = fails

    def mark(self, name: str, /, **about: object) -> None:
        self.did.append((name, *map(str, about.values())))

    def instance(self, name: str) -> Instance:
        return Instance(name, 1, 1, "v1", Path(), 0)

    def start(self, name: str, version: str) -> None:
        self.did.append(("start", name, version))

    def stop(self, name: str) -> None:
        self.did.append(("stop", name))

    def wanted(self, name: str) -> bool:
        return True

    def revive(self, one: Instance) -> bool:
        return False

    def ready(self, name: str) -> None:
        if name == self._fails:
            raise EngineError(f"{name} ready on port 1: not within 15s\nlast state: 503")
        self.did.append(("ready", name))

    def run(self, name: str, argv: list[str], *, timeout: float) -> None:
        self.did.append((name, *argv, str(timeout)))
        if "fail" in argv:
            raise EngineError(f"{name} exited 4\nhalf way")


class Scripted(Recorded):
    def replace(self, version: str) -> None:
        self.did.append(("replace", version))


class Routed(Recorded):
    """The same with weights and spares; each request goes to whom the weights say."""

    def __init__(self, fails: str = "", *, spares: tuple[str, ...] = ("c", "d")):
        strategies = ("blue_green", "canary", "rollback")
        super().__init__(strategies, fails)
        self.slots = (*self.instances, *spares)
        self.runs = dict.fromkeys(self.instances, "v1")
        self.weights = {"a": 100, "b": 100, **dict.fromkeys(spares, 0)}
        self.counted = dict.fromkeys(self.slots, Counters(0, 0, 0))
        self.per_look = Counters(1, 0, 0)
        self.refuses = False

    @property
    def spares(self) -> tuple[str, ...]:
        return tuple(slot for slot in self.slots if slot not in self.instances)

    def take(self, names: Sequence[str]) -> None:
        self.instances = tuple(names)

    def running(self, name: str) -> str:
        return self.runs.get(name, "")

    def start(self, name: str, version: str) -> None:
        super().start(name, version)
        self.runs[name] = version

    def stop(self, name: str) -> None:
        if name in self.runs:
            super().stop(name)
            del self.runs[name]

    def weigh(self, weights: Mapping[str, int]) -> None:
        if self.refuses:
            raise EngineError("balancer refused PUT /weights: no")
        told = " ".join(f"{name}={weight}" for name, weight in sorted(weights.items()))
        self.did.append(("weigh", told))
        self.weights |= weights

    def told(self, name: str) -> Counters:
        """Every look at one that has users finds `per_look` more."""
        now = self.counted[name]
        if self.weights[name] and name in self.runs:
            more = self.per_look
            now = Counters(now.answered + more.answered, now.failed + more.failed, 0)
            self.counted[name] = now
        return now


def test_rolling_replaces_one_instance_after_the_other_with_a_mark_around_each() -> None:
    stack = Recorded()
    rolling()(stack, "v2", stack.mark)
    assert stack.did == [
        ("deploy.step.begin", "a", "v2"),
        ("stop", "a"),
        ("start", "a", "v2"),
        ("ready", "a"),
        ("app.ready", "a", "v2"),
        ("deploy.step.end", "a", "v2"),
        ("deploy.step.begin", "b", "v2"),
        ("stop", "b"),
        ("start", "b", "v2"),
        ("ready", "b"),
        ("app.ready", "b", "v2"),
        ("deploy.step.end", "b", "v2"),
    ]


def test_recreate_stops_all_before_it_starts_any() -> None:
    stack = Recorded()
    recreate(stack, "v2", stack.mark)
    verbs = [entry[:2] for entry in stack.did if entry[0] in ("stop", "start", "ready")]
    assert verbs == [(verb, name) for verb in ("stop", "start", "ready") for name in "ab"]


def test_recreate_leaves_it_to_the_script_of_a_topology_that_has_one() -> None:
    stack = Scripted()
    assert isinstance(stack, Replaces)
    recreate(stack, "v2", stack.mark)
    assert [entry for entry in stack.did if entry[0] in ("stop", "start", "replace")] == [
        ("replace", "v2")
    ]


def test_a_step_that_fails_ends_the_deploy_and_leaves_the_rest_alone() -> None:
    stack = Recorded(fails="a")
    with pytest.raises(DeployFailed, match=r"(?s)^a: a ready on port 1: not within 15s\n.*503"):
        rolling()(stack, "v2", stack.mark)
    assert stack.did[-1] == ("deploy.step.end", "a", "v2", "a ready on port 1: not within 15s")
    assert not [entry for entry in stack.did if "b" in entry]


@pytest.mark.parametrize(("strategy", "name"), [(rolling(), "rolling"), (recreate, "recreate")])
def test_a_strategy_a_topology_cannot_do_is_refused_before_anything_happens(
    strategy: Strategy, name: str
) -> None:
    stack = Recorded(strategies=("swap", "flip"))
    with pytest.raises(ConfigError, match=rf"cannot do {name}: expected one of swap, flip$"):
        strategy(stack, "v2", stack.mark)
    assert stack.did == []


def test_a_command_gets_version_and_url_and_runs_between_marks() -> None:
    stack = Recorded()
    command(["deploy.sh", "--to={version}", "{url}", "{other}"], timeout="2s")(
        stack, "v2", stack.mark
    )
    assert stack.did == [
        ("deploy.step.begin", "command", "v2"),
        ("deploy", "deploy.sh", "--to=v2", "http://127.0.0.1:1", "{other}", "2.0"),
        ("deploy.step.end", "command", "v2"),
    ]


def test_a_command_that_fails_is_a_failed_deploy() -> None:
    stack = Recorded()
    with pytest.raises(DeployFailed, match=r"(?s)^command: deploy exited 4\nhalf way"):
        command(["fail"])(stack, "v2", stack.mark)


def test_a_strategy_is_found_by_its_name() -> None:
    assert find("recreate") is recreate
    for name in ("rolling", "blue_green", "canary", "rollback"):
        assert find(name).__name__ == name
    with pytest.raises(ConfigError, match="did you mean 'rolling'"):
        find("roling")


def test_a_pause_that_means_nothing_is_refused_when_it_is_written() -> None:
    with pytest.raises(ConfigError, match="pause 'long': expected a time with its unit"):
        rolling(pause="long")


# Blue/green and rollback


def test_blue_green_starts_a_second_set_switches_in_one_call_and_stops_the_first() -> None:
    stack = Routed()
    assert isinstance(stack, Switched)
    blue_green()(stack, "v2", stack.mark)
    assert stack.did == [
        ("deploy.start.begin", "start", "v2"),
        ("start", "c", "v2"),
        ("start", "d", "v2"),
        ("ready", "c"),
        ("app.ready", "c", "v2"),
        ("ready", "d"),
        ("app.ready", "d", "v2"),
        ("deploy.start.end", "start", "v2"),
        ("deploy.step.begin", "switch", "v2"),
        ("weigh", "a=0 b=0 c=100 d=100"),
        ("deploy.switch", "['c', 'd']"),
        ("deploy.step.end", "switch", "v2"),
        ("deploy.step.begin", "stop", "v2"),
        ("stop", "a"),
        ("stop", "b"),
        ("deploy.step.end", "stop", "v2"),
    ]
    assert (stack.instances, stack.spares) == (("c", "d"), ("a", "b"))


def test_blue_green_goes_there_and_back_with_the_roles_swapped() -> None:
    stack = Routed()
    for version in ("v2", "v1"):
        blue_green()(stack, version, stack.mark)
    assert (stack.instances, stack.runs) == (("a", "b"), {"a": "v1", "b": "v1"})


def test_a_new_set_that_does_not_become_ready_is_stopped_and_the_old_one_untouched() -> None:
    stack = Routed(fails="d")
    with pytest.raises(DeployFailed, match=r"^start: d ready on port 1: not within"):
        blue_green()(stack, "v2", stack.mark)
    assert stack.runs == {"a": "v1", "b": "v1"}
    assert stack.instances == ("a", "b")
    assert not [entry for entry in stack.did if entry[0] in ("weigh", "deploy.switch")]


def test_a_switch_that_is_refused_leaves_the_roles_as_they_were() -> None:
    stack = Routed()
    stack.refuses = True
    with pytest.raises(DeployFailed, match=r"^switch: balancer refused"):
        blue_green()(stack, "v2", stack.mark)
    assert (stack.instances, stack.weights["a"], stack.runs["a"]) == (("a", "b"), 100, "v1")


def test_the_old_set_is_stopped_only_when_it_has_answered_what_is_in_flight() -> None:
    stack = Routed()
    left = iter([2, 1, 0])
    looked = []

    def told(name: str) -> Counters:
        looked.append(next(left) if name == "a" else 0)
        assert not [entry for entry in stack.did if entry[0] == "stop"]
        return Counters(0, 0, looked[-1])

    stack.told = told  # type: ignore[method-assign]
    blue_green()(stack, "v2", stack.mark)
    assert [count for count in looked if count] == [2, 1]


def test_what_is_in_flight_for_ever_is_left_to_the_stop_when_the_drain_is_over() -> None:
    stack = Routed()
    stack.told = lambda name: Counters(0, 0, 1)  # type: ignore[method-assign]
    blue_green(drain="50ms")(stack, "v2", stack.mark)
    assert stack.runs == {"c": "v2", "d": "v2"}


def test_rollback_is_one_switch_back_to_what_was_kept() -> None:
    stack = Routed()
    blue_green(keep_old=True)(stack, "v2", stack.mark)
    assert stack.runs == {"a": "v1", "b": "v1", "c": "v2", "d": "v2"}
    stack.did.clear()
    rollback()(stack, "v1", stack.mark)
    verbs = [entry for entry in stack.did if not entry[0].startswith("deploy.s")]
    assert verbs == [
        ("deploy.rollback.begin", "v1"),
        ("ready", "a"),
        ("ready", "b"),
        ("weigh", "a=100 b=100 c=0 d=0"),
        ("deploy.rollback.end", "v1"),
        ("stop", "c"),
        ("stop", "d"),
    ]
    assert (stack.instances, stack.runs) == (("a", "b"), {"a": "v1", "b": "v1"})


def test_rollback_to_what_was_not_kept_changes_nothing() -> None:
    stack = Routed()
    blue_green()(stack, "v2", stack.mark)
    with pytest.raises(DeployFailed, match=r"^0 of 2 instances kept at v1: nothing to go back to"):
        rollback()(stack, "v1", stack.mark)
    assert stack.instances == ("c", "d")


def test_a_deploy_after_a_kept_one_takes_its_slots() -> None:
    stack = Routed()
    blue_green(keep_old=True)(stack, "v2", stack.mark)
    blue_green(keep_old=True)(stack, "v3", stack.mark)
    assert (stack.instances, stack.runs["a"], stack.runs["c"]) == (("a", "b"), "v3", "v2")


# Canary


def test_a_canary_gets_its_share_step_by_step_and_then_everyone_is_replaced() -> None:
    stack = Routed()
    canary((5, 25, 100), watch=0)(stack, "v2", stack.mark)
    verbs = [e for e in stack.did if e[0] in ("deploy.step.begin", "start", "stop", "weigh")]
    assert verbs == [
        ("start", "c", "v2"),
        ("deploy.step.begin", "5%", "v2"),
        ("weigh", "a=95 b=95 c=10"),
        ("deploy.step.begin", "25%", "v2"),
        ("weigh", "a=99 b=99 c=66"),
        ("deploy.step.begin", "100%", "v2"),
        ("weigh", "a=0 b=0 c=100"),
        ("deploy.step.begin", "a", "v2"),
        ("stop", "a"),
        ("start", "a", "v2"),
        ("weigh", "a=100"),
        ("deploy.step.begin", "b", "v2"),
        ("stop", "b"),
        ("start", "b", "v2"),
        ("weigh", "b=100"),
        ("deploy.step.begin", "c", "v2"),
        ("weigh", "c=0"),
        ("stop", "c"),
    ]
    assert (stack.instances, stack.runs) == (("a", "b"), {"a": "v2", "b": "v2"})
    assert stack.weights == {"a": 100, "b": 100, "c": 0, "d": 0}


def aborted(stack: Routed, strategy: Strategy, why: str) -> dict[str, tuple[str, ...]]:
    """Return the marks, by name, of a canary that was undone."""
    with pytest.raises(DeployFailed, match=f"^canary aborted: {why}"):
        strategy(stack, "v2", stack.mark)
    assert stack.runs == {"a": "v1", "b": "v1"}
    assert stack.weights == {"a": 100, "b": 100, "c": 0, "d": 0}
    return {entry[0]: entry[1:] for entry in stack.did}


def test_one_failure_too_many_gives_all_users_back_and_tells_how_many_were_exposed() -> None:
    stack = Routed()
    stack.counted["c"] = Counters(1000, 1000, 0)  # of deploys before
    stack.per_look = Counters(3, 1, 0)
    marks = aborted(stack, canary(allowed_failures=0), "2 failed of 8 requests")
    assert marks["deploy.abort"] == ("8", "c")
    assert marks["deploy.step.end"] == ("5%", "v2", "canary aborted: 2 failed of 8 requests")
    order = [e[0] for e in stack.did if e[0] in ("weigh", "stop") or "rollback" in e[0]]
    assert order[1:] == ["deploy.rollback.begin", "weigh", "deploy.rollback.end", "stop"]


def test_failures_that_are_allowed_do_not_stop_a_canary() -> None:
    stack = Routed()
    stack.per_look = Counters(3, 1, 0)
    canary((50, 100), watch=0, allowed_failures=1000)(stack, "v2", stack.mark)
    assert stack.runs == {"a": "v2", "b": "v2"}


def test_what_the_callers_check_says_aborts_a_canary() -> None:
    asked = []

    def check(stack: Switched, name: str) -> str:
        asked.append(name)
        return "the price is wrong" if len(asked) > 2 else ""

    aborted(Routed(), canary(check=check), "the price is wrong")
    assert asked == ["c"] * 3


def test_a_check_that_breaks_takes_the_canary_back_and_is_raised() -> None:
    stack = Routed()

    def check(_: Switched, name: str) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        canary(check=check)(stack, "v2", stack.mark)
    assert stack.runs == {"a": "v1", "b": "v1"}
    assert stack.weights == {"a": 100, "b": 100, "c": 0, "d": 0}
    marks = {entry[0]: entry[1:] for entry in stack.did}
    assert marks["deploy.step.end"] == ("5%", "v2", "ZeroDivisionError")
    assert marks["deploy.rollback.begin"] == ("ZeroDivisionError",)
    assert "deploy.abort" in marks


def test_a_canary_that_ends_is_aborted() -> None:
    stack = Routed()

    def check(_: Switched, name: str) -> str:
        del stack.runs[name]
        return ""

    aborted(stack, canary(check=check), "c has ended")


def test_a_canary_that_nobody_asked_proves_nothing_and_is_aborted() -> None:
    stack = Routed()
    stack.per_look = Counters(0, 0, 0)
    marks = aborted(stack, canary(watch="10ms"), "no request in 10ms, so nothing is known")
    assert marks["deploy.abort"] == ("0", "c")


def test_a_canary_that_does_not_become_ready_meets_no_user() -> None:
    stack = Routed(fails="c")
    with pytest.raises(DeployFailed, match=r"^start: c ready on port 1"):
        canary()(stack, "v2", stack.mark)
    assert stack.runs == {"a": "v1", "b": "v1"}
    assert not [entry for entry in stack.did if entry[0] in ("weigh", "deploy.abort")]


@pytest.mark.parametrize(
    ("share", "count", "weights"),
    [(5, 1, (5, 95)), (5, 2, (10, 95)), (25, 2, (66, 99)), (50, 3, (99, 33)), (100, 2, (100, 0))],
)
def test_weights_say_the_share_exactly(share: int, count: int, weights: tuple[int, int]) -> None:
    old = tuple("ab3"[:count])
    found = weighed(share, old, "new")
    assert found == {"new": weights[0], **dict.fromkeys(old, weights[1])}
    assert found["new"] * 100 == share * sum(found.values())


def test_a_share_that_weights_cannot_say_is_refused_before_anything_happens() -> None:
    stack = Routed()
    with pytest.raises(ConfigError, match="share 51 beside 2 instances: needs weights 102 to 49"):
        canary((51, 100))(stack, "v2", stack.mark)
    assert stack.did == []


@pytest.mark.parametrize("shares", [(), (5, 25), (25, 5, 100), (5, 5, 100), (0, 100), (5, 101)])
def test_shares_that_do_not_rise_to_100_are_refused_when_written(shares: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="expected whole percents that rise to 100"):
        canary(shares)


@pytest.mark.parametrize("strategy", [blue_green(), canary(), rollback()])
def test_a_topology_without_weights_or_spares_is_told_what_it_can_do(strategy: Strategy) -> None:
    for stack in (Recorded(), Recorded(("rolling", strategy.__name__))):
        with pytest.raises(ConfigError, match=rf"cannot do {strategy.__name__}: expected one of"):
            strategy(stack, "v2", stack.mark)
        assert stack.did == []


@pytest.mark.parametrize(("strategy", "needed"), [(blue_green(), 2), (canary(), 1)])
def test_too_few_spare_slots_are_refused(strategy: Strategy, needed: int) -> None:
    stack = Routed(spares=("c",)[: needed - 1])
    with pytest.raises(ConfigError, match=f"needs {needed} spare slots: has {needed - 1}"):
        strategy(stack, "v2", stack.mark)
    assert stack.did == []


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        (rolling, r"rolling makes a strategy: expected rolling\(…\), with its parentheses"),
        (canary, "canary makes a strategy: expected canary"),
        (lambda stack: None, r"expected a callable \(stack, version, mark\), such as rolling\(\)"),
        ("rolling", r"strategy str: expected a callable \(stack, version, mark\)"),
        (None, "strategy NoneType: expected a callable"),
    ],
)
def test_what_is_no_strategy_is_told_apart_before_anything_happens(strategy, said):
    with pytest.raises(ConfigError, match=said):
        expect_strategy(strategy)


def test_recreate_is_one_without_parentheses():
    assert expect_strategy(recreate) == "recreate"
    with pytest.raises(ConfigError, match=r"^recreate is a strategy as it is: expected it without"):
        recreate()
