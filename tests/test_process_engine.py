from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from zdtest.engine import Instance, probe, reaper
from zdtest.engine.process import ProcessEngine
from zdtest.errors import EngineError

Events = list[tuple[str, dict[str, object]]]

ECHO = [sys.executable, "-m", "zdtest.engine.echo"]


@pytest.fixture
def run_id() -> str:
    return f"test-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def events() -> Events:
    return []


@pytest.fixture
def engine(run_id: str, tmp_path: Path, events: Events) -> Iterator[ProcessEngine]:
    with ProcessEngine(run_id, tmp_path, on_event=lambda n, **a: events.append((n, a))) as engine:
        yield engine


def labelled(run_id: str) -> list[int]:
    return [one.pid for one in reaper.processes() if one.labels.get(reaper.RUN) == run_id]


def shown(run_id: str, count: int) -> list[int]:
    """Return them once there are so many: the kernel shows a program's environment a moment after
    it was started."""
    probe.until(run_id, lambda: "" if len(labelled(run_id)) == count else "too few", timeout=5)
    return labelled(run_id)


def test_a_process_ends_with_the_context(run_id: str, tmp_path: Path) -> None:
    with ProcessEngine(run_id, tmp_path) as engine:
        pid = engine.start("app", ["sleep", "60"]).pid
        assert shown(run_id, 1) == [pid]
    assert labelled(run_id) == []


def test_a_daemon_that_left_its_session_ends_with_the_context(run_id: str, tmp_path: Path) -> None:
    with ProcessEngine(run_id, tmp_path) as engine:
        engine.run("script", ["sh", "-c", "nohup sleep 60 & setsid -f sleep 60"])
        assert len(shown(run_id, 2)) == 2
    assert labelled(run_id) == []


def test_the_context_ends_everything_when_its_reaper_was_killed(
    run_id: str, tmp_path: Path
) -> None:
    with ProcessEngine(run_id, tmp_path) as engine:
        engine.start("app", ["sleep", "60"])
        engine._reaper.kill()
        engine._reaper.wait()
        engine.start("another", ["sleep", "60"])
        assert len(shown(run_id, 2)) == 2
    assert labelled(run_id) == []


