"""The load as its users start it: headless, from Locust's web page, stopped by signals."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted import OK, Peer, ScriptedServer
from tiny_server import free_port

from zdtest.records.recording import Recording
from zdtest.records.sample import CHANNELS, Outcome

LOAD = Path(__file__).parent.parent / "zdtest" / "load.py"


def answers(peer: Peer) -> None:
    while peer.hear():
        peer.heard = b""
        peer.say(OK)


class Process:
    """The load's process, and what it printed."""

    def __init__(
        self, port: int, *options: str, cwd: Path, headless: bool = True, file_size: int = 0
    ) -> None:
        command = [sys.executable, "-m", "locust", "-f", str(LOAD), "--seed", "1"]
        command += ["--headless", "--only-summary"] if headless else []
        command += ["--host", f"http://127.0.0.1:{port}"] if port else []
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LOCUST_", "ZD_"))
        }
        self._process = subprocess.Popen(
            [*command, *options],
            cwd=cwd,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: _limit(file_size) if file_size else None,
        )

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self, within: float = 90) -> tuple[int, str, str]:
        """Return its exit code and what it printed, once it has ended."""
        try:
            out, err = self._process.communicate(timeout=within)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise
        return self._process.returncode, out, err


def _limit(file_size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(answers) as one:
        yield one


def nobody() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def seen(true: Callable[[], Any], within: float = 90) -> Any:
    """Return what `true` returns once it is anything."""
    end = time.monotonic() + within
    while not (found := true()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
    return found


def news(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


NONSENSE = (
    (["--rate", "0"], "rate 0"),
    (["--channels", "news"], "unknown channel"),
    (["--timeout", "soon"], "--timeout 'soon'"),
    (["--expect-status", "20"], "status '20'"),
    (["--host", "ftp://x"], "url 'ftp://x'"),
    (["--host", ""], "no host to send to: expected --host http://host"),
    (["--host", "http://me:secret@x"], "url with a user in it: expected http://host"),
    (["--host", "http://x", "--header", "Content-Length: 3"], "--header Content-Length: expected"),
    (["--host", "http://x", "--version-header", "a b"], "--version-header 'a b': expected a"),
    (["--host", "http://x", "--write-body", "{bad"], "--write-body '{bad': expected JSON"),
)


def test_options_that_mean_nothing_are_one_line_and_exit_2(tmp_path: Path) -> None:
    processes = [Process(1, *options, cwd=tmp_path) for options, _ in NONSENSE]
    for process, (_, said) in zip(processes, NONSENSE, strict=True):
        code, _, complaints = process.end()
        lines = [line for line in complaints.splitlines() if "INFO" not in line]
        assert (code, len(lines)) == (2, 1), complaints
        assert lines[0].startswith("zdtest: ")
        assert said in lines[0]
    assert not list(tmp_path.iterdir())


def test_headers_are_sent_with_every_request_and_named_in_the_manifest(tmp_path: Path) -> None:
    heads: list[bytes] = []

    def listens(peer: Peer) -> None:
        while head := peer.hear():
            heads.append(head)
            peer.say(OK)

    with ScriptedServer(listens) as server:
        told = ("--header", "Host: shop.example", "--header", "Authorization: secret: a, b")
        code, out, err = Process(server.port, *told, "--run-time", "4s", cwd=tmp_path).end()
    assert code in (0, 3), err  # 3 where this machine was too busy for the rate
    assert len(heads) > 100
    for head in heads:
        assert b"\r\nHost: shop.example\r\n" in head
        assert b"\r\nAuthorization: secret: a, b\r\n" in head
    (folder,) = tmp_path.glob("reports/*")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["headers"] == {"Host": "…", "Authorization": "…"}
    assert "secret" not in out + err


def test_a_folder_that_cannot_be_written_is_one_line_and_exit_2(
    server: ScriptedServer, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    code, _, complaints = Process(server.port, "--zd-out", "file/x", cwd=tmp_path).end()
    assert code == 2
    assert "zdtest: " in complaints
    assert "Traceback" not in complaints


def test_a_load_that_saw_no_failure_exits_0_with_its_summary(
    server: ScriptedServer, tmp_path: Path
) -> None:
    options = ["--rate", "100", "--run-time", "4s", "--zd-out", "run"]
    code, out, complaints = Process(server.port, *options, cwd=tmp_path).end()
    assert code == 0, complaints
    recording = Recording.read(tmp_path / "run")
    trailer = recording.trailer
    assert trailer is not None
    assert trailer["count"] == trailer["scheduled"] == len(recording.samples) > 50
    assert trailer["reached_rate"] == trailer["offered_rate"] == 100
    assert (trailer["dropped"], trailer["unsent"], trailer["interrupted"]) == (0, 0, False)
    assert 0 <= trailer["lag_p50_ms"] <= trailer["lag_p99_ms"] <= trailer["lag_max_ms"] < 1000
    assert "nothing failed: failure rate below " in out
    assert "recorded in run" in out
    assert "Traceback" not in complaints
    assert recording.manifest["seed"] == 1


def test_a_load_that_saw_failures_exits_1_and_says_when_and_how_long(tmp_path: Path) -> None:
    options = ["--rate", "100", "--channels", "new", "--run-time", "4s", "--zd-out", "run"]
    code, out, _ = Process(nobody(), *options, cwd=tmp_path).end()
    assert code == 1
    count = len(Recording.read(tmp_path / "run").samples)
    assert re.search(rf"^new +{count} +{count}  refused={count}$", out, re.M), out
    assert re.search(rf"^new +at \+0.000 s for .* or more: {count} of {count} failed", out, re.M)


@pytest.mark.parametrize("more", [(), ("--processes", "2")])
def test_a_channels_text_is_looked_for_in_its_bodies_alone(
    server: ScriptedServer, tmp_path: Path, more: tuple[str, ...]
) -> None:
    channels = "new=1#he%6Clo,reused=1#price%2C|hell,idle=1#price,write=1"
    options = ["--channels", channels, "--rate", "60", "--run-time", "4s", *more]
    code, out, err = Process(server.port, *options, "--zd-out", "run", cwd=tmp_path).end()
    assert code == 1, out + err
    samples = Recording.read(tmp_path / "run").samples
    wrong = samples.outcome == Outcome.bad_body
    assert set(samples.channel[wrong].tolist()) == {CHANNELS.index("idle")}
    assert (wrong == (samples.channel == CHANNELS.index("idle"))).all()


def test_a_load_that_cannot_keep_up_exits_3_and_says_so(tmp_path: Path) -> None:
    options = ["--rate", "200000", "--channels", "new", "--run-time", "4s", "--zd-out", "run"]
    code, out, _ = Process(nobody(), *options, cwd=tmp_path).end()
    assert code == 3
    assert "THE LOAD FAILED: it did not reach the rate" in out


def test_a_recording_is_never_overwritten(server: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "samples.arrows").write_bytes(b"evidence")
    options = ["--run-time", "4s", "--zd-out", "run"]
    _, out, _ = Process(server.port, *options, cwd=tmp_path).end()
    assert "recorded in run-2" in out
    assert (tmp_path / "run" / "samples.arrows").read_bytes() == b"evidence"
    assert Recording.read(tmp_path / "run-2").trailer is not None


def test_a_signal_closes_the_recording(server: ScriptedServer, tmp_path: Path) -> None:
    numbers = {"int": signal.SIGINT, "term": signal.SIGTERM}
    cases = [(name, run_time) for name in numbers for run_time in ("60s", "")]
    processes = {}
    for name, run_time in cases:
        where = f"{name}{run_time}"
        options = ["--zd-out", where, "--zd-news", f"{where}.news"]
        options += ["--run-time", run_time] if run_time else []
        processes[where] = Process(server.port, *options, cwd=tmp_path)
    for name, run_time in cases:
        where = f"{name}{run_time}"
        seen(lambda: len(news(tmp_path / f"{where}.news")) > 2)  # noqa: B023
        processes[where].signal(numbers[name])
        code, _, complaints = processes[where].end()
        assert code in (0, 3), complaints
        assert "Traceback" not in complaints
        _check_closed(tmp_path / where, interrupted=bool(run_time))


def _check_closed(folder: Path, *, interrupted: bool) -> None:
    """Assert that nothing is missing of the recording, nor of the news about it."""
    recording = Recording.read(folder)
    assert recording.trailer is not None
    assert recording.trailer["interrupted"] is interrupted
    assert recording.trailer["count"] == len(recording.samples)
    told = news(folder.with_name(f"{folder.name}.news"))
    assert set(told[0]) == {"began"}
    assert set(told[-1]) == {"t", "done", "failed", "on_the_way", "lag_ms"}
    assert (told[-1]["done"], told[-1]["on_the_way"]) == (len(recording.samples), 0)


def test_a_kill_leaves_what_was_written_and_no_trailer(
    server: ScriptedServer, tmp_path: Path
) -> None:
    process = Process(server.port, "--zd-out", "run", "--rate", "4000", cwd=tmp_path)
    path = tmp_path / "run" / "samples.arrows"
    seen(lambda: path.exists() and path.stat().st_size > 20_000)
    process.signal(signal.SIGKILL)
    process.end()
    recording = Recording.read(tmp_path / "run")
    assert recording.trailer is None
    assert len(recording.samples) > 500


def test_a_full_disk_is_a_failure_of_the_load(server: ScriptedServer, tmp_path: Path) -> None:
    options = ["--run-time", "4s", "--zd-out", "run"]
    code, out, complaints = Process(server.port, *options, cwd=tmp_path, file_size=3_000).end()
    assert code == 3
    assert "zdtest: cannot write the recording" in complaints
    assert "THE LOAD FAILED" in out


# The web page.


class Page:
    """Locust's web page, used as a browser would."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self._url + path, timeout=5) as answer:
            return json.load(answer)

    def post(self, path: str, **form: object) -> Any:
        data = urllib.parse.urlencode(form).encode()
        with urllib.request.urlopen(self._url + path, data, timeout=5) as answer:
            return json.load(answer)

    def up(self) -> bool:
        try:
            self.get("/stats/requests")
        except OSError:
            return False
        return True

    def row(self, name: str) -> dict[str, Any]:
        rows = self.get("/stats/requests")["stats"]
        return next((row for row in rows if row["name"] == name), {})


def test_the_web_page_starts_and_stops_one_test_after_another(
    server: ScriptedServer, tmp_path: Path
) -> None:
    page = Page(port := free_port())
    options = ["--web-host", "127.0.0.1", "--web-port", str(port), "--rate", "100"]
    process = Process(0, *options, cwd=tmp_path, headless=False)
    try:
        seen(page.up)
        host = f"http://127.0.0.1:{server.port}"
        assert page.post("/swarm", user_count=1, spawn_rate=1, host=host)["success"]
        row = seen(lambda: (row := page.row("new")).get("num_requests", 0) >= 100 and row)
        assert row["num_failures"] == 0
        assert 0 <= row["min_response_time"] <= row["median_response_time"] < 1000
        total = page.row("Aggregated")
        assert total["num_requests"] == pytest.approx(2 * page.row("new")["num_requests"], abs=150)
        seen(lambda: 10 < page.row("Aggregated")["current_rps"] < 300)
        page.post("/stop")
        seen(lambda: len(list(tmp_path.glob("reports/*/samples.arrows"))) == 1)
        gone = f"http://127.0.0.1:{nobody()}"
        assert page.post("/swarm", user_count=1, spawn_rate=1, host=gone, seed="7", rate=50)[
            "success"
        ]
        seen(lambda: page.row("new").get("num_failures", 0) > 20)
        errors = page.get("/stats/requests")["errors"]
        assert {error["error"] for error in errors} == {"refused"}
        page.post("/stop")
        folders = seen(lambda: len(found := sorted(tmp_path.glob("reports/*"))) == 2 and found)
        trailers = seen(
            lambda: all(found := [Recording.read(each).trailer for each in folders]) and found
        )
        assert [trailer["offered_rate"] for trailer in trailers] == [100, 50]
        assert [Recording.read(each).manifest["seed"] for each in folders] == [1, 7]
        assert page.post("/swarm", user_count=1, spawn_rate=1, host="ftp://x")["success"]
        seen(lambda: page.get("/exceptions")["exceptions"])
    finally:
        process.signal(signal.SIGTERM)
        _, out, complaints = process.end()
    assert out.count("OUTAGE SUMMARY") == 2
    assert "Traceback" not in complaints
