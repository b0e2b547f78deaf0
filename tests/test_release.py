"""Each broken release, as its clients and its journal see it: real processes on the loopback."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest
from test_sample_app import PATIENCE, ROOT, App, ask, received, running

from sample_app.release import LATE, RELEASES, Release
from sample_app.settings import Settings, SettingsError
from zdtest import history
from zdtest.records.journal import Journal
from zdtest.records.recording import ROW, Samples
from zdtest.records.sample import CHANNELS, Outcome

HEALTH = ("/ping", "/ready", "/healthcheck", "/healths", "/health", "/livez", "/profiles")


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def statuses(app: App, *paths: str) -> list[int]:
    return [app.ask(path).status for path in paths]


@pytest.mark.parametrize(
    ("value", "release"),
    [
        ("", Release("good")),
        ("good", Release("good")),
        ("sick-after:3", Release("sick-after", 3.0)),
        ("sick-after:250ms", Release("sick-after", 0.25)),
        ("slow:300", Release("slow", 0.3)),
        ("leak:8", Release("leak", 8)),
        ("twice", Release("twice")),
    ],
)
def test_a_release_is_named_with_its_amount(value: str, release: Release) -> None:
    assert Settings.of({"RELEASE": value}).release == release


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bad", "expected one of good, never-ready"),
        ("slow", "slow:MS"),
        ("twice:2", "expected one of"),
        ("slow:", "a whole number from 0 to 600000"),
        ("slow:1s", "a whole number from 0 to 600000"),
        ("sick-after:soon", "a duration"),
        ("leak:0", "a whole number from 1 to 512"),
        ("leak:513", "a whole number from 1 to 512"),
    ],
)
def test_a_release_that_means_nothing_is_refused(value: str, expected: str) -> None:
    with pytest.raises(SettingsError, match=rf"^RELEASE .*{expected}"):
        Settings.of({"RELEASE": value})


def test_every_release_is_in_the_readme() -> None:
    text = (ROOT / "sample_app" / "README.md").read_text()
    for name, unit in RELEASES.items():
        assert f"| `{name}{':' if unit else ''}{unit}` |" in text


def test_never_ready_listens_and_says_503_for_ever(journal: Path) -> None:
    with running(journal, RELEASE="never-ready") as app:
        assert statuses(app, "/ready", "/ping", "/healthcheck") == [503] * 3
        assert statuses(app, "/livez", "/") == [200] * 2
        assert not app.told("ready")


def test_a_crash_ends_the_boot_and_never_listens(journal: Path) -> None:
    port = str(free_port())
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "sample_app"],
        cwd=ROOT,
        env={
            **os.environ,
            "PORT": port,
            "JOURNAL": str(journal),
            "BOOT_SECONDS": "0.3",
            "RELEASE": "crash",
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert time.monotonic() - began >= 0.29
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    events = [json.loads(line)["event"] for line in journal.read_text().splitlines()]
    assert events == ["started", "stopped"]


def test_sick_at_once_is_healthy_and_answers_500(journal: Path) -> None:
    with running(journal, RELEASE="sick-at-once") as app:
        assert statuses(app, *HEALTH) == [200] * len(HEALTH)
        assert statuses(app, "/", "/api", "/download?bytes=1") == [500] * 3
        assert app.order().status == 500
        assert app.ask("/", X_Request_ID="r").headers["X-App-Version"] == "v1"
        assert not app.told("order")


def test_sick_after_is_well_until_then_and_then_wholly_ill(journal: Path) -> None:
    with running(journal, RELEASE="sick-after:800ms") as app:
        (ready,) = app.told("ready")
        assert statuses(app, "/ping", "/api") == [200, 200]
        while app.ask("/api").status == 200:
            time.sleep(0.02)
        assert time.monotonic() - ready["t"] >= 0.79
        assert statuses(app, "/ping", "/ready", "/", "/livez") == [500] * 4


def test_slow_is_late_with_business_only(journal: Path) -> None:
    with running(journal, RELEASE="slow:800") as app:
        assert app.ask("/api").took >= 0.8
        assert app.order().took >= 0.8
        assert app.ask("/ping").took < 0.8


def test_a_wrong_body_has_every_byte_flipped_and_is_as_long(journal: Path) -> None:
    with running(journal, RELEASE="wrong-body") as app:
        reply = app.ask("/api")
        assert reply.status == 200
        assert b"version" not in reply.body
        right = bytes(byte ^ 0x20 for byte in reply.body)
        assert json.loads(right)["version"] == "v1"
        loaded = app.ask("/download?bytes=70000")
        assert len(loaded.body) == 70000
        assert hashlib.sha256(loaded.body).hexdigest() != loaded.headers["X-Content-SHA256"]
        assert app.ask("/ping").body == b"pong"


def test_a_leak_serves_until_its_limit_kills_it(journal: Path) -> None:
    with running(journal, RELEASE="leak:260") as app:
        assert statuses(app, "/api", "/ping", "/ping") == [200] * 3
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            app.ask("/api")
        assert app.exit() == 137
        assert not app.told("stopped")


def test_acks_before_commit_loses_what_it_answered_when_killed_in_between(journal: Path) -> None:
    with running(journal, RELEASE="acks-before-commit") as app:
        assert app.order(X_Request_ID="kept").status == 201
        app.until("order", id="kept")
        assert app.order(X_Request_ID="lost").status == 201
        app.signal(signal.SIGKILL)
        app.exit()
        assert [line["id"] for line in app.told("order")] == ["kept"]


def test_twice_runs_an_order_twice(journal: Path) -> None:
    with running(journal, RELEASE="twice") as app:
        order = json.loads(app.order(X_Request_ID="o").body)
        ran = app.told("order")
        assert [line["id"] for line in ran] == ["o", "o"]
        assert ran[1]["order"] == order["order"] != ran[0]["order"]


def test_a_release_that_forgets_keys_knows_those_of_its_own_process(journal: Path) -> None:
    with ExitStack() as stack:
        apps = [App(journal, APP_INSTANCE=name, RELEASE="forgets-keys") for name in "ab"]
        for one in apps:
            stack.callback(one.end)
            one.ready()
        first, again, elsewhere = (
            apps[n].order(Idempotency_Key="k", X_Request_ID=f"{n}") for n in (0, 0, 1)
        )
    assert first.body == again.body != elsewhere.body
    assert [line["instance"] for line in apps[0].told("order")] == ["a", "b"]


def test_a_release_that_notes_keys_first_breaks_at_every_fifth_and_answers_it_afterwards(
    journal: Path,
) -> None:
    with running(journal, RELEASE="notes-keys-first") as app:
        asked = [app.order(Idempotency_Key=f"k{n}", X_Request_ID=f"{n}") for n in range(6)]
        again = app.order(Idempotency_Key="k4", X_Request_ID="again")
        unkeyed = [app.order() for _ in range(6)]
    assert [one.status for one in asked] == [201, 201, 201, 201, 500, 201]
    assert (again.status, again.headers["Idempotent-Replayed"]) == (201, "true")
    assert {one.status for one in unkeyed} == {201}
    assert "k4" not in [line["key"] for line in app.told("order")]
    assert [line["id"] for line in app.told("replayed")] == ["again"]


@pytest.mark.parametrize(
    ("release", "first", "resumed"),
    [("good", 1, 8), ("loses-messages", 1, 9), ("repeats-messages", 1, 7)],
)
def test_a_stream_goes_on_where_its_release_resumes_it(
    journal: Path, release: str, first: int, resumed: int
) -> None:
    with running(journal, RELEASE=release) as app:
        found = []
        for last in ("", "Last-Event-ID: 7\r\n"):
            with app.connect() as stream:
                stream.sendall(f"GET /events?every=10ms HTTP/1.1\r\nHost: x\r\n{last}\r\n".encode())
                got = b""
                while got.count(b"id: ") < 3:
                    got += stream.recv(65_536)
            found.append([int(id) for id in re.findall(rb"id: (\d+)\n", got)[:3]])
    assert found == [[first + n for n in range(3)], [resumed + n for n in range(3)]]


def test_a_good_repeat_of_a_key_is_told_as_replayed(journal: Path) -> None:
    with running(journal) as app:
        order = json.loads(app.order(Idempotency_Key="k", X_Request_ID="1").body)
        app.order(Idempotency_Key="k", X_Request_ID="2")
        (line,) = app.told("replayed")
    assert (line["id"], line["key"], line["order"]) == ("2", "k", order["order"])


@pytest.mark.parametrize("path", ["/api", "/download?bytes=100000", "/download?chunked=1"])
def test_a_cut_body_begins_with_200_and_ends_in_the_middle(journal: Path, path: str) -> None:
    with running(journal, RELEASE="cuts-body") as app:
        with pytest.raises(http.client.IncompleteRead):
            app.ask(path)
        assert app.ask("/ping").body == b"pong"


def test_a_stream_is_cut_in_its_first_message(journal: Path) -> None:
    with running(journal, RELEASE="cuts-body") as app, app.connect() as stream:
        stream.sendall(b"GET /events?every=10ms HTTP/1.1\r\nHost: x\r\n\r\n")
        got = received(stream)
    assert b" 200 " in got
    assert b"id: 1" in got
    assert b"id: 2" not in got


@pytest.mark.parametrize("shutdown", ["immediate", "graceful"])
def test_a_late_listener_accepts_after_it_said_it_had_closed_and_drops(
    journal: Path, shutdown: str
) -> None:
    with running(journal, RELEASE="late-listener", SHUTDOWN=shutdown) as app:
        told = app.signal()
        app.until("term")
        time.sleep(0.3)
        with app.connect() as late:
            late.sendall(b"GET /api HTTP/1.1\r\nHost: x\r\nX-Request-ID: late\r\n\r\n")
            assert received(late) == b""
        assert app.exit() == (0 if shutdown == "graceful" else 143)
        assert time.monotonic() - told >= LATE
        (request,), (stopped,) = app.told("request"), app.told("stopped")
    assert request["begin"] > stopped["closed"] + 0.1
    assert not app.told("answered")


def test_ignores_term_goes_on(journal: Path) -> None:
    with running(journal, RELEASE="ignores-term") as app:
        app.signal()
        assert app.until("term")["ignored"] is True
        assert app.ask("/ping").status == 200


def test_serves_before_ready_answers_business_during_its_boot(journal: Path) -> None:
    port = free_port()
    app = App(journal, PORT=str(port), BOOT_SECONDS="5", RELEASE="serves-before-ready")
    app.port = port
    try:
        app.until("started")
        while app.refuses():
            time.sleep(0.01)
        assert statuses(app, "/ready", "/api") == [503, 200]
        ready = app.until("ready")
        assert app.told("request")[0]["begin"] < ready["t"]
        assert app.ask("/ready").status == 200
    finally:
        app.end()


def test_the_good_release_has_nothing_around_it() -> None:
    from sample_app.readiness import Readiness
    from sample_app.sickness import sickened

    def app() -> None: ...

    assert sickened(app, Release(), Readiness()) is app  # type: ignore[arg-type, comparison-overlap]


def test_a_kept_connection_of_a_sick_release_stays_usable(journal: Path) -> None:
    with running(journal, RELEASE="sick-at-once") as app:
        client = app.client()
        try:
            assert [ask(client, "/orders", "POST", b"x").status for _ in range(3)] == [500] * 3
        finally:
            client.close()


# Each mutant of the app turns the check red that it was made for.


def recorded(*outcomes: Outcome, channel: str = "write") -> Samples:
    """Return what a client saw of requests ``r-00000000``, ``r-00000001``, …"""
    rows = np.zeros(len(outcomes), ROW)
    rows["seq"] = np.arange(len(outcomes))
    rows["outcome"], rows["channel"] = outcomes, CHANNELS.index(channel)
    return Samples.from_rows(rows)


def place(app: App, seq: int, **head: str) -> None:
    assert app.order(X_Request_ID=f"r-{seq:08x}", **head).status == 201


@pytest.mark.parametrize(
    ("release", "lost", "twice"),
    [("good", 0, 0), ("acks-before-commit", 2, 0), ("twice", 0, 2)],
)
def test_the_judge_sees_what_an_app_does_to_its_writes(
    journal: Path, release: str, lost: int, twice: int
) -> None:
    with running(journal, RELEASE=release) as app:
        place(app, 0)
        place(app, 1)
        app.signal(signal.SIGKILL)
        app.exit()
    found = history.writes(recorded(Outcome.ok, Outcome.ok), Journal.read(journal), "r")
    assert (found.lost, found.twice, found.phantom) == (lost, twice, 0)


@pytest.mark.parametrize(("release", "broken"), [("good", 0), ("forgets-keys", 1)])
def test_the_judge_sees_a_key_that_was_forgotten(journal: Path, release: str, broken: int) -> None:
    with ExitStack() as stack:
        for seq, name in enumerate("ab"):
            one = App(journal, APP_INSTANCE=name, RELEASE=release)
            stack.callback(one.end)
            place(one.ready(), seq, Idempotency_Key="k")
    read = Journal.read(journal)
    assert history.key_twice(read, "r").count == broken
    assert history.writes(recorded(Outcome.ok, Outcome.ok), read, "r").lost == 0


@pytest.mark.parametrize(("release", "broken"), [("good", 0), ("serves-before-ready", 1)])
def test_the_judge_sees_a_request_accepted_before_ready(
    journal: Path, release: str, broken: int
) -> None:
    port = free_port()
    app = App(journal, PORT=str(port), BOOT_SECONDS="5", RELEASE=release)
    app.port = port
    try:
        while app.refuses():
            time.sleep(0.01)
        app.ask("/api", X_Request_ID="r-00000000")
        app.until("ready")
        app.ask("/api", X_Request_ID="r-00000001")
    finally:
        app.end()
    assert history.early(Journal.read(journal), "r").count == broken


def test_the_judge_sees_requests_that_were_sent_to_what_was_never_ready(journal: Path) -> None:
    with running(journal, RELEASE="never-ready") as app:
        app.ask("/ping")
        app.ask("/api", X_Request_ID="r-00000000")
    assert history.early(Journal.read(journal), "r").count == 1


@pytest.mark.parametrize(("release", "broken"), [("good", 0), ("late-listener", 1)])
def test_the_judge_sees_a_listener_that_closed_late(
    journal: Path, release: str, broken: int
) -> None:
    with running(journal, RELEASE=release, DRAIN_SECONDS="0.2") as app:
        app.ask("/api", X_Request_ID="r-00000000")
        app.signal()
        app.until("term")
        time.sleep(0.5)
        with suppress(OSError), app.connect() as late:
            late.sendall(b"GET /api HTTP/1.1\r\nHost: x\r\nX-Request-ID: r-00000001\r\n\r\n")
            received(late)
        app.exit()
    assert history.early(Journal.read(journal), "r").count == broken
