"""A proxy's log and an app's journal of somebody's own, copied from where they are written."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from own_stack import LENIENT, QUICK, answers, serving, until, zdtest
from tiny_server import free_port

from zdtest import Slo, appended, topologies
from zdtest.appended import Appended, Asked, Beside
from zdtest.during import Plan, during
from zdtest.errors import ConfigError, RecordingError
from zdtest.topologies import app
from zdtest.traffic import Load

FORMAT = Path(topologies.__file__).with_name("nginx_log.conf")
ROOT = Path(__file__).parents[1]
OURS = b'{"t": 5.0, "event": "request", "id": "run-00000001", "pid": 1}\n'


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, "No such file or directory"),
        (lambda path: path.mkdir(), "no file that grows"),
        (os.mkfifo, "no file that grows"),
    ],
)
def test_what_cannot_be_read_is_refused_before_anything_begins(tmp_path, make, why):
    path = tmp_path / "log"
    make(path)
    for given in ({"proxy_log": path}, {"journal": path}):
        with pytest.raises(
            ConfigError, match=f"^--{next(iter(given)).replace('_', '-')} .*: {why}"
        ):
            Asked(**given)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.write_bytes(b"before\n")
    return path


def test_only_what_comes_from_now_on_counts(log):
    watched = Appended("--journal", log)
    with log.open("ab") as file:
        file.write(b"after\n")
    assert watched.new() == b"after\n"
    watched.close()


def test_a_file_that_is_moved_away_and_begun_anew_is_read_to_its_end(log):
    watched = Appended("--journal", log)
    with log.open("ab") as file:
        log.rename(log.with_suffix(".1"))
        log.write_bytes(b"new\n")
        file.write(b"old\n")
    assert watched.new() == b"old\nnew\n"
    log.unlink()
    assert watched.new() == b"old\nnew\n"


def test_a_file_that_is_emptied_is_no_account(log):
    watched = Appended("--journal", log)
    log.write_bytes(b"")
    with pytest.raises(RecordingError, match="it was emptied during the run"):
        watched.new()


def append(log: Path, text: bytes) -> None:
    with log.open("ab") as file:
        file.write(text)


def test_a_file_that_is_moved_away_again_and_again_is_read_to_its_end(log):
    watched = Appended("--journal", log)
    with log.open("ab") as file:
        for n in range(1, 4):
            append(log, f"{n}\n".encode())
            log.rename(log.with_suffix(f".{n}"))
            watched.look()
            append(log, f"new {n}\n".encode())
            watched.look()
        file.write(b"late\n")
    (log.with_suffix(".2")).unlink()
    assert watched.new() == b"1\nlate\nnew 1\n2\nnew 2\n3\nnew 3\n"
    watched.close()


@pytest.mark.parametrize("begun", [b"", b"before\n"], ids=["fresh", "old"])
@pytest.mark.parametrize("looks", [1, 2])
def test_a_file_that_was_emptied_is_no_account_though_it_has_grown_again(log, begun, looks):
    """As logrotate's copytruncate does, which loses what comes while it copies."""
    log.write_bytes(begun)
    watched = Appended("--journal", log)
    append(log, b"one\ntwo\n")
    watched.look()
    os.truncate(log, 0)
    for _ in range(looks):
        append(log, b"another\n" * 20)
        watched.look()
    with pytest.raises(RecordingError, match="it was emptied during the run"):
        watched.new()


def test_a_file_that_was_moved_away_and_emptied_then_is_no_account(log):
    watched = Appended("--journal", log)
    append(log, b"one\n")
    old = log.rename(log.with_suffix(".1"))
    log.write_bytes(b"two\n")
    watched.look()
    old.write_bytes(b"")
    append(log, b"three\n")
    with pytest.raises(RecordingError, match="it was emptied during the run"):
        watched.new()


def test_a_successor_that_cannot_be_read_is_no_account(log):
    """A socket, as root may read what others may not."""
    watched = Appended("--journal", log)
    log.rename(log.with_suffix(".1"))
    with socket.socket(socket.AF_UNIX) as own:
        own.bind(str(log))
        watched.look()
    log.rename(log.with_suffix(".2"))
    log.write_bytes(b"new\n")
    with pytest.raises(RecordingError, match="what took its place could not be read"):
        watched.new()


