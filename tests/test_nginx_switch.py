"""Document 001's switch on plain processes: its parts, its scripts, and what they leave behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from zdtest import topology
from zdtest.engine import probe, reaper, silent
from zdtest.engine.connected import connected
from zdtest.engine.process import ProcessEngine
from zdtest.errors import ConfigError, DeployFailed, EngineError, FaultError
from zdtest.faults import broken_config, kill, kill_balancer, kill_worker
from zdtest.strategies import blue_green, canary, find, rollback, scripted
from zdtest.topologies.access_log import AccessLog, attempts
from zdtest.topology import Scripted, Switched

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(not shutil.which("nginx"), reason="needs nginx on the path"),
]

NGINX_SWITCH = topology.find("nginx_switch")
BOTH = pytest.mark.parametrize("variant", ["documented", "hardened"])
FAST = {"boot": 0.0, "scale": 0.02}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[ProcessEngine]:
    with ProcessEngine(f"test-{uuid.uuid4().hex[:8]}", tmp_path) as engine:
        yield engine


@contextmanager
def raised(variant: str, engine: ProcessEngine, **more: object) -> Iterator[Any]:
    with NGINX_SWITCH.raised(variant, "v1", engine, **{**FAST, **more}) as stack:
        yield stack


def asked(stack: Any, count: int, path: str = "/api") -> list[str]:
    """The version that answered each of so many requests, or in words why none did."""
    replies = [probe.ask(stack.proxy.port, path, timeout=10) for _ in range(count)]
    return [reply.version if isinstance(reply, probe.Reply) else reply for reply in replies]


def deploy(stack: Any, version: str) -> None:
    """By the script. The document's ends while nginx still reloads; the hardened one must not."""
    how = partial(scripted(timeout="30s"), stack, version, silent)
    if stack.health == "/ready":
        how()
    else:
        stack.proxy.replaced(how)


def said(engine: ProcessEngine) -> str:
    return (engine.folder / "logs" / "deploy.sh.log").read_text()


def again(stack: Any, version: str, **more: str) -> tuple[int, str]:
    """The script's exit code and output, run by somebody else; the server it starts is ours."""
    env = {**stack.slots.environment(version), **stack.proxy.environment, "SECOND": "0.02", **more}
    home, log = stack.proxy.home, stack.proxy.home / "again.log"
    with log.open("wb") as output:
        done = subprocess.run(
            ["bash", "deploy.sh"],
            cwd=home,
            env={**os.environ, **env, **stack.engine.labels},
            stdout=output,
            timeout=30,
        )
    return done.returncode, log.read_text()


def line(**about: str) -> str:
    told = {
        "id": "r-1",
        "status": "200",
        "complete": "OK",
        "upstream_addr": "127.0.0.1:1",
        "upstream_status": "200",
    }
    return '{"t":1.5,' + json.dumps({**told, **about})[1:]


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({}, [("127.0.0.1:1", 200, True)]),
        ({"upstream_status": "404"}, [("127.0.0.1:1", 404, True)]),
        ({"upstream_status": "500"}, [("127.0.0.1:1", 500, False)]),
        ({"complete": ""}, [("127.0.0.1:1", 200, False)]),
        ({"upstream_status": "-", "status": "499"}, [("127.0.0.1:1", 0, False)]),
        ({"upstream_addr": "live", "upstream_status": "502"}, []),
        ({"upstream_addr": "", "upstream_status": ""}, []),
        (
            {"upstream_addr": "127.0.0.1:1, 127.0.0.1:2", "upstream_status": "502, 200"},
            [("127.0.0.1:1", 502, False), ("127.0.0.1:2", 200, True)],
        ),
    ],
)
def test_each_attempt_counts_for_the_server_that_it_went_to(
    about: dict[str, str], expected: list[tuple[str, int, bool]]
) -> None:
    assert list(attempts(json.loads(line(**about)))) == expected


