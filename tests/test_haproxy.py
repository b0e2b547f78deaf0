"""Document 000's HAProxy on plain processes: what it is told, what it counts, what it remembers."""

from __future__ import annotations

import http.client
import shutil
import socket
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from zdtest import topology
from zdtest.engine import probe, silent
from zdtest.engine.process import ProcessEngine
from zdtest.errors import ConfigError, EngineError
from zdtest.faults import kill, kill_balancer
from zdtest.faults.fault import Balancing, Ported
from zdtest.strategies import blue_green, canary, rolling
from zdtest.topologies.haproxy.runtime import Runtime
from zdtest.topology import Counters, Switched

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(not shutil.which("haproxy"), reason="needs haproxy on the path"),
]

HAPROXY = topology.find("haproxy")
PAGE = HAPROXY.folder.with_name("haproxy_log.md")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[ProcessEngine]:
    with ProcessEngine(f"test-{uuid.uuid4().hex[:8]}", tmp_path) as engine:
        yield engine


@contextmanager
def raised(variant: str, engine: ProcessEngine, **more: object) -> Iterator[Any]:
    with HAPROXY.raised(variant, "v1", engine, boot=0.0, **more) as stack:
        yield stack


def asked(stack: Any, count: int, path: str = "/api") -> list[str]:
    """The version that answered each of so many requests, or in words why none did."""
    replies = [probe.ask(stack.proxy.port, path, timeout=10) for _ in range(count)]
    return [reply.version if isinstance(reply, probe.Reply) else reply for reply in replies]


def test_the_documented_one_has_two_instances_and_no_power_over_haproxy(engine):
    with raised("documented", engine, scale=0.1) as stack:
        assert asked(stack, 4) == ["v1"] * 4
        assert isinstance(stack, Balancing)
        assert isinstance(stack, Ported)
        assert not isinstance(stack, Switched)
        with pytest.raises(ConfigError, match="blue_green"):
            blue_green()(stack, "v2", silent)
        rolling()(stack, "v2", silent)
        assert asked(stack, 4) == ["v2"] * 4


def test_both_write_the_line_that_the_page_has():
    line = next(one for one in PAGE.read_text().splitlines() if "log-format '" in one).strip()
    for variant in HAPROXY.variants:
        text = (HAPROXY.folder / variant / "haproxy.cfg").read_text()
        assert line in text
        for setting in ("nbthread 1", "log stdout len 8192 format raw local0 info"):
            assert setting in text
            assert setting in PAGE.read_text()


def test_the_hardened_one_is_switched_there_and_back_and_keeps_who_has_the_users(engine):
    with raised("hardened", engine) as stack:
        assert isinstance(stack, Switched)
        assert (stack.instances, stack.spares) == (("a", "b"), ("c", "d"))
        blue_green(keep_old=True)(stack, "v2", silent)
        assert stack.instances == ("c", "d")
        assert stack.running("a") == "v1"
        assert asked(stack, 8) == ["v2"] * 8
        stack.reload()
        assert stack.proxy.runtime.weights() == {"a": 0, "b": 0, "c": 100, "d": 100}
        assert asked(stack, 8) == ["v2"] * 8
        heal = kill_balancer().inject(stack)
        assert asked(stack, 1) != ["v2"]
        heal()
        assert asked(stack, 8) == ["v2"] * 8


def test_a_canary_has_its_share_and_the_slots_are_given_back(engine):
    with raised("hardened", engine) as stack, ThreadPoolExecutor() as pool:
        over = threading.Event()

        def users() -> list[str]:
            seen = []
            while not over.is_set():
                seen += asked(stack, 1)
            return seen

        told = pool.submit(users)
        try:
            canary((25, 100), watch="2s")(stack, "v2", silent)
        finally:
            over.set()
        assert set(told.result()) == {"v1", "v2"}
        assert stack.instances == ("a", "b")
        assert stack.running("c") == ""
        assert asked(stack, 4) == ["v2"] * 4


@pytest.mark.parametrize(
    ("weights", "why"),
    [
        ({"a": 101}, "weight 101 of a: expected 0 to 100"),
        ({"x": 1}, "weight 1 of x: expected 0 to 100 of"),
        ({"a": 50, "b": -1}, "weight -1 of b"),
        ({"a": 0, "b": 0}, "no weight above 0"),
    ],
)
def test_weights_that_mean_nothing_are_refused_and_nothing_is_changed(
    engine, weights: dict[str, int], why: str
):
    with raised("hardened", engine) as stack:
        with pytest.raises(EngineError, match=why):
            stack.weigh(weights)
        assert stack.proxy.runtime.weights() == {"a": 100, "b": 100, "c": 0, "d": 0}


