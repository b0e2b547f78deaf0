from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from zdtest.engine import kept, probe, reaper
from zdtest.engine.process import ProcessEngine
from zdtest.errors import EngineError

ROOT = Path(__file__).parent.parent

RUNNER = """
import sys, time
from pathlib import Path
from zdtest.engine.process import ProcessEngine
with ProcessEngine(sys.argv[1], Path(sys.argv[2])) as engine:
    engine.start("app", ["sleep", "60"])
    engine.start("deaf", ["sh", "-c", "trap '' TERM HUP; sleep 60; sleep 60"])
    engine.run("daemon", ["sh", "-c", "nohup sleep 60 & setsid -f sleep 60"])
    # As nginx does: its title overwrites the labels. Only its session tells whose it is.
    engine.start("titled", ["env", "-i", "sleep", "60"])
    print("up", flush=True)
    time.sleep(60)
"""

KEEPER = """
import sys
from pathlib import Path
from zdtest.engine.process import ProcessEngine
with ProcessEngine(sys.argv[1], Path(sys.argv[2]), kept=True) as engine:
    print(engine.start("app", ["sleep", "60"]).pid)
    engine.leave(url="http://here")
"""


@pytest.fixture
def run_id() -> str:
    return f"test-{uuid.uuid4().hex[:8]}"


def labelled(run_id: str) -> list[int]:
    return [one.pid for one in reaper.processes() if one.labels.get(reaper.RUN) == run_id]


def sessions_of(run_id: str) -> set[int]:
    return {one.session for one in reaper.processes() if one.labels.get(reaper.RUN) == run_id}


def dead_identity() -> str:
    with subprocess.Popen(["true"]) as child:
        return f"{child.pid}:{reaper.began(child.pid)}"


def leftover(run_id: str, owner: str, **labels: str) -> subprocess.Popen[bytes]:
    env = {**os.environ, reaper.RUN: run_id, reaper.OWNER: owner, **labels}
    return subprocess.Popen(["sleep", "60"], env=env, start_new_session=True)


def ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        return process.wait(timeout=2) == -9
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False


def test_nothing_outlives_a_runner_killed_with_sigkill(run_id: str, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", RUNNER, run_id, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=ROOT) as runner:
        assert runner.stdout
        assert runner.stdout.readline() == b"up\n"
        # Who is told to have a session of its own may not have got it yet.
        probe.until("all", lambda: "" if len(sessions_of(run_id)) >= 4 else "not", timeout=5)
        sessions = sessions_of(run_id)
        children = Path(f"/proc/{runner.pid}/task/{runner.pid}/children").read_text().split()
        runner.kill()
        killed = time.monotonic()
    own = {int(pid) for pid in children} | sessions

    def alive() -> str:
        left = [one for one in reaper.processes() if one.pid in own or one.session in own]
        return " ".join(str(one.pid) for one in left)

    probe.until("nothing left", alive, timeout=2)
    assert time.monotonic() - killed < 2
    assert labelled(run_id) == []


@pytest.mark.alone  # a session that begins beside it sweeps, too, and is first at times
def test_a_sweep_ends_what_a_dead_owner_left_and_nothing_else(run_id: str) -> None:
    me = f"{os.getpid()}:{reaper.began(os.getpid())}"
    dead = dead_identity()
    left = leftover(run_id, dead)
    owned = leftover(f"{run_id}-owned", me)
    stack = leftover(f"{run_id}-kept", dead, **{reaper.KEPT: "1"})
    unlabelled = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        swept = reaper.sweep()
        assert run_id in swept
        assert ended(left)
        assert [one.poll() for one in (owned, stack, unlabelled)] == [None] * 3
        assert not {f"{run_id}-owned", f"{run_id}-kept"} & set(swept)
    finally:
        for one in (owned, stack, unlabelled):
            one.kill()
            one.wait()


def test_an_owner_that_is_a_zombie_is_dead() -> None:
    with subprocess.Popen(["true"]) as child:
        identity = f"{child.pid}:{reaper.began(child.pid)}"
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not reaper.alive(identity)


def test_a_pid_that_was_given_to_another_process_is_not_its_owner() -> None:
    pid = os.getpid()
    assert reaper.alive(f"{pid}:{reaper.began(pid)}")
    assert not reaper.alive(f"{pid}:{reaper.began(pid) - 1}")
    assert not reaper.alive("")


def test_a_kept_stack_goes_on_until_it_is_taken_down(run_id: str, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", KEEPER, run_id, str(tmp_path)]
    pid = int(subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, timeout=30).stdout)
    assert labelled(run_id) == [pid]
    assert run_id not in reaper.sweep()
    assert [about["url"] for about in kept.kept() if about["run"] == run_id] == ["http://here"]
    assert kept.down(run_id) == [run_id]
    assert labelled(run_id) == []
    assert run_id not in [about["run"] for about in kept.kept()]


def test_a_stack_that_is_meant_to_be_kept_ends_when_it_did_not_come_up(
    run_id: str, tmp_path: Path
) -> None:
    def up() -> None:
        with ProcessEngine(run_id, tmp_path, kept=True) as engine:
            engine.start("app", ["sleep", "60"])
            raise EngineError("did not come up")

    with pytest.raises(EngineError, match="did not come up"):
        up()
    assert labelled(run_id) == []


def test_an_engine_that_keeps_nothing_cannot_be_left(run_id: str, tmp_path: Path) -> None:
    with (
        ProcessEngine(run_id, tmp_path) as engine,
        pytest.raises(EngineError, match="expected an engine with kept=True"),
    ):
        engine.leave()


def test_the_reaper_starts_in_no_time() -> None:
    # It imports nothing of ours: only what this says may be loaded.
    code = "import sys; sys.path.insert(0, sys.argv[1]); import reaper; print(*sys.modules)"
    folder = Path(reaper.__file__).parent
    argv = [sys.executable, "-I", "-S", "-c", code, str(folder)]
    loaded = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
    assert "reaper" in loaded
    assert not {"zdtest", "subprocess", "asyncio", "inspect", "json", "threading"} & set(loaded)