def test_an_access_log_is_read_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "proxy.log"
    path.write_text("2026/11/25 12:00:00 [error] something else\n" + line() + "\n")
    log = AccessLog(path)
    assert log.told("127.0.0.1:1") == (1, 0)
    assert log.told("127.0.0.1:1") == (1, 0)
    whole = line(upstream_status="500") + "\n"
    with path.open("a") as more:
        more.write(whole[:40])
        more.flush()
        assert log.told("127.0.0.1:1") == (1, 0)
        more.write(whole[40:] + line(upstream_status="-") + "\n")
    assert log.told("127.0.0.1:1") == (1, 1)
    assert log.told("127.0.0.1:2") == (0, 0)


def test_connections_are_counted_until_either_side_closes_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        accepted = [server.accept()[0] for _ in range(2)]
        connections(port, 3)
        assert connected("127.0.0.2", port) == 0
        clients[0].close()
        accepted[1].close()
        connections(port, 1)
        for one in (*clients, *accepted):
            one.close()


def connections(port: int, count: int) -> None:
    """Return once there are so many; the kernel opens and closes the other side in its own time."""
    probe.until(
        f"{count} connections",
        lambda: "" if (now := connected("127.0.0.1", port)) == count else str(now),
        timeout=10,
    )


@BOTH
def test_nginx_takes_the_artefacts_as_they_are(variant: str, tmp_path: Path) -> None:
    home = tmp_path / variant
    shutil.copytree(NGINX_SWITCH.folder / variant, home)
    (home / "listen.inc").write_text("listen 127.0.0.1:1;\n")
    argv = ["nginx", "-t", "-q", "-p", str(home), "-c", "nginx.conf"]
    told = subprocess.run(argv, capture_output=True, text=True)
    # Nobody may have port 1, which is looked at last.
    assert (told.returncode, told.stderr) == (0, "") or "bind() to 127.0.0.1:1" in told.stderr


def test_nginx_does_not_take_what_is_printed(tmp_path: Path) -> None:
    home = tmp_path / "printed"
    shutil.copytree(NGINX_SWITCH.folder / "documented" / "as_printed", home)

    def refused(file: str) -> str:
        argv = ["nginx", "-t", "-p", str(home), "-c", file]
        told = subprocess.run(argv, capture_output=True, text=True)
        assert told.returncode == 1
        return told.stderr

    assert 'unknown directive "event"' in refused("nginx.conf")
    mended = (home / "nginx.conf").read_text().replace("event ", "events ")
    (home / "mended.conf").write_text(mended.replace("/etc/nginx/conf.d/", ""))
    assert "unexpected end of file" in refused("mended.conf")


@BOTH
def test_every_script_is_a_shells(variant: str) -> None:
    for script in (NGINX_SWITCH.folder / variant).rglob("*.sh"):
        shell = "bash" if script.name == "deploy.sh" else "sh"
        assert subprocess.run([shell, "-n", str(script)]).returncode == 0


@BOTH
def test_the_two_slots_take_turns_and_the_old_version_stays(
    engine: ProcessEngine, variant: str
) -> None:
    with raised(variant, engine) as stack:
        assert isinstance(stack, Scripted)
        assert isinstance(stack, Switched)
        assert (stack.instances, stack.spares) == (("was1",), ("was2",))
        for version, live, old in (("v2", "was2", "was1"), ("v3", "was1", "was2")):
            before = stack.running(stack.instances[0])
            deploy(stack, version)
            assert stack.instances == (live,)
            assert [stack.running(live), stack.running(old)] == [version, before]
            assert asked(stack, 4) == [version] * 4


@BOTH
def test_what_the_script_tells_is_marked_when_it_does(engine: ProcessEngine, variant: str) -> None:
    marks: list[tuple[str, object]] = []
    with raised(variant, engine) as stack:
        find("scripted")(stack, "v2", lambda name, /, **about: marks.append((name, about)))
    told = [name for name, _ in marks]
    switch = ["deploy.switch"] if variant == "hardened" else []
    assert told == ["deploy.step.begin", "app.ready", *switch, "deploy.step.end"]
    assert marks[1][1] == {"instance": "was2", "version": "v2"}