def test_who_is_stopped_gets_nothing_new_and_answers_what_it_has(engine):
    with raised("hardened", engine) as stack, ThreadPoolExecutor(6) as pool:
        slow = [pool.submit(asked, stack, 1, "/2000") for _ in range(6)]
        probe.until(
            "three are with each",
            lambda: "" if stack.told("a").in_flight == 3 else str(stack.told("a")),
            timeout=10,
        )
        stack.stop("a")
        assert [one.result() for one in slow] == [["v1"]] * 6
        assert asked(stack, 10) == ["v1"] * 10
        assert stack.engine.fate(stack.instance("a")) == "exited 0"
        before = stack.told("a")
        assert asked(stack, 4) == ["v1"] * 4
        assert stack.told("a") == before
        stack.start("a", "v2")
        stack.ready("a")
        assert set(asked(stack, 10)) == {"v1", "v2"}


def test_one_that_is_killed_is_stood_in_for_and_comes_back_when_it_is_healed(engine):
    with raised("hardened", engine) as stack:
        heal = kill("a").inject(stack)
        assert asked(stack, 20) == ["v1"] * 20
        assert stack.proxy.runtime.out("a")
        heal()
        assert stack.proxy.runtime.out("a") == ""


def test_what_haproxy_says_of_a_configuration_that_it_will_not_take_is_told(engine):
    with raised("hardened", engine) as stack:
        stack.engine.kill(stack.balancer)
        config = stack.proxy.home / "haproxy.cfg"
        config.write_text(config.read_text() + "\nsuch_word\n")
        with pytest.raises(EngineError, match=r"proxy exited 1(.|\n)*unknown keyword 'such_word'"):
            stack.start_balancer()


def test_a_command_that_haproxy_does_not_know_or_nobody_hears_is_an_error(engine):
    with raised("hardened", engine) as stack:
        runtime = stack.proxy.runtime
        with pytest.raises(EngineError, match="HAProxy refused set server app/x weight 1: No such"):
            runtime.set("set server app/x weight 1")
        stack.engine.kill(stack.balancer)
        with pytest.raises(EngineError, match="HAProxy: show info: "):
            runtime.command("show info")


class Server:
    """Answers each connection with the bytes given for its path, then hangs up."""

    def __init__(self, replies: dict[str, bytes]) -> None:
        self._replies = replies
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                path = connection.recv(4096).split(b" ")[1].decode()
                connection.sendall(self._replies[path])

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def test_haproxy_counts_each_attempt_for_the_server_that_had_it(engine):
    server = Server(
        {
            "/good": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
            "/missing": b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            "/sick": b"HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            "/cut": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nok",
            "/nothing": b"",
        }
    )
    port, home = engine.port(), engine.folder
    (home / "haproxy.cfg").write_text(
        "global\n  stats socket unix@haproxy.stats level admin\n"
        "defaults\n  mode http\n  timeout connect 1s\n  timeout client 5s\n  timeout server 5s\n"
        f"listen app\n  bind 127.0.0.1:{port}\n  retries 0\n  server a 127.0.0.1:{server.port}\n"
    )
    engine.start("haproxy", ["haproxy", "-db", "-f", "haproxy.cfg"], cwd=home)
    runtime = Runtime(home, "app")
    probe.until("it listens", lambda: said(port, "/good"), timeout=10)

    def counted(answered: int, failed: int) -> None:
        """Return once it has counted just that; it counts when the user has been told."""
        right = Counters(answered, failed, 0)
        probe.until(
            f"counted {right}",
            lambda: "" if (now := runtime.told("a")) == right else str(now),
            timeout=5,
        )

    counted(1, 0)
    for path, answered, failed in (
        ("/good", 2, 0),
        ("/missing", 3, 0),
        ("/sick", 3, 1),
        ("/cut", 3, 2),
        ("/nothing", 3, 3),
    ):
        said(port, path)
        counted(answered, failed)
    server.close()
    said(port, "/good")
    counted(3, 4)


def said(port: int, path: str) -> str:
    """Return "" where the whole reply came, else what was wrong."""
    caller = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        caller.request("GET", path)
        caller.getresponse().read()
    except (OSError, http.client.HTTPException) as error:
        return str(error)
    finally:
        caller.close()
    return ""
