from __future__ import annotations

import math
import socket
import struct
import threading
import time
import uuid
from collections.abc import Iterator

import pytest

from zdtest.engine.detour.conditions import CLEAN, Conditions
from zdtest.engine.detour.detour import Detour
from zdtest.engine.detour.pipe import Ending, Item, Pipe
from zdtest.engine.listening import listens
from zdtest.engine.process import ProcessEngine
from zdtest.errors import ConfigError, FaultError

RST = struct.pack("ii", 1, 0)
PATIENCE = 5.0


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessEngine]:
    folder = tmp_path_factory.mktemp("proxy")
    with ProcessEngine(f"test-{uuid.uuid4().hex[:8]}", folder) as engine:
        yield engine


@pytest.fixture(scope="module")
def way(engine: ProcessEngine) -> Detour:
    return Detour(engine, "a", engine.port(), seed=7)


@pytest.fixture
def target(way: Detour) -> Iterator[socket.socket]:
    """Listens where the way leads; the path is clean and unused before and after."""
    with socket.create_server(("127.0.0.1", way.target)) as listener:
        listener.settimeout(PATIENCE)
        until(lambda: listens(way.port))
        yield listener
        way.clear()
    until(lambda: not listens(way.port))
    way.reset()
    until(lambda: way.told()["open"] == 0)


class Pair:
    """Both ends of a connection through the proxy."""

    def __init__(self, way: Detour, target: socket.socket) -> None:
        self.client = socket.create_connection(("127.0.0.1", way.port), PATIENCE)
        self.server, _ = target.accept()
        self.server.settimeout(PATIENCE)

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.close()


@pytest.fixture
def pair(way: Detour, target: socket.socket) -> Iterator[Pair]:
    with Pair(way, target) as pair:
        yield pair


def until(true: object) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline, "did not come true"
        time.sleep(0.005)


def received(wire: socket.socket, length: int) -> bytes:
    got = bytearray()
    while len(got) < length and (data := wire.recv(65_536)):
        got += data
    return bytes(got)


def took(began: float) -> float:
    return time.monotonic() - began


def silent(wire: socket.socket, seconds: float = 0.1) -> bool:
    wire.settimeout(seconds)
    try:
        wire.recv(1)
    except TimeoutError:
        return True
    finally:
        wire.settimeout(PATIENCE)
    return False


def is_reset(wire: socket.socket) -> bool:
    try:
        wire.recv(1)
    except ConnectionResetError:
        return True
    return False


# -- a clean path


def test_a_clean_path_passes_every_byte_both_ways_and_holds_a_slow_reader_s_sender(
    pair: Pair,
) -> None:
    sent = bytes(range(256)) * 65_536
    sender = threading.Thread(target=pair.client.sendall, args=[sent])
    sender.start()
    sender.join(0.3)
    assert sender.is_alive()  # 16 MiB are more than all the buffers on the way
    assert received(pair.server, len(sent)) == sent
    sender.join()
    pair.server.sendall(b"and back")
    assert received(pair.client, 8) == b"and back"


def test_a_clean_path_costs_less_than_a_millisecond(pair: Pair) -> None:
    pair.server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    times = []
    for _ in range(100):
        time.sleep(0.005)
        began = time.monotonic()
        pair.client.sendall(b"ping")
        pair.server.sendall(received(pair.server, 4))
        received(pair.client, 4)
        times.append(took(began))
    # A busy host only ever adds to it: the quick ones tell what the path costs.
    assert sorted(times)[10] < 1e-3


def test_a_half_close_is_passed_on_and_the_other_way_stays_open(pair: Pair) -> None:
    pair.client.sendall(b"all of it")
    pair.client.shutdown(socket.SHUT_WR)
    assert received(pair.server, 100) == b"all of it"
    pair.server.sendall(b"thanks")
    assert received(pair.client, 6) == b"thanks"
    pair.server.close()
    assert pair.client.recv(1) == b""


def test_a_close_ends_the_connection_at_the_proxy_too(way: Detour, pair: Pair) -> None:
    pair.server.close()
    assert pair.client.recv(1) == b""
    pair.client.close()
    until(lambda: way.told()["open"] == 0)


@pytest.mark.parametrize("end", ["client", "server"])
def test_a_reset_is_passed_on_as_a_reset(pair: Pair, end: str) -> None:
    gone, other = (pair.client, pair.server) if end == "client" else (pair.server, pair.client)
    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
    gone.close()
    assert is_reset(other)


