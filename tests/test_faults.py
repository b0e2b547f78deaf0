from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from namespaces import missing as no_namespaces

from zdtest import faults
from zdtest.engine import Instance, probe, reaper
from zdtest.engine.detour.detour import Detour
from zdtest.engine.listening import listens
from zdtest.engine.process import ProcessEngine
from zdtest.engine.roster import Roster
from zdtest.errors import ConfigError, EngineError, FaultError
from zdtest.faults import Fault, armed, at, plan
from zdtest.faults.cue import PHASES, Cue
from zdtest.faults.impaired import Impaired, kind
from zdtest.faults.netem import Space, available
from zdtest.faults.netem import _tc as tc
from zdtest.faults.proof import Heal, look
from zdtest.records.eventlog import EventLog
from zdtest.strategies import rolling

APP = """
import signal, sys, time
from tiny_server import TinyServer

class App(TinyServer):
    def answer(self, link, request):
        if request.path == b"/download":
            length = 20_000
            head = b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % length
            self.reply(link, head + bytes(length))
        else:
            super().answer(link, request)

if "deaf" in sys.argv[2:]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "late" in sys.argv[2:]:
    time.sleep(0.5)
App(int(sys.argv[1])).serve(0)
"""

Marks = list[tuple[str, dict[str, object]]]


class Tiny:
    """Instances of a tiny server; `a` has a proxy before it, a `balancer` is just another."""

    instances: tuple[str, ...] = ("a",)
    strategies: tuple[str, ...] = ("rolling",)
    journal: Path | None = None

    def __init__(self, engine: ProcessEngine, *words: str) -> None:
        self.engine = engine
        self.ports: Mapping[str, int] = {"a": engine.port()}
        self.detours: Mapping[str, Detour] = {}
        self.url = f"http://127.0.0.1:{self.ports['a']}"
        self._words = words
        self.roster = Roster(engine, self._started)
        self._balancer: Instance
        self._front = engine.port()

    def instance(self, name: str) -> Instance:
        return self.roster.instance(name)

    def _run(self, name: str, port: int, version: str) -> Instance:
        argv = [sys.executable, "-c", APP, str(port), *self._words]
        env = {"PYTHONPATH": str(Path(__file__).parent)}
        return self.engine.start(name, argv, env=env, version=version)

    def _started(self, name: str, version: str) -> Instance:
        return self._run(name, self.ports[name], version)

    def start(self, name: str, version: str) -> None:
        self.roster.start(name, version)

    def stop(self, name: str) -> None:
        self.roster.stop(name, self.engine.stop)

    def wanted(self, name: str) -> bool:
        return self.roster.wanted(name)

    def revive(self, one: Instance) -> bool:
        return self.roster.revive(one)

    def ready(self, name: str) -> None:
        one = self.instance(name)

        def missing() -> str:
            if fate := self.engine.fate(one):
                raise EngineError(f"{name} {fate}\n{self.engine.logs(one)}")
            return "" if sees(self.ports[name]) == "reply" else "no reply"

        probe.until(name, missing, timeout=10)

    @property
    def balancer(self) -> Instance:
        return self._balancer

    def start_balancer(self) -> None:
        self._balancer = self._run("balancer", self._front, "")
        probe.until("balancer", lambda: "" if sees(self._front) == "reply" else "no", timeout=10)


def sees(port: int, path: str = "/") -> str:
    return look(port, path, patience=0.3).kind


@pytest.fixture
def marks() -> Marks:
    return []


@contextmanager
def an_engine(folder: Path) -> Iterator[ProcessEngine]:
    with ProcessEngine(f"test-{uuid.uuid4().hex[:8]}", folder) as engine:
        yield engine


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    with an_engine(tmp_path_factory.mktemp("faults")) as engine:
        stack = Tiny(engine)
        stack.detours = {"a": Detour(engine, "a", stack.ports["a"])}
        stack.start("a", "v1")
        yield stack


@pytest.fixture
def stack(shared: Tiny) -> Tiny:
    """Serves, whatever the test before did to it: healed is healed."""
    shared.ready("a")
    return shared


class Deaf:
    """An engine that signals nobody: what a fault does to it has no effect."""

    def __init__(self, engine: ProcessEngine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)

    def signal(self, instance: Instance, name: str) -> None:
        pass

    def kill(self, instance: Instance) -> None:
        pass


@contextmanager
def deaf(stack: Tiny) -> Iterator[None]:
    engine = stack.engine
    stack.engine = Deaf(engine)  # type: ignore[assignment]
    yield
    stack.engine = engine


def test_a_fault_is_healed_once_however_often_its_heal_is_called() -> None:
    healed: list[str] = []
    heal = Heal(lambda: healed.append("healed"))
    heal()
    heal()
    assert healed == ["healed"]


# -- faults of a process


