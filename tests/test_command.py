"""The user's command: checked before, run, told to stop, and never more than that."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_stack import until

from zdtest.command import Command, expect_command
from zdtest.engine import reaper
from zdtest.errors import CommandError, ConfigError, DeployFailed
from zdtest.progress import Progress


def command(tmp_path: Path, *argv: str) -> Command:
    return Command(argv, tmp_path / "command.log", progress=Progress(io.StringIO()))


def shell(tmp_path: Path, text: str) -> Command:
    return command(tmp_path, "sh", "-c", text)


def nothing() -> None:
    """Tick."""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no-such-command", "command no-such-command not found"),
        ("./no such", "command './no such' not found"),
        ("/etc/passwd", "command /etc/passwd is not an executable file"),
        ("/etc", "command /etc is not an executable file"),
    ],
)
def test_a_command_that_cannot_run_is_refused_before_it_is_run(name, said):
    with pytest.raises(ConfigError, match=f"^{said}: expected a command to run after --$"):
        expect_command([name])


def test_a_command_on_the_path_or_by_its_path_is_accepted():
    expect_command(["sh"])
    expect_command(["/bin/sh"])


def test_a_file_that_is_no_program_is_no_deploy_that_failed(tmp_path):
    (tmp_path / "garbled").write_text("no program at all\n")
    (tmp_path / "garbled").chmod(0o755)
    with pytest.raises(CommandError, match=r"garbled: Exec format error: expected"):
        command(tmp_path, str(tmp_path / "garbled"))


def test_a_command_that_exits_0_has_finished(tmp_path):
    ticks, twice = [], tmp_path / "twice"

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == 2:
            twice.touch()

    shell(tmp_path, f"until [ -e {twice} ]; do sleep 0.01; done").finish(20, tick)
    assert len(ticks) > 1


@pytest.mark.parametrize(("end", "how"), [("exit 7", "exited 7"), ("kill -9 $$", "by SIGKILL")])
def test_a_command_that_ends_otherwise_has_failed_with_its_last_lines(tmp_path, end, how):
    one = shell(tmp_path, f"seq 30; echo oops >&2; {end}")
    with pytest.raises(DeployFailed, match=how) as raised:
        one.finish(5, nothing)
    assert str(raised.value).splitlines()[1:] == [*map(str, range(12, 31)), "oops"]


def test_after_its_time_limit_it_is_ended(tmp_path):
    one = shell(tmp_path, "trap 'echo told; exit 0' TERM; echo begun; sleep 20 & wait")
    until(lambda: one.tail() == "begun")
    began = time.monotonic()
    with pytest.raises(DeployFailed, match="still ran after 300ms") as raised:
        one.finish(0.3, nothing)
    assert time.monotonic() - began < 4
    assert str(raised.value).endswith("begun\ntold")


def test_one_that_ignores_the_signal_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["zdtest.command"], "_GRACE", 0.2)
    one = shell(tmp_path, "trap '' TERM; echo begun; while :; do sleep 0.05; done")
    until(lambda: one.tail() == "begun")
    one.end(signal.SIGTERM)
    with pytest.raises(DeployFailed, match="was ended by SIGKILL"):
        one.finish(5, nothing)


@pytest.fixture
def deaf(tmp_path, monkeypatch) -> Iterator[str]:
    """A command that ignores every signal it can; it ends with the test."""
    monkeypatch.setattr(sys.modules["zdtest.command"], "_GRACE", 1.5)
    script, pid = tmp_path / "deaf.sh", tmp_path / "deaf.pid"
    text = "trap '' HUP INT TERM; echo $$ > {}; echo deaf; while :; do sleep 0.05; done\n"
    script.write_text(text.format(pid))
    yield f"sh {script}"
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(pid.read_text()), signal.SIGKILL)


def lives(tmp_path: Path) -> bool:
    return reaper.find(int((tmp_path / "deaf.pid").read_text())) is not None


def words(pid: int) -> list[bytes]:
    """Return the arguments that the process was given."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]


def test_who_ignores_sigterm_is_killed_though_the_command_itself_has_ended(tmp_path, deaf):
    one = shell(tmp_path, f"{deaf}; echo after")
    until(lambda: one.tail() == "deaf")
    began = time.monotonic()
    one.end(signal.SIGTERM)
    assert 1.5 <= time.monotonic() - began < 10
    assert not lives(tmp_path)
    with pytest.raises(DeployFailed, match="was ended by SIGTERM"):
        one.finish(5, nothing)


