"""The sample app as its clients and its journal see it: real processes on the loopback."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sample_app.settings import Settings, SettingsError

ROOT = Path(__file__).parent.parent
PATIENCE = 10.0
"""Seconds after which anything counts as hung; nothing here waits for it to pass."""


@dataclass
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes
    took: float


class App:
    """One instance; `journal` holds its lines and those of whoever shares the file."""

    words = ("sample_app",)

    def __init__(self, journal: Path, **environment: str) -> None:
        self.path = journal
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by `end`)
        self.process = subprocess.Popen(
            [sys.executable, "-m", *self.words],
            cwd=ROOT,
            env={**os.environ, "PORT": "0", "JOURNAL": str(journal), **environment},
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def ready(self) -> App:
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        at = re.search(r":(\d+)$", said)
        assert at, f"never ready, said {said!r}"
        self.port = int(at[1])
        return self

    def client(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **head: str) -> Reply:
        client = self.client()
        try:
            return ask(client, path, method, body, **head)
        finally:
            client.close()

    def order(self, body: bytes = b"one", **head: str) -> Reply:
        return self.ask("/orders", "POST", body, **head)

    def told(self, *events: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [line for line in lines if not events or line["event"] in events]

    def until(self, event: str, **about: object) -> dict[str, Any]:
        """Return the first such line, as soon as it is there."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.path.exists():
                for line in self.told(event):
                    if about.items() <= line.items():
                        return line
            time.sleep(0.005)
        raise AssertionError(f"no {event} {about} in {self.told()}")

    def signal(self, number: int = signal.SIGTERM) -> float:
        self.process.send_signal(number)
        return time.monotonic()

    def exit(self) -> int:
        return self.process.wait(PATIENCE)

    def refuses(self) -> bool:
        try:
            self.connect().close()
        except ConnectionRefusedError:
            return True
        return False

    def end(self) -> None:
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        with self.errors as errors:
            errors.seek(0)
            said = errors.read()
        assert "Traceback" not in said


def ask(
    client: http.client.HTTPConnection,
    path: str,
    method: str = "GET",
    body: bytes | None = None,
    **head: str,
) -> Reply:
    begin = time.monotonic()
    headers = {name.replace("_", "-"): value for name, value in head.items()}
    client.request(method, path, body, headers)
    reply = client.getresponse()
    content = reply.read()
    return Reply(reply.status, reply.headers, content, time.monotonic() - begin)


@contextmanager
def running(journal: Path, **environment: str) -> Iterator[App]:
    app = App(journal, **environment)
    try:
        yield app.ready()
    finally:
        app.end()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """One instance for everything that leaves it as it was."""
    journal = tmp_path_factory.mktemp("app") / "journal.jsonl"
    named = {"APP_VERSION": "v7", "APP_INSTANCE": "was1", "DEPLOY_NAME": "blue"}
    with running(journal, **named, PROFILE="prod, was1") as app:
        yield app


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/", rf"{socket.gethostname()}, current time : \d{{13}}"),
        ("/1", rf"{socket.gethostname()}, current time : \d{{13}}"),
        ("/healthcheck", "ok"),
        ("/healthcheck/1", "ok"),
        ("/profiles", "prod, was1"),
        ("/healths", "UP"),
        ("/health", "blue"),
        ("/ping", "pong"),
        ("/ready", "ready"),
        ("/livez", "alive"),
    ],
)
def test_the_guides_endpoints_answer_as_the_guides_say(app: App, path: str, answer: str) -> None:
    reply = app.ask(path)
    assert reply.status == 200
    assert re.fullmatch(answer, reply.body.decode())


def test_the_api_says_who_answers(app: App) -> None:
    told = json.loads(app.ask("/api").body)
    assert (told["version"], told["instance"], told["deploy"]) == ("v7", "was1", "blue")


@pytest.mark.parametrize("path", ["/60", "/healthcheck/60"])
def test_a_sleep_lasts_as_long_as_asked(app: App, path: str) -> None:
    assert 0.06 <= app.ask(path).took < 1


@pytest.mark.parametrize(
    "path",
    [
        "/-1",
        "/600001",
        "/1.5",
        "/9" + "9" * 5000,
        "/healthcheck/-1",
        "/events?every=x",
        "/events?for=0",
    ],
)
def test_a_number_that_means_nothing_is_a_bad_request(app: App, path: str) -> None:
    assert app.ask(path).status == 400