def test_a_file_that_came_and_went_between_two_looks_is_missed(log, tmp_path, monkeypatch):
    monkeypatch.setattr(appended, "_EVERY", 60.0)
    (tmp_path / "run" / "logs").mkdir(parents=True)
    copy = tmp_path / "log.before"
    copy.write_bytes(OURS)
    os.utime(copy, (1, 1))
    said: list[str] = []
    for times in (1, 2):
        beside = Beside(Asked(journal=log), tmp_path / "run")
        for n in range(times):
            append(log, OURS.replace(b"5.0", b"%d.25" % n))
            log.rename(tmp_path / f"log.{times}{n}")
            log.write_bytes(OURS.replace(b"5.0", b"%d.75" % n))
        beside.keep("run", said.append)
    why = "lines of the run are in log.21, where it was moved unseen"
    assert said == [f"--journal {log} is left out: {why}"]


def test_what_stood_beside_it_as_the_run_began_is_another_log(log, tmp_path):
    """As a second access log of the same nginx is, also when it is rotated as well."""
    other, empty = tmp_path / "log.upstream", tmp_path / "log.tls"
    other.write_bytes(b"before\n")
    empty.write_bytes(b"")
    folder = tmp_path / "run"
    (folder / "logs").mkdir(parents=True)
    beside = Beside(Asked(journal=log), folder)
    for one in (log, other, empty):
        append(one, OURS.replace(b"5.0", str(len(one.name)).encode()))
    other.rename(tmp_path / "log.upstream.1")
    said: list[str] = []
    beside.keep("run", said.append)
    assert said == []


def test_who_took_the_place_on_disk_of_what_stood_beside_it_is_not_taken_for_that(log, tmp_path):
    """A file system gives the number of one that was deleted to the next one that is made."""
    old = tmp_path / "log.1"
    for before in (b"old\n", b""):
        old.write_bytes(before)
        watched = Appended("--journal", log)
        old.write_bytes(OURS)
        old.rename(tmp_path / "log.2")
        assert watched.missed(b'"run-', b"") == "log.2"
        watched.close()


def test_a_copy_of_what_was_seen_is_no_loss(log, tmp_path):
    folder = tmp_path / "run"
    (folder / "logs").mkdir(parents=True)
    beside = Beside(Asked(journal=log), folder)
    append(log, OURS)
    log.rename(log.with_suffix(".1"))
    log.write_bytes(b"")
    seen = beside.looks
    until(lambda: beside.looks > seen + 1)
    shutil.copyfile(log.with_suffix(".1"), log.with_suffix(".2"))
    log.with_suffix(".1").unlink()
    said: list[str] = []
    beside.keep("run", said.append)
    assert said == []


def test_nothing_goes_on_looking_where_a_run_broke_off(log, tmp_path, monkeypatch):
    def refused(*_: object) -> None:
        assert "appended" in [thread.name for thread in threading.enumerate()]
        raise ConfigError("no such channel")

    monkeypatch.setattr("zdtest.during._measure", refused)
    plan = Plan(
        url="http://127.0.0.1:1",
        load=Load(),
        slo=Slo(),
        folder=tmp_path / "run",
        command=(),
        duration=0.1,
        limit=1.0,
        baseline=0.1,
        settle=0.1,
        old_version=None,
        new_version=None,
        logs=Asked(journal=log),
    )
    files = os.listdir("/proc/self/fd")
    with pytest.raises(ConfigError, match="no such channel"):
        during(plan)
    assert "appended" not in [thread.name for thread in threading.enumerate()]
    assert os.listdir("/proc/self/fd") == files


def test_a_line_that_had_been_begun_before_is_taken_as_a_whole(log):
    append(log, b'{"half": ')
    watched = Appended("--journal", log)
    append(log, b"1}\nnew\n")
    assert watched.new() == b'{"half": 1}\nnew\n'
    assert list(watched.before()) == []


