"""The zdtest command as a person types it: what is wrong is one line that says what is right."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import synthetic
from own_stack import LENIENT, left_of, serving, until, zdtest

from zdtest.cli import main
from zdtest.engine import kept
from zdtest.judging.slo import Slo

URL = "http://127.0.0.1:9/"


@pytest.fixture
def run(tmp_path) -> Path:
    """A recorded run that holds."""
    folder = tmp_path / "run"
    synthetic.run(folder)
    return folder


def refused(capsys, *words: object, code: int = 2) -> str:
    """Return the one line that the command says when it refuses."""
    assert main([str(word) for word in words]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("zdtest: ")
    assert captured.err.count("\n") == 1, captured.err
    return captured.err.removeprefix("zdtest: ").rstrip()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "required: VERB"),
        ("durin", "unknown verb 'durin': did you mean 'during'? expected one of clean"),
        ("during", "required: --url"),
        ("during --ulr x", "required: --url"),
        ("judge", "required: RUN"),
        ("up", "required: TOPOLOGY"),
        ("judge a b", "unrecognized arguments: b"),
        ("during --url U", "nothing to measure: expected a command after --, or --duration TIME"),
        ("during --url U --duration 1s -- true", "not both"),
        ("during --url U -- no-such-command", "command no-such-command not found: expected"),
        ("during --url ftp://x/ -- true", "url 'ftp://x/': expected http://"),
        ("during --url U --duration 1s", "Connection refused; expected the system to be up"),
        ("during --url U --duration 1s --slo deploy=aborted", "expected a command after --"),
        ("during --url U --duration 0s", "--duration '0s': expected 100ms to 168h"),
        ("during --url U --duration 100 -- true", "not both"),
        ("during --url U --duration 100", "--duration '100': expected a time with its unit, such"),
        ("during --url U --timeout 5 -- true", "--timeout '5': expected a time with its unit"),
        ("during --url U --slo p99_over=100 -- true", "slo p99_over '100': expected a time with"),
        ("during --url U --channels slow~2 -- true", "think time '2': expected a time with its"),
        ("during --url U --duration soon", "expected a time with its unit, such as 250ms"),
        ("during --url U --duration -1s", "expected one argument"),
        ("during --url U --duration 1000h", "--duration '1000h': expected 100ms to 168h"),
        ("during --url U --duration nan", "expected a time with its unit, such as 250ms"),
        ("during --url U --command-timeout 0s -- true", "--command-timeout '0s': expected 100ms"),
        ("during --url U --baseline x -- true", "--baseline 'x': expected a time with its unit"),
        ("during --url U --settle 1y -- true", "--settle '1y': expected a time with its unit"),
        ("during --url U --timeout 0s -- true", "timeout 0s: expected more than 0s"),
        ("during --url U --rate 0 -- true", "rate 0: expected 0.1 to 200000"),
        ("during --url U --rate -5 -- true", "rate -5: expected"),
        ("during --url U --rate nan -- true", "rate nan: expected"),
        ("during --url U --rate inf -- true", "rate inf: expected"),
        ("during --url U --rate 1e9 -- true", "rate 1e+09: expected"),
        ("during --url U --rate many -- true", "argument --rate: invalid float value: 'many'"),
        ("during --url U --seed x -- true", "argument --seed: invalid int value: 'x'"),
        ("during --url U --channels nwe -- true", "unknown channel 'nwe': did you mean 'new'?"),
        ("during --url U --channels new=0 -- true", "share '0'; expected a number above 0"),
        ("during --url U --channels new@x -- true", "expected it to begin with /"),
        ("during --url U --channels new,new -- true", "is named twice"),
        ("during --url U --channels , -- true", "no channel: expected some of"),
        ("during --url U --slo fialed=0 -- true", "unknown slo promise 'fialed': did you mean 'f"),
        ("during --url U --slo failed -- true", "expected name=value"),
        ("during --url U --slo failed=-1 -- true", "expected a whole number of zero or more"),
        ("during --url U --expect-status 2x -- true", "status '2x': expected such as 200"),
        ("up custom_lp", "unknown topology 'custom_lp': did you mean 'custom_lb'?"),
        ("up custom_lb --variant hardend", "did you mean 'hardened'?"),
        ("down no-such-run", "no kept run 'no-such-run': "),
        ("during --url U --slo failed=1,slow=2s,p99_over=1s,merge=1 -- true", "slo merge '1': exp"),
        ("during --url U --header secret -- true", "--header: expected 'Name: value', with a"),
        ("during --url http://me:pw@h/ -- true", "url with a user in it: expected http://host"),
        ("during --url U --version-header a/b -- true", "--version-header 'a/b': expected a"),
        ("during --url U --write-body {bad -- true", "--write-body '{bad': expected JSON, or"),
        ("judge /no/such/run", "no run at /no/such/run: expected a folder with manifest.json"),
        ("judge /etc/hostname", "no run at /etc/hostname: expected a folder with manifest.json"),
        ("judge /proc", "no run at /proc: expected a folder with manifest.json"),
        ("report /no/such/run", "no run at /no/such/run"),
    ],
)
def test_what_means_nothing_is_refused(capsys, words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said in refused(capsys, *shlex.split(words.replace("--url U", f"--url {URL}")))
    assert list(tmp_path.iterdir()) == [], "nothing was begun"


@pytest.fixture(scope="module")
def url():
    with serving() as url:
        yield url


@pytest.mark.parametrize("out", ["/proc/run", "/etc/passwd", "/etc/passwd/run"])
def test_a_folder_that_cannot_be_written_is_refused_before_any_load(capsys, url, out):
    said = refused(capsys, "during", "--url", url, "--duration", "1s", "--out", out)
    assert said.startswith(f"cannot write {out}: ")
    assert said.endswith("; expected a writable folder")


def test_without_out_the_reports_folder_must_be_writable_too(capsys, url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports").write_text("not a folder")
    said = refused(capsys, "during", "--url", url, "--duration", "1s")
    assert said.startswith("cannot write reports/")
    assert said.endswith("-during: Not a directory; expected a writable folder")


def test_a_folder_that_holds_something_is_refused_and_left_alone(capsys, url, tmp_path):
    (tmp_path / "samples.arrows").write_text("somebody's")
    said = refused(capsys, "during", "--url", url, "--duration", "1s", "--out", tmp_path)
    assert said == f"{tmp_path} is not empty: expected a new or an empty folder"
    assert [one.name for one in tmp_path.iterdir()] == ["samples.arrows"]


def not_found(server: socket.socket) -> None:
    with server.accept()[0] as link:
        link.recv(4096)
        link.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


def test_a_page_that_is_not_there_is_refused_before_any_load(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=not_found, args=[server]).start()
        there = f"http://127.0.0.1:{server.getsockname()[1]}/"
        said = refused(capsys, "during", "--url", there, "--duration", "1s")
    assert list(tmp_path.iterdir()) == []
    assert said.startswith(f"{there} answers 404 to GET /: expected 200")


# -- recordings


def test_a_recording_is_judged_again_by_other_promises(capsys, run):
    assert main(["judge", str(run)]) == 0
    assert "HOLDS" in capsys.readouterr().out
    assert main(["judge", str(run), "--slo", "min_requests=1000000"]) == 3
    assert "INCONCLUSIVE" in capsys.readouterr().out
    assert json.loads((run / "verdict.json").read_text())["verdict"] == "inconclusive"


def test_a_broken_promise_is_1(capsys, run):
    assert main(["judge", str(run), "--slo", "slow=1us"]) == 1
    assert "BROKEN" in capsys.readouterr().out


def test_a_truncated_recording_is_inconclusive(capsys, run):
    path = run / "samples.arrows"
    path.write_bytes(path.read_bytes()[:-200])
    assert main(["judge", str(run)]) == 3
    assert "did not close its file" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["judge", "report"])
@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("samples.arrows", "foreign\n", "not a zdtest recording"),
        ("manifest.json", "{", "damaged "),
        ("manifest.json", "[]", "schema None, expected 1"),
        ("manifest.json", '{"schema": 2, "run": "x"}', "schema 2, expected 1"),
        ("manifest.json", '{"schema": 1, "run": "x"}', "channels None, expected an object"),
        (
            "manifest.json",
            '{"schema": 1, "run": "x", "channels": {}, "slo": 3}',
            "slo 3, expected an object",
        ),
        (
            "manifest.json",
            '{"schema": 1, "run": "x", "channels": {}, "slo": {"jitter": 1}}',
            "judge it by other",
        ),
    ],
)
def test_a_foreign_or_damaged_recording_is_refused(capsys, run, verb, file, content, said):
    (run / file).write_text(content)
    (run / "verdict.json").unlink(missing_ok=True)
    assert said in refused(capsys, verb, run)


def test_a_verdict_that_cannot_be_written_is_told_and_2(capsys, run):
    (run / "verdict.json").mkdir()
    assert main(["judge", str(run)]) == 2
    told = capsys.readouterr()
    assert told.out.startswith("HOLDS")
    assert told.err.startswith(f"zdtest: cannot write {run}: ")
    assert told.err.count("\n") == 1


def test_a_broken_run_is_1_even_where_that_cannot_be_written(capsys, run):
    (run / "verdict.json").mkdir()
    assert main(["judge", str(run), "--slo", "slow=1us"]) == 1
    told = capsys.readouterr()
    assert told.out.startswith("BROKEN")
    assert told.err.startswith(f"zdtest: cannot write {run}: ")


def test_a_run_is_drawn_again_and_listed(capsys, run, tmp_path):
    index = tmp_path / "index.html"
    assert main(["report", str(run), "--index", str(index)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(run / "report.html"), str(index)]
    assert (run / "verdict.json").exists()
    assert index.exists()


def test_a_list_that_cannot_be_written_is_refused(capsys, run):
    assert main(["report", str(run), "--index", "/proc/index.html"]) == 2
    assert capsys.readouterr().err.startswith("zdtest: ")


# -- the other verbs


def test_topologies_are_listed_with_variants_and_strategies(capsys):
    assert main(["topologies"]) == 0
    out = capsys.readouterr().out
    assert "custom_lb" in out
    assert "variants documented, hardened" in out


def test_help_shows_every_verb(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    out = capsys.readouterr().out
    assert all(verb in out for verb in ("during", "judge", "report", "up", "down", "doctor"))


def test_the_help_of_during_ends_with_promises_and_exit_codes(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["during", "--help"])
    out = capsys.readouterr().out
    told = out.partition("promises and their defaults")[2]
    for name, default in (("failed", "0"), ("p99_over", "250ms"), ("slow", "1s"), ("merge", "1s")):
        assert f" {name}={default}" in told
    assert set(Slo().as_dict()) <= set(re.findall(r"([a-z0-9_]+)=", told))
    assert out.endswith("  4  the command failed; the verdict is written all the same\n")


def test_a_run_that_is_not_there_to_be_ended_is_told_so(capsys, monkeypatch):
    monkeypatch.setattr(kept, "kept", list)
    monkeypatch.setattr(kept, "down", lambda run: [])
    assert refused(capsys, "down", "x") == "no kept run 'x': nothing was left running"
    monkeypatch.setattr(kept, "kept", lambda: [{"run": "y"}])
    assert refused(capsys, "down", "x") == "no kept run 'x': expected one of y"


def test_a_reader_that_leaves_is_no_crash():
    """As in ``zdtest topologies | head -1``."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as out:
        done = subprocess.run(
            [sys.executable, "-m", "zdtest", "topologies"],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_up_prints_what_works_as_printed_and_down_ends_it(tmp_path, tmp_path_factory):
    topology = tmp_path_factory.mktemp("own") / "echo"
    topology.mkdir()
    from test_plugin import TOPOLOGY

    (topology / "topology.py").write_text(TOPOLOGY)
    up = zdtest("up", topology, cwd=tmp_path)
    assert (up.returncode, up.stderr) == (0, "")
    (name,) = [one["run"] for one in kept.kept() if str(tmp_path) in one["folder"]]
    (folder,) = (tmp_path / "reports").iterdir()
    try:
        printed = dict(line.split(maxsplit=1) for line in up.stdout.splitlines()[2:] if line)
        assert up.stdout.splitlines()[0].startswith("http://127.0.0.1:")
        locust = printed["load"].removeprefix("it").strip()
        headless = [*shlex.split(locust), "--headless", "--run-time", "5s", "--only-summary"]
        load = subprocess.run(
            headless, cwd=tmp_path_factory.mktemp("elsewhere"), capture_output=True, timeout=60
        )
        # 3 where this machine was too busy for the rate: that is not what is asked here.
        assert load.returncode in (0, 3), load.stderr
        assert b"new" in load.stdout
        measure = shlex.split(printed["measure"].removeprefix("it").replace("10s", "500ms"))
        quick = ["--baseline", "300ms", "--settle", "300ms", "--slo", LENIENT]
        assert zdtest(*measure[1:], *quick, cwd=tmp_path).returncode == 0
    finally:
        assert shlex.split(printed["end"])[1:] == ["zdtest", "down", name]
        down = zdtest("down", name, cwd=tmp_path)
    assert down.stdout == f"ended {name}\n"
    until(lambda: not left_of(folder), seconds=2)


def test_a_stack_that_does_not_come_up_is_4_and_leaves_nothing(tmp_path):
    topology = tmp_path / "broken"
    topology.mkdir()
    from test_plugin import TOPOLOGY

    (topology / "topology.py").write_text(TOPOLOGY.replace("works=True", "works=False"))
    up = zdtest("up", topology, cwd=tmp_path)
    assert (up.returncode, up.stdout) == (4, "")
    assert up.stderr.startswith("zdtest: schema exited 1\nno such table")
    (folder,) = (tmp_path / "reports").iterdir()
    assert left_of(folder) == []
    assert (folder / "logs" / "schema.log").read_text() == "no such table\n"
    shutil.rmtree(folder)