@pytest.mark.parametrize("path", ["/nothing", "/healthcheck/soon", "/api/v2", "/orders/none", "/."])
def test_an_unknown_path_is_not_found(app: App, path: str) -> None:
    assert app.ask(path).status == 404


@pytest.mark.parametrize("path", ["/ping", "/1", "/nothing", "/-1", "/download?bytes=1", "/orders"])
def test_every_reply_names_version_instance_and_request(app: App, path: str) -> None:
    headers = app.ask(path, X_Request_ID="r-1").headers
    assert headers.get_all("X-App-Version") == ["v7"]
    assert headers.get_all("X-App-Instance") == ["was1"]
    assert headers.get_all("X-Request-ID") == ["r-1"]


def test_even_the_reply_to_what_is_no_http_names_version_and_instance(app: App) -> None:
    with app.connect() as client:
        client.sendall(b"nonsense\r\n\r\n")
        reply = client.makefile("rb").read()
    assert reply.startswith(b"HTTP/1.1 400")
    assert b"x-app-version: v7" in reply.lower()


def test_a_request_is_in_the_journal_before_it_is_handled(app: App) -> None:
    with app.connect() as client:
        client.sendall(b"GET /1500 HTTP/1.1\r\nHost: x\r\nX-Request-ID: slow\r\n\r\n")
        asked = app.until("request", id="slow")
        assert not [line for line in app.told("answered") if line["id"] == "slow"]
        answered = app.until("answered", id="slow")
    assert (asked["method"], asked["path"]) == ("GET", "/1500")
    assert answered["status"] == 200
    assert answered["t"] - asked["begin"] >= 1.5


def test_an_order_is_run_once_and_can_be_read_again(app: App) -> None:
    reply = app.order(b"tea", X_Request_ID="o-1")
    order = json.loads(reply.body)
    assert reply.status == 201
    assert (order["bytes"], order["sha256"]) == (3, hashlib.sha256(b"tea").hexdigest())
    assert app.ask(reply.headers["Location"]).body == reply.body
    assert [line["order"] for line in app.told("order") if line["id"] == "o-1"] == [order["order"]]


def test_the_same_request_sent_twice_without_a_key_is_run_twice(app: App) -> None:
    first, second = (app.order(X_Request_ID="twice") for _ in range(2))
    assert first.body != second.body
    assert len([line for line in app.told("order") if line["id"] == "twice"]) == 2


def test_a_key_used_with_another_body_is_refused_and_runs_nothing(app: App) -> None:
    app.order(b"one", Idempotency_Key="reused")
    assert app.order(b"two", Idempotency_Key="reused").status == 422
    assert len([line for line in app.told("order") if line["key"] == "reused"]) == 1


def test_half_an_order_is_none(app: App) -> None:
    with app.connect() as client:
        head = (
            b"POST /orders HTTP/1.1\r\nHost: x\r\nX-Request-ID: half\r\nContent-Length: 9\r\n\r\n"
        )
        client.sendall(head + b"half")
        app.until("request", id="half")
    app.order(X_Request_ID="after-half")
    assert not [line for line in app.told("order") if line["id"] == "half"]


def test_a_key_has_one_effect_across_instances_that_share_a_journal(journal: Path) -> None:
    with ExitStack() as stack, ThreadPoolExecutor(16) as pool:
        apps = [App(journal, APP_INSTANCE=f"a{n}", APP_VERSION=f"v{n}") for n in (1, 2)]
        for one in apps:
            stack.callback(one.end)
            one.ready()
        keys = [f"key-{n}" for n in range(10) for _ in range(8)]
        asked = zip(itertools.cycle(apps), keys, strict=False)
        replies = list(pool.map(lambda each: each[0].order(Idempotency_Key=each[1]), asked))
        found = {app.ask(replies[0].headers["Location"]).body for app in apps}
    orders = apps[0].told("order")
    assert sorted(order["key"] for order in orders) == sorted(set(keys))
    assert len({reply.body for reply in replies}) == len(set(keys))
    assert [reply.status for reply in replies] == [201] * len(keys)
    replayed = [reply for reply in replies if reply.headers["Idempotent-Replayed"]]
    assert len(replayed) == len(keys) - len(set(keys))
    assert found == {replies[0].body}


