"""What a process does regularly beside its load, and how that ends."""

from __future__ import annotations

import time

import gevent
import pytest

from zdtest.sending.chores import Chores, Latch


def test_chores_end_whenever_they_are_ended():
    """Also at the moment when their pauses end, where a waiter on gevent's Event is forgotten."""
    for turn in range(150):
        chores = Chores()
        for _ in range(2):
            chores.add(0.002, lambda: time.sleep(0.0005))
        gevent.sleep(0.003 + (turn % 50) * 0.0001)
        with gevent.Timeout(2):
            assert chores.end() == ""


def test_a_step_that_has_begun_is_finished_and_a_pause_is_not():
    begun, finished = [], []

    def step() -> None:
        begun.append(1)
        gevent.sleep(0.05)
        finished.append(1)

    chores = Chores()
    chores.add(0.001, step)
    chores.add(3600, step)
    gevent.sleep(0.02)
    chores.end()
    assert (begun, finished) == ([1], [1])


def test_what_broke_a_step_is_told():
    chores = Chores()
    chores.add(0.001, lambda: {}["missing"])
    gevent.sleep(0.01)
    assert chores.end() == "a part of the load broke: KeyError('missing')"


@pytest.mark.parametrize("waiters", [1, 3])
def test_nobody_misses_a_latch(waiters):
    latch = Latch()
    waiting = [gevent.spawn(latch.wait) for _ in range(waiters)]
    gevent.sleep(0.01)
    latch.set()
    latch.wait()
    with gevent.Timeout(2):
        gevent.joinall(waiting)
