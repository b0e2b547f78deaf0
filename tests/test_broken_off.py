"""`zdtest during` that somebody or something ends otherwise than planned: no verdict flatters."""

from __future__ import annotations

import json
import os
import pty
import signal
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from own_stack import LENIENT, ended, serving, until, zdtest
from test_during import events, marks, measuring, sends, shell, verdict

from zdtest import command, outside
from zdtest.errors import CommandError
from zdtest.outside import Outside
from zdtest.run import run
from zdtest.scenario import Scenario, Setting

RELOAD = ("--slo", f"{LENIENT},stale=none")
"""The version stays what it is."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as url:
        yield url


def test_a_load_that_somebody_ends_in_the_settling_proves_nothing(url, tmp_path):
    folder = tmp_path / "run"
    options = (*RELOAD, "--settle", "20s")
    process = measuring(url, folder, *shell("sleep 0.5"), options=options)
    until(lambda: "deploy.end" in marks(folder))
    load = next(one["pid"] for one in events(folder) if one.get("instance") == "load")
    os.kill(load, signal.SIGTERM)
    code, out, err = ended(process, folder)
    assert (code, verdict(folder)["verdict"]) == (3, "inconclusive"), out
    assert "the load exited 0 while it was needed at +" in " ".join(verdict(folder)["reasons"])
    assert err.startswith("zdtest: the load exited 0 while it was needed")
    again = zdtest("judge", folder, cwd=tmp_path)
    assert again.returncode == 3
    assert "the load exited 0 while it was needed at +" in again.stdout


def test_a_command_that_is_no_program_is_4_though_the_deploy_is_to_be_aborted(url, tmp_path):
    script = tmp_path / "deploy.sh"
    script.write_text("echo deploying; exit 1\n")
    script.chmod(0o755)
    folder = tmp_path / "run"
    options = ("--slo", f"{LENIENT},deploy=aborted")
    code, out, err = ended(measuring(url, folder, script, options=options), folder)
    assert (code, verdict(folder)["verdict"]) == (4, "inconclusive"), out
    assert f"inconclusive: the deploy never began: cannot run {script}: Exec format error" in out
    assert err.startswith(f"zdtest: cannot run {script}: Exec format error")
    assert err.count("\n") == 1


def test_a_terminal_that_is_closed_leaves_a_verdict(url, tmp_path):
    """As where the ssh connection ends from which the deploy was started."""
    folder = tmp_path / "run"
    ours, theirs = pty.openpty()
    command = shell("trap 'echo told > told; exit' HUP; echo begun; sleep 20 & wait")
    process = measuring(url, folder, *command, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while b"begun" not in shown:
        shown += os.read(ours, 4096)
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=180)
    assert process.returncode == -signal.SIGHUP, (shown, events(folder))
    assert "the run was interrupted by SIGHUP" in " ".join(verdict(folder)["reasons"])
    assert verdict(folder)["requests"] > 0
    assert (folder / "report.html").exists()
    assert (tmp_path / "told").read_text() == "told\n"


def test_under_nohup_a_terminal_that_is_closed_changes_nothing(url, tmp_path):
    folder = tmp_path / "run"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = measuring(url, folder, options=(*RELOAD, "--duration", "1s"))
    finally:
        signal.signal(signal.SIGHUP, before)
    until(lambda: sends(folder))
    process.send_signal(signal.SIGHUP)
    code, out, err = ended(process, folder)
    assert (code, err) == (0, ""), out


def test_where_the_disk_is_full_the_verdict_is_printed_and_none_is_cut_short(url, tmp_path):
    folder = tmp_path / "run"
    full = shell("sleep 0.3; ln -s /dev/full run/.verdict.json; sleep 0.3")
    code, out, err = ended(measuring(url, folder, *full, options=RELOAD), folder)
    assert (code, out.splitlines()[0]) == (2, "HOLDS  run")
    assert "report   " not in out
    assert err.startswith(f"zdtest: cannot write {folder}: No space left on device")
    assert not [path for path in folder.iterdir() if "verdict" in path.name]


def test_where_nothing_can_be_marked_any_more_there_is_a_verdict(url, tmp_path):
    """The code that runs is the command's: an `os.write` that fails as on a full disk."""
    (tmp_path / "sitecustomize.py").write_text(_FULL)
    folder = tmp_path / "run"
    env = {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    process = measuring(url, folder, *shell("sleep 0.5"), options=RELOAD, env=env)
    code, out, err = ended(process, folder)
    assert (code, out.splitlines()[0]) == (2, "INCONCLUSIVE  run"), out + err
    assert "the deploy's end was not marked" in out
    assert err == "zdtest: the run broke off: [Errno 28] No space left on device\n"
    assert json.loads((folder / "verdict.json").read_text())["verdict"] == "inconclusive"


_FULL = """
import errno, os
_write = os.write
def write(to, data):
    if b"deploy.end" in data:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return _write(to, data)
os.write = write
"""


@pytest.mark.parametrize("commanded", [True, False], ids=["own stack", "topology"])
def test_a_strategys_command_that_is_no_program_is_no_deploy_that_was_given_up(tmp_path, commanded):
    script = tmp_path / "deploy.sh"
    script.write_text("echo deploying; exit 1\n")
    script.chmod(0o755)
    at = "http://127.0.0.1:9/"
    setting = Setting("test", tmp_path, 1, "", url=at)
    with run(tmp_path / "run") as one:
        stack = Outside(at, one.engine)
        raised = stack if commanded else SimpleNamespace(url=at, engine=one.engine)
        zd = Scenario(setting, outside.at(at), one, raised)
        with pytest.raises(CommandError, match="Exec format error"):
            zd.deploy("v2", command([str(script)]))
    (end,) = [event for event in events(tmp_path / "run") if event["mark"] == "deploy.end"]
    assert end["never_began"] is True
    assert "Exec format error" in end["error"]