def test_a_key_waits_for_the_instance_that_has_the_journal_to_itself(journal: Path) -> None:
    with running(journal) as app, ThreadPoolExecutor(1) as pool, journal.open("a") as other:
        told = {"order": "17", "id": "r", "key": "k", "bytes": 3, "version": "v0", "instance": "b"}
        told["sha256"] = hashlib.sha256(b"one").hexdigest()
        fcntl.flock(other, fcntl.LOCK_EX)
        reply = pool.submit(app.order, b"one", Idempotency_Key="k")
        app.until("request", path="/orders")
        app.ask("/100")
        assert not reply.done()
        other.write(json.dumps({"t": 0.0, "event": "order", **told}) + "\n")
        other.flush()
        fcntl.flock(other, fcntl.LOCK_UN)
        assert json.loads(reply.result(PATIENCE).body) == told
        assert len(app.told("order")) == 1


def test_what_was_acknowledged_survives_kill_9_and_its_key_the_restart(journal: Path) -> None:
    acknowledged = []
    with running(journal) as app:
        client = app.client()
        try:
            for n in itertools.count():
                reply = ask(
                    client, "/orders", "POST", b"x", X_Request_ID=f"{n}", Idempotency_Key=f"{n}"
                )
                acknowledged.append(reply.body)
                if n == 40:
                    app.signal(signal.SIGKILL)
        except (ConnectionError, http.client.HTTPException):
            pass
        finally:
            client.close()
        assert app.exit() == -signal.SIGKILL
        run = [line["id"] for line in app.told("order")]
        assert run[: len(acknowledged)] == [f"{n}" for n in range(len(acknowledged))]
        assert len(run) - len(acknowledged) in (0, 1)  # the last one may have run unanswered
        assert not app.told("stopped")
    with running(journal) as app:
        assert app.order(b"x", Idempotency_Key="40").body == acknowledged[40]
        assert len(app.told("order")) == len(run)


def test_each_process_has_a_token_of_its_own_in_all_its_lines(journal: Path) -> None:
    """The second in a container has the first one's pid; here only the name is the same."""
    tokens = []
    for _ in range(2):
        with running(journal) as app:
            app.order(b"x")
            mine = {line["process"] for line in app.told("started", "ready", "request", "order")}
            tokens.append(mine - set().union(*tokens))
    assert [len(each) for each in tokens] == [1, 1]


def messages(
    app: App, count: int, every: str, **head: str
) -> list[tuple[int, float, dict[str, Any]]]:
    """Return number, arrival and data of that many messages."""
    client = app.client()
    try:
        client.request("GET", f"/events?every={every}", headers=head)
        reply = client.getresponse()
        got: list[tuple[int, float, dict[str, Any]]] = []
        assert reply.headers["Content-Type"].startswith("text/event-stream")
        while len(got) < count:
            number, data, _ = (reply.readline().decode() for _ in range(3))
            arrived = time.monotonic()
            got.append((int(number[4:]), arrived, json.loads(data[6:])))
        return got
    finally:
        client.close()


def test_events_keep_their_schedule_however_many_there_were(app: App) -> None:
    received = messages(app, 130, "10ms")
    assert [number for number, _, _ in received] == list(range(1, 131))
    begin = received[0][2]["due"]
    assert [data["due"] - begin for _, _, data in received] == pytest.approx(
        [n * 0.01 for n in range(130)], abs=1e-5
    )
    # The least late of the last ones: noise makes some of them late, drift makes them all late.
    assert min(arrived - data["due"] for _, arrived, data in received[-70:]) < 0.008


def test_events_go_on_after_the_last_one_seen(app: App) -> None:
    assert [n for n, _, _ in messages(app, 2, "10ms", **{"Last-Event-ID": "41"})] == [42, 43]


def test_events_end_in_due_form_where_they_are_asked_to(app: App) -> None:
    client = app.client()
    try:
        client.request("GET", "/events?every=20ms&for=90ms")
        reply = client.getresponse()
        body = reply.read()  # raises IncompleteRead for one that was cut
    finally:
        client.close()
    assert [line for line in body.split(b"\n") if line.startswith(b"id: ")] == [
        b"id: %d" % number for number in range(1, 6)
    ]
    assert reply.headers["X-Accel-Buffering"] == "no"


