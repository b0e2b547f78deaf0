"""The two hand-written load balancers, each run as a person runs it, over real loopback servers."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import queue
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest
import yaml

from zdtest.topologies.custom_lb.hardened.pool import Pool
from zdtest.topologies.custom_lb.hardened.retry import RetryBudget
from zdtest.topologies.custom_lb.hardened.target import Health, Ping, Rotation, Target

Start = Callable[..., "Running"]
FOLDER = Path(__file__).parents[1] / "zdtest/topologies/custom_lb"
LARGE = bytes(range(256)) * 4096 * 4


@dataclass
class Received:
    connection: int
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Backend:
    """A target whose replies are scripted by path; every request but a ping is kept.

    Of pings it keeps when each was answered; the next ones are answered as `pings` says, those
    after them by `ping`.
    """

    name: str
    port: int = 0
    ping: int = 200
    pings: list[int] = field(default_factory=list)
    pinged: list[float] = field(default_factory=list)
    resets: bool = False
    received: list[Received] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    abandoned: threading.Event = field(default_factory=threading.Event)

    def start(self) -> Backend:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        return self

    def stop(self) -> None:
        """As a killed process: the port is closed, and so is every connection."""
        self.gate.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, (_, number) = self._listener.accept()
                self._open.add(connection)
                self._threads.append(
                    threading.Thread(target=self._serve, args=(connection, number))
                )
                self._threads[-1].start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection, connection.makefile("rb") as stream, contextlib.suppress(OSError):
            while (request := _read(stream, number)) and self._answer(connection, request):
                pass
        self._open.discard(connection)

    def _answer(self, connection: socket.socket, request: Received) -> bool:
        """Return whether the connection is kept."""
        if request.path == "/ping":
            if not self.ping:
                return not connection.recv(1)
            self.pinged.append(time.monotonic())
            connection.sendall(_reply(b"", status=self.pings.pop(0) if self.pings else self.ping))
            return request.headers.get("connection") != "close"
        self.received.append(request)
        if self.resets:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        return bool(getattr(self, f"_{request.path.strip('/')}")(connection, request))

    def _echo(self, connection: socket.socket, request: Received) -> bool:
        extra = f"X-App-Instance: {self.name}\r\nX-Twice: 1\r\nX-Twice: 2\r\n"
        connection.sendall(_reply(request.body, extra))
        return request.headers.get("connection") != "close"

    def _last(self, connection: socket.socket, request: Received) -> bool:
        connection.sendall(_reply(b"last", "Connection: close\r\n"))
        # It stays open: who uses it again gets no answer.
        return not connection.recv(1)

    def _once(self, connection: socket.socket, request: Received) -> bool:
        """Answer the first request of a connection, and close it on the next, unanswered."""
        if sum(r.connection == request.connection for r in self.received) > 1:
            return False
        connection.sendall(_reply(b"once"))
        return True

    def _events(self, connection: socket.socket, request: Received) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"9\r\ndata: 1\n\n\r\n")
        self.gate.wait(5)
        connection.sendall(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")
        return True

    def _large(self, connection: socket.socket, request: Received) -> bool:
        connection.sendall(_reply(LARGE))
        return True

    def _unsized(self, connection: socket.socket, request: Received) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")
        return False

    def _cut(self, connection: socket.socket, request: Received) -> bool:
        """Send a head and part of the body that it promises, and leave, unless it is `b`."""
        if self.name == "b":
            return self._echo(connection, request)
        length = int(request.headers.get("x-length", "100"))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nonly this" % length)
        return False

    def _half(self, connection: socket.socket, request: Received) -> bool:
        """Send half a head, and leave, unless it is `b`."""
        if self.name == "b":
            return self._echo(connection, request)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-")
        return False

    def _stall(self, connection: socket.socket, request: Received) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nonly")
        return not connection.recv(1)

    def _sick(self, connection: socket.socket, request: Received) -> bool:
        connection.sendall(_reply(b"", status=500 if self.name == "a" else 200))
        return True

    def _cutchunks(self, connection: socket.socket, request: Received) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"9\r\ndata: 1\n\n\r\n")
        return False

    def _broken(self, connection: socket.socket, request: Received) -> bool:
        connection.sendall(_reply(b"", status=500))
        return True

    def _targets(self, connection: socket.socket, request: Received) -> bool:
        connection.sendall(_reply(b"the app's own"))
        return True

    def _hang(self, connection: socket.socket, request: Received) -> bool:
        if not connection.recv(1):
            self.abandoned.set()
        return False

    def _wait(self, connection: socket.socket, request: Received) -> bool:
        self.gate.wait(5)
        connection.sendall(_reply(b"waited"))
        return True


def _read(stream: IO[bytes], number: int) -> Received | None:
    lines = list(iter(lambda: stream.readline().decode("latin-1").strip(), ""))
    if not lines:
        return None
    method, path, _ = lines[0].split()
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(stream.readline(), 16):
            body += stream.read(size)
            stream.readline()
        stream.readline()
    else:
        body = stream.read(int(headers.get("content-length", 0)))
    return Received(number, method, path, headers, body)


def _reply(body: bytes, extra: str = "", status: int = 200) -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


class Running:
    """A balancer in its own process, its log read line by line."""

    def __init__(self, variant: str, config: Path, *backends: Backend) -> None:
        command = [sys.executable, str(FOLDER / variant / "balancer.py")]
        command += ["--config", str(config), "--port", "0"]
        command += ["--admin-port", "0"] if variant == "hardened" else []
        for backend in backends:
            command += ["--target", backend.target]
        self._complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self._complaints, text=True
        )
        self.log: list[dict[str, object]] = []
        self._lines: queue.Queue[dict[str, object] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._follow)
        self._reader.start()

    def ready(self, *backends: Backend) -> Running:
        listening = self.until("listening")
        self.port = int(str(listening["port"]))
        self.admin_port = int(str(listening.get("admin_port", 0)))
        for _ in backends if self.admin_port else ():
            self.until("registered")
        return self

    def _follow(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.put(json.loads(line))
        self._lines.put(None)

    def until(self, event: str, timeout: float = 20, **about: object) -> dict[str, object]:
        """Return the next line of its log that says so, passing over others."""
        end = time.monotonic() + timeout
        while line := self._lines.get(timeout=max(0.0, end - time.monotonic())):
            self.log.append(line)
            if line["event"] == event and about.items() <= line.items():
                return line
        raise AssertionError(f"ended without {event}: {self.log}")

    def said(self, event: str) -> list[dict[str, object]]:
        """Return the lines of that event so far."""
        while not self._lines.empty():
            self.log.append(self._lines.get() or {"event": "end"})
        return [line for line in self.log if line["event"] == event]

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        *,
        port: int = 0,
        **headers: str,
    ) -> tuple[int, dict[str, str], bytes]:
        with contextlib.closing(self.client(port)) as client:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            client.request(method, path, body, sent)
            reply = client.getresponse()
            return reply.status, dict(reply.getheaders()), reply.read()

    def admin(self, path: str, value: object = None) -> tuple[int, object]:
        body = None if value is None else json.dumps(value).encode()
        method = "GET" if value is None else "PUT"
        status, _, text = self.ask(path, method, body, port=self.admin_port)
        return status, json.loads(text)

    def client(self, port: int = 0) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=4)

    def raw(self, written: bytes) -> bytes:
        """Return all it answers to these bytes until it closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=4) as connection:
            connection.sendall(written)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout
        self.process.stdout.close()
        with self._complaints as complaints:
            complaints.seek(0)
            assert complaints.read() == "", "nothing but its log, whatever it meets"


