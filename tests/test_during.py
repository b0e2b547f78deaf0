"""`zdtest during` on somebody's own stack: real processes, real signals."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_stack import LENIENT, QUICK, ended, left_of, serving, start, until

from zdtest.engine import reaper
from zdtest.records.recording import Recording


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as url:
        yield url


def measuring(url: str, folder: Path, *command: object, options=(), env=None, **more):
    """Start a measurement in `folder`; a second word of the same option wins."""
    words = ["during", "--url", url, *QUICK, "--slo", LENIENT, "--out", folder, *options]
    words += ["--", *command] if command else []
    return start(*words, cwd=folder.parent, env=env, **more)


def shell(text: str) -> tuple[str, ...]:
    return ("sh", "-c", text)


def marks(folder: Path) -> list[str]:
    return [event["mark"] for event in events(folder)]


def events(folder: Path) -> list[dict]:
    path = folder / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def verdict(folder: Path) -> dict:
    return json.loads((folder / "verdict.json").read_text())


def sends(folder: Path) -> bool:
    news = folder / "logs" / "load.jsonl"
    return news.exists() and re.search(r'"done": [1-9]', news.read_text()) is not None


def alive(pid: int) -> bool:
    return reaper.find(pid) is not None


RELOAD = ("--slo", f"{LENIENT},stale=none")
"""The version stays what it is."""
CASES = {
    "deploys": (
        # It leaves something running that goes on to print, as deploy scripts do.
        shell(
            "printf 'half a line '; sleep 0.4; echo and the rest; printf '\\303\\244\\n' >&2; "
            "(for i in $(seq 999); do sleep 0.3; echo alive; done) & echo $! > daemon.pid; "
            "sleep 0.6"
        ),
        RELOAD,
    ),
    # It lasts long enough for requests to fall into it.
    "fails": (shell("echo doing; sleep 0.3; echo oops >&2; exit 7"), ()),
    "aborts": (shell("sleep 0.5; exit 7"), ("--slo", f"{LENIENT},deploy=aborted")),
    "never ends": (
        shell("sleep 30"),
        ("--slo", f"{LENIENT},deploy=aborted", "--command-timeout", "1s"),
    ),
    "does not abort": (shell("sleep 0.5"), ("--slo", f"{LENIENT},deploy=aborted")),
}


@pytest.fixture(scope="module")
def runs(url, tmp_path_factory) -> Iterator[dict[str, tuple[Path, int, str, str]]]:
    """The runs of `CASES`, side by side, when all have ended."""
    parent = tmp_path_factory.mktemp("runs")
    started = {
        name: measuring(url, parent / name, *command, options=options)
        for name, (command, options) in CASES.items()
    }
    yield {
        name: (parent / name, *ended(process, parent / name)) for name, process in started.items()
    }
    daemon = int((parent / "daemon.pid").read_text())
    with contextlib.suppress(ProcessLookupError):  # it ends by itself after five minutes
        os.kill(daemon, signal.SIGKILL)


def test_a_deploy_that_loses_nothing_holds(runs):
    folder, code, out, err = runs["deploys"]
    assert (code, err) == (0, "")
    assert verdict(folder)["verdict"] == "holds"
    assert verdict(folder)["requests"] > 100
    assert "HOLDS" in out
    assert f"report   {folder}/report.html" in out
    assert re.search(r"\nreplies  \d+ × 200\n", out)
    assert (folder / "report.html").exists()


def test_the_commands_output_is_shown_and_kept(runs):
    folder, _, out, _ = runs["deploys"]
    assert out.startswith("half a line and the rest\nä\n")
    log = (folder / "logs" / "command.log").read_text()
    assert log.startswith("half a line and the rest\nä\n")


def test_what_the_command_left_running_runs_and_prints_on(runs):
    folder = runs["deploys"][0]
    log = folder / "logs" / "command.log"
    size = log.stat().st_size
    until(lambda: log.stat().st_size > size)
    assert alive(int((folder.parent / "daemon.pid").read_text()))


def test_a_failing_command_is_4_with_its_output_and_the_verdict(runs):
    folder, code, out, err = runs["fails"]
    assert code == 4
    assert err.startswith("zdtest: the command exited 7: sh -c")
    assert err.endswith("doing\noops\n")
    assert "0 of " in out
    judged = verdict(folder)
    assert judged["verdict"] == "inconclusive"
    assert judged["reasons"][0].startswith("inconclusive: the deploy failed: ")
    assert json.loads((folder / "manifest.json").read_text())["command"] == [*CASES["fails"][0]]


def test_a_command_that_has_to_fail_and_does_is_0_where_nobody_noticed(runs):
    folder, code, out, _ = runs["aborts"]
    assert (code, verdict(folder)["verdict"]) == (0, "holds"), out


def test_a_command_that_we_have_to_end_proves_nothing(runs):
    _, code, out, _ = runs["never ends"]
    assert code == 3
    assert "nobody gave the deploy up, we ended it: the command still ran after 1s" in out


def test_a_command_that_has_to_fail_and_does_not_is_1(runs):
    _, code, out, _ = runs["does not abort"]
    assert code == 1
    assert "the deploy was done, promised was that it is aborted" in out


PHASES = {
    "starting": lambda folder: "process.started" in marks(folder),
    "baseline": sends,
    "deploy": lambda folder: (
        "command" in str(*(folder / "logs").glob("command.log"))
        and b"begun" in (folder / "logs" / "command.log").read_bytes()
    ),
    "settle": lambda folder: "deploy.end" in marks(folder),
}


@pytest.fixture(scope="module")
def stopped(url, tmp_path_factory) -> dict[str, tuple[Path, int, str, str]]:
    """Runs that were told to stop, each in another phase; the deploy's by SIGTERM, then SIGINT."""
    parent = tmp_path_factory.mktemp("stopped")
    # Longer than it takes until each of them has been told, one after the other.
    slow = shell("trap 'echo told TERM; sleep 0.5; exit 3' TERM; echo begun; sleep 90 & wait")
    long = ("--baseline", "90s", "--settle", "90s")
    plans = {
        "starting": ((), (*long, "--duration", "90s"), signal.SIGINT),
        "baseline": ((), (*long, "--duration", "90s"), signal.SIGINT),
        "deploy": (slow, long[2:], signal.SIGTERM),
        "settle": (("true",), long[2:], signal.SIGINT),
    }
    started = {
        name: measuring(url, parent / name, *command, options=options)
        for name, (command, options, _) in plans.items()
    }
    # Those that are told early first: the others wait for nobody.
    for name, process in started.items():
        until(lambda name=name: PHASES[name](parent / name))
        process.send_signal(plans[name][2])
        if name == "deploy":
            until(lambda: b"told" in (parent / "deploy/logs/command.log").read_bytes())
            process.send_signal(signal.SIGINT)
    return {
        name: (parent / name, *ended(process, parent / name)) for name, process in started.items()
    }