def test_where_the_target_refuses_so_does_the_proxy(way: Detour, target: socket.socket) -> None:
    target.close()
    until(lambda: not listens(way.port))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", way.port), 1)


def test_open_connections_outlive_the_target_s_listening(
    way: Detour, target: socket.socket, pair: Pair
) -> None:
    target.close()
    until(lambda: not listens(way.port))
    pair.server.sendall(b"drained")
    assert received(pair.client, 7) == b"drained"


# -- conditions


def test_latency_delays_what_the_target_sends_and_only_that(way: Detour, pair: Pair) -> None:
    way.set(Conditions(latency=0.6))
    began = time.monotonic()
    pair.client.sendall(b"ask")
    received(pair.server, 3)
    assert took(began) < 0.6
    began = time.monotonic()
    pair.server.sendall(b"answer")
    received(pair.client, 6)
    assert 0.6 <= took(began) < 1.2


def test_jitter_keeps_the_order(way: Detour, pair: Pair) -> None:
    way.set(Conditions(latency=0.05, jitter=0.05))
    pair.server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for number in range(50):
        pair.server.sendall(bytes([number]))
        time.sleep(0.002)
    assert received(pair.client, 50) == bytes(range(50))


def test_a_rate_is_kept_and_what_waits_goes_at_once_when_it_ends(way: Detour, pair: Pair) -> None:
    way.set(Conditions(rate=100_000))
    began = time.monotonic()
    pair.server.sendall(bytes(30_000))
    received(pair.client, 30_000)
    assert 0.28 <= took(began) < 1
    pair.server.sendall(bytes(200_000))
    received(pair.client, 10_000)
    way.clear()
    began = time.monotonic()
    assert len(received(pair.client, 190_000)) >= 190_000
    assert took(began) < 1.5  # at that rate it would be 1.9


def test_what_is_held_back_arrives_whole_when_it_ends(way: Detour, pair: Pair) -> None:
    way.set(Conditions(held=True))
    pair.client.sendall(b"request")
    pair.client.shutdown(socket.SHUT_WR)
    pair.server.sendall(b"reply")
    assert silent(pair.server)
    assert silent(pair.client)
    way.clear()
    assert received(pair.server, 100) == b"request"
    assert received(pair.client, 5) == b"reply"


def test_half_open_connections_are_accepted_never_answered_and_reset_in_the_end(
    way: Detour, target: socket.socket, pair: Pair
) -> None:
    way.set(Conditions(half_open=True))
    with socket.create_connection(("127.0.0.1", way.port), PATIENCE) as client:
        client.sendall(b"anybody there?")
        assert silent(client)
        until(lambda: way.told()["half_open"] == 1)
        target.setblocking(False)
        with pytest.raises(BlockingIOError):
            target.accept()
        pair.server.sendall(b"still here")
        assert received(pair.client, 10) == b"still here"
        way.clear()
        assert is_reset(client)


def test_a_client_that_leaves_a_half_open_connection_leaves_nothing(
    way: Detour, target: socket.socket
) -> None:
    way.set(Conditions(half_open=True))
    socket.create_connection(("127.0.0.1", way.port), PATIENCE).close()
    until(lambda: way.told()["accepted"] and not way.told()["open"])


def test_reset_ends_both_ends_of_what_is_open_and_spares_what_comes(
    way: Detour, target: socket.socket, pair: Pair
) -> None:
    way.reset()
    assert is_reset(pair.client)
    assert is_reset(pair.server)
    with Pair(way, target) as later:
        later.client.sendall(b"hello")
        assert received(later.server, 5) == b"hello"


def test_resets_meet_the_open_and_the_new(way: Detour, target: socket.socket, pair: Pair) -> None:
    way.set(Conditions(reset_after=0))
    assert is_reset(pair.client)
    with Pair(way, target) as unlucky:
        unlucky.client.sendall(b"request")
        assert is_reset(unlucky.client)
        assert is_reset(unlucky.server)
    way.clear()
    with Pair(way, target) as later:
        later.server.sendall(b"hello")
        assert received(later.client, 5) == b"hello"