def test_a_line_that_was_cut_costs_none_of_the_next_file(log):
    watched = Appended("--journal", log)
    append(log, b"cut")
    log.rename(log.with_suffix(".1"))
    append(log, b"new\n")
    assert watched.new() == b"cut\nnew\n"


def test_a_file_is_followed_while_the_run_goes_on(log, tmp_path):
    (tmp_path / "run" / "logs").mkdir(parents=True)
    beside = Beside(Asked(journal=log), tmp_path / "run")
    for n in range(1, 4):
        append(log, OURS)
        log.rename(log.with_suffix(f".{n}"))
        log.write_bytes(OURS)
        seen = beside.looks
        until(lambda seen=seen: beside.looks > seen + 1)
    said: list[str] = []
    beside.keep("run", said.append)
    assert said == []
    assert (tmp_path / "run" / "journal.jsonl").read_bytes() == OURS * 6
    assert "appended" not in [thread.name for thread in threading.enumerate()]


def test_a_file_that_grows_without_measure_is_not_copied(log, monkeypatch):
    monkeypatch.setattr(appended, "MOST", 100)
    watched = Appended("--journal", log)
    with log.open("ab") as file:
        file.write(b"x" * 101)
    with pytest.raises(RecordingError, match="MB came in the run, expected 0 MB at most"):
        watched.new()


def kept(log: Path, folder: Path, came: bytes, kind: str = "journal") -> list[str]:
    """Return what is said of the file, to which `came` is appended in the run."""
    (folder / "logs").mkdir(parents=True)
    beside = Beside(Asked(**{kind: log}), folder)
    with log.open("ab") as file:
        file.write(came)
    said: list[str] = []
    beside.keep("run", said.append)
    return said


@pytest.mark.parametrize("kind", ["proxy_log", "journal"])
def test_a_file_without_a_request_of_the_run_is_left_out_and_told(log, tmp_path, kind):
    (said,) = kept(log, tmp_path / "run", b'{"id": "other-00000001"}\n\n', kind)
    assert said == (
        f"--{kind.replace('_', '-')} {log} is left out: of 2 lines that came in the run none has "
        'the id of a request of it; expected each one\'s X-Request-ID as its "id"'
    )
    assert [path.name for path in (tmp_path / "run").rglob("*") if path.is_file()] == []


def test_lives_that_began_before_the_run_are_told_too(log, tmp_path):
    ready = b'{"t": 1.0, "event": "ready", "instance": "a", "version": "v1", "pid": 1}\n'
    log.write_bytes(OURS.replace(b"run", b"old") + ready)
    assert kept(log, tmp_path / "run", OURS) == []
    assert (tmp_path / "run" / "journal.jsonl").read_bytes() == ready + OURS


def test_the_walls_times_are_brought_on_the_runs_clock(log, tmp_path):
    line = {"t": time.time(), "begin": time.time() - 1, "event": "request", "id": "run-00000001"}
    assert kept(log, tmp_path / "run", json.dumps(line).encode() + b"\nno json\n") == []
    first, second = (tmp_path / "run" / "journal.jsonl").read_text().splitlines()
    told = json.loads(first)
    assert told["t"] == pytest.approx(time.monotonic(), abs=5)
    assert told["t"] - told["begin"] == pytest.approx(1, abs=1e-3)
    assert second == "no json"


def test_the_walls_times_are_known_wherever_they_stand(log, tmp_path):
    """Also as a JVM writes them, beside lines without a time, and on the run's clock already."""
    wall, now = time.time(), time.monotonic()
    lines = [
        '{"msg": "listening", "level": "info"}',
        f'{{"t": {now}, "event": "ready", "instance": "a"}}',
        f'{{"t": {wall:.12e}, "event": "started"}}',
        json.dumps({"t": wall, "event": "request", "id": "run-00000001"}),
        json.dumps({"t": now, "closed": wall, "event": "stopped"}, separators=(" ,", " : ")),
    ]
    assert kept(log, tmp_path / "run", "\n".join(lines).encode() + b"\n") == []
    told = (tmp_path / "run" / "journal.jsonl").read_text().splitlines()
    assert told[:2] == lines[:2]
    moved = [json.loads(line) for line in told[2:]]
    assert [one["t"] for one in moved] == pytest.approx([now] * 3, abs=2000)
    assert moved[2]["closed"] == pytest.approx(now, abs=5)