@pytest.mark.parametrize(
    ("phase", "name"),
    [("starting", "INT"), ("baseline", "INT"), ("deploy", "TERM"), ("settle", "INT")],
)
def test_a_signal_judges_what_was_measured_and_zdtest_dies_of_it(stopped, phase, name):
    folder, code, out, _ = stopped[phase]
    assert code == -signal.Signals[f"SIG{name}"]
    assert "run.interrupted" in marks(folder)
    assert f"interrupted by SIG{name}" in " ".join(verdict(folder)["reasons"])
    assert verdict(folder)["verdict"] == "inconclusive"
    assert "INCONCLUSIVE" in out
    assert (folder / "report.html").exists()


@pytest.mark.parametrize("phase", ["baseline", "deploy", "settle"])
def test_a_signal_closes_the_recording(stopped, phase):
    reasons = " ".join(verdict(stopped[phase][0])["reasons"])
    assert "did not close its file" not in reasons
    assert verdict(stopped[phase][0])["requests"] > 0


def test_the_command_is_told_the_same_signal(stopped):
    assert stopped["deploy"][2].startswith("begun\ntold TERM\nINCONCLUSIVE")


def test_a_second_ctrl_c_changes_nothing(stopped):
    assert stopped["deploy"][3] == "zdtest: still stopping; what was measured is being kept\n"


def test_a_duration_without_a_command_in_an_odd_folder_with_ctrl_c_ignored(url, tmp_path):
    """As a script runs it in the background: Ctrl-C is not meant for it."""
    folder = tmp_path / "odd name ü'\n"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = measuring(url, folder, options=("--duration", "1s"))
    finally:
        signal.signal(signal.SIGINT, before)
    until(lambda: sends(folder))
    process.send_signal(signal.SIGINT)
    code, out, err = ended(process, folder)
    assert (code, err) == (0, "")
    assert "\r" not in out
    assert verdict(folder)["run"] == "odd-name"
    assert verdict(folder)["phases"]["deploy"]["requests"] >= 190