@pytest.fixture
def a() -> Iterator[Backend]:
    backend = Backend("a").start()
    yield backend
    backend.stop()


@pytest.fixture
def b() -> Iterator[Backend]:
    backend = Backend("b").start()
    yield backend
    backend.stop()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Start]:
    """Start balancers whose targets.yml is the variant's own with some settings changed."""
    with contextlib.ExitStack() as stack:

        def start(variant: str, *backends: Backend, **settings: object) -> Running:
            config = FOLDER / variant / "targets.yml"
            said = yaml.safe_load(config.read_text("utf-8")) | settings
            path = tmp_path / "targets.yml"
            path.write_text(yaml.safe_dump(said), "utf-8")
            running = Running(variant, path, *backends)
            stack.callback(running.close)
            return running.ready(*backends)

        yield start


@contextlib.contextmanager
def alone(variant: str) -> Iterator[tuple[Running, Backend]]:
    backend = Backend("alone").start()
    running = Running(variant, FOLDER / variant / "targets.yml", backend)
    try:
        yield running.ready(backend), backend
    finally:
        running.close()
        backend.stop()


@pytest.fixture(scope="module", params=["documented", "hardened"])
def either(request: pytest.FixtureRequest) -> Iterator[tuple[Running, Backend]]:
    """Each of the two in turn, shared by the checks that leave no trace."""
    with alone(request.param) as running:
        yield running


@pytest.fixture(scope="module")
def steady() -> Iterator[tuple[Running, Backend]]:
    """One hardened balancer, shared by the checks that leave no trace."""
    with alone("hardened") as running:
        yield running


BOTH = pytest.mark.parametrize("variant", ["documented", "hardened"])


# Both