@pytest.mark.parametrize("length", [0, 1, 65536, 1_000_001])
def test_a_download_is_what_its_hash_says(app: App, length: int) -> None:
    whole = app.ask(f"/download?bytes={length}")
    chunked = app.ask(f"/download?bytes={length}&chunked=1")
    assert whole.headers["Content-Length"] == str(len(whole.body)) == str(length)
    assert chunked.headers["Transfer-Encoding"] == "chunked"
    assert whole.body == chunked.body
    assert hashlib.sha256(whole.body).hexdigest() == whole.headers["X-Content-SHA256"]


def test_nothing_listens_before_the_boot_is_over(journal: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    app = App(journal, PORT=str(port), BOOT_SECONDS="700ms", BOOT_CPU_SECONDS="0.01")
    app.port, refused = port, 0
    try:
        while app.refuses():
            refused += 1
            time.sleep(0.01)
        answered = time.monotonic()
        assert app.ask("/ready").status == 200
    finally:
        app.end()
    started, ready, request = app.told("started", "ready", "request")[:3]
    assert [line["event"] for line in (started, ready, request)] == ["started", "ready", "request"]
    assert ready["t"] - started["t"] >= 0.69
    assert answered >= started["t"] + 0.69
    assert refused > 10


def test_sigterm_ends_a_boot(journal: Path) -> None:
    app = App(journal, BOOT_SECONDS="30", SHUTDOWN="graceful")
    try:
        app.until("started")
        time.sleep(
            0.5
        )  # the first moments of a process have the default handler, which also ends it
        app.signal()
        assert app.exit() in (143, -signal.SIGTERM)
        assert not app.told("ready")
    finally:
        app.end()


def test_an_immediate_shutdown_cuts_requests_in_flight(journal: Path) -> None:
    with running(journal, SHUTDOWN="immediate") as app, app.connect() as slow:
        slow.sendall(b"GET /5000 HTTP/1.1\r\nHost: x\r\n\r\n")
        app.until("request", path="/5000")
        told = app.signal()
        assert received(slow) == b""
        assert app.exit() == 143
        assert time.monotonic() - told < 4, "it does not wait for its request"
        assert app.refuses()
        assert [line["event"] for line in app.told()][-2:] == ["term", "stopped"]
        assert app.told("stopped")[0]["cut"] == 1
        assert not app.told("answered")


def received(client: socket.socket) -> bytes:
    """Return everything up to the end, be it an EOF or a reset."""
    got = b""
    try:
        while block := client.recv(65536):
            got += block
    except ConnectionResetError:
        pass
    return got


def test_a_graceful_shutdown_lets_requests_finish_and_closes_idle_connections(
    journal: Path,
) -> None:
    with running(journal, SHUTDOWN="graceful") as app, app.connect() as slow:
        idle = app.client()
        ask(idle, "/ping")
        slow.sendall(b"GET /1500 HTTP/1.1\r\nHost: x\r\n\r\n")
        asked = app.until("request", path="/1500")
        app.signal()
        assert received(idle.sock) == b""
        assert time.monotonic() < asked["begin"] + 1.5
        idle.close()
        app.signal()  # a second one shortens nothing
        assert app.refuses()
        reply = received(slow)
        assert b"200 OK" in reply
        assert b"connection: close" in reply.lower()
        assert b"current time" in reply
        assert app.exit() == 0
    events = [line["event"] for line in app.told("term", "draining", "answered", "stopped")]
    assert events == ["answered", "term", "draining", "answered", "stopped"]
    assert app.told("stopped")[0]["cut"] == 0
    assert all(line["t"] < app.told("stopped")[0]["closed"] for line in app.told("request"))


def test_a_graceful_shutdown_cuts_a_stream_when_its_time_is_over(journal: Path) -> None:
    with running(journal, SHUTDOWN="graceful", SHUTDOWN_TIMEOUT="1s") as app:
        with app.connect() as stream:
            stream.sendall(b"GET /events?every=20ms HTTP/1.1\r\nHost: x\r\n\r\n")
            app.until("request", path="/events")
            told = app.signal()
            got = received(stream)
            assert time.monotonic() - told >= 1
        assert app.exit() == 0
        assert got.count(b"id: ") > 10
        assert not got.endswith(b"0\r\n\r\n")
        assert app.told("stopped")[0]["cut"] == 1


def test_a_drain_asks_clients_to_leave_and_serves_them_meanwhile(journal: Path) -> None:
    with running(journal, DRAIN_SECONDS="2") as app:
        kept = app.client()
        assert ask(kept, "/ping").headers["Connection"] is None
        told = app.signal()
        app.until("draining")
        assert ask(kept, "/ping").headers["Connection"] == "close"
        kept.close()
        for path, status in {"/ready": 503, "/healthcheck": 503, "/healths": 200, "/": 200}.items():
            reply = app.ask(path)
            assert (reply.status, reply.headers["Connection"]) == (status, "close")
        assert app.exit() == 143
        assert app.told("stopped")[0]["closed"] - told >= 1.99
        assert app.refuses()


def test_sigterm_can_be_ignored(journal: Path) -> None:
    with running(journal, IGNORE_SIGTERM="1") as app:
        app.signal()
        assert app.until("term")["ignored"] is True
        assert app.ask("/ping").status == 200
        app.signal(signal.SIGINT)
        assert app.exit() == 130


def test_a_request_waits_while_all_workers_are_busy(journal: Path) -> None:
    with running(journal, WORKERS="2") as app, ThreadPoolExecutor(3) as pool:
        began = time.monotonic()
        slow = [pool.submit(app.ask, "/1000") for _ in range(3)]
        while len(app.told("request")) < 3:
            time.sleep(0.005)
        app.ask("/ping", X_Request_ID="check")
        took = sorted(one.result().took for one in slow)
        lasted = time.monotonic() - began
    assert took[0] >= 1
    assert took[1] - took[0] < 0.8  # two at a time: one after the other would be 1 apart
    # Since the first was sent: on a busy machine the last one is sent later, and so waits less.
    assert lasted >= 2
    assert app.told("answered")[0]["id"] != "check"  # a health check stands in the same queue


def test_a_connection_waits_while_there_are_as_many_as_allowed(journal: Path) -> None:
    with running(journal, MAX_CONNECTIONS="1") as app:
        first = app.client()
        ask(first, "/ping")
        with app.connect() as second:
            second.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            second.settimeout(0.2)
            with pytest.raises(TimeoutError):
                second.recv(1)
            assert not [line for line in app.told("request") if line["path"] == "/livez"]
            first.close()
            second.settimeout(PATIENCE)
            assert second.recv(8) == b"HTTP/1.1"


def test_an_idle_connection_is_closed_after_its_time(journal: Path) -> None:
    with running(journal, KEEP_ALIVE="200ms") as app:
        client = app.client()
        begin = time.monotonic()
        ask(client, "/ping")
        assert received(client.sock) == b""
        assert 0.1 < time.monotonic() - begin < 2
        client.close()


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("PORT", "http", "a whole number from 0 to 65535"),
        ("PORT", "65536", "a whole number from 0 to 65535"),
        ("WORKERS", "0", "a whole number from 1 to 10000"),
        ("APP_VERSION", "v 2", "letters, digits"),
        ("PROFILE", "prod,w\n1", "letters, digits"),
        ("SHUTDOWN", "gracefull", "immediate or graceful"),
        ("BOOT_SECONDS", "-1", "a duration such as"),
        ("DRAIN_SECONDS", "nan", "a duration such as"),
        ("IGNORE_SIGTERM", "maybe", "1 or 0"),
    ],
)
def test_a_variable_that_means_nothing_is_named_with_what_was_expected(
    variable: str, value: str, expected: str
) -> None:
    with pytest.raises(SettingsError, match=rf"^{variable} .*expected .*{expected}"):
        Settings.of({variable: value})


def test_a_start_that_cannot_succeed_says_why_in_one_line(app: App, tmp_path: Path) -> None:
    for code, environment, says in [
        (2, {"PORT": "x"}, "PORT 'x': expected"),
        (2, {"JOURNAL": str(tmp_path / "none" / "j")}, "No such file or directory: expected"),
        (1, {"PORT": str(app.port)}, "expected a free port"),
    ]:
        ended = subprocess.run(
            [sys.executable, "-m", "sample_app"],
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert ended.returncode == code
        assert says in ended.stderr
        assert ended.stderr.count("\n") == 1