def test_who_heeds_the_signal_is_not_waited_for_any_longer(tmp_path):
    one = shell(tmp_path, "sleep 20 & echo begun; sleep 20; echo after")
    until(lambda: one.tail() == "begun")
    began = time.monotonic()
    one.end(signal.SIGTERM)
    assert time.monotonic() - began < 2


def test_what_has_a_session_of_its_own_is_not_ended_with_it(tmp_path, deaf):
    one = shell(tmp_path, f"setsid {deaf} & sleep 20")
    until(lambda: one.tail() == "deaf")
    one.end(signal.SIGTERM)
    assert lives(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_a_shell_or_nohup_made_deaf_outlives_ctrl_c_and_a_hangup(tmp_path, deaf, number):
    """As without us: they are passed on, and what has ignored them is no deploy at work."""
    leader = tmp_path / "leader.pid"
    # Only a program: dash forgets a SIGINT that comes as it forks, and would wait for its child.
    one = shell(tmp_path, f"{deaf} & echo $$ > {leader}; exec sleep 20")
    until(lambda: one.tail() == "deaf")
    pid = int(until(lambda: leader.exists() and leader.read_text().strip()))
    until(lambda: words(pid) == [b"sleep", b"20"])
    one.end(number)
    assert lives(tmp_path)


def test_once_it_has_ended_nobody_gets_its_signals(tmp_path, monkeypatch):
    """Its group's number may be somebody else's by then."""
    one = shell(tmp_path, "sleep 20 & true")
    one.finish(5, nothing)
    monkeypatch.setattr(os, "killpg", lambda *told: pytest.fail(f"{told} signalled"))
    one.end(signal.SIGTERM)


def test_its_group_is_its_own_for_as_long_as_it_is_signalled(tmp_path, monkeypatch, deaf):
    """The leader is not waited for before: a zombie keeps its number from being given away."""
    one = shell(tmp_path, f"{deaf}; echo after")
    until(lambda: one.tail() == "deaf")
    there, killpg = [], os.killpg

    def signalled(group: int, number: int) -> None:
        there.append((number, reaper.state(group)))
        killpg(group, number)

    monkeypatch.setattr(os, "killpg", signalled)
    one.end(signal.SIGTERM)
    assert [number for number, _ in there] == [signal.SIGTERM, signal.SIGKILL]
    assert there[1][1] == "Z"


def test_the_signal_reaches_the_whole_group(tmp_path):
    child = 'trap "echo child told; exit" TERM; echo begun; sleep 20 & wait'
    one = shell(tmp_path, f"sh -c '{child}' & wait $!")
    until(lambda: one.tail() == "begun")
    one.end(signal.SIGTERM)
    until(lambda: one.tail() == "begun\nchild told")


def test_its_output_is_shown_in_whole_lines_and_the_rest_at_the_end(tmp_path, capfdbinary):
    one = shell(tmp_path, r"printf 'a\nb\303'; read x; true")
    one.finish(5, nothing)
    one.show()
    assert capfdbinary.readouterr().out == b"a\n"
    one.show()
    assert capfdbinary.readouterr().out == b""
    one.show(everything=True)
    assert capfdbinary.readouterr().out == b"b\xc3\n"


def test_an_endless_line_is_shown_piece_by_piece(tmp_path, capfdbinary):
    one = shell(tmp_path, "head -c 2500000 /dev/zero")
    one.finish(5, nothing)
    one.show()
    assert len(capfdbinary.readouterr().out) == 2 << 20
    one.show(everything=True)
    assert len(capfdbinary.readouterr().out) == 2_500_001 - (2 << 20)


def test_it_reads_nothing_from_our_input(tmp_path):
    shell(tmp_path, "cat").finish(5, nothing)


def test_it_carries_no_label_by_which_we_would_end_it(tmp_path):
    one = shell(tmp_path, "env")
    one.finish(5, nothing)
    assert os.environ.get("ZDTEST_RUN") is None
    assert "ZDTEST_RUN" not in (tmp_path / "command.log").read_text()
