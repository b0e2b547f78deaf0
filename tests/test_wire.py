"""Every way a request can end, over real sockets; and that none is ever sent twice."""

from __future__ import annotations

import _socket
import gc
import hashlib
import os
import resource
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import gevent
import pytest
from scripted import OK, Client, Peer, ScriptedServer, client, request, target, until

from zdtest.records.sample import Outcome
from zdtest.sending.exchange import Exchange
from zdtest.sending.wire import Pool, Target

MIXED = 2_000
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

ANSWERS = {
    "a whole reply": (OK, "hold", Outcome.ok, 200, 5),
    "headers in any case": (HEAD + b"cOnTeNt-LENGTH:  2 \r\n\r\nhi", "hold", Outcome.ok, 200, 2),
    "in HTTP/1.0, to the end": (b"HTTP/1.0 200 OK\r\n\r\nhello", "end", Outcome.ok, 200, 5),
    "no length, to the end": (HEAD + b"\r\nhello", "end", Outcome.ok, 200, 5),
    "no length, no body": (HEAD + b"\r\n", "end", Outcome.ok, 200, 0),
    "no length, reset": (HEAD + b"\r\nhello", "reset", Outcome.truncated, 200, 5),
    "204 without a length": (b"HTTP/1.1 204 No\r\n\r\n", "hold", Outcome.ok, 204, 0),
    "304 with a length": (
        b"HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n",
        "hold",
        Outcome.http_3xx,
        304,
        0,
    ),
    "chunks": (CHUNKED + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", "hold", Outcome.ok, 200, 5),
    "chunks and trailers": (CHUNKED + b"1\r\na\r\n0\r\nX: y\r\n\r\n", "hold", Outcome.ok, 200, 1),
    "no chunk": (CHUNKED + b"0\r\n\r\n", "hold", Outcome.ok, 200, 0),
    "interim replies": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK,
        "hold",
        Outcome.ok,
        200,
        5,
    ),
    "a switch nobody asked for": (
        b"HTTP/1.1 101 Switching\r\n\r\n",
        "hold",
        Outcome.http_3xx,
        101,
        0,
    ),
    "503": (
        b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno",
        "hold",
        Outcome.http_5xx,
        503,
        2,
    ),
    "404": (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "hold", Outcome.http_4xx, 404, 0),
    "302": (b"HTTP/1.1 302 There\r\nContent-Length: 0\r\n\r\n", "hold", Outcome.http_3xx, 302, 0),
    "nothing, then reset": (b"", "reset", Outcome.reset, 0, 0),
    "nothing, then the end": (b"", "end", Outcome.closed, 0, 0),
    "nothing at all": (b"", "hold", Outcome.timeout, 0, 0),
    "half a status line, reset": (b"HTTP/1.1 20", "reset", Outcome.reset, 0, 0),
    "half a status line, the end": (b"HTTP/1.1 20", "end", Outcome.closed, 0, 0),
    "half a status line, silence": (b"HTTP/1.1 20", "hold", Outcome.timeout, 0, 0),
    "half a head, reset": (HEAD + b"Content-Le", "reset", Outcome.truncated, 200, 0),
    "half a head, the end": (HEAD + b"Content-Le", "end", Outcome.truncated, 200, 0),
    "half a head, silence": (HEAD + b"Content-Le", "hold", Outcome.body_timeout, 200, 0),
    "an interim reply, the end": (b"HTTP/1.1 103 Early\r\n\r\n", "end", Outcome.closed, 0, 0),
    "half a body, reset": (OK[:-2], "reset", Outcome.truncated, 200, 3),
    "half a body, the end": (OK[:-2], "end", Outcome.truncated, 200, 3),
    "half a body, silence": (OK[:-2], "hold", Outcome.body_timeout, 200, 3),
    "a head, the end": (OK[:-5], "end", Outcome.truncated, 200, 0),
    "half a chunk, the end": (CHUNKED + b"5\r\nabc", "end", Outcome.truncated, 200, 3),
    "no last chunk, the end": (CHUNKED + b"1\r\na\r\n", "end", Outcome.truncated, 200, 1),
    "no last chunk, reset": (CHUNKED + b"1\r\na\r\n", "reset", Outcome.truncated, 200, 1),
    "no last chunk, silence": (CHUNKED + b"1\r\na\r\n", "hold", Outcome.body_timeout, 200, 1),
    "a half trailer, the end": (CHUNKED + b"0\r\nX: y\r\n", "end", Outcome.truncated, 200, 0),
    "no chunk size": (CHUNKED + b"zz\r\nabc\r\n", "hold", Outcome.bad_body, 200, 0),
    "a negative chunk size": (CHUNKED + b"-1\r\n\r\n", "hold", Outcome.bad_body, 200, 0),
    "a chunk too long": (CHUNKED + b"1\r\nabc\r\n", "hold", Outcome.bad_body, 200, 0),
    "a chunk line without end": (CHUNKED + b"1;" + b"x" * 5000, "hold", Outcome.bad_body, 200, 0),
    "no HTTP": (b"SSH-2.0-x\r\n", "hold", Outcome.http_5xx, 0, 0),
    "no status": (b"HTTP/1.1 OK\r\n\r\n", "hold", Outcome.http_5xx, 0, 0),
    "no number for a length": (
        HEAD + b"Content-Length: -5\r\n\r\n",
        "hold",
        Outcome.http_5xx,
        0,
        0,
    ),
    "two lengths": (
        HEAD + b"Content-Length: 5, 6\r\n\r\nhello",
        "hold",
        Outcome.http_5xx,
        0,
        0,
    ),
    "two lengths on two lines": (
        HEAD + b"Content-Length: 5\r\nX: y\r\nContent-Length: 40\r\n\r\nhello",
        "hold",
        Outcome.http_5xx,
        0,
        0,
    ),
    "one length told twice": (
        HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "hold",
        Outcome.ok,
        200,
        5,
    ),
    "a length that is empty": (
        HEAD + b"Content-Length:\r\n\r\nhello",
        "hold",
        Outcome.http_5xx,
        0,
        0,
    ),
    "a length of 5,000 digits": (
        HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nhello",
        "hold",
        Outcome.http_5xx,
        0,
        0,
    ),
    "a coding on a second line": (
        HEAD + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "hold",
        Outcome.ok,
        200,
        0,
    ),
    "a coding that only sounds like chunked": (
        HEAD + b"Transfer-Encoding: xchunkedx\r\nContent-Length: 9\r\n\r\nhello",
        "end",
        Outcome.ok,
        200,
        5,
    ),
    "no coding by its old name": (
        HEAD + b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
        "hold",
        Outcome.ok,
        200,
        5,
    ),
    "a huge head": (HEAD + b"X: " + b"y" * 100_000, "hold", Outcome.http_5xx, 0, 0),
}