def test_killed_it_leaves_no_load_and_the_command_alone(url, tmp_path):
    folder = tmp_path / "run"
    command = shell("(sleep 30 & echo $! > daemon.pid); echo $$ > own.pid; exec sleep 30")
    process = measuring(url, folder, *command)
    until(lambda: (tmp_path / "own.pid").exists() and (tmp_path / "own.pid").read_text())
    assert len(left_of(folder)) >= 2, "the load and the control server"
    process.kill()
    killed = time.monotonic()
    until(lambda: not left_of(folder), seconds=2.0)
    theirs = [int((tmp_path / name).read_text()) for name in ("own.pid", "daemon.pid")]
    try:
        assert time.monotonic() - killed < 2
        assert all(map(alive, theirs))
        process.communicate()
        with start("judge", folder, cwd=tmp_path) as judge:
            out, err = judge.communicate(timeout=90)
        assert (judge.returncode, err) == (3, "")
        assert "the recorder did not close its file" in out
    finally:
        for pid in theirs:
            os.kill(pid, signal.SIGKILL)


def test_killed_it_has_all_on_disk_but_the_last_second(url, tmp_path):
    folder = tmp_path / "run"
    process = measuring(url, folder, options=("--duration", "30s"))
    until(lambda: sends(folder))
    time.sleep(4)
    process.kill()
    process.communicate()
    until(lambda: not left_of(folder), seconds=2.0)
    told = [json.loads(line) for line in (folder / "logs/load.jsonl").read_text().splitlines()]
    samples = Recording.read(folder).samples
    lost = told[-1]["t"] - samples.due[-1]
    assert told[-1]["t"] - samples.due[0] > 3
    assert lost < 2, "a second, and as long again on a busy machine"


def test_when_the_load_dies_the_deploy_goes_on_and_the_run_proves_nothing(url, tmp_path):
    folder = tmp_path / "run"
    deploy = "for i in $(seq 900); do [ -e dead ] && break; sleep 0.1; done; sleep 0.5"
    process = measuring(url, folder, *shell(f"{deploy}; echo deployed"))
    until(lambda: "deploy.begin" in marks(folder))
    load = next(one["pid"] for one in events(folder) if one.get("instance") == "load")
    os.kill(load, signal.SIGKILL)
    (tmp_path / "dead").touch()
    code, out, err = ended(process, folder)
    assert code == 3
    assert err.startswith("zdtest: the load killed by SIGKILL while it was needed")
    assert out.startswith("deployed\nINCONCLUSIVE")
    assert "deploy.end" in marks(folder)


def test_a_load_that_cannot_start_is_one_line(url, tmp_path):
    (tmp_path / "locust.py").write_text("raise SystemExit('zdtest: nothing to send with')\n")
    folder = tmp_path / "run"
    env = {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    code, out, err = ended(measuring(url, folder, "true", env=env), folder)
    assert code == 3
    assert err == (
        f"zdtest: the load never sent a request: nothing to send with; see {folder}/logs/load.log\n"
    )
    assert "no request was recorded" in out


def test_on_a_terminal_the_progress_line_stays_clear_of_the_commands_lines(url, tmp_path):
    ours, theirs = pty.openpty()
    command = shell("printf 'one '; sleep 0.6; echo two; sleep 0.4; printf 'no end'")
    told = {"stdout": theirs, "stderr": theirs}
    # Each phase is drawn, also where the machine stands still for half of it.
    quiet = ("--baseline", "1s", "--settle", "1s")
    process = measuring(url, tmp_path / "run", *command, options=(*RELOAD, *quiet), **told)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal tells that nobody is left
        while piece := os.read(ours, 4096):
            shown += piece
    os.close(ours)
    process.communicate()
    assert process.returncode == 0
    text = shown.decode()
    assert text.count("\r\x1b[K") > 5
    for word in ("baseline", "deploy", "settle", "/s", "failed"):
        assert word in text
    # What remains on the screen: each line after its last erasure.
    lines = [line.rpartition("\x1b[K")[2] for line in text.replace("\r\n", "\n").split("\n")]
    assert lines[:2] == ["one two", "no end"]
    assert lines[2].startswith("HOLDS")