def test_a_killed_instance_is_gone_and_comes_back_at_its_version(stack: Tiny) -> None:
    before = stack.instance("a")
    heal = faults.kill("a").inject(stack)
    assert stack.engine.fate(before) == "killed by SIGKILL"
    assert sees(stack.ports["a"]) == "refused"
    heal()
    after = stack.instance("a")
    assert (after.version, after != before) == ("v1", True)
    assert sees(stack.ports["a"]) == "reply"
    heal()
    assert stack.instance("a") == after


def test_what_the_deploy_replaced_is_not_started_again(stack: Tiny) -> None:
    heal = faults.kill("a").inject(stack)
    stack.start("a", "v1")
    mine = stack.instance("a")
    heal()
    assert stack.instance("a") == mine


def test_what_the_deploy_has_stopped_stays_stopped(stack: Tiny) -> None:
    heal = faults.kill("a").inject(stack)
    stack.stop("a")
    heal()
    assert sees(stack.ports["a"]) == "refused"
    stack.start("a", "v1")


def test_a_heal_waits_for_what_the_deploy_puts_in_its_place(stack: Tiny) -> None:
    """The deploy stops what the heal has just started, and starts its own a moment later."""
    heal = faults.kill("a").inject(stack)
    ready = Tiny.ready
    replaced: list[Instance] = []

    def deployed(self: Tiny, name: str) -> None:
        if not replaced:
            stack.stop(name)
            stack.start(name, "v2")
            replaced.append(stack.instance(name))
            raise EngineError("a exited 143 before it was ready")
        ready(self, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tiny, "ready", deployed)
        heal()
    assert (stack.instance("a"), replaced[0].version) == (replaced[0], "v2")
    assert sees(stack.ports["a"]) == "reply"
    stack.stop("a")
    stack.start("a", "v1")


def test_a_heal_never_starts_a_second_process_of_what_a_deploy_is_replacing(stack: Tiny) -> None:
    """A deploy and a heal at once, five times: one process runs, and it is the deploy's."""
    for _ in range(5):
        heal = faults.kill("a").inject(stack)
        before = len(stack.engine._watched)
        healing = threading.Thread(target=heal)
        healing.start()
        stack.stop("a")
        stack.start("a", "v2")
        healing.join()
        mine = [one for one in list(stack.engine._watched)[before:] if one.name == "a"]
        running = [one for one in mine if not stack.engine.fate(one)]
        assert running == [stack.instance("a")]
        assert stack.instance("a").version == "v2"
    stack.stop("a")
    stack.start("a", "v1")


def test_a_kill_that_kills_nobody_is_an_error(stack: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["zdtest.faults.kill"], "_WITHIN", 0.1)
    with deaf(stack), pytest.raises(FaultError, match=r"^kill a in effect: not within"):
        faults.kill("a").inject(stack)


