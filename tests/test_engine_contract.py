"""What every engine does: the same tests over plain processes and over containers."""

from __future__ import annotations

import json
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from docker_engine import lent

from zdtest.engine import Containers, Engine, Instance, probe, reaper, remains
from zdtest.engine.offer import Docker
from zdtest.engine.process import ProcessEngine
from zdtest.errors import EngineError
from zdtest.topologies import SAMPLE_APP, app

KINDS = ["process", pytest.param("docker", marks=pytest.mark.docker)]


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    with lent() as found:
        yield found


@dataclass
class Bench:
    """An engine, what it said, and how to raise it again."""

    kind: str
    run_id: str
    folder: Path
    docker: Docker | None
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def raised(self, tidy: ExitStack) -> Engine:
        def hear(name: str, /, **about: object) -> None:
            self.events.append((name, {"happened": time.monotonic(), **about}))

        host = tidy.enter_context(ProcessEngine(self.run_id, self.folder, on_event=hear))
        if not self.docker:
            return host
        from zdtest.engine.docker import DockerEngine

        there = DockerEngine(host, self.docker.address, self.docker.images, on_event=hear)
        return tidy.enter_context(there)

    def left(self) -> list[str]:
        """What of the run is still there."""
        left = [
            f"pid {p.pid}" for p in reaper.processes() if p.labels.get(reaper.RUN) == self.run_id
        ]
        if self.docker:
            left += [f"{r.kind}" for r in remains.remnants(self.docker.address, self.run_id)]
        return left

    def told(self, *names: str) -> list[tuple[str, object]]:
        """Who was said to do these, in the order in which it came to be."""
        # What an engine of containers says is heard by a thread, after the end itself at times.
        said = [(name, about) for name, about in self.events if name in names]
        said.sort(key=lambda one: (one[1]["happened"], names.index(one[0])))
        return [(name, about.get("instance")) for name, about in said]


