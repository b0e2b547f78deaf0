from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from zdtest import topology
from zdtest.engine import probe, silent
from zdtest.engine.process import ProcessEngine
from zdtest.errors import ConfigError, DeployFailed, EngineError
from zdtest.faults import (
    Balancing,
    Fault,
    bandwidth,
    failing_health,
    half_open,
    kill,
    kill_balancer,
    latency,
    partition,
    resets,
    slow_health,
)
from zdtest.strategies import blue_green, canary, recreate, rollback, rolling
from zdtest.topologies import app
from zdtest.topology import Routes, Spares, Stack, Switched

pytestmark = pytest.mark.alone

IN_PLACE = topology.find("in_place")
CUSTOM_LB = topology.find("custom_lb")
SCRIPT = IN_PLACE.folder / "documented" / "start.sh"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[ProcessEngine]:
    with ProcessEngine(f"test-{uuid.uuid4().hex[:8]}", tmp_path) as engine:
        yield engine


def version_at(port: int, path: str = "/ready") -> str:
    reply = probe.ask(port, path, timeout=10)
    return reply.version if isinstance(reply, probe.Reply) else reply


def not_yet(port: int, version: str) -> str:
    return "" if version_at(port) == version else version_at(port) or "no answer"


def port_of(stack: Stack) -> int:
    return int(stack.url.rpartition(":")[2])


def journal(stack: Stack) -> list[tuple[float, str, str]]:
    assert stack.journal
    lines = map(json.loads, stack.journal.read_text().splitlines())
    return [(line["t"], line["event"], line["version"]) for line in lines]


@pytest.mark.parametrize("name", topology.names())
def test_every_folder_says_what_it_is(name: str) -> None:
    found = topology.find(name)
    assert found.name == name
    assert found.source in {"000", "001", "002", "003", "004"}
    assert found.summary
    assert found.strategies
    assert found.variants[0] == "documented"
    assert all((found.folder / variant).is_dir() for variant in found.variants)


def test_the_topologies_are_the_folders() -> None:
    assert {"custom_lb", "in_place"} <= set(topology.names())
    assert topology.find("in_place") is topology.find("in_place")


def test_an_unknown_name_says_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match="unknown topology 'custom_bl': did you mean 'custom_lb'"):
        topology.find("custom_bl")


def test_an_unknown_variant_or_parameter_says_the_nearest_known_one(engine: ProcessEngine) -> None:
    with pytest.raises(ConfigError, match="unknown variant of custom_lb 'hardend': did you mean"):
        CUSTOM_LB.raised("hardend", "v1", engine)
    with pytest.raises(
        ConfigError, match="unknown parameter of custom_lb 'bot': did you mean 'boot'"
    ):
        CUSTOM_LB.raised("hardened", "v1", engine, bot=1)
    with pytest.raises(ConfigError, match=r"expected one of documented$"):
        IN_PLACE.raised("hardened", "v1", engine)