@BOTH
def test_a_version_that_does_not_start_leaves_the_users_alone(
    engine: ProcessEngine, variant: str
) -> None:
    with raised(variant, engine, releases={"v2": {"release": "crash"}}) as stack:
        with pytest.raises(DeployFailed, match=r"^script: deploy.sh exited 1: ") as failed:
            deploy(stack, "v2")
        if variant == "hardened":
            assert "was2 has ended before it was ready" in str(failed.value)
        assert asked(stack, 4) == ["v1"] * 4
        assert stack.instances == ("was1",)
        assert stack.running("was1") == "v1"


def test_the_documented_script_deploys_who_is_never_ready_and_the_hardened_does_not(
    engine: ProcessEngine, tmp_path: Path
) -> None:
    releases = {"v2": {"release": "never-ready"}}
    with raised("documented", engine, releases=releases) as stack:
        deploy(stack, "v2")
        assert stack.instances == ("was2",)
    with ProcessEngine(f"{engine.run_id}-2", tmp_path / "2") as other:  # noqa: SIM117
        with raised("hardened", other, releases=releases, scale=0.0) as stack:
            with pytest.raises(DeployFailed, match="undone: was1 has the users"):
                deploy(stack, "v2")
            assert "> was2 is not ready" in said(other)
            assert other.wait(stack.instance("was2"), 5)


def test_the_documented_script_kills_the_server_that_has_the_users(engine: ProcessEngine) -> None:
    with raised("documented", engine, include="prod") as stack:
        assert probe.ask(stack.proxy.port, "/profiles").body == "prod, was1"
        before = stack.instance("was1")
        deploy(stack, "v2")
        assert engine.fate(before)
        assert [stack.running(name) for name in ("was1", "was2")] == ["v2", ""]


def test_the_hardened_script_goes_by_what_nginx_was_told(engine: ProcessEngine) -> None:
    with raised("hardened", engine, include="prod") as stack:
        before = stack.instance("was1")
        deploy(stack, "v2")
        assert not engine.fate(before)
        assert stack.instances == ("was2",)


def test_a_second_deploy_at_the_same_time_is_refused(engine: ProcessEngine) -> None:
    with raised("hardened", engine, releases={"v2": {"boot_seconds": 1.5}}) as stack:
        first = threading.Thread(target=deploy, args=(stack, "v2"))
        first.start()
        probe.until("it has begun", lambda: "" if stack.running("was2") else "not", timeout=20)
        assert again(stack, "v3") == (1, "> another deploy is under way\n")
        first.join()
        assert asked(stack, 4) == ["v2"] * 4
        # The servers it started do not hold the lock.
        assert again(stack, "v3")[0] == 0


def test_a_deploy_that_was_killed_half_way_is_no_trouble_of_the_next(engine: ProcessEngine) -> None:
    # What is killed half way has a long half of it before it.
    with raised("hardened", engine, releases={"v2": {"boot_seconds": 10}}) as stack:
        began = threading.Event()

        def mark(name: str, /, **about: object) -> None:
            if name == "app.ready":
                began.set()

        def killed() -> None:
            with pytest.raises(EngineError, match="killed by SIGKILL"):
                stack.deploy("v2", mark, timeout=30)

        first = threading.Thread(target=killed)
        first.start()
        probe.until("it has begun", lambda: "" if stack.running("was2") else "not", timeout=20)
        for process in reaper.processes():
            if process.labels.get(reaper.RUN) != engine.run_id:
                continue
            with suppress(OSError):  # one of the script's own, a curl say, that has ended
                if Path(f"/proc/{process.pid}/cmdline").read_bytes() == b"bash\0deploy.sh\0":
                    os.kill(process.pid, signal.SIGKILL)
        first.join()
        assert not began.is_set()
        assert asked(stack, 4) == ["v1"] * 4
        left = stack.instance("was2")
        # What it was running, a curl or a sleep, holds the lock until it has ended.
        lock = ["flock", "--wait", "5", str(stack.proxy.home / "deploy.lock"), "true"]
        assert subprocess.run(lock).returncode == 0
        deploy(stack, "v3")
        assert engine.fate(left)
        assert asked(stack, 4) == ["v3"] * 4
        assert stack.instances == ("was2",)