@pytest.fixture(params=KINDS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    docker = request.getfixturevalue("docker") if request.param == "docker" else None
    return Bench(request.param, f"test-{uuid.uuid4().hex[:8]}", tmp_path, docker)


@pytest.fixture
def engine(bench: Bench) -> Iterator[Engine]:
    with ExitStack() as tidy:
        yield bench.raised(tidy)


def started(engine: Engine, name: str = "a", version: str = "v1", **settings: object) -> Instance:
    """Return the sample app, started on a port of its own."""
    port = engine.port()
    journal = engine.folder / "journal.jsonl"
    env = app(port, name, version, journal, **settings)
    one = engine.start(name, SAMPLE_APP, env=env, version=version)
    PORTS[one] = port
    return one


PORTS: dict[Instance, int] = {}


def serving(engine: Engine, name: str = "a", version: str = "v1", **settings: object) -> Instance:
    one = started(engine, name, version, **settings)
    probe.serves(engine, one, PORTS[one], "/ready")
    return one


def journal(engine: Engine) -> list[dict[str, Any]]:
    lines = (engine.folder / "journal.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def until(what: str, done: Any, timeout: float = 20.0) -> None:
    probe.until(what, lambda: "" if done() else "not yet", timeout=timeout)


def test_a_started_instance_serves_its_version_on_loopback_alone(engine: Engine) -> None:
    one = serving(engine, version="v7")
    reply = probe.ask(PORTS[one], "/api")
    assert isinstance(reply, probe.Reply)
    assert (reply.status, reply.version) == (200, "v7")
    assert listening_on(PORTS[one]) == {"127.0.0.1"}


def listening_on(port: int) -> set[str]:
    """The addresses of this machine at which the port is open, as the kernel lists them."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            address, _, number = local.rpartition(":")
            if state == "0A" and int(number, 16) == port:
                found.add(socket.inet_ntoa(bytes.fromhex(address[:8])[::-1]))
    return found


def test_its_pid_and_its_clock_are_this_machines(engine: Engine) -> None:
    before = time.monotonic()
    one = serving(engine)
    assert reaper.began(one.pid) == one.began
    (ready,) = [line for line in journal(engine) if line["event"] == "ready"]
    assert before < ready["t"] < time.monotonic()


def test_sigterm_is_told_and_the_app_ends_in_its_own_way(engine: Engine, bench: Bench) -> None:
    one = serving(engine, shutdown="graceful", drain_seconds=0.2)
    engine.stop(one, grace=10)
    assert engine.fate(one) == "exited 0"
    until("both are told", lambda: len(bench.told("app.term", "app.stopped")) == 2)
    assert bench.told("app.started", "app.term", "app.stopped") == [
        ("app.started", "a"),
        ("app.term", "a"),
        ("app.stopped", "a"),
    ]
    assert [line["event"] for line in journal(engine)][-3:] == ["term", "draining", "stopped"]


def test_what_ignores_sigterm_is_killed_after_the_grace(engine: Engine) -> None:
    one = serving(engine, release="ignores-term")
    began = time.monotonic()
    engine.stop(one, grace=0.5)
    assert 0.5 <= time.monotonic() - began < 5
    assert engine.fate(one) in ("killed by SIGKILL", "exited 137")


def test_kill_is_at_once_and_its_output_stays(engine: Engine) -> None:
    one = engine.start("deaf", ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"])
    until("output", lambda: engine.logs(one))
    assert not engine.wait(one, 0.05)
    engine.kill(one)
    assert engine.wait(one, 0)
    assert engine.fate(one) in ("killed by SIGKILL", "exited 137")
    assert engine.logs(one) == "up"
    assert (engine.folder / "logs" / "deaf.log").read_text() == "up\n"


def test_what_ends_by_itself_tells_how_and_what_it_said(engine: Engine, bench: Bench) -> None:
    one = engine.start("short", ["sh", "-c", "echo said; exit 3"], version="v1")
    assert engine.wait(one, 20)
    assert engine.fate(one) == "exited 3"
    assert engine.logs(one) == "said"
    until("the end is told", lambda: bench.told("app.stopped"))
    (about,) = [about for name, about in bench.events if name == "app.stopped"]
    assert about["exit"] == "exited 3"


def test_one_that_never_becomes_ready_is_an_error_with_its_output(engine: Engine) -> None:
    one = started(engine, release="crash", boot_seconds=0.1)
    with pytest.raises(EngineError, match="a exited 1 before it was ready"):
        probe.serves(engine, one, PORTS[one], "/ready")


def test_a_restart_is_another_instance_with_output_of_its_own(engine: Engine) -> None:
    first = engine.start("app", ["sh", "-c", "echo one"])
    assert engine.wait(first, 20)
    second = engine.start("app", ["sh", "-c", "echo two"])
    assert engine.wait(second, 20)
    assert first != second
    assert (engine.logs(first), engine.logs(second)) == ("one\ntwo", "two")


def test_frozen_answers_nothing_until_it_is_thawed(engine: Engine) -> None:
    one = serving(engine)
    engine.signal(one, "STOP")
    until("frozen", lambda: engine.frozen(one))
    assert "timed out" in str(probe.ask(PORTS[one], "/ready", timeout=0.3))
    engine.signal(one, "CONT")
    until("thawed", lambda: not engine.frozen(one))
    assert isinstance(probe.ask(PORTS[one], "/ready", timeout=10), probe.Reply)


def test_what_is_executed_beside_an_instance_prints_or_fails(engine: Engine) -> None:
    one = serving(engine)
    assert engine.execute(one, ["sh", "-c", "echo inside"]).strip() == "inside"
    with pytest.raises(EngineError, match=r"(?s)exited 3.*why"):
        engine.execute(one, ["sh", "-c", "echo why; exit 3"])
    engine.kill(one)
    with pytest.raises(EngineError, match="cannot run true"):
        engine.execute(one, ["true"])


def test_no_such_command_is_an_error_that_names_it(engine: Engine) -> None:
    with pytest.raises(EngineError, match="nosuchcommand"):
        engine.start("app", ["nosuchcommand"])


def test_two_instances_share_a_journal_and_its_keys(engine: Engine) -> None:
    serving(engine, "a")
    serving(engine, "b")
    assert {line["instance"] for line in journal(engine)} == {"a", "b"}


def test_a_script_runs_on_this_machine_and_its_failure_is_an_error(engine: Engine) -> None:
    one = engine.run("deploy", ["sh", "-c", "echo $0 done", sys.executable])
    assert engine.logs(one) == f"{sys.executable} done"
    with pytest.raises(EngineError, match=r"(?s)deploy exited 7.*why"):
        engine.run("deploy", ["sh", "-c", "echo why; exit 7"])


def test_nothing_is_left_when_the_context_ends(bench: Bench) -> None:
    with ExitStack() as tidy:
        engine = bench.raised(tidy)
        serving(engine)
        frozen = serving(engine, "b")
        engine.signal(frozen, "STOP")
        assert bench.left()
    assert bench.left() == []


def test_an_error_in_the_context_goes_on_and_nothing_is_left(bench: Bench) -> None:
    def failing() -> None:
        with ExitStack() as tidy:
            started(bench.raised(tidy))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert bench.left() == []


@pytest.mark.docker
def test_that_it_was_told_to_end_is_told_though_it_is_heard_after_the_end(
    docker: Docker, tmp_path: Path
) -> None:
    bench = Bench("docker", f"test-{uuid.uuid4().hex[:8]}", tmp_path, docker)
    with ExitStack() as tidy:
        engine: Any = bench.raised(tidy)
        one = serving(engine)
        with engine._known:  # whoever hears what the engine says is held up
            engine.stop(one, grace=20)
            until("its end is told", lambda: bench.told("app.stopped"))
            assert not bench.told("app.term")
        until("both are told", lambda: bench.told("app.term"))
        assert bench.told("app.term", "app.stopped") == [("app.term", "a"), ("app.stopped", "a")]


@pytest.mark.docker
def test_the_images_a_run_used_are_told(docker: Docker, tmp_path: Path) -> None:
    bench = Bench("docker", f"test-{uuid.uuid4().hex[:8]}", tmp_path, docker)
    with ExitStack() as tidy:
        engine = bench.raised(tidy)
        assert isinstance(engine, Containers)
        assert engine.used() == []
        serving(engine)  # type: ignore[arg-type]
        (used,) = engine.used()
    assert set(used) == {"name", "version", "tag", "id", "size"}
    assert used["tag"] == docker.images.get("app").tag