def test_a_folder_of_ones_own_is_a_topology_by_its_path(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    with pytest.raises(ConfigError, match="unknown topology"):
        topology.find(str(folder))
    (folder / "topology.py").write_text("topology = None\n")
    with pytest.raises(ConfigError, match="binds no topology"):
        topology.find(str(folder))
    other = tmp_path / "other"
    other.mkdir()
    (other / "topology.py").write_text((IN_PLACE.folder / "topology.py").read_text())
    assert topology.find(str(other)).name == "other"


def test_in_place_is_refused_for_the_sleep_and_the_boot_there_and_back(
    tmp_path: Path,
) -> None:
    ended: list[float] = []

    def mark(name: str, /, **about: object) -> None:
        if name == "app.stopped":
            ended.append(float(str(about["happened"])))

    with (
        ProcessEngine(f"test-{uuid.uuid4().hex[:8]}", tmp_path, on_event=mark) as engine,
        IN_PLACE.raised("documented", "v1", engine, boot=0.8) as stack,
    ):
        for version in ("v2", "v1"):
            recreate(stack, version, silent)
            assert version_at(port_of(stack)) == stack.instance("app").version == version
        # kill -9: nobody was told to stop.
        lives = [line for line in journal(stack) if line[1] in ("ready", "term", "stopped")]
        assert [line[1:] for line in lives] == [("ready", v) for v in ("v1", "v2", "v1")]
        gaps = [back[0] - end for back, end in zip(lives[1:], ended, strict=True)]
        assert all(gap >= 1.8 for gap in gaps)
        # A machine that stands still for a moment does not do so both times.
        assert min(gaps) < 3


def test_in_place_can_do_nothing_but_recreate(engine: ProcessEngine) -> None:
    with IN_PLACE.raised("documented", "v1", engine, boot=0) as stack:
        with pytest.raises(ConfigError, match="cannot do rolling: expected one of recreate"):
            rolling()(stack, "v2", silent)
        assert version_at(port_of(stack)) == "v1"


def test_a_version_that_does_not_start_fails_the_deploy_with_its_output(
    engine: ProcessEngine,
) -> None:
    with IN_PLACE.raised("documented", "v1", engine, boot=0) as stack:
        with pytest.raises(DeployFailed, match=r"(?s)^all: app has ended.*APP_VERSION 'not one!'"):
            recreate(stack, "not one!", silent)
        assert "refused" in version_at(port_of(stack))


def test_the_start_script_is_bash_that_runs_by_hand(engine: ProcessEngine, tmp_path: Path) -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    port = engine.port()
    for version in ("v1", "v2"):
        env = app(port, "app", version, None, python=sys.executable)
        by_hand = subprocess.run(
            ["bash", str(SCRIPT)],
            cwd=tmp_path,
            env={**os.environ, **env, **engine.labels},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        assert by_hand.returncode == 0
        probe.until(version, partial(not_yet, port, version), timeout=10)


def test_the_start_script_kills_nobody_who_got_the_pid_of_an_ended_server(
    engine: ProcessEngine, tmp_path: Path
) -> None:
    stranger = engine.start("stranger", ["sleep", "60"])
    (tmp_path / "app.pid").write_text(f"{stranger.pid}\n")
    env = app(engine.port(), "app", "v1", None, python=sys.executable)
    script = engine.run("start.sh", ["bash", str(SCRIPT)], env=env, cwd=tmp_path)
    assert "> no ing app." in engine.logs(script)
    assert engine.fate(stranger) == ""


def test_the_documented_balancer_is_rolled_there_and_back(engine: ProcessEngine) -> None:
    log = engine.folder / "logs" / "balancer.log"
    moved: list[tuple[int, int]] = []

    def mark(name: str, /, **about: object) -> None:
        if name == "deploy.step.end":
            said = log.read_text()
            moved.append((said.count('"removed"'), said.count('"registered"')))

    with CUSTOM_LB.raised("documented", "v1", engine, boot=1.0, ping_period=0.12) as stack:
        for version in ("v2", "v1"):
            rolling()(stack, version, mark)
            assert {version_at(port_of(stack), "/api") for _ in range(4)} == {version}
    # Nobody told the balancer: three missed pings took each out, and no step was over before it
    # was put back.
    assert moved == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_the_hardened_balancer_drains_each_instance_before_it_stops(engine: ProcessEngine) -> None:
    with CUSTOM_LB.raised("hardened", "v1", engine, boot=0, drain=0.4, ping_period=0.1) as stack:
        rolling()(stack, "v2", silent)
        assert {version_at(port_of(stack), "/api") for _ in range(4)} == {"v2"}
        events = [event for _, event, version in journal(stack) if version == "v1"]
        assert [e for e in events if e in ("draining", "stopped")] == ["draining", "stopped"] * 2


def test_an_instance_that_never_comes_back_fails_the_deploy(engine: ProcessEngine) -> None:
    with CUSTOM_LB.raised("documented", "v1", engine, boot=0, ping_period=0.1) as stack:
        with pytest.raises(DeployFailed, match=r"^a: a exited 2 before it was ready"):
            rolling()(stack, "not one!", silent)
        assert stack.instance("b").version == "v1"


def asked(stack: Stack, count: int) -> list[str]:
    """Return the versions that answered so many requests of users, each on a new connection."""
    return [version_at(port_of(stack), "/api") for _ in range(count)]


@contextmanager
def hardened(engine: ProcessEngine, **settings: object) -> Iterator[Switched]:
    told = {"boot": 0, "drain": 0.1, "ping_period": 0.1, **settings}
    with CUSTOM_LB.raised("hardened", "v1", engine, **told) as stack:
        assert isinstance(stack, Switched)
        yield stack


def test_only_the_hardened_balancer_takes_weights_and_has_spares(engine: ProcessEngine) -> None:
    with CUSTOM_LB.raised("documented", "v1", engine, boot=0) as stack:
        assert not isinstance(stack, Routes | Spares)
        with pytest.raises(
            ConfigError, match="cannot do canary: expected one of rolling, recreate"
        ):
            canary()(stack, "v2", silent)


def test_the_hardened_balancer_switches_sets_there_and_back(engine: ProcessEngine) -> None:
    with hardened(engine) as stack:
        assert (stack.instances, stack.spares) == (("a", "b"), ("c", "d"))
        blue_green(keep_old=True)(stack, "v2", silent)
        assert (set(asked(stack, 8)), stack.instances) == ({"v2"}, ("c", "d"))
        rollback()(stack, "v1", silent)
        assert (set(asked(stack, 8)), stack.instances) == ({"v1"}, ("a", "b"))
        blue_green()(stack, "v3", silent)
        assert set(asked(stack, 8)) == {"v3"}
        assert [stack.running(name) for name in "abcd"] == ["", "", "v3", "v3"]
        # The strategies that know no spares go on from there.
        rolling()(stack, "v4", silent)
        assert set(asked(stack, 8)) == {"v4"}


def test_nobody_sees_a_new_set_that_does_not_come_up(engine: ProcessEngine) -> None:
    with hardened(engine, releases={"v2": {"release": "crash"}}) as stack:
        with pytest.raises(DeployFailed, match=r"^start: c exited 1 before it was ready"):
            blue_green()(stack, "v2", silent)
        assert set(asked(stack, 8)) == {"v1"}
        assert [stack.running(name) for name in "abcd"] == ["v1", "v1", "", ""]


def test_the_share_of_a_canary_is_exact(engine: ProcessEngine) -> None:
    with hardened(engine) as stack:
        stack.start("c", "v2")
        stack.ready("c")
        stack.weigh({"a": 95, "b": 95, "c": 10})
        assert asked(stack, 100).count("v2") == 5
        assert stack.told("c").answered == 5


def test_a_canary_that_answers_500_is_taken_back_and_every_victim_is_counted(
    engine: ProcessEngine,
) -> None:
    marks: dict[str, dict[str, object]] = {}
    answers: list[str] = []

    def mark(name: str, /, **about: object) -> None:
        marks[name] = about

    def look(stack: Switched, name: str) -> str:
        answers.extend(asked(stack, 20))
        return ""

    with hardened(engine, releases={"v2": {"release": "sick-at-once"}}) as stack:
        with pytest.raises(DeployFailed, match=r"^canary aborted: \d+ failed of \d+ requests"):
            canary(check=look)(stack, "v2", mark)
        assert answers.count("v2") == marks["deploy.abort"]["exposed"] == 1
        assert set(asked(stack, 8)) == {"v1"}
        assert [stack.running(name) for name in "abcd"] == ["v1", "v1", "", ""]


def test_a_weight_that_means_nothing_changes_none(engine: ProcessEngine) -> None:
    with hardened(engine) as stack:
        with pytest.raises(EngineError, match="balancer refused PUT /weights: weight 101 of"):
            stack.weigh({"a": 0, "b": 101})
        before = [stack.told(name).answered for name in "ab"]
        asked(stack, 4)
        assert [stack.told(name).answered for name in "ab"] == [count + 2 for count in before]


def test_spares_that_never_ran_are_nowhere_in_the_log(engine: ProcessEngine) -> None:
    with hardened(engine, ping_period=0.05) as stack:
        for _ in range(20):
            assert set(asked(stack, 2)) == {"v1"}
        said = (engine.folder / "logs" / "balancer.log").read_text()
        told = [json.loads(line) for line in said.splitlines()]
        ports = {f"127.0.0.1:{stack.ports[name]}" for name in "ab"}  # type: ignore[attr-defined]
        assert {line["target"] for line in told if "target" in line} == ports
        assert {line["event"] for line in told} == {"listening", "registered"}


def test_two_runs_side_by_side_do_not_meet(engine: ProcessEngine, tmp_path: Path) -> None:
    with (
        ProcessEngine(f"{engine.run_id}-other", tmp_path / "other") as other,
        CUSTOM_LB.raised("documented", "v1", engine, boot=0) as one,
        CUSTOM_LB.raised("documented", "v9", other, boot=0) as two,
    ):
        assert {version_at(port_of(one), "/api") for _ in range(4)} == {"v1"}
        assert {version_at(port_of(two), "/api") for _ in range(4)} == {"v9"}


@pytest.mark.parametrize("variant", ["documented", "hardened"])
def test_a_killed_balancer_is_a_total_outage_and_comes_back_on_its_port(
    engine: ProcessEngine, variant: str
) -> None:
    with CUSTOM_LB.raised(variant, "v1", engine, boot=0, ping_period=0.1) as stack:
        assert isinstance(stack, Balancing)
        before = stack.balancer
        heal = kill_balancer().inject(stack)
        assert all("refused" in version for version in asked(stack, 4))
        heal()
        assert stack.balancer != before
        assert asked(stack, 4) == ["v1"] * 4


def test_a_balancer_that_was_started_again_goes_by_its_own_pings(engine: ProcessEngine) -> None:
    with CUSTOM_LB.raised("documented", "v1", engine, boot=0, ping_period=0.1) as stack:
        stack.engine.kill(stack.instance("a"))
        probe.until("a out", lambda: "" if stack.when("removed", "a") else "in", timeout=5)
        kill_balancer().inject(stack)
        assert stack.revive(stack.instance("a"))
        probe.serves(engine, stack.instance("a"), stack.ports["a"], "/ping")
        stack.start_balancer()
        # The word of the one before, that it is out, counts no more. It is still told.
        stack.ready("a")
        assert len(stack.when("removed", "a")) == 1
        assert stack.when("registered", "a") == []


def test_a_balancer_that_was_started_again_has_the_users_go_to_the_set_of_now(
    engine: ProcessEngine,
) -> None:
    with hardened(engine) as stack:
        blue_green()(stack, "v2", silent)
        kill_balancer().inject(stack)()
        assert asked(stack, 8) == ["v2"] * 8


@pytest.mark.parametrize("variant", ["documented", "hardened"])
def test_a_proxied_stack_has_a_clean_way_to_each_slot_and_to_the_balancer(
    engine: ProcessEngine, variant: str
) -> None:
    told = {"boot": 0, "ping_period": 0.1, "drain": 0.1, "proxied": True, "front": True}
    with CUSTOM_LB.raised(variant, "v1", engine, **told) as stack:
        assert set(stack.detours) == {*stack.slots, "front"}
        rolling()(stack, "v2", silent)
        before = [stack.detours[name].told()["accepted"] for name in ("a", "front")]
        assert asked(stack, 4) == ["v2"] * 4
        after = [stack.detours[name].told()["accepted"] for name in ("a", "front")]
        assert after[0] > before[0]
        assert after[1] == before[1] + 4
        heal = failing_health("a", path="/api").inject(stack)
        assert sorted(asked(stack, 4)) == ["", "", "v2", "v2"]
        heal()
        heal = partition("front", path="/ping").inject(stack)
        assert probe.ask(port_of(stack), "/api", timeout=0.2) == "GET /api: timed out"
        heal()
        assert asked(stack, 2) == ["v2"] * 2


def test_every_fault_of_the_network_can_be_put_on_one_target(engine: ProcessEngine) -> None:
    faults: list[Fault] = [
        latency("a", "60ms", jitter="20ms"),
        bandwidth("a", 400_000),
        resets("a"),
        resets("a", after=1000, path="/download?bytes=65536"),
        half_open("a", patience="100ms"),
        partition("a", patience="100ms"),
        slow_health("a", "60ms"),
        failing_health("a"),
    ]
    with CUSTOM_LB.raised("hardened", "v1", engine, boot=0, proxied=True) as stack:
        # Each proves by a request of its own that it is there, and that it is gone.
        for fault in faults:
            fault.inject(stack)()
        stack.ready("a")
        assert asked(stack, 4) == ["v1"] * 4


def test_a_stack_without_proxies_refuses_faults_of_the_network(engine: ProcessEngine) -> None:
    with (
        CUSTOM_LB.raised("documented", "v1", engine, boot=0) as stack,
        pytest.raises(ConfigError, match=r"^partition a: this stack has no proxies"),
    ):
        partition("a").inject(stack)


def test_the_documented_balancer_refuses_what_only_the_hardened_can(engine: ProcessEngine) -> None:
    with (
        pytest.raises(ConfigError, match="eject_after: the documented balancer ejects nobody"),
        CUSTOM_LB.raised("documented", "v1", engine, eject_after=1),
    ):
        pass


def test_a_killed_instance_that_blue_green_retires_is_not_started_again(
    engine: ProcessEngine,
) -> None:
    with hardened(engine) as stack:
        heal = kill("a").inject(stack)
        blue_green()(stack, "v2", silent)
        heal()
        assert [stack.running(name) for name in "abcd"] == ["", "", "v2", "v2"]


def test_the_one_server_that_was_killed_is_started_by_its_script(engine: ProcessEngine) -> None:
    with IN_PLACE.raised("documented", "v1", engine, boot=0) as stack:
        heal = kill("app").inject(stack)
        assert "refused" in version_at(port_of(stack))
        heal()
        assert version_at(port_of(stack)) == "v1"
