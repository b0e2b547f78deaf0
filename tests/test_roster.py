from __future__ import annotations

import threading
from pathlib import Path

import pytest

from zdtest.engine import Instance
from zdtest.engine.roster import Roster
from zdtest.errors import EngineError


class Ended:
    """An engine in which everything has ended, or nothing has."""

    def __init__(self, fate: str = "killed by SIGKILL") -> None:
        self._fate = fate

    def fate(self, one: Instance) -> str:
        return self._fate


class Starts:
    """Starts nothing, and counts."""

    def __init__(self) -> None:
        self.all: list[Instance] = []

    def __call__(self, name: str, version: str) -> Instance:
        self.all.append(Instance(name, len(self.all), 0, version, Path(), 0))
        return self.all[-1]


def nothing(one: Instance) -> None:
    pass


def test_what_was_started_is_wanted_until_it_is_stopped() -> None:
    roster = Roster(Ended(), Starts())
    assert not roster.wanted("a")
    roster.start("a", "v1")
    assert roster.wanted("a")
    ended: list[Instance] = []
    roster.stop("a", ended.append)
    assert ended == [roster.instance("a")]
    assert not roster.wanted("a")


def test_nothing_is_ended_where_nothing_ever_ran() -> None:
    roster = Roster(Ended(), Starts())
    roster.stop("a", lambda one: pytest.fail("nothing ran"))
    with pytest.raises(KeyError):
        roster.instance("a")


def test_what_has_ended_is_started_again_at_its_version_once() -> None:
    roster = Roster(Ended(), starts := Starts())
    roster.start("a", "v1")
    one = roster.instance("a")
    assert roster.revive(one)
    assert [each.version for each in starts.all] == ["v1", "v1"]
    assert not roster.revive(one), "another one is in its place"


def test_what_still_runs_was_stopped_or_replaced_is_not_started_again() -> None:
    running = Roster(Ended(""), Starts())
    running.start("a", "v1")
    assert not running.revive(running.instance("a"))

    roster = Roster(Ended(), starts := Starts())
    roster.start("a", "v1")
    one = roster.instance("a")
    roster.stop("a", nothing)
    assert not roster.revive(one)
    roster.start("a", "v2")
    assert not roster.revive(one)
    assert len(starts.all) == 2


def test_who_revives_waits_for_who_is_stopping() -> None:
    roster = Roster(Ended(), starts := Starts())
    roster.start("a", "v1")
    one = roster.instance("a")
    stopping, go_on = threading.Event(), threading.Event()

    def slowly(one: Instance) -> None:
        stopping.set()
        go_on.wait(5)

    revived: list[bool] = []
    threads = [
        threading.Thread(target=roster.stop, args=("a", slowly)),
        threading.Thread(target=lambda: revived.append(roster.revive(one))),
    ]
    threads[0].start()
    stopping.wait(5)
    threads[1].start()
    threads[1].join(0.1)
    assert threads[1].is_alive(), "the name is in other hands"
    roster.start("b", "v1")
    go_on.set()
    for thread in threads:
        thread.join()
    assert revived == [False]
    assert [each.name for each in starts.all] == ["a", "b"]


def test_a_start_that_fails_leaves_it_unwanted() -> None:
    def fails(name: str, version: str) -> Instance:
        raise EngineError("cannot start a")

    roster = Roster(Ended(), fails)
    with pytest.raises(EngineError):
        roster.start("a", "v1")
    assert not roster.wanted("a")