def test_a_reset_after_n_bytes_lets_exactly_n_bytes_through(way: Detour, pair: Pair) -> None:
    way.set(Conditions(reset_after=5))
    pair.server.sendall(b"abc")
    assert received(pair.client, 3) == b"abc"
    pair.server.sendall(b"defgh")
    assert received(pair.client, 2) == b"de"
    assert is_reset(pair.client)
    assert is_reset(pair.server)


def test_an_answer_is_given_instead_of_the_target_s(
    way: Detour, target: socket.socket, pair: Pair
) -> None:
    way.set(Conditions(answer=503, only="GET /ping"))
    pair.client.sendall(b"GET /api HTTP/1.1\r\n\r\n")
    assert received(pair.server, 21) == b"GET /api HTTP/1.1\r\n\r\n"
    pair.server.sendall(b"HTTP/1.1 204 \r\n\r\n")
    assert received(pair.client, 17).startswith(b"HTTP/1.1 204")
    pair.client.sendall(b"GET /ping HTTP/1.1\r\n\r\n")
    assert received(pair.client, 1000).startswith(b"HTTP/1.1 503 Fault\r\nX-Zdtest-Fault:")
    assert pair.server.recv(1) == b""


def test_only_the_requests_that_begin_so_are_met(way: Detour, pair: Pair) -> None:
    way.set(Conditions(latency=0.2, only="GET /ping"))
    for request, slow in ((b"GET /ping", True), (b"GET /api", False), (b"GET /ping", True)):
        began = time.monotonic()
        pair.client.sendall(request)
        received(pair.server, len(request))
        pair.server.sendall(b"reply")
        received(pair.client, 5)
        assert (took(began) >= 0.2) is slow


# -- orders


def test_the_proxy_tells_what_it_does(way: Detour, pair: Pair) -> None:
    before = way.told()
    assert before["open"] == 1
    way.set(Conditions(latency=0.5))
    assert way.told()["conditions"]["latency"] == 0.5
    way.clear()
    assert Conditions.of(way.told()["conditions"]) == CLEAN


def test_an_order_that_means_nothing_is_refused_and_changes_nothing(way: Detour) -> None:
    for order, why in (
        ({"set": {"latencies": 1}}, "did you mean 'latency'"),
        ({"set": {"latency": "long"}}, "latency 'long': expected"),
        ({"set": {"latency": -1}}, "expected a number of 0 or more"),
        ({"set": 3}, "'int' object"),
    ):
        with pytest.raises(FaultError, match=f"^detour-a refuses: .*{why}"):
            way._order(order)
    assert Conditions.of(way.told()["conditions"]) == CLEAN


def test_a_proxy_that_is_gone_is_an_error(engine: ProcessEngine) -> None:
    way = Detour(engine, "gone", engine.port())
    process = next(one for one in engine._watched if one.name == "detour-gone")
    engine.kill(process)
    with pytest.raises(FaultError, match=r"^detour-gone does not obey"):
        way.clear()


@pytest.mark.parametrize(
    "told",
    [
        {"jitter": 0.2, "latency": 0.1},
        {"latency": math.inf},
        {"answer": 100},
        {"reset_after": -1},
        {"reset_after": "soon"},
        {"held": 1},
        {"only": 3},
        {"rate": True},
    ],
)
def test_conditions_that_cannot_be_are_refused(told: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        Conditions.of(told)


# -- a pipe by itself


def test_an_ending_waits_for_all_that_came_before() -> None:
    out: list[Item] = []
    conditions = Conditions(held=True)
    pipe = Pipe(
        lambda: conditions,
        delayed=True,
        draw=lambda: 0.0,
        deliver=out.append,
        choke=lambda choked: None,
    )
    pipe.put(b"last words")
    pipe.put(Ending.RESET)
    assert out == []
    conditions = CLEAN
    pipe.changed()
    assert out == [b"last words", Ending.RESET]


def test_a_pipe_chokes_its_source_while_too_much_waits() -> None:
    choked: list[bool] = []
    pipe = Pipe(
        lambda: CLEAN,
        delayed=True,
        draw=lambda: 0.0,
        deliver=lambda item: None,
        choke=choked.append,
    )
    pipe.block(True)
    for _ in range(5):
        pipe.put(bytes(65_536))
    pipe.block(False)
    assert choked == [True, False]


def test_the_kernel_tells_who_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listens(port)
        with socket.create_connection(("127.0.0.1", port)) as client:
            assert not listens(client.getsockname()[1])
    assert not listens(port)