@BOTH
def test_requests_take_turns(run, a, b, variant):
    balancer = run(variant, a, b)
    for _ in range(6):
        assert balancer.ask("/echo")[0] == 200
    assert [len(a.received), len(b.received)] == [3, 3]


def test_method_status_headers_and_body_come_through(either):
    balancer, a = either
    status, headers, body = balancer.ask("/echo", "PUT", b"x" * 70000, X_Request_ID="Seven")
    assert (status, hashlib.md5(body).digest()) == (200, hashlib.md5(b"x" * 70000).digest())
    assert headers["X-App-Instance"] == "alone"
    assert (a.received[-1].method, a.received[-1].headers["x-request-id"]) == ("PUT", "Seven")


def test_chunked_requests_arrive_whole(either):
    balancer, _ = either
    with contextlib.closing(balancer.client()) as client:
        pieces = iter([b"one", b"two" * 30000, b"three"])
        client.request("POST", "/echo", pieces, encode_chunked=True,
                       headers={"Transfer-Encoding": "chunked"})  # fmt: skip
        assert client.getresponse().read() == b"one" + b"two" * 30000 + b"three"


def test_large_chunked_and_unsized_replies_come_through_whole(either):
    balancer, a = either
    assert balancer.ask("/large")[2] == LARGE
    assert balancer.ask("/unsized")[2] == b"until the end"
    a.gate.set()
    assert balancer.ask("/events")[2] == b"data: 1\n\ndata: 2\n\n"


def test_a_client_connection_carries_many_requests(either):
    balancer, _ = either
    with contextlib.closing(balancer.client()) as client:
        sockets = set()
        for method in ("GET", "HEAD", "POST", "GET"):
            client.request(method, "/echo", b"body" if method == "POST" else None)
            client.getresponse().read()
            sockets.add(client.sock)
        assert len(sockets) == 1