def test_who_is_missed_by_one_look_is_found_by_the_next(
    run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the midst of an exec it has no label."""
    child = subprocess.Popen(["sleep", "60"], env={**os.environ, reaper.RUN: run_id})
    assert shown(run_id, 1) == [child.pid]
    look, looks = reaper.processes, []

    def but_the_first() -> Iterator[reaper.Process]:
        looks.append(1)
        return iter(()) if len(looks) == 1 else look()

    monkeypatch.setattr(reaper, "processes", but_the_first)
    assert reaper.end_run(run_id) == []
    assert child.wait(5) == -signal.SIGKILL


def test_an_error_in_the_context_goes_on_and_everything_ends(run_id: str, tmp_path: Path) -> None:
    def failing() -> None:
        with ProcessEngine(run_id, tmp_path) as engine:
            engine.start("app", ["sleep", "60"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert labelled(run_id) == []


def test_output_goes_to_the_log_and_a_restart_has_its_own(
    engine: ProcessEngine, tmp_path: Path
) -> None:
    first = engine.run("app", ["sh", "-c", "echo one; echo oops >&2"])
    second = engine.run("app", ["sh", "-c", "seq 30"])
    assert engine.logs(first, tail=2**20).startswith("one\noops\n")
    assert engine.logs(second).splitlines() == [str(n) for n in range(11, 31)]
    assert (tmp_path / "logs" / "app.log").read_text().startswith("one\noops\n1\n")


def test_stop_is_sigterm_and_after_the_grace_sigkill(engine: ProcessEngine) -> None:
    polite = engine.start("polite", ["sleep", "60"])
    engine.stop(polite)
    assert engine.fate(polite) == "killed by SIGTERM"
    deaf = engine.start("deaf", ["sh", "-c", "trap '' TERM; echo up; sleep 60; sleep 60"])
    probe.until("deaf", lambda: "" if engine.logs(deaf) else "silent", timeout=5)
    engine.stop(deaf, grace=0.1)
    assert engine.fate(deaf) == "killed by SIGKILL"


def test_kill_takes_the_children_of_an_instance_along(engine: ProcessEngine, run_id: str) -> None:
    parent = engine.start("app", ["sh", "-c", "sleep 60 & echo up; wait"])
    probe.until("app", lambda: "" if engine.logs(parent) else "silent", timeout=5)
    engine.kill(parent)
    probe.until("none", lambda: str(labelled(run_id) or ""), timeout=2)


def test_a_stopped_process_does_not_move_until_it_is_continued(engine: ProcessEngine) -> None:
    app = engine.start("app", [*ECHO, "0"])
    probe.until("port", lambda: "" if engine.logs(app) else "silent", timeout=5)
    port = int(engine.logs(app))
    engine.signal(app, "STOP")
    assert "timed out" in str(probe.ask(port, "/", timeout=0.2))
    engine.signal(app, "CONT")
    assert isinstance(probe.ask(port, "/"), probe.Reply)


def test_a_signal_to_what_has_ended_does_nothing(engine: ProcessEngine, events: Events) -> None:
    app = engine.run("app", ["true"])
    engine.signal(app, "TERM")
    engine.kill(app)
    engine.stop(app)
    assert "process.term" not in [name for name, _ in events]


def test_the_end_of_a_process_is_an_event_when_it_comes(
    engine: ProcessEngine, events: Events
) -> None:
    began = time.monotonic()
    app = engine.start("a", ["sh", "-c", "exit 3"], version="v1")
    assert engine.wait(app, 5)
    probe.until("event", lambda: "" if len(events) == 2 else str(events), timeout=5)
    assert began < float(str(events[1][1].pop("happened"))) < time.monotonic()
    assert events == [
        ("app.started", {"instance": "a", "version": "v1", "pid": app.pid}),
        ("app.stopped", {"instance": "a", "version": "v1", "exit": "exited 3"}),
    ]


def test_a_process_that_exits_at_once_is_told_with_its_output(engine: ProcessEngine) -> None:
    app = engine.start("a", ["sh", "-c", "echo no such database; exit 3"], version="v1")
    began = time.monotonic()
    with pytest.raises(EngineError) as told:
        probe.serves(engine, app, engine.port(), "/ready", timeout=30)
    assert str(told.value) == "a exited 3 before it was ready\nno such database"
    assert time.monotonic() - began < 5


def test_a_server_that_never_gets_ready_is_told_with_its_last_state(engine: ProcessEngine) -> None:
    app = engine.start("a", ["sh", "-c", "echo booting; sleep 60"], version="v1")
    probe.until("a", lambda: "" if engine.logs(app) else "silent", timeout=5)
    port = engine.port()
    with pytest.raises(EngineError) as told:
        probe.serves(engine, app, port, "/ready", timeout=0.2)
    first, state, output = str(told.value).splitlines()
    assert first == f"a ready on port {port}: not within 200ms"
    assert "refused" in state
    assert output == "booting"


def test_a_server_whose_port_is_taken_is_told_with_its_output(engine: ProcessEngine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        app = engine.start("echo", [*ECHO, str(port)])
        assert engine.wait(app, 10)
        with pytest.raises(EngineError, match=r"(?s)^echo exited 1 .*address already in use"):
            probe.serves(engine, app, port, "/")


@pytest.mark.parametrize(
    ("argv", "cwd"), [(["no-such-command"], None), (["true"], Path("/no/such/folder"))]
)
def test_what_cannot_be_started_is_named(
    engine: ProcessEngine, argv: list[str], cwd: Path | None
) -> None:
    with pytest.raises(
        EngineError, match=r"^cannot start app: No such file or directory: .*no.such"
    ):
        engine.start("app", argv, cwd=cwd)


def test_a_script_that_fails_or_hangs_is_told_with_its_output(engine: ProcessEngine) -> None:
    with pytest.raises(EngineError, match=r"(?s)^deploy exited 4\nhalf way"):
        engine.run("deploy", ["sh", "-c", "echo half way; exit 4"])
    with pytest.raises(EngineError, match=r"(?s)^deploy still ran after 1.5s\nhanging"):
        engine.run("deploy", ["sh", "-c", "echo hanging; sleep 60"], timeout=1.5)


def test_only_a_process_of_this_run_is_adopted(engine: ProcessEngine) -> None:
    script = engine.run("script", ["sh", "-c", "sleep 60 >/dev/null & echo $!"])
    app = engine.adopt("app", int(engine.logs(script)), beside=script, version="v1")
    assert engine.fate(app) == ""
    engine.kill(app)
    assert engine.fate(app) == "ended"
    with pytest.raises(EngineError, match=r"^app is no process of this run"):
        engine.adopt("app", os.getpid(), beside=script)
    with pytest.raises(EngineError, match=r"^app has ended"):
        engine.adopt("app", app.pid, beside=script)


def test_one_in_the_midst_of_an_exec_is_adopted_all_the_same(
    engine: ProcessEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no environment for a moment, and so no label."""
    script = engine.run("script", ["sh", "-c", "sleep 60 >/dev/null & echo $!"])
    find, asked = reaper.find, []

    def in_the_midst(pid: int) -> reaper.Process | None:
        asked.append(pid)
        found = find(pid)
        return found._replace(labels={}) if found and len(asked) < 3 else found

    monkeypatch.setattr(reaper, "find", in_the_midst)
    app = engine.adopt("app", int(engine.logs(script)), beside=script)
    assert len(asked) >= 3
    engine.kill(app)


def test_the_control_server_answers_kept_closed_and_pipelined_requests(
    engine: ProcessEngine,
) -> None:
    port = engine.port()
    probe.serves(engine, engine.start("echo", [*ECHO, str(port)]), port, "/")
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 2\r\n")
        client.sendall(b"\r\nhi")
        client.sendall(b"GET / HTTP/1.1\r\nconnection: CLOSE\r\n\r\n")
        got = b""
        while part := client.recv(4096):
            got += part
    assert got.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert got.count(b"\r\n\r\nok") == 3
    assert got.count(b"Connection: close") == 1


_MASTER = """
import os, sys, time
for number in range(3):
    if os.fork() == 0:
        while True:
            open(f"{sys.argv[1]}-{number}", "a").write(".")
            time.sleep(0.01)
open(f"{sys.argv[1]}.up", "w").close()
while True:
    time.sleep(1)
"""
"""A server that works in three children."""


def adopted(engine: ProcessEngine, tmp_path: Path, start: str) -> Instance:
    """Return the master that a script started by the words in `start`, and left running."""
    (tmp_path / "master.py").write_text(_MASTER)
    up = tmp_path / "work.up"
    up.unlink(missing_ok=True)
    words = f"{start} {sys.executable} {tmp_path}/master.py {tmp_path}/work"
    script = engine.run("script", ["sh", "-c", f"{words} >/dev/null 2>&1 & echo $!"])
    probe.until("it is up", lambda: "" if up.exists() else "not yet", timeout=10)
    probe.until("it works", lambda: "" if all(works(tmp_path)) else "not yet", timeout=10)
    return engine.adopt("app", int(engine.logs(script)), beside=script, version="v1")


def works(tmp_path: Path) -> list[bool]:
    """Return which of its children go on working."""
    files = [tmp_path / f"work-{number}" for number in range(3)]
    before = [written(file) for file in files]
    time.sleep(0.2)
    return [written(file) > size for file, size in zip(files, before, strict=True)]


def written(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def test_an_adopted_leader_is_frozen_with_all_of_its_group(
    engine: ProcessEngine, tmp_path: Path
) -> None:
    app = adopted(engine, tmp_path, "exec setsid")
    assert not engine.frozen(app)
    engine.signal(app, "STOP")
    probe.until("frozen", lambda: "" if engine.frozen(app) else "not yet", timeout=5)
    assert works(tmp_path) == [False] * 3
    engine.signal(app, "CONT")
    assert not engine.frozen(app)
    probe.until("it works", lambda: "" if all(works(tmp_path)) else "not yet", timeout=10)


def test_an_adopted_leader_is_killed_with_all_of_its_group(
    engine: ProcessEngine, tmp_path: Path
) -> None:
    app = adopted(engine, tmp_path, "exec setsid")
    engine.kill(app)
    probe.until("all gone", lambda: " ".join(map(str, reaper.group(app.pid))), timeout=2)


def test_one_that_leads_no_group_takes_nobody_of_it_along(
    engine: ProcessEngine, tmp_path: Path
) -> None:
    """Its group is the script's, and may hold whatever else that started."""
    app = adopted(engine, tmp_path, "sleep 60 & exec")
    others = {pid for pid in shown(engine.run_id, 5) if pid != app.pid}
    engine.signal(app, "STOP")
    probe.until("stopped", lambda: "" if reaper.state(app.pid) == "T" else "not yet", timeout=5)
    assert [reaper.state(pid) for pid in others].count("T") == 0
    assert not engine.frozen(app), "its children work"
    engine.kill(app)
    assert {pid for pid in others if reaper.find(pid)} == others


def test_where_one_worker_goes_on_it_is_not_frozen(engine: ProcessEngine, tmp_path: Path) -> None:
    app = adopted(engine, tmp_path, "exec setsid")
    engine.signal(app, "STOP")
    probe.until("frozen", lambda: "" if engine.frozen(app) else "not yet", timeout=5)
    worker = next(pid for pid in reaper.group(app.pid) if pid != app.pid)
    os.kill(worker, signal.SIGCONT)
    assert not engine.frozen(app)


def test_who_gets_the_number_of_a_group_that_is_gone_is_not_signalled(
    engine: ProcessEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told of a stranger's process as one of the group, when the leader has ended meanwhile."""
    app = adopted(engine, tmp_path, "exec setsid")
    watched = engine._watched[app]
    stranger = engine.start("stranger", ["sleep", "60"])

    def ends_meanwhile(number: int) -> Iterator[int]:
        os.kill(app.pid, signal.SIGKILL)
        probe.until("ended", lambda: "lives" if watched._lives() else "", timeout=5)
        yield stranger.pid

    monkeypatch.setattr(reaper, "group", ends_meanwhile)
    engine.signal(app, "KILL")
    assert not engine.wait(stranger, 0.3)


def test_the_family_of_a_process_is_its_group_or_what_it_started(
    engine: ProcessEngine, tmp_path: Path
) -> None:
    app = adopted(engine, tmp_path, "sleep 60 & exec")
    assert len(reaper.family(app.pid)) == 4
    assert len(reaper.family(adopted(engine, tmp_path, "exec setsid").pid)) == 4
    assert reaper.family(2**22 + 1) == {}