def test_a_heal_that_does_not_bring_it_back_is_an_error(
    stack: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    heal = faults.kill("a").inject(stack)
    monkeypatch.setattr(Tiny, "revive", lambda *_: None)
    monkeypatch.setattr(Tiny, "ready", lambda *_: None)
    with pytest.raises(FaultError, match=r"^kill a not gone: a killed by SIGKILL"):
        heal()
    monkeypatch.undo()
    stack.start("a", "v1")


def test_a_stopped_instance_ends_in_order_and_comes_back(stack: Tiny) -> None:
    before = stack.instance("a")
    heal = faults.stop("a").inject(stack)
    assert stack.engine.fate(before) == "killed by SIGTERM"
    heal()
    assert sees(stack.ports["a"]) == "reply"


def test_an_instance_that_ignores_sigterm_is_not_stopped(tmp_path: Path) -> None:
    with an_engine(tmp_path) as engine:
        stack = Tiny(engine, "deaf")
        stack.start("a", "v1")
        stack.ready("a")
        with pytest.raises(FaultError, match=r"^stop a: still there 200ms after SIGTERM"):
            faults.stop("a", within="200ms").inject(stack)
        assert engine.fate(stack.instance("a")) == ""


def test_a_frozen_instance_accepts_and_does_not_answer_until_thawed(stack: Tiny) -> None:
    pid = stack.instance("a").pid
    heal = faults.freeze("a").inject(stack)
    assert reaper.state(pid) == "T"
    assert sees(stack.ports["a"]) == "silent"
    heal()
    assert reaper.state(pid) != "T"
    assert sees(stack.ports["a"]) == "reply"


def test_a_freeze_that_freezes_nobody_is_an_error(
    stack: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["zdtest.faults.freeze"], "_WITHIN", 0.1)
    with deaf(stack), pytest.raises(FaultError, match=r"(?s)^freeze a in effect: .*goes on"):
        faults.freeze("a").inject(stack)


def test_a_thaw_that_thaws_nobody_is_an_error(stack: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["zdtest.faults.freeze"], "_WITHIN", 0.1)
    heal = faults.freeze("a").inject(stack)
    with deaf(stack), pytest.raises(FaultError, match=r"(?s)^freeze a gone: .*stands still"):
        heal()
    stack.engine.signal(stack.instance("a"), "CONT")


def test_a_frozen_instance_that_has_been_ended_is_healed(stack: Tiny) -> None:
    heal = faults.freeze("a").inject(stack)
    stack.engine.kill(stack.instance("a"))
    heal()
    stack.start("a", "v1")


@pytest.mark.parametrize("fault", [faults.kill, faults.stop, faults.freeze, faults.starve])
def test_a_fault_on_a_process_that_has_ended_is_an_error(
    stack: Tiny, fault: Callable[[str], Fault], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["zdtest.faults.proof"], "_STARTED", 0.1)
    stack.engine.kill(stack.instance("a"))
    with pytest.raises(FaultError, match=r"(?s)a running instance.*a killed by SIGKILL"):
        fault("a").inject(stack)
    stack.start("a", "v1")


def test_a_fault_on_nobody_names_who_there_is(stack: Tiny) -> None:
    with pytest.raises(ConfigError, match=r"^kill b: no instance 'b': expected one of a$"):
        faults.kill("b").inject(stack)


def test_a_restart_is_over_before_the_detection_window_is(stack: Tiny) -> None:
    before = stack.instance("a")
    began = time.monotonic()
    heal = faults.restart("a", within="2s").inject(stack)
    assert time.monotonic() - began < 2
    assert listens(stack.ports["a"])
    heal()
    assert stack.instance("a") != before
    assert sees(stack.ports["a"]) == "reply"


def test_a_restart_that_took_longer_is_not_this_fault(stack: Tiny) -> None:
    with pytest.raises(FaultError, match=r"^restart a took .*: expected 1ms at most$"):
        faults.restart("a", within="1ms").inject(stack)


def test_a_starved_instance_shares_one_cpu_with_busy_ones(stack: Tiny) -> None:
    pid = stack.instance("a").pid
    before = os.sched_getaffinity(pid)
    heal = faults.starve("a", busy=1).inject(stack)
    assert os.sched_getaffinity(pid) == {max(before)}
    busy = [one for one in stack.engine._watched if one.name == "busy-a-1"][-1]
    assert not stack.engine.fate(busy)
    heal()
    assert os.sched_getaffinity(pid) == before
    assert stack.engine.fate(busy) == "killed by SIGKILL"


def test_busy_processes_that_are_not_busy_are_an_error_and_nothing_of_it_stays(
    stack: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["zdtest.faults.starve"]
    monkeypatch.setattr(module, "_WITHIN", 0.5)
    monkeypatch.setattr(module, "_BUSY", 2.0)
    pid = stack.instance("a").pid
    before = os.sched_getaffinity(pid)
    with pytest.raises(FaultError, match=r"(?s)^starve a in effect: .*of the CPU"):
        faults.starve("a", busy=1).inject(stack)
    assert os.sched_getaffinity(pid) == before


def test_starving_that_ended_by_itself_is_an_error(stack: Tiny) -> None:
    heal = faults.starve("a", busy=1, most="1500ms").inject(stack)
    busy = [one for one in stack.engine._watched if one.name == "busy-a-1"][-1]
    assert stack.engine.wait(busy, 5)
    with pytest.raises(FaultError, match=r"^starve a ended by itself"):
        heal()


def test_a_killed_balancer_comes_back(stack: Tiny) -> None:
    stack.start_balancer()
    before = stack.balancer
    heal = faults.kill_balancer().inject(stack)
    assert reaper.find(before.pid) is None
    with pytest.raises(FaultError, match=r"^kill balancer: it had ended before"):
        faults.kill_balancer().inject(stack)
    heal()
    assert stack.engine.fate(stack.balancer) == ""


# -- faults of the network


# What is late is so by more than `sees` waits, also on a machine that stands still meanwhile.
IMPAIRED: list[tuple[Impaired, str, str]] = [
    (faults.half_open("a"), "/", "silent"),
    (faults.partition("a"), "/", "silent"),
    (faults.resets("a"), "/", "reset"),
    (faults.resets("a", after=1000, path="/download"), "/download", "cut"),
    (faults.latency("a", "1200ms", jitter="50ms"), "/", "silent"),
    (faults.bandwidth("a", 16_000, path="/download"), "/download", "silent"),
    (faults.slow_health("a", "1200ms"), "/ping", "silent"),
    (faults.failing_health("a"), "/ping", "reply"),
]


@pytest.mark.parametrize(("fault", "path", "met"), IMPAIRED, ids=[one[0].name for one in IMPAIRED])
def test_a_fault_of_the_network_is_met_until_it_is_healed(
    stack: Tiny, fault: Impaired, path: str, met: str
) -> None:
    port = stack.detours["a"].port
    heal = fault.inject(stack)
    assert sees(port, path) == met
    heal()
    assert fault.shows(look(port, path))
    assert sees(port, path) == "reply"


@pytest.mark.parametrize("fault", [faults.slow_health("a", "500ms"), faults.failing_health("a")])
def test_a_bad_health_check_leaves_the_service_alone(stack: Tiny, fault: Impaired) -> None:
    heal = fault.inject(stack)
    port = stack.detours["a"].port
    assert [sees(port, path) for path in ("/", "/api", "/download")] == ["reply"] * 3
    assert b" 200 OK" in look(port, "/api").reply
    heal()


@pytest.mark.parametrize("one", IMPAIRED, ids=[one[0].name for one in IMPAIRED])
def test_a_fault_that_the_proxy_does_not_make_is_an_error(
    stack: Tiny, one: tuple[Impaired, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["zdtest.faults.impaired"], "_WITHIN", 0.05)
    monkeypatch.setattr(Detour, "set", lambda *_: None)
    with pytest.raises(FaultError, match=f"^{one[0].name} in effect: not within"):
        one[0].inject(stack)


def test_a_fault_that_stays_is_an_error(stack: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["zdtest.faults.impaired"], "_WITHIN", 0.05)
    heal = faults.resets("a").inject(stack)
    monkeypatch.setattr(Detour, "set", lambda *_: None)
    with pytest.raises(FaultError, match=r"(?s)^resets a gone: .*GET /: reset after"):
        heal()
    monkeypatch.undo()
    stack.detours["a"].clear()


def test_a_fault_that_cannot_be_proven_leaves_nothing(
    stack: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["zdtest.faults.impaired"], "_WITHIN", 0.05)
    fault = faults.bandwidth("a", 1e9, path="/download")
    with pytest.raises(FaultError, match=r"(?s)bytes prove nothing at 1e\+09 B/s"):
        fault.inject(stack)
    assert stack.detours["a"].told()["conditions"]["rate"] == 0


def test_a_network_fault_needs_a_stack_with_proxies(stack: Tiny) -> None:
    with pytest.raises(ConfigError, match=r"^resets b: no proxy before 'b': expected one of a$"):
        faults.resets("b").inject(stack)
    bare = Tiny(stack.engine)
    with pytest.raises(ConfigError, match=r"^resets a: this stack has no proxies"):
        faults.resets("a").inject(bare)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: faults.latency("a", "100ms", jitter="90ms"), "expected 20ms left"),
        (lambda: faults.slow_health("a", "1ms"), "expected 20ms"),
        (lambda: faults.bandwidth("a", 0), "more than 0"),
        (lambda: faults.starve("a", busy=0), "expected 1 to 32"),
        (lambda: faults.netem("a", "1ms", loss=101), "expected percent"),
        (lambda: faults.netem("a", "1ms", loss="much"), "expected percent"),
        (lambda: faults.netem("a", 0), "expected more delay, or a loss"),
        (lambda: faults.netem("a", "1ms", jitter="2ms"), "expected more delay, or a loss"),
        (lambda: faults.bandwidth("a", float("nan")), "expected a number"),
        (lambda: faults.bandwidth("a", "fast"), "expected a number"),
        (lambda: faults.bandwidth("a", -1), "expected a number"),
        (lambda: faults.resets("a", after=-1), "expected 0 bytes or more"),
        (lambda: faults.resets("a", after="some"), "expected 0 bytes or more"),
        (lambda: faults.resets("a", path="api"), "expected one such as /ping"),
        (lambda: faults.failing_health("a", path="/a b"), "expected one such as /ping"),
        (lambda: faults.failing_health("a", status=99), "expected a final HTTP status"),
        (lambda: faults.failing_health("a", status="bad"), "expected a number"),
        (lambda: faults.half_open("a", patience=0), "patience 0: expected more than 0"),
        (
            lambda: faults.partition("a", patience="soon"),
            "patience 'soon': expected a time with",
        ),
        (lambda: faults.restart("a", within=0), "within 0: expected more than 0"),
        (lambda: faults.stop("a", within="0s"), "within '0s': expected more than 0"),
        (lambda: faults.starve("a", most=-1), "most -1: expected a time with"),
        (lambda: faults.starve("a", busy="very"), "expected 1 to 32"),
        (lambda: faults.latency("a", "late"), "latency 'late': expected a time with"),
        (lambda: at("switch", after="later"), "after 'later': expected a time with"),
        (
            lambda: plan(faults.kill("a"), heal_after=-1),
            "heal_after -1: expected a time with its unit",
        ),
        (lambda: at("sometime"), "expected one of"),
        (lambda: plan(faults.kill("a"), "starte"), "did you mean 'started'"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_happens(
    make: Callable[[], object], why: str
) -> None:
    with pytest.raises(ConfigError, match=why) as refused:
        make()
    assert "\n" not in str(refused.value)


NETEM = "tc qdisc add dev lo root netem delay 1ms && tc qdisc show dev lo"

# -- netem, by commands that stand in for the kernel's

TC = """#!/bin/sh
while [ "$1" != tc ] && [ "${0##*/}" != tc ]; do shift; done
case "$*" in
*add*root*netem*) echo "$*" >>"$KERNEL" ;;
*del*) rm "$KERNEL" ;;
*show*) [ -f "$KERNEL" ] && printf "qdisc netem 8001: root\\n Sent 9 bytes $PKT pkt\\n" ;;
esac
exit 0
"""


class Kernel:
    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.file = folder / "kernel"
        for name in ("nsenter", "unshare"):
            (folder / name).write_text(TC)
            (folder / name).chmod(0o755)
        patch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        patch.setenv("KERNEL", str(self.file))
        patch.setenv("PKT", "3")


class Networked(Tiny):
    def device(self, name: str) -> str:
        return "eth7"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(tmp_path, monkeypatch)


@pytest.fixture
def networked(stack: Tiny) -> Networked:
    other = Networked(stack.engine)
    other.roster = stack.roster
    return other


def test_netem_is_added_inside_and_removed(networked: Networked, kernel: Kernel) -> None:
    heal = faults.netem("a", "100ms", jitter="5ms", loss=1).inject(networked)
    assert "qdisc add dev eth7 root netem delay 100ms 5ms loss 1%" in kernel.file.read_text()
    heal()
    assert not kernel.file.exists()


@pytest.mark.skipif(bool(no_namespaces()), reason=no_namespaces())
def test_the_network_of_an_instance_is_held_whoever_gets_its_pid(tmp_path: Path) -> None:
    """Real namespaces: what is asked in there is whose it is."""
    asked = ["readlink", "/proc/self/ns/net"]
    with an_engine(tmp_path) as engine:
        one = engine.start("a", ["unshare", "-n", "sleep", "60"])
        ours = os.readlink("/proc/self/ns/net")
        its = f"/proc/{one.pid}/ns/net"
        probe.until("its own", lambda: "" if os.readlink(its) != ours else "ours", timeout=5)
        theirs = os.readlink(its)
        space = Space(one, "netem a")
        inside = ["nsenter", f"--net=/proc/self/fd/{space._handle}", *asked]
        assert tc(inside, holding=(space._handle,)).strip() == theirs
        engine.kill(one)
        assert tc(inside, holding=(space._handle,)).strip() == theirs
        space.close()


def test_netem_of_an_instance_that_has_ended_is_gone_with_it(
    networked: Networked, kernel: Kernel
) -> None:
    heal = faults.netem("a", "100ms").inject(networked)
    networked.engine.kill(networked.instance("a"))
    heal()
    assert kernel.file.exists(), "nobody was asked to take anything away"
    networked.start("a", "v1")


def test_a_network_of_who_got_the_pid_of_an_instance_is_none_of_it(stack: Tiny) -> None:
    later = replace(stack.instance("a"), began=1)
    with pytest.raises(FaultError, match=r"^netem a: a has ended$"):
        Space(later, "netem a")


class Working(Tiny):
    """A balancer with two workers, of which somebody else tells."""

    told: list[list[int]]

    def workers(self) -> list[int]:
        return self.told.pop(0) if len(self.told) > 1 else self.told[0]


def test_who_got_the_pid_of_a_worker_is_not_killed(stack: Tiny) -> None:
    """It was told of as a worker, and is none any more once it is looked at again."""
    working = Working(stack.engine)
    working.roster = stack.roster
    stranger = stack.engine.start("stranger", ["sleep", "60"])
    working.told = [[stranger.pid], []]
    with pytest.raises(FaultError, match=rf"^kill worker: worker {stranger.pid} had ended before$"):
        faults.kill_worker().inject(working)
    assert not stack.engine.wait(stranger, 0.2)
    stack.engine.kill(stranger)


def test_who_got_the_pid_of_a_starved_instance_is_pinned_to_nothing(stack: Tiny) -> None:
    one = stack.instance("a")
    allowed = os.sched_getaffinity(one.pid)
    pinned = sys.modules["zdtest.faults.starve"]._pinned
    assert pinned(replace(one, began=1), {max(allowed)}) == ""
    assert os.sched_getaffinity(one.pid) == allowed


def test_netem_that_no_packet_meets_is_an_error(
    networked: Networked, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PKT", "0")
    monkeypatch.setattr(sys.modules["zdtest.faults.netem"], "_WITHIN", 0.2)
    with pytest.raises(FaultError, match=r"(?s)^netem a in effect.*no packet went through"):
        faults.netem("a", "100ms").inject(networked)
    assert not kernel.file.exists()


def test_netem_without_it_in_the_kernel_is_refused_in_one_line(
    stack: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unshare").write_text("#!/bin/sh\necho 'Error: unknown qdisc' >&2; exit 2\n")
    (tmp_path / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ConfigError, match=r"^a fault that needs what this kernel lacks: netem"):
        faults.netem("a", "1ms").inject(stack)


def test_this_very_kernel_has_netem_or_says_in_one_line_that_it_has_not() -> None:
    try:
        available()
    except ConfigError as refused:
        text = str(refused)
        assert re.fullmatch(r"a fault that needs what this kernel lacks: netem \(.+\); .+", text)
    else:
        shown = subprocess.run(
            ["unshare", "-n", "sh", "-c", NETEM], check=True, capture_output=True
        )
        assert b"netem" in shown.stdout


def test_netem_on_instances_that_share_a_network_is_refused(stack: Tiny, kernel: Kernel) -> None:
    with pytest.raises(ConfigError, match=r"no instance has a network of its own$"):
        faults.netem("a", "1ms").inject(stack)


# -- when


DEPLOY: Marks = [
    ("app.started", {"instance": "a", "version": "v1"}),
    ("app.ready", {"instance": "a", "version": "v1"}),
    ("deploy.begin", {"version": "v2", "strategy": "rolling"}),
    ("deploy.step.begin", {"step": "a", "version": "v2"}),
    ("app.term", {"instance": "a", "version": "v1"}),
    ("app.stopped", {"instance": "a", "version": "v1"}),
    ("app.started", {"instance": "a", "version": "v1"}),
    ("app.started", {"instance": "a", "version": "v2"}),
    ("app.ready", {"instance": "a", "version": "v2"}),
    ("deploy.step.end", {"step": "a", "version": "v2"}),
    ("app.term", {"instance": "b", "version": "v1"}),
    ("deploy.end", {"version": "v2"}),
]


@pytest.mark.parametrize(
    ("phase", "position"),
    [
        ("before_start", 2),
        ("started", 7),
        ("first_ready", 8),
        ("switch", 9),
        ("old_told_to_stop", 4),
        ("old_gone", 5),
        ("now", None),
    ],
)
def test_each_phase_of_a_deploy_comes_once(phase: str, position: int | None) -> None:
    cue = Cue(phase)
    given = [n for n, (name, about) in enumerate(DEPLOY * 2) if cue(name, about)]
    assert given == ([] if position is None else [position])


def test_every_phase_is_known_and_tested() -> None:
    tested = test_each_phase_of_a_deploy_comes_once.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert {phase for phase, _ in tested} == set(PHASES)


def test_what_runs_again_in_the_same_version_is_told_from_what_ran_before() -> None:
    cue = Cue("old_told_to_stop")
    same: dict[str, object] = {"instance": "a", "version": "v1"}
    assert not cue("deploy.begin", {"version": "v1"})
    assert not cue("app.started", same)
    assert not cue("app.term", same)
    assert cue("app.term", {"instance": "b", "version": "v1"})


def test_what_is_ended_after_its_successor_under_the_same_name_was_started_is_old() -> None:
    cue = Cue("old_gone")
    cue("deploy.begin", {"version": "v2"})
    cue("app.started", {"instance": "a", "version": "v2"})
    assert cue("app.stopped", {"instance": "a", "version": "v1"})


def test_traffic_that_is_switched_comes_before_the_end_of_the_step() -> None:
    cue = Cue("switch")
    cue("deploy.begin", {"version": "v2"})
    assert not cue("deploy.step.end", {"step": "a", "error": "it failed"})
    assert cue("deploy.switch", {})


def test_the_same_seed_gives_the_same_moment_and_another_seed_another() -> None:
    when = at("before_start", after="1s", window="3s")
    drawn = [when.delay(f"{seed}:0:kill a") for seed in (1, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3
    assert all(1 <= delay <= 4 for delay in drawn)


# -- armed


@dataclass(frozen=True)
class Told:
    """A fault that tells what is done to it."""

    said: list[str]
    name: str = "told"
    wrong: str = ""

    def inject(self, stack: object) -> Callable[[], None]:
        if self.wrong == "inject":
            raise FaultError("told took no effect")
        self.said.append("inject")
        return Heal(self._heal)

    def _heal(self) -> None:
        self.said.append("heal")
        if self.wrong == "heal":
            raise FaultError("told stays")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    log = EventLog(tmp_path / "events.jsonl")
    yield log
    log.close()


def noted(tmp_path: Path, prefix: str = "fault.") -> list[dict[str, object]]:
    lines = map(json.loads, (tmp_path / "events.jsonl").read_text().splitlines())
    return [line for line in lines if line["mark"].startswith(prefix)]


def named(tmp_path: Path) -> list[object]:
    return [line["mark"] for line in noted(tmp_path)]


def waited(true: Callable[[], object]) -> None:
    probe.until("it", lambda: "" if true() else "not yet", timeout=5)


LIFE = ["fault.armed", "fault.begin", "fault.proven", "fault.end"]


def test_a_fault_without_a_moment_is_in_effect_when_the_block_begins(
    stack: Tiny, log: EventLog, tmp_path: Path
) -> None:
    said: list[str] = []
    with armed(stack, log, [Told(said)]):
        assert said == ["inject"]
    assert said == ["inject", "heal"]
    assert named(tmp_path) == LIFE
    assert {line["fault"] for line in noted(tmp_path)} == {"told"}


def test_a_fault_armed_inside_another_s_block_by_the_same_seed_leaves_that_alone(
    stack: Tiny, log: EventLog
) -> None:
    said: list[str] = []
    with armed(stack, log, [Told(said)], seed=1), armed(stack, log, [Told(said)], seed=1):
        assert said == ["inject", "inject"]
        time.sleep(0.05)
    assert said == ["inject", "inject", "heal", "heal"]


def test_a_fault_fires_on_its_phase_and_is_healed_in_time(
    stack: Tiny, log: EventLog, tmp_path: Path
) -> None:
    for _ in range(3):
        said: list[str] = []
        with armed(stack, log, [plan(Told(said), "before_start", heal_after="100ms")]):
            log("app.ready", instance="a", version="v1")
            assert said == []
            log("deploy.begin", version="v2")
            waited(lambda said=said: said == ["inject", "heal"])
            log("deploy.begin", version="v3")
        assert said == ["inject", "heal"]
    proven, ended = (
        [float(str(line["t"])) for line in noted(tmp_path) if line["mark"] == mark]
        for mark in ("fault.proven", "fault.end")
    )
    lasted = [end - begin for begin, end in zip(proven, ended, strict=True)]
    assert len(lasted) == 3
    # Not each time has the thread to wait for a processor once its time is up.
    assert 0.1 <= min(lasted) < 0.3


def test_no_fault_outlives_its_most(stack: Tiny, log: EventLog) -> None:
    said: list[str] = []
    with armed(stack, log, [plan(Told(said), heal_after="1h", most="50ms")]):
        waited(lambda: said == ["inject", "heal"])


def test_a_moment_is_drawn_by_the_seed_and_noted(
    stack: Tiny, log: EventLog, tmp_path: Path
) -> None:
    def delays(seed: int) -> list[object]:
        before = len(noted(tmp_path, "fault.armed"))
        plans = [plan(Told([]), at("before_start", window="50ms")) for _ in range(2)]
        with armed(stack, log, plans, seed=seed):
            log("deploy.begin", version="v2")
            waited(lambda: len(noted(tmp_path, "fault.proven")) == before + 2)
        return [line["delay"] for line in noted(tmp_path, "fault.armed")[before:]]

    first = delays(1)
    assert first == delays(1)
    assert first != delays(2)
    assert len(set(first)) == 2


@pytest.mark.parametrize(
    "fault",
    [
        faults.kill("nobody"),
        faults.stop("nobody"),
        faults.freeze("nobody"),
        faults.starve("nobody"),
        faults.restart("nobody"),
        faults.latency("nobody", "1s"),
        faults.netem("a", "1s"),
    ],
    ids=lambda fault: fault.name,
)
def test_a_fault_that_cannot_be_made_is_refused_before_the_block_begins(
    stack: Tiny, log: EventLog, tmp_path: Path, fault: Fault
) -> None:
    said: list[str] = []
    with (
        pytest.raises(ConfigError) as refused,
        armed(stack, log, [Told(said), plan(fault, "switch")]),
    ):
        pytest.fail("the block began")
    assert "\n" not in str(refused.value)
    assert (said, noted(tmp_path)) == ([], [])


def test_a_balancer_that_cannot_be_started_again_is_refused_before_the_block_begins(
    stack: Tiny, log: EventLog
) -> None:
    class Bare:
        instances = ("a",)
        engine = stack.engine

    for fault in (faults.kill_balancer(), faults.restart("a"), faults.resets("a")):
        with pytest.raises(ConfigError), armed(Bare(), log, [plan(fault, "switch")]):
            pytest.fail("the block began")


def test_a_fault_that_never_fired_is_an_error(stack: Tiny, log: EventLog) -> None:
    said: list[str] = []
    with (
        pytest.raises(FaultError, match=r"^told never fired: switch did not come$"),
        armed(stack, log, [plan(Told(said), "switch")]),
    ):
        log("deploy.begin", version="v2")
    log("deploy.step.end", step="a")
    assert said == []


def test_a_moment_after_the_deploy_never_came(stack: Tiny, log: EventLog) -> None:
    with (
        pytest.raises(FaultError, match=r"^told never fired: before_start \+ 5s did"),
        armed(stack, log, [plan(Told([]), at("before_start", after="5s"))]),
    ):
        log("deploy.begin", version="v2")


def test_a_fault_that_took_no_effect_at_once_keeps_the_block_from_beginning(
    stack: Tiny, log: EventLog, tmp_path: Path
) -> None:
    other: list[str] = []
    with (
        pytest.raises(FaultError, match=r"^told took no effect$"),
        armed(stack, log, [Told(other, "other"), Told([], wrong="inject")]),
    ):
        pytest.fail("the block began")
    assert other == ["inject", "heal"]
    assert noted(tmp_path, "fault.end")[0]["error"] == "told took no effect"


def test_a_fault_that_took_no_effect_later_is_raised_at_the_end(stack: Tiny, log: EventLog) -> None:
    deployed: list[str] = []

    def deploy(version: str) -> None:
        log("deploy.begin", version=version)
        deployed.append(version)

    late = plan(Told([], wrong="inject"), "before_start")
    with pytest.raises(FaultError, match=r"^told took no effect$"), armed(stack, log, [late]):
        deploy("v2")
    assert deployed


def test_a_fault_whose_phase_came_last_fires_though_the_block_is_over(
    stack: Tiny, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = sys.modules["zdtest.faults.armed"]._Life
    live = life._live

    def late(self: Any) -> None:
        assert self._over.wait(5)
        live(self)

    monkeypatch.setattr(life, "_live", late)
    said: list[str] = []
    with armed(stack, log, [plan(Told(said), "before_start")]):
        log("deploy.begin", version="v2")
        assert said == []
    assert said == ["inject", "heal"]


def test_every_fault_is_healed_and_told_however_the_block_ends(stack: Tiny, log: EventLog) -> None:
    said: list[str] = []
    stays = Told(said, "stays", wrong="heal")
    with (
        pytest.raises(ZeroDivisionError) as failure,
        armed(stack, log, [stays, Told(said), plan(Told([], "late"), "switch")]),
    ):
        raise ZeroDivisionError
    assert sorted(said) == ["heal", "heal", "inject", "inject"]
    notes = failure.value.__notes__
    assert notes == ["told stays", "late never fired: switch did not come"]


def test_a_fault_at_a_phase_of_a_real_deploy(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    name = f"test-{uuid.uuid4().hex[:8]}"
    with ProcessEngine(name, tmp_path, on_event=log) as engine:
        # Whoever is ready before it is frozen would not have to wait for the thaw.
        stack = Tiny(engine, "late")
        stack.start("a", "v1")
        stack.ready("a")
        frozen = plan(faults.freeze("a"), "started", heal_after="1s")
        with armed(stack, log, [frozen]):
            log("deploy.begin", version="v2")
            rolling()(stack, "v2", log)
            log("deploy.end", version="v2")
        assert stack.instance("a").version == "v2"
    log.close()
    times = {line["mark"]: float(str(line["t"])) for line in noted(tmp_path, "")}
    order = ["fault.armed", "deploy.begin", "app.term", "fault.begin", "fault.proven", "fault.end"]
    assert sorted(order, key=lambda mark: times[mark]) == order
    assert times["app.ready"] >= times["fault.proven"] + 1


RUNNER = """
import os, signal, sys
from pathlib import Path
from test_faults import Detour, ProcessEngine, Tiny, faults
run_id, folder = sys.argv[1:]
with ProcessEngine(run_id, Path(folder)) as engine:
    stack = Tiny(engine)
    stack.detours = {"a": Detour(engine, "a", stack.ports["a"])}
    stack.start("a", "v1")
    stack.ready("a")
    faults.latency("a", "100ms").inject(stack)
    faults.starve("a", busy=1).inject(stack)
    faults.freeze("a").inject(stack)
    print("frozen", stack.instance("a").pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_of_a_fault_is_left_when_the_run_is_killed(tmp_path: Path) -> None:
    run_id = f"test-{uuid.uuid4().hex[:8]}"
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent)])
    runner = subprocess.run(
        [sys.executable, "-c", RUNNER, run_id, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (runner.returncode, runner.stdout[:6]) == (-9, "frozen"), runner.stderr
    waited(lambda: run_id not in {one.labels.get(reaper.RUN) for one in reaper.processes()})


# -- the event log's listeners


def test_a_listener_never_holds_up_who_marks(log: EventLog) -> None:
    go_on = threading.Event()
    waits: list[bool] = []
    listener = log.listen(lambda name, about: name == "it", lambda: waits.append(go_on.wait(5)))
    began = time.monotonic()
    log("it")
    assert time.monotonic() - began < 1
    go_on.set()
    listener.end()
    assert waits == [True]


def test_a_listener_hears_what_a_mark_tells_and_nothing_after_its_end(log: EventLog) -> None:
    heard: list[tuple[str, dict[str, object]]] = []
    calls: list[None] = []

    def predicate(name: str, about: dict[str, object]) -> bool:
        heard.append((name, about))
        return name == "it"

    listener = log.listen(predicate, lambda: calls.append(None))
    log("it", step="a")
    log("that")
    listener.end()
    log("it")
    assert heard == [("it", {"step": "a"}), ("that", {})]
    assert len(calls) == 1


@pytest.mark.parametrize("where", ["predicate", "call"])
def test_an_error_of_a_listener_is_kept_and_raised_at_its_end(log: EventLog, where: str) -> None:
    def predicate(name: str, about: dict[str, object]) -> bool:
        return True if where == "call" else bool(1 / 0)

    listener = log.listen(predicate, lambda: print(1 / 0))
    log("it")
    with pytest.raises(ZeroDivisionError):
        listener.end()


def test_a_listener_may_mark(log: EventLog, tmp_path: Path) -> None:
    listener = log.listen(lambda name, about: name == "it", lambda: log("fault.begin"))
    log("it")
    listener.end()
    assert named(tmp_path) == ["fault.begin"]


# -- the manual


def test_the_manual_names_every_fault_and_every_phase() -> None:
    manual = (Path(__file__).parent.parent / "docs" / "faults.md").read_text()
    made = [
        name for name in faults.__all__ if name.islower() and name not in {"armed", "at", "plan"}
    ]
    missing = [name for name in (*made, *PHASES) if not re.search(rf"`{name}\b", manual)]
    assert missing == []
    assert kind("reply")(look(1, "/")) != ""