def test_bytes_that_are_no_request_are_answered_400(either):
    balancer, _ = either
    assert balancer.raw(b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert balancer.ask("/echo")[0] == 200


@BOTH
def test_a_config_without_targets_is_one_line_and_exit_2(tmp_path, variant):
    config = tmp_path / "targets.yml"
    config.write_text("port: 8080\n")
    command = [sys.executable, str(FOLDER / variant / "balancer.py"), "--config", str(config)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "targets" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


# Documented


def test_documented_removes_a_stopped_target_two_to_three_seconds_later(run, a, b):
    balancer = run("documented", a, b)
    balancer.ask("/echo")
    stopped = time.monotonic()
    a.stop()
    statuses = [balancer.ask("/echo")[0] for _ in range(6)]
    assert statuses.count(500) == 3, "every other request, as long as it is in the queue"
    removed = balancer.until("removed", target=a.target, misses=3)
    # Of pings a second apart; each may be late by what the machine makes it wait.
    assert 1.4 < float(str(removed["t"])) - stopped < 4
    assert {balancer.ask("/echo")[0] for _ in range(4)} == {200}
    a.start()
    began = time.monotonic()
    back = balancer.until("registered", target=a.target)
    pinged = [at for at in a.pinged if began < at <= float(str(back["t"]))]
    assert len(pinged) == 1, "the first good one"
    assert {balancer.ask("/echo")[1]["X-App-Instance"] for _ in range(2)} == {"a", "b"}


def test_documented_counts_misses_anew_after_a_good_ping(run, a):
    a.pings = [500, 500, 200] * 3
    balancer = run("documented", a, ping_period=0.1)
    for _ in range(3):
        balancer.until("missed", misses=1)
        balancer.until("missed", misses=2)
    before = len(a.pinged)
    while len(a.pinged) < before + 2:
        time.sleep(0.01)
    assert balancer.said("removed") == []


def test_documented_answers_500_when_no_server_is_left(run, a):
    balancer = run("documented", a, ping_period=0.1)
    a.stop()
    balancer.until("removed")
    status, _, body = balancer.ask("/echo", X_Request_ID="r1")
    assert (status, body) == (500, b"no usable server\n")
    assert balancer.until("failed")["id"] == "r1"


def test_documented_answers_500_to_a_request_in_flight_and_never_tries_again(run, a, b):
    balancer = run("documented", a, b)
    a.resets = b.resets = True
    assert balancer.ask("/echo")[0] == 500
    assert len(a.received) + len(b.received) == 1


def test_documented_holds_a_stream_back_until_its_end(run, a):
    balancer = run("documented", a)
    with contextlib.closing(balancer.client()) as client:
        client.request("GET", "/events")
        client.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.getresponse()


# Hardened: failover and retries


def test_a_get_that_is_reset_goes_to_the_next_target(run, a, b):
    balancer = run("hardened", a, b)
    a.resets = True
    replies = [balancer.ask("/echo") for _ in range(4)]
    assert [status for status, _, _ in replies] == [200] * 4
    assert len(a.received) == 1, "it is suspect from the first failure on"
    assert balancer.until("retried")["to"] == b.target


def test_a_get_is_tried_at_most_twice(run, a, b):
    balancer = run("hardened", a, b)
    a.resets = b.resets = True
    assert balancer.ask("/echo")[0] == 502
    assert len(a.received) + len(b.received) == 2


def test_a_post_once_sent_is_not_tried_again(run, a, b):
    balancer = run("hardened", a, b)
    a.resets = b.resets = True
    assert balancer.ask("/echo", "POST", b"order")[0] == 502
    assert len(a.received) + len(b.received) == 1


def test_a_post_with_an_idempotency_key_is_tried_again(run, a, b):
    balancer = run("hardened", a, b)
    a.resets = True
    statuses = {balancer.ask("/echo", "POST", b"x", Idempotency_Key="k")[0] for _ in range(2)}
    assert statuses == {200}
    assert b.received[0].body == b"x"


def test_a_post_that_was_refused_goes_to_the_next_target(run, a, b):
    balancer = run("hardened", a, b)
    a.stop()
    assert [balancer.ask("/echo", "POST", b"order")[0] for _ in range(4)] == [200] * 4
    assert len(b.received) == 4
    assert "refused" in str(balancer.until("suspect", target=a.target)["reason"])


def test_without_a_retry_budget_the_failure_shows(run, a, b):
    balancer = run("hardened", a, b, retry_reserve=0, retry_ratio=0)
    a.resets = True
    assert sorted(balancer.ask("/echo")[0] for _ in range(2)) == [200, 502]


def test_the_retry_budget_is_a_fifth_of_the_requests():
    budget = RetryBudget(ratio=0.2, reserve=0, burst=500)
    retried = 0
    for _ in range(1000):
        budget.earn()
        retried += budget.spend()
    assert 199 <= retried <= 200


def test_a_suspect_returns_after_two_good_pings(run, a, b):
    balancer = run("hardened", a, b)
    a.resets = True
    balancer.ask("/echo")
    suspect = balancer.until("suspect", target=a.target)
    a.resets = False
    back = balancer.until("registered", target=a.target)
    began, ended = float(str(suspect["t"])), float(str(back["t"]))
    assert ended - began > 0.4
    # The first may have been answered, and not heard, when it fell under suspicion.
    assert 1 <= len([at for at in a.pinged if began < at <= ended]) <= 2


def test_when_all_are_down_the_last_known_are_tried(run, a, b):
    balancer = run("hardened", a, b, ping_period=0.05)
    a.ping = b.ping = 500
    balancer.until("removed")
    balancer.until("removed")
    assert balancer.ask("/echo")[0] == 200


def test_nobody_there_is_503_with_retry_after(run, a):
    balancer = run("hardened", a)
    a.stop()
    status, headers, _ = balancer.ask("/echo", "POST", b"x")
    assert (status, headers["Retry-After"]) == (503, "1")


def test_no_first_byte_in_time_is_504_and_no_second_try(run, a, b):
    balancer = run("hardened", a, b, first_byte_timeout=0.2)
    assert balancer.ask("/hang")[0] == 504
    assert len(a.received) + len(b.received) == 1


# Hardened: drain and weights


def test_a_503_ping_drains_at_once_and_keeps_what_is_in_flight(run, a, b):
    balancer = run("hardened", a, b)
    with contextlib.closing(balancer.client()) as client:
        client.request("GET", "/wait")
        while not a.received:
            time.sleep(0.005)
        a.ping = 503
        balancer.until("draining", target=a.target)
        assert {balancer.ask("/echo")[1]["X-App-Instance"] for _ in range(4)} == {"b"}
        assert balancer.admin("/targets")[1][0]["in_flight"] == 1
        a.gate.set()
        assert client.getresponse().read() == b"waited"


def test_all_draining_is_503_without_a_try(run, a):
    balancer = run("hardened", a)
    a.ping = 503
    balancer.until("draining")
    status, headers, _ = balancer.ask("/echo")
    assert (status, headers["Retry-After"], a.received) == (503, "1", [])


def test_admin_shows_weighs_and_drains(run, a, b):
    balancer = run("hardened", a, b)
    assert balancer.admin("/targets")[1][1] == {
        "name": b.target, "up": True, "draining": False, "weight": 100, "in_flight": 0,
        "answered": 0, "failed": 0, "fails": 0, "state": "up",
    }  # fmt: skip
    assert balancer.admin(f"/targets/{a.target}/weight", 5)[0] == 200
    assert balancer.admin(f"/targets/{b.target}/weight", 95)[0] == 200
    for _ in range(100):
        balancer.ask("/echo")
    assert [len(a.received), len(b.received)] == [5, 95]
    assert balancer.admin(f"/targets/{b.target}/drain", True)[1]["draining"] is True
    assert {balancer.ask("/echo")[1]["X-App-Instance"] for _ in range(5)} == {"a"}


@pytest.mark.parametrize(
    ("path", "value", "status"),
    [
        ("{a}/weight", 101, 400),
        ("{a}/weight", -1, 400),
        ("{a}/weight", True, 400),
        ("{a}/drain", 1, 400),
        ("{a}/colour", 1, 404),
        ("{a}/weight", "5", 400),
        ("127.0.0.1:1/weight", 1, 404),
    ],
)
def test_admin_refuses_what_means_nothing(steady, path, value, status):
    balancer, a = steady
    assert balancer.admin(f"/targets/{path.format(a=a.target)}", value)[0] == status
    assert balancer.admin("/targets")[1][0]["weight"] == 100


def test_weights_are_set_all_at_once(run, a, b):
    balancer = run("hardened", a, b)
    status, shown = balancer.admin("/weights", {a.target: 0, b.target: 7})
    assert (status, [target["weight"] for target in shown]) == (200, [0, 7])
    assert balancer.until("weights")["weights"] == {a.target: 0, b.target: 7}
    assert {balancer.ask("/echo")[1]["X-App-Instance"] for _ in range(4)} == {"b"}
    assert balancer.admin("/weights", {a.target: 100, b.target: 0})[0] == 200
    assert {balancer.ask("/echo")[1]["X-App-Instance"] for _ in range(4)} == {"a"}


@pytest.mark.parametrize(
    ("weights", "line"),
    [
        ({"A": 0, "B": 101}, "weight 101 of B: expected a whole number from 0 to 100"),
        ({"A": 0, "B": -1}, "weight -1 of B: expected a whole number from 0 to 100"),
        ({"A": 0, "B": 0.5}, "weight 0.5 of B: expected a whole number from 0 to 100"),
        ({"A": 0, "B": None}, "weight null of B: expected a whole number from 0 to 100"),
        ({"A": 0, "127.0.0.1:1": 5}, "unknown target '127.0.0.1:1': expected one of A, B"),
        ({}, 'expected weights by target, such as {"127.0.0.1:8081": 5}'),
        ([5], 'expected weights by target, such as {"127.0.0.1:8081": 5}'),
    ],
)
def test_one_weight_that_means_nothing_refuses_them_all_in_one_line(run, a, b, weights, line):
    balancer = run("hardened", a, b)
    names = {"A": a.target, "B": b.target}
    if isinstance(weights, dict):
        weights = {names.get(name, name): weight for name, weight in weights.items()}
    expected = line.replace("B:", f"{b.target}:").replace("A, B", f"{a.target}, {b.target}")
    assert balancer.admin("/weights", weights) == (400, {"error": expected})
    assert [target["weight"] for target in balancer.admin("/targets")[1]] == [100, 100]


def test_admin_refuses_what_is_no_json_and_what_is_no_put(steady):
    balancer, _ = steady
    status, _, text = balancer.ask("/weights", "PUT", b"five", port=balancer.admin_port)
    assert (status, json.loads(text)) == (400, {"error": "'five': expected JSON"})
    assert balancer.ask("/weights", port=balancer.admin_port)[0] == 405


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1:8090"])
def test_an_admin_call_under_another_name_than_loopback_is_refused(steady, host):
    balancer, a = steady
    body = json.dumps({a.target: 0}).encode()
    status, _, text = balancer.ask("/weights", "PUT", body, port=balancer.admin_port, Host=host)
    assert status == 403
    assert json.loads(text)["error"].startswith(f"called as '{host}': expected one of 127.0.0.1")
    assert balancer.admin("/targets")[1][0]["weight"] == 100


def test_no_other_address_of_the_machine_reaches_the_admin_api(steady):
    balancer, _ = steady
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", balancer.admin_port), timeout=1)


def test_replies_and_failures_are_counted_by_target(run, a, b):
    balancer = run("hardened", a, b)
    b.resets = True
    for _ in range(4):
        assert balancer.ask("/echo")[0] == 200
    with contextlib.suppress(http.client.IncompleteRead, ConnectionError):
        balancer.ask("/cut", X_Length="65537")
    assert balancer.ask("/broken")[0] == 500
    counted = [(t["answered"], t["failed"], t["in_flight"]) for t in balancer.admin("/targets")[1]]
    assert counted == [(4, 2, 0), (0, 1, 0)]


def test_a_kept_connection_that_breaks_is_not_counted_as_a_failure(run, a):
    balancer = run("hardened", a)
    assert [balancer.ask("/once")[0] for _ in range(4)] == [200] * 4
    assert len(balancer.said("retried")) >= 1
    assert balancer.admin("/targets")[1][0]["failed"] == 0


def test_spares_that_are_down_disturb_nobody(run, a, tmp_path):
    spare = Backend("spare").start()
    spare.stop()
    targets = [{"host": "http://127.0.0.1", "port": port} for port in (a.port, spare.port)]
    targets[1]["weight"] = 0
    balancer = run("hardened", targets=targets, ping_period=0.05)
    balancer.until("registered", target=a.target)
    while balancer.admin("/targets")[1][1]["state"] != "down":
        time.sleep(0.01)
    assert [balancer.ask("/echo")[0] for _ in range(6)] == [200] * 6
    a.ping = 500
    balancer.until("removed", target=a.target)
    assert [balancer.ask("/echo")[0] for _ in range(6)] == [200] * 6, "panic never tries a spare"
    balancer.said("listening")
    assert [line for line in balancer.log if line.get("target") == spare.target] == []
    spare.start()
    balancer.until("registered", target=spare.target)
    a.ping = 200
    spare.stop()


@pytest.mark.parametrize("weight", [101, -1, "5", True])
def test_a_weight_in_the_config_that_means_nothing_is_one_line_and_exit_2(tmp_path, weight):
    config = tmp_path / "targets.yml"
    target = {"host": "http://127.0.0.1", "port": 8081, "weight": weight}
    config.write_text(yaml.safe_dump({"targets": [target]}))
    command = [sys.executable, str(FOLDER / "hardened" / "balancer.py"), "--config", str(config)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert f"weight {weight!r} of" in ended.stderr.splitlines()[-1]


def test_the_front_port_has_no_admin_api(steady):
    balancer, _ = steady
    assert balancer.ask("/targets")[2] == b"the app's own"


# Hardened: connections and streams


def test_events_arrive_as_they_are_sent(run, a):
    balancer = run("hardened", a)
    with contextlib.closing(balancer.client()) as client:
        client.request("GET", "/events")
        reply = client.getresponse()
        assert reply.read(9) == b"data: 1\n\n"
        a.gate.set()
        assert reply.read() == b"data: 2\n\n"


def test_a_client_that_leaves_ends_the_request_at_the_target(run, a):
    balancer = run("hardened", a)
    client = balancer.client()
    client.request("GET", "/hang", headers={"X-Request-ID": "r9"})
    while not a.received:
        time.sleep(0.005)
    client.close()
    assert a.abandoned.wait(1)
    assert balancer.until("abandoned")["id"] == "r9"
    assert balancer.admin("/targets")[1][0]["in_flight"] == 0


@pytest.mark.parametrize("path", ["/cut", "/half"])
def test_a_get_whose_reply_is_cut_short_is_answered_by_another(run, a, b, path):
    balancer = run("hardened", a, b)
    replies = [balancer.ask(path) for _ in range(4)]
    assert [status for status, _, _ in replies] == [200] * 4
    assert {headers["X-App-Instance"] for _, headers, _ in replies} == {"b"}
    assert len(a.received) == 1, "it is suspect from the first failure on"
    assert "cut off in its" in str(balancer.until("retried")["reason"])
    assert balancer.said("truncated") == []


def test_a_reply_cut_short_on_a_kept_connection_makes_a_suspect(run, a, b):
    balancer = run("hardened", a, b)
    assert [balancer.ask(path)[0] for path in ("/echo", "/echo", "/cut")] == [200] * 3
    assert balancer.until("suspect")["target"] == a.target


def test_a_post_whose_reply_is_cut_short_is_502_and_not_tried_again(run, a):
    balancer = run("hardened", a)
    assert balancer.ask("/cut", "POST", b"order")[0] == 502
    assert len(a.received) == 1


def test_a_get_whose_reply_is_cut_short_is_502_when_nobody_else_is_there(run, a):
    balancer = run("hardened", a)
    assert balancer.ask("/cut")[0] == 502


@pytest.mark.parametrize("path", ["/cut", "/cutchunks"])
def test_what_was_passed_on_and_is_cut_short_is_cut_short_for_the_client_too(run, a, path):
    balancer = run("hardened", a)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        balancer.ask(path, X_Length="65537")
    assert balancer.until("truncated")["target"] == a.target


def test_a_small_body_that_does_not_come_in_time_is_504(run, a):
    balancer = run("hardened", a, first_byte_timeout=0.2)
    assert balancer.ask("/stall")[0] == 504


def test_a_get_at_a_target_that_answers_no_pings_goes_elsewhere_and_a_post_does_not(run, a, b):
    # Longer than a busy machine keeps `b` from answering, twice in a row.
    balancer = run("hardened", a, b, ping_period=0.1, ping_timeout=0.7)
    with contextlib.ExitStack() as stack:
        waits = [stack.enter_context(contextlib.closing(balancer.client())) for _ in range(4)]
        for sent, (client, method) in enumerate(
            zip(waits, ("GET", "GET", "POST", "POST"), strict=True), start=1
        ):
            client.request(method, "/wait", headers={"X-Request-ID": method})
            while len(a.received + b.received) < sent:
                time.sleep(0.005)
        assert {one.method for one in a.received} == {"GET", "POST"}
        a.ping = 0
        assert balancer.until("removed")["target"] == a.target
        retried = balancer.until("retried")
        assert (retried["id"], retried["to"]) == ("GET", b.target)
        assert retried["reason"] == "its pings are not answered"
        a.gate.set()
        b.gate.set()
        assert {client.getresponse().read() for client in waits} == {b"waited"}
        assert balancer.said("retried") == [retried]
        assert sorted(one.method for one in b.received) == ["GET", "GET", "POST"]


def test_where_nobody_else_is_a_get_waits_for_the_target_that_answers_no_pings(run, a):
    balancer = run("hardened", a, ping_period=0.1, ping_timeout=0.1)
    with contextlib.closing(balancer.client()) as client:
        client.request("GET", "/wait")
        while not a.received:
            time.sleep(0.005)
        a.ping = 0
        balancer.until("removed")
        time.sleep(0.3)
        a.gate.set()
        assert client.getresponse().read() == b"waited"


def test_a_target_that_says_500_to_pings_keeps_what_it_is_working_on(run, a, b):
    balancer = run("hardened", a, b, ping_period=0.1, ping_timeout=2)
    with contextlib.closing(balancer.client()) as client:
        client.request("GET", "/wait")
        while not a.received + b.received:
            time.sleep(0.005)
        busy = a if a.received else b
        busy.ping = 500
        balancer.until("removed", target=busy.target)
        time.sleep(0.3)
        busy.gate.set()
        assert client.getresponse().read() == b"waited"
    assert balancer.said("retried") == []


def test_a_target_that_only_answers_500_stays_unless_ejection_is_asked_for(run, a, b):
    balancer = run("hardened", a, b, ping_period=0.05)
    statuses = [balancer.ask("/sick")[0] for _ in range(10)]
    assert statuses.count(500) == 5
    assert balancer.said("ejected") == []


def test_a_target_is_ejected_after_so_many_5xx_in_a_row_and_comes_back(run, a, b):
    balancer = run("hardened", a, b, ping_period=0.1, eject_after=2, eject_rise=5)
    statuses = [balancer.ask("/sick")[0] for _ in range(10)]
    assert statuses.count(500) == 2
    ejected = balancer.until("ejected", target=a.target)
    assert balancer.admin("/targets")[1][0]["state"] == "ejected"
    back = balancer.until("registered", target=a.target)
    began, ended = float(str(ejected["t"])), float(str(back["t"]))
    # Five; the first may have been answered, and not heard, when it was ejected.
    assert len([at for at in a.pinged if began < at <= ended]) >= 4
    assert sorted(balancer.ask("/sick")[0] for _ in range(2)) == [200, 500]


def test_when_all_are_ejected_they_are_tried_all_the_same(run, a):
    balancer = run("hardened", a, eject_after=1)
    assert [balancer.ask("/sick")[0] for _ in range(3)] == [500] * 3
    assert balancer.ask("/echo")[0] == 200


def test_gets_share_a_target_connection_and_posts_take_a_fresh_one(run, a):
    balancer = run("hardened", a)
    for method in ("GET", "GET", "GET"):
        balancer.ask("/echo", method)
    assert len({request.connection for request in a.received}) == 1
    balancer.ask("/echo", "POST", b"x")
    assert a.received[-1].connection != a.received[0].connection


def test_a_target_that_says_close_is_not_sent_another_on_that_connection(run, a):
    balancer = run("hardened", a)
    assert [balancer.ask("/last")[0] for _ in range(3)] == [200] * 3
    assert len({request.connection for request in a.received}) == 3
    assert balancer.said("retried") == []


def test_a_kept_connection_that_breaks_is_no_mark_against_its_target(run, a):
    balancer = run("hardened", a)
    assert [balancer.ask("/once")[2] for _ in range(4)] == [b"once"] * 4
    assert len(balancer.said("retried")) >= 1
    assert balancer.said("suspect") == []


def test_connections_idle_for_too_long_are_closed(run, a):
    balancer = run("hardened", a, pool_idle=0.1, ping_period=0.1)
    balancer.ask("/echo")
    end = time.monotonic() + 2
    while a._open and time.monotonic() < end:
        time.sleep(0.01)
    balancer.ask("/echo")
    assert len({request.connection for request in a.received}) == 2


def test_sigterm_answers_what_is_in_flight_and_exits_0(run, a):
    balancer = run("hardened", a)
    with (
        contextlib.closing(balancer.client()) as client,
        contextlib.closing(balancer.client()) as idle,
    ):
        idle.connect()
        client.request("GET", "/wait")
        while not a.received:
            time.sleep(0.005)
        balancer.process.send_signal(signal.SIGTERM)
        assert balancer.until("stopping")["in_flight"] == 1
        with pytest.raises(ConnectionRefusedError):
            balancer.ask("/echo")
        a.gate.set()
        reply = client.getresponse()
        assert (reply.read(), reply.getheader("Connection")) == (b"waited", "close")
    assert balancer.process.wait(3) == 0


# Hardened: what is no request


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", 400),
        ("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6", 400),
        ("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: +5", 400),
        ("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked", 400),
        ("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked", 400),
        ("GET /echo HTTP/1.1", 400),
        ("GET /echo HTTP/1.1\r\nHost: x\r\nX: a\rb", 400),
        ("GET /echo HTTP/1.1\r\nHost: x\r\nX: a\nY: b", 400),
        ("GET /echo HTTP/1.1\r\nHost: x\r\n folded", 400),
        ("GET /echo HTTP/2.0\r\nHost: x", 400),
        ("GET /echo HTTP/1.1\r\nHost: x\r\nX: " + "x" * 70000, 431),
    ],
)
def test_a_request_with_two_readings_is_refused_unsent(steady, head, status):
    balancer, a = steady
    before = len(a.received)
    reply = balancer.raw(f"{head}\r\n\r\n".encode())
    assert reply.startswith(f"HTTP/1.1 {status} ".encode())
    assert len(a.received) == before


def test_hop_by_hop_headers_stay_on_their_hop(steady):
    balancer, a = steady
    reply = balancer.raw(
        b"GET /echo HTTP/1.1\r\nHost: app\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n"
        b"Keep-Alive: timeout=5\r\nTE: trailers\r\nX-End: 1\r\n\r\n"
    )
    assert reply.count(b"X-Twice: ") == 2
    assert a.received[-1].headers.items() >= {"host": "app", "x-end": "1"}.items()
    assert not a.received[-1].headers.keys() & {"x-hop", "keep-alive", "te", "connection"}


# Hardened: the pure parts


def target(port: int) -> Target:
    return Target("127.0.0.1", port, 2, 2, Pool(4))


def test_a_target_falls_after_two_misses_and_rises_after_two_good_pings():
    one = target(1)
    states = []
    for ping in (Ping.GOOD, Ping.MISS, Ping.GOOD, Ping.MISS, Ping.MISS, Ping.GOOD, Ping.GOOD):
        one.pinged(ping)
        states.append(one.health)
    up, down = Health.UP, Health.DOWN
    assert states == [up, up, up, up, down, down, up]


def test_weight_zero_gets_nothing_even_in_panic():
    one, two = target(1), target(2)
    one.weight = 0
    assert {Rotation((one, two)).next() for _ in range(4)} == {two}
    two.held = True
    assert Rotation((one, two)).next() is None


def test_a_retry_prefers_another_target_and_takes_the_same_when_it_is_the_only_open_one():
    one, two = target(1), target(2)
    one.pinged(Ping.GOOD)
    two.pinged(Ping.GOOD)
    rotation = Rotation((one, two))
    assert {rotation.next(avoid=one) for _ in range(4)} == {two}
    two.held = True
    assert rotation.next(avoid=one) is one


@pytest.mark.parametrize("weights", [(10, 95, 95), (5, 95), (66, 99, 99), (1, 100), (33, 0, 100)])
def test_every_short_span_has_its_share_to_within_one_turn(weights):
    targets = tuple(target(port) for port in range(len(weights)))
    for one in targets:
        one.pinged(Ping.GOOD)
    rotation = Rotation(targets)
    for _ in range(17):
        rotation.next()
    rotation.weigh(dict(zip(targets, weights, strict=True)))
    given = [0] * len(weights)
    for turn in range(1, 2 * sum(weights)):
        given[targets.index(rotation.next())] += 1
        for count, weight in zip(given, weights, strict=True):
            assert abs(count - turn * weight / sum(weights)) <= 1, (turn, given)
