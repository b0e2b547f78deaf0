"""Mutants of the balancer, all before the same instances, all in the same deploy."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mutants.kill_list import BALANCER, STEADY, Mutant, only
from mutants.stage import Watched, loads, stacks
from zdtest.judging.verdict import judge
from zdtest.records.recording import Recording
from zdtest.traffic import Load

pytestmark = pytest.mark.alone

CHANNELS = "new=4@/api,reused=4@/api,slow=2@/400~400ms,write=3@/orders"
WAITING = "new=1@/api,reused=1@/api,slow=10@/900~900ms,write=1@/orders"
"""For `drain-cuts`: some eighteen wait at any time, and for one who drains, half of them."""
RATE = 26.0
MUTANTS = {mutant.name for mutant in BALANCER}
HEALTHY = "healthy"
KILLED = "beside-a-kill"
"""The healthy balancer beside `retries-posts`: one of its instances is killed."""


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    """Deploy v2 beside v1, then stop v1, seen through every balancer at the same time."""
    folder = tmp_path_factory.mktemp("balancers")
    names = [HEALTHY, *(mutant.name for mutant in BALANCER), KILLED]
    killed = {KILLED, "retries-posts"}
    with stacks(folder / "stacks") as stage:
        stage.place("a", "b", "c", "d", "slow", "new")
        for name in ("a", "b"):
            stage.start(name, "v1")
        stage.start("slow", "v1", change="slow-commit")
        stage.start("new", "v2")
        for name in names:
            targets = ("slow", "new") if name in killed else ("a", "b", "c", "d")
            stage.balance(name, name if name in MUTANTS else "none", *targets)
        stage.ready("a", "b", "slow", "new")
        stage.takes(HEALTHY, "a", "b")
        stage.takes(KILLED, "slow", "new")
        seats = {name: (stage.url(name), load(name)) for name in names}
        versions = {"old_version": "v1", "new_version": "v2"}
        with loads(folder, seats, versions) as audience, leaving(seats):
            audience.mark("deploy.begin")
            for name in ("c", "d"):
                stage.start(name, "v2", change="boots-in-public", release="serves-before-ready")
            stage.takes(HEALTHY, "c", "d")
            stage.tell("KILL", "slow")
            stage.tell("TERM", "a", "b")
            stage.gone("a", "b", "slow")
            audience.mark("deploy.end")
        assert audience.troubles == {}
        for name in names:
            (folder / name / "journal.jsonl").symlink_to(stage.journal.resolve())
        return {name: Recording.read(folder / name) for name in names}


def load(name: str) -> Load:
    """Return a light load, but for the healthy one, which is driven by Locust as for any user."""
    if name == HEALTHY:
        return Load(rate=RATE, channels=CHANNELS, seed=1)
    if name in (KILLED, "retries-posts"):
        return Watched(rate=RATE, channels="new=1@/api,write=5@/orders", seed=1)
    channels = WAITING if name == "drain-cuts" else CHANNELS
    return Watched(
        rate=RATE, channels=channels, seed=1, timeout=1.5 if name == "drops-requests" else 5.0
    )


@contextmanager
def leaving(seats: dict[str, tuple[str, Load]]) -> Iterator[None]:
    """Let somebody come by twenty times a second who leaves before he is answered."""
    ports = [
        int(seats[name][0].rpartition(":")[2].strip("/"))
        for name in (HEALTHY, "shares-a-broken-connection")
    ]
    over = threading.Event()

    def leave() -> None:
        while not over.wait(0.05):
            for port in ports:
                with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
                    client.sendall(b"GET /150 HTTP/1.1\r\nHost: leaving\r\n\r\n")
                    over.wait(0.03)

    thread = threading.Thread(target=leave)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_the_healthy_balancer_holds(recordings: dict[str, Recording]) -> None:
    verdict = judge(recordings[HEALTHY], STEADY)
    assert verdict.verdict == "holds", verdict.summary()


def test_the_healthy_balancer_repeats_no_post_of_a_target_that_was_killed(
    recordings: dict[str, Recording],
) -> None:
    """It has to let them fail: what became of them is not known."""
    verdict = judge(recordings[KILLED], STEADY)
    assert (verdict.writes.twice, verdict.writes.lost) == (0, 0)
    assert verdict.failed > 0


@pytest.mark.parametrize("mutant", BALANCER, ids=lambda mutant: mutant.name)
def test_a_mutant_of_the_balancer_is_caught(
    mutant: Mutant, recordings: dict[str, Recording]
) -> None:
    recording = recordings[mutant.name]
    alone = judge(recording, only(mutant.promise))
    assert alone.verdict == "broken", alone.summary()
    assert any(re.search(mutant.says, reason) for reason in alone.reasons), alone.summary()
    assert judge(recording, STEADY).verdict == "broken"