def test_a_fallback_that_has_the_users_is_not_stopped(engine: ProcessEngine) -> None:
    with raised("hardened", engine) as stack:
        deploy(stack, "v2")
        kill("was2").inject(stack)
        assert asked(stack, 4) == ["v1"] * 4
        with pytest.raises(DeployFailed, match="was2 is down and was1 has its users"):
            deploy(stack, "v3")
        assert asked(stack, 4) == ["v1"] * 4
        # What it says has to be done is done, and then it goes.
        stack.weigh({"was1": 100, "was2": 0})
        stack.take(["was1"])
        deploy(stack, "v3")
        assert asked(stack, 4) == ["v3"] * 4


def test_with_nobody_left_there_is_nobody_to_lose(engine: ProcessEngine) -> None:
    with raised("hardened", engine) as stack:
        kill("was1").inject(stack)
        deploy(stack, "v2")
        assert asked(stack, 4) == ["v2"] * 4


def test_users_that_do_not_get_the_new_version_are_given_back(engine: ProcessEngine) -> None:
    with raised("hardened", engine) as stack:
        nowhere = f"http://127.0.0.1:{engine.port()}"
        code, output = again(stack, "v2", URL=nowhere)
        assert code == 1
        assert "> users do not get v2\n> undone: was1 has the users\n" in output
        assert asked(stack, 4) == ["v1"] * 4
        assert stack.weights() == {"was1": 100, "was2": 0}


def test_what_nginx_does_not_take_changes_nothing(engine: ProcessEngine) -> None:
    with raised("hardened", engine) as stack:
        before, workers = (stack.proxy.home / "switch" / "live.inc").read_text(), stack.workers()
        with pytest.raises(EngineError, match="nginx does not take it: users stay where they are"):
            stack.proxy.run("sh", "scripts/switch-serve.sh", "8081=some")
        assert (stack.proxy.home / "switch" / "live.inc").read_text() == before
        assert stack.workers() == workers


@pytest.mark.parametrize(
    ("variant", "weights", "says"),
    [
        ("documented", {"was2": 50}, "service-url.inc names one server"),
        ("documented", {"was1": 0}, "service-url.inc names one server"),
        ("hardened", {"was1": 0}, "no weight above 0"),
        ("hardened", {"was1": 101}, "weight 101 of was1: expected 0 to 100"),
        ("hardened", {"was3": 1}, "weight 1 of was3: expected 0 to 100 of"),
    ],
)
def test_a_weight_that_means_nothing_changes_none(
    engine: ProcessEngine, variant: str, weights: dict[str, int], says: str
) -> None:
    with raised(variant, engine) as stack:
        before = stack.weights()
        with pytest.raises(EngineError, match=says):
            stack.weigh(weights)
        assert stack.weights() == before
        assert asked(stack, 2) == ["v1"] * 2


def test_the_share_of_a_canary_is_exact_from_one_reload_to_the_next(engine: ProcessEngine) -> None:
    with raised("hardened", engine) as stack:
        stack.start("was2", "v2")
        stack.ready("was2")
        stack.weigh({"was1": 95, "was2": 5})
        before = stack.told("was1").answered
        assert asked(stack, 100).count("v2") == 5
        # nginx answers first, and writes it down then.
        for name, count in (("was2", 5), ("was1", before + 95)):
            probe.until(
                f"{count} of {name} in the log",
                lambda name=name, count=count: (
                    "" if (told := stack.told(name).answered) == count else str(told)
                ),
                timeout=10,
            )
        stack.weigh({"was1": 75, "was2": 25})
        assert asked(stack, 40).count("v2") == 10