def says(  # type: ignore[no-untyped-def]
    answer: bytes, ending: str, pieces: int = 1, *, said: threading.Event | None = None
):
    """Return a script that hears a request, says `answer` in so many pieces, and ends so.

    Once it has `said` all of it that is set.
    """

    def script(peer: Peer) -> None:
        peer.hear()
        step = max(1, -(-len(answer) // pieces))
        peer.say(*(answer[at : at + step] for at in range(0, len(answer), step)))
        if said is not None:
            said.set()
        if ending == "reset":
            peer.reset()
            return
        if ending == "end":
            peer.end()
        if ending == "cut":
            peer.cut()
        peer.wait_for_end()

    return script


def ask(one: Client, exchange: Exchange | None = None, *, within: float = 5.0) -> Exchange:
    exchange = exchange or request()
    one.wire.open(exchange)
    return one.answer(exchange, within=within)


def ask_until(one: Client, said: threading.Event, outcome: Outcome) -> Exchange:
    """Ask; where it is to run out of time, let that be once the server has said all it says."""
    exchange = request()
    one.wire.open(exchange)
    if "timeout" not in outcome.name:
        return one.answer(exchange)
    until(said.is_set)
    return one.answer(exchange, within=0.1)


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize("name", ANSWERS)
def test_every_answer_has_its_outcome(name: str, pieces: int) -> None:
    answer, ending, outcome, status, size = ANSWERS[name]
    said = threading.Event()
    with (
        ScriptedServer(says(answer, ending, pieces, said=said)) as server,
        client(server.port, expected=frozenset({200, 204})) as one,
    ):
        found = ask_until(one, said, outcome)
        assert (found.outcome, found.status, found.size) == (outcome, status, size)
        assert server.seen == 1
        assert found.sent >= found.due
        assert found.done >= found.sent
        assert bool(found.first) == bool(answer)


def test_a_reply_may_come_a_byte_at_a_time() -> None:
    answer = CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    with (
        ScriptedServer(says(answer, "hold", len(answer))) as server,
        client(server.port, body=b"abcde") as one,
    ):
        assert ask(one).outcome is Outcome.ok


@pytest.mark.parametrize(("text", "outcome"), [(b"lo wor", Outcome.ok), (b"low", Outcome.bad_body)])
@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Content-Length: 11\r\n\r\nhello world",
        CHUNKED + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("pieces", [1, 30])
def test_a_body_is_looked_at_across_its_pieces(
    answer: bytes, text: bytes, outcome: Outcome, pieces: int
) -> None:
    with (
        ScriptedServer(says(answer, "hold", pieces)) as server,
        client(server.port, body=text) as one,
    ):
        assert ask(one).outcome is outcome


@pytest.mark.parametrize("pieces", [1, 2, 60])
@pytest.mark.parametrize(
    ("texts", "outcome"),
    [
        ((b"lo wor",), Outcome.ok),
        ((b"119310", b"o w"), Outcome.ok),
        ((b"o w", b"119310"), Outcome.ok),
        ((b"low", b"119310"), Outcome.bad_body),
        ((b"hello world!",), Outcome.bad_body),
    ],
)
def test_a_body_has_to_hold_one_of_its_requests_texts(
    pieces: int, texts: tuple[bytes, ...], outcome: Outcome
) -> None:
    answer = HEAD + b"Content-Length: 11\r\n\r\nhello world"
    with (
        ScriptedServer(says(answer, "hold", pieces)) as server,
        client(server.port, body=b"hell") as one,
    ):
        found = ask(one, request(texts=texts))
        assert (found.outcome, found.size) == (outcome, 11)


HASH = hashlib.sha256(b"hello world").hexdigest()
HASHED = {
    "a length": b"Content-Length: %d\r\n\r\n%s",
    "chunks": b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("framing", HASHED)
@pytest.mark.parametrize("pieces", [1, 40])
@pytest.mark.parametrize(
    ("body", "told", "outcome"),
    [
        (b"hello world", HASH, Outcome.ok),
        (b"hello world", HASH.upper(), Outcome.ok),
        (b"hellO world", HASH, Outcome.bad_body),
        (b"hello worl", HASH, Outcome.bad_body),
        (b"", HASH, Outcome.bad_body),
        (b"", hashlib.sha256().hexdigest(), Outcome.ok),
        (b"hellO world", HASH[:-1], Outcome.ok),
        (b"hellO world", f"sha-256={HASH}", Outcome.ok),
    ],
)
def test_a_body_has_the_hash_that_its_head_tells(
    framing: str, pieces: int, body: bytes, told: str, outcome: Outcome
) -> None:
    if framing == "chunks" and not body:
        rest = b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    else:
        rest = HASHED[framing] % (len(body), body)
    answer = HEAD + b"X-Content-SHA256: %s\r\n%s" % (told.encode(), rest)
    with (
        ScriptedServer(says(answer, "hold", pieces)) as server,
        client(server.port) as one,
    ):
        found = ask(one)
        assert (found.outcome, found.size) == (outcome, len(body))


def test_a_body_is_held_to_its_text_and_to_its_hash() -> None:
    answer = HEAD + b"X-Content-SHA256: %s\r\nContent-Length: 11\r\n\r\nhello world"
    for text, told in ((b"world", HASH), (b"word", HASH), (b"world", "0" * 64)):
        with (
            ScriptedServer(says(answer % told.encode(), "hold")) as server,
            client(server.port, body=text) as one,
        ):
            right = (text, told) == (b"world", HASH)
            assert ask(one).outcome is (Outcome.ok if right else Outcome.bad_body)


@pytest.mark.parametrize(
    ("id", "outcome"),
    [
        ("r-00000002", Outcome.ok),
        ("r-00000001", Outcome.bad_body),
        ("r-00000003", Outcome.bad_body),
        ("q-00000003", Outcome.ok),
        ("", Outcome.ok),
    ],
)
def test_a_reply_to_another_request_of_the_run_is_a_wrong_one(id: str, outcome: Outcome) -> None:
    answer = HEAD + b"X-Request-ID: %s\r\nContent-Length: 0\r\n\r\n" % id.encode()
    asked = b"X-Request-ID: r-00000002\r\nIdempotency-Key: r-00000001"
    with ScriptedServer(says(answer, "hold")) as server, client(server.port) as one:
        exchange = request()
        exchange.payload = b"GET / HTTP/1.1\r\n%s\r\n\r\n" % asked
        assert ask(one, exchange).outcome is outcome


def test_the_version_and_instance_are_told_as_sent_and_a_wrong_one_is_an_outcome() -> None:
    answer = b"HTTP/1.1 200 OK\r\nx-ver: V2\r\nContent-Length: 0\r\nX-App-INSTANCE: b \r\n\r\n"
    with ScriptedServer(says(answer, "hold")) as server:
        with client(server.port, version_header="X-Ver") as one:
            found = ask(one)
            assert (found.version, found.instance) == (b"V2", b"b")
            assert found.outcome is Outcome.ok
        with client(server.port, version_header="X-Ver", only_version=b"V1") as one:
            assert ask(one).outcome is Outcome.wrong_version


def test_nobody_listens_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with client(port) as one:
        found = ask(one)
    assert (found.outcome, found.sent, found.first) == (Outcome.refused, 0, 0)


class FromWhereItGoes(_socket.socket):
    """Is given the port that it asks for, as any client may be while nobody listens there."""

    def connect_ex(self, address: tuple[str, int]) -> int:
        self.bind(address)
        return super().connect_ex(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_connection_to_itself_is_refused_and_leaves_the_port_to_its_server(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        port = listener.getsockname()[1]
    with monkeypatch.context() as patch, client(target(port, address=host)) as one:
        patch.setattr(_socket, "socket", FromWhereItGoes)
        found = ask(one)
        assert (found.outcome, found.sent) == (Outcome.refused, 0)
    with socket.socket(family) as server:
        server.bind((host, port))


def test_a_name_without_an_address_is_dns() -> None:
    with client(Target("nowhere.invalid", 80, tls=False)) as one:
        found = ask(one)
    assert (found.outcome, found.sent) == (Outcome.dns, 0)


def test_an_unanswered_handshake_is_a_connect_timeout() -> None:
    listener = socket.socket()
    fillers = [socket.socket() for _ in range(4)]
    try:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        with client(listener.getsockname()[1]) as one:
            found = ask(one, within=0.2)
        assert (found.outcome, found.sent) == (Outcome.connect_timeout, 0)
    finally:
        for sock in (listener, *fillers):
            sock.close()


def test_no_file_left_for_a_socket_is_our_own_failure() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with client(1) as one:
        gevent.sleep(0)
        last = os.dup(0)
        os.close(last)
        resource.setrlimit(resource.RLIMIT_NOFILE, (last, hard))
        try:
            exchange = request()
            one.wire.open(exchange)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert exchange.outcome is Outcome.unsent


def test_a_large_request_is_sent_whole() -> None:
    size = 20_000_000
    heard = []

    def script(peer: Peer) -> None:
        peer.hear()
        heard.append(peer.take(size))
        peer.say(OK)
        peer.wait_for_end()

    with ScriptedServer(script) as server, client(server.port) as one:
        assert ask(one, request(body=bytes(size))).outcome is Outcome.ok
    assert heard == [size]


def test_a_reset_while_the_body_is_sent_is_a_reset() -> None:
    def script(peer: Peer) -> None:
        peer.hear()
        peer.reset()

    with ScriptedServer(script) as server, client(server.port) as one:
        assert ask(one, request(body=bytes(20_000_000))).outcome is Outcome.reset
        assert server.seen == 1


@pytest.mark.parametrize("goes", ["stays", "resets"])
def test_an_answer_before_the_request_was_heard_is_the_answer(goes: str) -> None:
    def script(peer: Peer) -> None:
        peer.hear()
        peer.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        if goes == "resets":
            peer.sock.close()
        else:
            peer.end()

    with ScriptedServer(script) as server, client(server.port) as one:
        found = ask(one, request(body=bytes(20_000_000)))
        assert (found.outcome, found.status) == (Outcome.http_4xx, 413)


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_download_of_any_size_needs_no_memory(framing: str) -> None:
    size = 200_000_000
    piece = bytes(1_000_000)

    def script(peer: Peer) -> None:
        peer.hear()
        if framing == "length":
            peer.say(HEAD + b"Content-Length: %d\r\n\r\n" % size)
        else:
            peer.say(CHUNKED)
        for _ in range(size // len(piece)):
            peer.sock.sendall(
                piece if framing == "length" else b"%x\r\n%s\r\n" % (len(piece), piece)
            )
        peer.sock.sendall(b"" if framing == "length" else b"0\r\n\r\n")
        peer.wait_for_end()

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with ScriptedServer(script) as server, client(server.port, body=b"\0" * 9) as one:
        found = ask(one, within=20)
    assert (found.outcome, found.size) == (Outcome.ok, size)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


# Kept connections.


def keeps(peer: Peer) -> None:
    """Answer every request."""
    while peer.hear():
        peer.say(OK)


def ask_kept(one: Client, pool: Pool) -> Exchange:
    """Ask on a kept connection where there is one, as a lane does."""
    exchange = request()
    while line := pool.take():
        if line.use(exchange):
            break
    else:
        one.wire.open(exchange, keep=pool)
    return one.answer(exchange)


def test_a_kept_connection_is_used_again() -> None:
    with ScriptedServer(keeps) as server, client(server.port) as one:
        pool = Pool(5)
        found = [ask_kept(one, pool) for _ in range(3)]
        assert [each.outcome for each in found] == [Outcome.ok] * 3
        assert {each.conn for each in found} == {1}
        assert server.seen == 1


def test_a_full_pool_lets_a_connection_go() -> None:
    with ScriptedServer(keeps) as server, client(server.port) as one:
        pool = Pool(1)
        exchanges = [request(seq) for seq in range(3)]
        for exchange in exchanges:
            one.wire.open(exchange, keep=pool)
        for exchange in exchanges:
            one.answer(exchange)
        assert len(pool) == 1
        assert len(one.wire.lines) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nconnection: Keep-Alive, Close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        HEAD + b"Connection: keep-alive\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        OK + b"HTTP/1.1 200 surplus",
        CHUNKED + b"0\r\n\r\nsurplus",
    ],
)
def test_a_connection_that_is_to_close_or_out_of_step_is_not_used_again(answer: bytes) -> None:
    with ScriptedServer(says(answer, "hold")) as server, client(server.port) as one:
        pool = Pool(5)
        assert ask_kept(one, pool).outcome is Outcome.ok
        assert len(pool) == 0
        assert ask_kept(one, pool).outcome is Outcome.ok
        assert server.seen == 2


def test_a_word_that_only_sounds_like_close_leaves_the_connection() -> None:
    answer = HEAD + b"Connection: keep-alive, x-closest\r\nContent-Length: 0\r\n\r\n"
    with ScriptedServer(says(answer, "hold")) as server, client(server.port) as one:
        pool = Pool(5)
        ask_kept(one, pool)
        assert len(pool) == 1


def test_http_1_0_may_keep_a_connection() -> None:
    answer = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n"
    with ScriptedServer(says(answer, "hold")) as server, client(server.port) as one:
        pool = Pool(5)
        ask_kept(one, pool)
        assert len(pool) == 1


@pytest.mark.parametrize("ending", ["end", "reset", "408"])
def test_a_connection_closed_at_rest_is_dropped_unused(ending: str) -> None:
    def script(peer: Peer) -> None:
        peer.hear()
        peer.say(OK)
        if peer.number:
            peer.wait_for_end()
            return
        rests.wait(5)
        if ending == "reset":
            peer.reset()
        elif ending == "end":
            peer.end()
        else:
            peer.say(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        gone.set()

    rests, gone = threading.Event(), threading.Event()
    with ScriptedServer(script) as server, client(server.port) as one:
        pool = Pool(5)
        ask_kept(one, pool)
        rests.set()
        assert gone.wait(5)
        # Not seen by the loop yet: what counts is that it is closed when it is to be used.
        time.sleep(0.05)
        found = ask_kept(one, pool)
        assert (found.outcome, found.conn) == (Outcome.ok, 2)
        assert server.seen == 2


def test_the_loop_forgets_a_connection_closed_at_rest() -> None:
    with ScriptedServer(says(OK, "end")) as server, client(server.port) as one:
        pool = Pool(5)
        ask_kept(one, pool)
        until(lambda: not len(pool))
        assert not one.wire.lines


@pytest.mark.parametrize("ending", ["end", "reset"])
def test_one_closed_with_a_request_on_its_way_is_a_failure_and_nothing_is_resent(
    ending: str,
) -> None:
    heard = []

    def script(peer: Peer) -> None:
        heard.append(peer.hear())
        peer.say(OK)
        heard.append(peer.hear())
        if ending == "reset":
            peer.reset()
        else:
            peer.end()

    with ScriptedServer(script) as server, client(server.port) as one:
        pool = Pool(5)
        assert ask_kept(one, pool).outcome is Outcome.ok
        found = ask_kept(one, pool)
        assert found.outcome is (Outcome.reset if ending == "reset" else Outcome.closed)
        gevent.sleep(0.05)
        assert server.seen == 1
        assert len(heard) == 2


# Closing.


def test_the_server_is_left_to_close_first_but_not_for_ever() -> None:
    with ScriptedServer(says(OK, "hold")) as server, client(server.port) as one:
        found = ask(one)
        assert len(one.wire.lines) == 1
        one.wire.sweep(found.done + 500_000_000)
        assert len(one.wire.lines) == 1
        one.wire.sweep(found.done + 1_500_000_000)
        assert not one.wire.lines


def test_a_server_that_closes_takes_the_connection_with_it() -> None:
    with ScriptedServer(says(OK, "end")) as server, client(server.port) as one:
        ask(one)
        until(lambda: not one.wire.lines)


def test_thousands_of_mixed_requests_leave_nothing_open() -> None:
    answers = [ANSWERS[name] for name in ANSWERS if "silence" not in name and "at all" not in name]
    answers = [each for each in answers if len(each[0]) < 4000]

    def script(peer: Peer) -> None:
        answer, ending, *_ = answers[peer.number % len(answers)]
        says(answer, ending)(peer)

    with ScriptedServer(script) as server:
        before = len(os.listdir("/proc/self/fd"))
        with client(server.port) as one:
            for _ in range(MIXED // 100):
                exchanges = [request(seq) for seq in range(100)]
                for exchange in exchanges:
                    one.wire.open(exchange)
                until(lambda: all(each.outcome is not None for each in exchanges))  # noqa: B023
                one.wire.sweep(1 << 62)
            assert len(one.ended) == MIXED
            assert {Outcome.ok, Outcome.reset, Outcome.closed, Outcome.truncated} <= {
                each.outcome for each in one.ended
            }
            assert not one.wire.lines
            one.ended.clear()
        until(lambda: len(os.listdir("/proc/self/fd")) <= before)
        gc.collect()
        assert not [each for each in gc.get_objects() if type(each).__name__ == "Line"]


# TLS.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(path), "-out", str(path) + ".crt"]
    subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    with path.open("a") as file:
        file.write(Path(str(path) + ".crt").read_text())
    return path


def tls(path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def test_requests_over_tls_are_answered_and_its_connections_kept(certificate: Path) -> None:
    with (
        ScriptedServer(keeps, tls=tls(certificate)) as server,
        client(target(server.port, tls=True, verify=False)) as one,
    ):
        pool = Pool(5)
        found = [ask_kept(one, pool) for _ in range(3)]
        assert [each.outcome for each in found] == [Outcome.ok] * 3
        assert server.seen == 1


@pytest.mark.parametrize("name", [name for name in ANSWERS if "huge" not in name])
def test_every_answer_has_the_same_outcome_over_tls(name: str, certificate: Path) -> None:
    answer, ending, outcome, status, size = ANSWERS[name]
    said = threading.Event()
    with ScriptedServer(says(answer, ending, 3, said=said), tls=tls(certificate)) as server:
        place = target(server.port, tls=True, verify=False)
        with client(place, expected=frozenset({200, 204})) as one:
            found = ask_until(one, said, outcome)
        assert (found.outcome, found.status, found.size) == (outcome, status, size)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"])
@pytest.mark.parametrize("ending", ["end", "cut"])
@pytest.mark.parametrize("pieces", [1, 3])
def test_a_body_without_a_length_is_whole_over_tls_only_where_its_end_was_told(
    head: bytes, ending: str, pieces: int, certificate: Path
) -> None:
    script = says(head + b"hello", ending, pieces)
    with ScriptedServer(script, tls=tls(certificate)) as server:
        with client(target(server.port, tls=True, verify=False)) as one:
            found = ask(one)
        outcome = Outcome.ok if ending == "end" else Outcome.truncated
        assert (found.outcome, found.size) == (outcome, 5)


def test_a_large_exchange_over_tls(certificate: Path) -> None:
    size = 3_000_000

    def script(peer: Peer) -> None:
        peer.hear()
        peer.take(size)
        peer.say(HEAD + b"Content-Length: %d\r\n\r\n" % size + bytes(size))
        peer.wait_for_end()

    with (
        ScriptedServer(script, tls=tls(certificate)) as server,
        client(target(server.port, tls=True, verify=False)) as one,
    ):
        found = ask(one, request(body=bytes(size)))
        assert (found.outcome, found.size) == (Outcome.ok, size)


def test_a_certificate_nobody_vouches_for_is_tls_and_nothing_is_sent(certificate: Path) -> None:
    with (
        ScriptedServer(keeps, tls=tls(certificate)) as server,
        client(target(server.port, tls=True)) as one,
    ):
        found = ask(one)
        assert (found.outcome, found.sent) == (Outcome.tls, 0)


@pytest.mark.parametrize("ending", ["end", "reset", "hold", "http"])
def test_a_broken_handshake_is_tls_and_nothing_is_sent(ending: str) -> None:
    def script(peer: Peer) -> None:
        peer.sock.recv(65_536)
        if ending == "reset":
            peer.reset()
            return
        if ending == "http":
            peer.say(b"HTTP/1.1 400 Plain\r\n\r\n")
        if ending == "end":
            peer.end()
        peer.wait_for_end()

    with (
        ScriptedServer(script) as server,
        client(target(server.port, tls=True, verify=False)) as one,
    ):
        found = ask(one, within=0.2 if ending == "hold" else 5.0)
        assert (found.outcome, found.sent) == (Outcome.tls, 0)


def test_a_connection_over_tls_closed_at_rest_is_dropped_unused(certificate: Path) -> None:
    def script(peer: Peer) -> None:
        peer.hear()
        peer.say(OK)
        if peer.number:
            peer.wait_for_end()

    with (
        ScriptedServer(script, tls=tls(certificate)) as server,
        client(target(server.port, tls=True, verify=False)) as one,
    ):
        pool = Pool(5)
        ask_kept(one, pool)
        until(lambda: not len(pool))
        assert ask_kept(one, pool).outcome is Outcome.ok
        assert server.seen == 2