def test_what_one_logs_of_others_is_said_and_proves_nothing(tmp_path):
    """The journal was asked for, so that promises about writes are not kept by its silence."""
    log, journal = tmp_path / "access.log", tmp_path / "journal"
    log.write_text("")
    journal.write_text("")
    with serving() as url:
        words = ["during", "--url", url, *QUICK, "--slo", LENIENT, "--duration", "1s"]
        words += ["--proxy-log", log, "--journal", journal, "--out", tmp_path / "run"]
        done = zdtest(*words, cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        f"zdtest: {option} {path} is left out: of 0 lines that came in the run none has the id of "
        'a request of it; expected each one\'s X-Request-ID as its "id"'
        for option, path in (("--proxy-log", log), ("--journal", journal))
    ]
    assert "the app's journal is missing, or lacks what tells lost" in done.stdout


def nginx_conf(front: int, dead: int, apps: list[int]) -> str:
    servers = "".join(f"server 127.0.0.1:{port} max_fails=0;" for port in (dead, *apps))
    return f"""
        pid nginx.pid; error_log stderr; events {{}} master_process off; daemon off;
        http {{
          include {FORMAT};
          client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u;
          scgi_temp_path s;
          upstream shop {{ {servers} }}
          server {{ listen 127.0.0.1:{front}; location / {{ proxy_pass http://shop; }} }}
        }}"""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[str]:
    """Two apps that keep a journal behind an nginx that keeps a log, and a server that is gone."""
    front, dead, *apps = (free_port() for _ in range(4))
    (tmp_path / "nginx.conf").write_text(nginx_conf(front, dead, apps))
    with ExitStack() as tidy:
        log = tidy.enter_context((tmp_path / "access.log").open("ab"))
        said = tidy.enter_context((tmp_path / "apps.log").open("ab"))
        commands = [(["nginx", "-p", str(tmp_path), "-c", "nginx.conf"], {}, log)]
        for name, port in zip("ab", apps, strict=True):
            env = app(port, name, "v1", tmp_path / "journal.jsonl")
            commands.append(([sys.executable, "-m", "sample_app"], env, said))
        started = []
        for argv, env, out in commands:
            process = subprocess.Popen(
                argv, env={**os.environ, **env}, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT
            )
            tidy.callback(process.wait)
            tidy.callback(process.kill)
            started.append(process)
        for port in (front, *apps):
            until(lambda port=port: answers(port), seconds=60)
        (tmp_path / "a.pid").write_text(str(started[1].pid))
        yield f"http://127.0.0.1:{front}/api"


@pytest.mark.skipif(not shutil.which("nginx"), reason="needs nginx on the path")
def test_masked_failures_and_writes_are_known_of_ones_own_stack(shop, tmp_path):
    folder = tmp_path / "run"
    words = ["during", "--url", shop, *QUICK, "--slo", f"{LENIENT},stale=none,slow=none"]
    words += ["--channels", "new=2,write=1@/orders", "--out", folder, "--rate", "100"]
    words += ["--proxy-log", tmp_path / "access.log", "--journal", tmp_path / "journal.jsonl"]
    # One that was ready before the run ends in it.
    words += ["--", "sh", "-c", f"kill -TERM $(cat {tmp_path}/a.pid); sleep 1.5"]
    done = zdtest(*words, cwd=tmp_path)
    assert done.stderr == ""
    verdict = json.loads((folder / "verdict.json").read_text())
    assert verdict["masked"]["requests"] > 20
    assert verdict["masked"]["unlogged"] == 0
    checks = verdict["correctness"]
    assert [checks[name] for name in ("lost", "twice", "early", "phantom")] == [0, 0, 0, 0]
    assert verdict["writes"]["ok"] > 20
    assert "masked" in done.stdout