def test_a_request_is_in_flight_until_it_is_answered(engine: ProcessEngine) -> None:
    with raised("hardened", engine) as stack:
        began = stack.told("was1").answered
        asking = threading.Thread(target=asked, args=(stack, 1, "/2000"))
        asking.start()
        probe.until(
            "in flight", lambda: "" if stack.told("was1").in_flight == 1 else "none", timeout=10
        )
        asking.join()
        probe.until(
            "answered",
            lambda: "" if stack.told("was1").answered == began + 1 else "not",
            timeout=10,
        )
        assert stack.told("was1").in_flight == 0


def test_blue_green_there_and_back_and_a_canary_after_it(engine: ProcessEngine) -> None:
    with raised("hardened", engine) as stack:
        blue_green(keep_old=True)(stack, "v2", silent)
        assert asked(stack, 8) == ["v2"] * 8
        rollback()(stack, "v1", silent)
        assert asked(stack, 8) == ["v1"] * 8
        assert [stack.running(name) for name in ("was1", "was2")] == ["v1", ""]
        canary(watch="100ms", check=lambda stack, name: asked(stack, 20) and "")(
            stack, "v3", silent
        )
        assert asked(stack, 8) == ["v3"] * 8
        assert [stack.running(name) for name in ("was1", "was2")] == ["v3", ""]
        # The script goes on from there.
        deploy(stack, "v4")
        assert asked(stack, 8) == ["v4"] * 8
        assert [stack.running(name) for name in ("was1", "was2")] == ["v3", "v4"]


def test_the_document_s_way_back_is_a_switch(engine: ProcessEngine) -> None:
    with raised("documented", engine) as stack:
        deploy(stack, "v2")
        rollback()(stack, "v1", silent)
        assert asked(stack, 8) == ["v1"] * 8
        assert [stack.running(name) for name in ("was1", "was2")] == ["v1", ""]


@BOTH
def test_the_faults_of_nginx_prove_that_they_came_and_went(
    engine: ProcessEngine, variant: str
) -> None:
    with raised(variant, engine) as stack:
        deploy(stack, "v2")
        worker = stack.workers()
        heal = kill_worker().inject(stack)
        heal()
        assert stack.workers() != worker
        assert asked(stack, 4) == ["v2"] * 4
        heal = broken_config().inject(stack)
        with pytest.raises(EngineError, match="unknown directive"):
            stack.test_config()
        heal()
        stack.test_config()
        heal = kill_balancer().inject(stack)
        # A worker takes a moment longer to go than its master.
        probe.until("nobody", lambda: "" if "refused" in asked(stack, 1)[0] else "yet", timeout=10)
        heal()
        assert asked(stack, 4) == ["v2"] * 4


def test_a_fault_that_took_no_effect_is_an_error(engine: ProcessEngine) -> None:
    with raised("hardened", engine) as stack:
        stack.proxy.test = lambda: None
        with pytest.raises(FaultError, match="broken config not in effect"):
            broken_config().inject(stack)
        assert "no_such_directive" not in stack.config.read_text()
        nobody = 1 << 22  # above what the kernel gives
        for workers, says in (([], "no worker to kill"), ([nobody], "had ended before")):
            stack.proxy.workers = lambda workers=workers: workers
            with pytest.raises(FaultError, match=says):
                kill_worker().inject(stack)


def test_others_have_no_script_and_no_workers(engine: ProcessEngine) -> None:
    custom_lb = topology.find("custom_lb")
    with custom_lb.raised("documented", "v1", engine, boot=0) as stack:
        with pytest.raises(ConfigError, match="this topology cannot do scripted: expected one of"):
            scripted()(stack, "v2", silent)
        for fault in (kill_worker(), broken_config()):
            with pytest.raises(ConfigError, match=f"^{fault.name}: this stack"):
                fault.check(stack)


def test_a_script_that_takes_too_long_is_ended(engine: ProcessEngine) -> None:
    with raised("documented", engine) as stack:
        stack.slots._settings["boot_seconds"] = 20
        began = time.monotonic()
        with pytest.raises(EngineError, match=r"^deploy.sh still ran after 500ms"):
            stack.deploy("v2", silent, timeout=0.5)
        assert time.monotonic() - began < 5
        assert asked(stack, 2) == ["v1"] * 2
