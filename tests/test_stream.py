"""A subscriber of server-sent events: one sample a slot, and no cut lost between two messages."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import pytest
from scripted import Client, Peer, ScriptedServer, client, until

from zdtest.records.sample import Outcome
from zdtest.sending.exchange import Exchange, now_ns
from zdtest.sending.stream import Station

HEAD = b"HTTP/1.1 200 OK\r\nX-App-Version: v1\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def chunk(text: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(text), text)


def slot(seq: int = 0) -> Exchange:
    return Exchange(None, seq, 0, now_ns(), b"GET / HTTP/1.1\r\nX-Request-ID: %d\r\n\r\n" % seq)


class Stage:
    """A server that does what the test tells it, when it tells it, and the station before it."""

    def __init__(self, one: Client, peers: list[Peer], heard: list[bytes]) -> None:
        self.client = one
        self.told: list[tuple[int, int, int, int]] = []
        self.station = Station(one.wire, 7, lambda *row: self.told.append(row))
        self.peers = peers
        self.heard = heard

    def due(self, seq: int = 0) -> Exchange:
        exchange = slot(seq)
        self.station.due(exchange)
        return exchange

    def peer(self, number: int = 0) -> Peer:
        """Return the server's end of that subscription, once it was asked for."""
        until(lambda: len(self.heard) > number)
        return self.peers[number]

    def outcome(self, exchange: Exchange) -> Outcome | None:
        until(lambda: exchange.outcome is not None)
        return exchange.outcome

    def subscribed(self) -> Peer:
        """Let a first slot subscribe and have its message."""
        first = self.due()
        self.peer().say(CHUNKED + chunk(b"id: 1\ndata: a\n\n"))
        assert self.outcome(first) is Outcome.ok
        return self.peer()


@contextmanager
def stage(**options: Any) -> Iterator[Stage]:
    peers: list[Peer] = []
    heard: list[bytes] = []
    done = threading.Event()

    def script(peer: Peer) -> None:
        peers.append(peer)
        heard.append(peer.hear())
        done.wait(10)

    with ScriptedServer(script) as server, client(server.port, **options) as one:
        try:
            yield Stage(one, peers, heard)
        finally:
            done.set()


def test_every_slot_has_the_next_message_of_one_connection() -> None:
    with stage() as on:
        peer = on.subscribed()
        for number in range(3):
            exchange = on.due(number)
            assert exchange.outcome is None
            peer.say(chunk(b"data: b\n\n"))
            assert on.outcome(exchange) is Outcome.ok
            assert (exchange.status, exchange.version, exchange.conn) == (200, b"v1", 1)
            assert exchange.due <= exchange.sent <= exchange.first <= exchange.done
        assert len(on.client.ended) == 4


def test_slots_that_wait_for_the_connection_have_the_same_message() -> None:
    with stage() as on:
        both = [on.due(0), on.due(1)]
        on.peer().say(CHUNKED + chunk(b"data: a\n\n"))
        assert [on.outcome(each) for each in both] == [Outcome.ok] * 2
        assert all(each.sent for each in both)
        assert len(on.heard) == 1


def test_a_message_before_the_slot_is_due_does_not_count() -> None:
    with stage() as on:
        peer = on.subscribed()
        peer.say(chunk(b"data: early\n\n"))
        gevent.sleep(0.05)
        exchange = on.due()
        gevent.sleep(0.05)
        assert exchange.outcome is None


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_chunks_and_packets_may_end_anywhere(size: int, end: bytes) -> None:
    event = end.join([b": hi", b"id: 42", b"data: x", b"data: y", b"", b""])
    pieces = [chunk(event[at : at + size]) for at in range(0, len(event), size)]
    with stage() as on:
        exchange = on.due()
        text = CHUNKED + b"".join(pieces)
        on.peer().say(*(text[at : at + 7] for at in range(0, len(text), 7)))
        assert on.outcome(exchange) is Outcome.ok
        until(lambda: on.station.last_id == b"42")


@pytest.mark.parametrize(
    "text", [b": keep-alive\n\n", b"id: 7\n\n", b"data: half\n", b"x: data\n\n"]
)
def test_what_is_no_message_is_none(text: bytes) -> None:
    with stage() as on:
        exchange = on.due()
        on.peer().say(CHUNKED + chunk(text))
        gevent.sleep(0.05)
        assert exchange.outcome is None


@pytest.mark.parametrize("cut", ["end", "reset"])
def test_a_cut_fails_the_slot_that_waits_and_the_next_resumes(cut: str) -> None:
    with stage() as on:
        peer = on.subscribed()
        exchange = on.due(1)
        getattr(peer, cut)()
        assert on.outcome(exchange) is Outcome.truncated
        gevent.sleep(0.05)
        assert len(on.heard) == 1, "only a slot subscribes"
        again = on.due(2)
        on.peer(1).say(CHUNKED + chunk(b"data: b\n\n"))
        assert on.outcome(again) is Outcome.ok
        assert on.heard[1].endswith(b"\r\nLast-Event-ID: 1")
        assert again.conn == 2


@pytest.mark.parametrize("cut", ["end", "reset"])
def test_a_cut_between_two_messages_fails_the_next_slot(cut: str) -> None:
    with stage() as on:
        getattr(on.subscribed(), cut)()
        until(lambda: not on.client.wire.lines)
        assert on.outcome(on.due(1)) is Outcome.truncated
        again = on.due(2)
        on.peer(1).say(CHUNKED + chunk(b"data: b\n\n"))
        assert on.outcome(again) is Outcome.ok


def test_two_cuts_fail_two_slots() -> None:
    with stage() as on:
        on.subscribed().reset()
        until(lambda: not on.client.wire.lines)
        assert on.outcome(on.due(1)) is Outcome.truncated
        second = on.due(2)
        on.peer(1).reset()
        assert on.outcome(second) is Outcome.reset


def test_a_stream_ended_in_due_form_that_goes_on_at_once_has_not_failed() -> None:
    with stage() as on:
        peer = on.subscribed()
        waits = [on.due(1), on.due(2)]
        peer.say(LAST)
        on.peer(1).say(CHUNKED + chunk(b"data: b\n\n"))
        assert [on.outcome(each) for each in waits] == [Outcome.ok] * 2
        assert {each.conn for each in waits} == {2}
        assert on.heard[1].endswith(b"\r\nLast-Event-ID: 1")


def test_a_stream_ended_in_due_form_between_two_messages_has_not_failed() -> None:
    with stage() as on:
        on.subscribed().say(LAST)
        until(lambda: not on.client.wire.lines)
        exchange = on.due(1)
        on.peer(1).say(CHUNKED + chunk(b"data: b\n\n"))
        assert on.outcome(exchange) is Outcome.ok


def test_a_stream_that_only_ever_ends_has_failed() -> None:
    with stage() as on:
        peer = on.subscribed()
        exchange = on.due(1)
        peer.say(LAST)
        on.peer(1).say(CHUNKED + LAST)
        assert on.outcome(exchange) is Outcome.truncated
        assert len(on.heard) == 2


def test_a_slot_that_finds_nobody_after_the_end_has_failed() -> None:
    with stage() as on:
        peer = on.subscribed()
        exchange = on.due(1)
        on.client.wire.target.move([])
        peer.say(LAST)
        assert on.outcome(exchange) is Outcome.dns


def test_the_id_is_told_once_however_often_the_same_slot_resumes() -> None:
    with stage() as on:
        first = on.due()
        on.peer().say(CHUNKED + chunk(b"id: 5\n\n") + LAST)
        on.peer(1).say(CHUNKED + chunk(b"id: 6\n\n") + LAST)
        assert on.outcome(first) is Outcome.truncated
        second = on.due()
        on.peer(2).say(CHUNKED + chunk(b"id: 7\n\n") + LAST)
        on.peer(3).say(CHUNKED + chunk(b"data: x\n\n"))
        assert on.outcome(second) is Outcome.ok
        told = [head.count(b"Last-Event-ID: ") for head in on.heard]
        assert told == [0, 1, 1, 1]
        assert on.heard[3].endswith(b"Last-Event-ID: 7")


def test_a_body_of_told_length_ends_in_due_form_and_one_without_is_cut() -> None:
    text = b"data: x\n\n"
    with stage() as on:
        first = on.due()
        on.peer().say(HEAD + b"Content-Length: %d\r\n\r\n" % len(text) + text)
        assert on.outcome(first) is Outcome.ok
        until(lambda: not on.client.wire.lines)
        second = on.due()
        on.peer(1).say(HEAD + b"\r\n" + text)
        assert on.outcome(second) is Outcome.ok
        third = on.due()
        on.peer(1).end()
        assert on.outcome(third) is Outcome.truncated


def test_a_stalled_stream_is_a_body_timeout_for_all_that_wait_and_the_next_slot_resumes() -> None:
    with stage() as on:
        on.subscribed()
        waits = [on.due(1), on.due(2)]
        line = waits[0].line
        assert line is not None
        line.expire()
        assert [each.outcome for each in waits] == [Outcome.body_timeout] * 2
        again = on.due(3)
        on.peer(1).say(CHUNKED + chunk(b"data: b\n\n"))
        assert on.outcome(again) is Outcome.ok


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", Outcome.http_5xx),
        (b"HTTP/1.1 204 No\r\n\r\n", Outcome.http_3xx),
        (CHUNKED + b"zz\r\n", Outcome.bad_body),
        (b"SSH-2.0\r\n", Outcome.http_5xx),
    ],
)
def test_a_subscription_refused_fails_every_slot_that_waits(
    answer: bytes, outcome: Outcome
) -> None:
    with stage() as on:
        waits = [on.due(0), on.due(1)]
        on.peer().say(answer)
        assert [on.outcome(each) for each in waits] == [outcome] * 2
        assert not on.client.wire.lines
        assert len(on.client.ended) == 2


def test_an_event_without_end_is_not_kept() -> None:
    with stage() as on:
        on.due()
        on.peer().say(CHUNKED)
        for _ in range(30):
            on.peer().say(chunk(b"data: " + bytes(100_000)))
        gevent.sleep(0.1)
        assert len(on.station._text) <= 1 << 20


# What is told of the messages.


def test_each_numbered_message_is_told_with_when_it_came_and_whether_the_stream_had_resumed() -> (
    None
):
    with stage() as on:
        begin = now_ns()
        peer = on.subscribed()
        peer.say(chunk(b"id: 2\ndata: b\n\nid: 3\ndata: c\n\n"))
        until(lambda: len(on.told) == 3)
        peer.reset()
        until(lambda: not on.client.wire.lines)
        assert on.outcome(on.due(1)) is Outcome.truncated
        on.due(2)
        on.peer(1).say(CHUNKED + chunk(b"id: 4\ndata: d\n\n") + chunk(b"id: 5\ndata: e\n\n"))
        until(lambda: len(on.told) == 5)
    assert [row[1:] for row in on.told] == [
        (1, 7, 0), (2, 7, 0), (3, 7, 0), (4, 7, 1), (5, 7, 0),
    ]  # fmt: skip
    times = [row[0] for row in on.told]
    assert begin < times[0]
    assert times == sorted(times)
    assert times[-1] <= now_ns()


@pytest.mark.parametrize("id", [b"", b"x", b"12-0", b"-1", b"1" * 19, b" 7"])
def test_an_id_that_is_no_number_is_not_told_and_still_resumed_from(id: bytes) -> None:
    with stage() as on:
        exchange = on.due()
        on.peer().say(CHUNKED + chunk(b"id: %s\ndata: a\n\n" % id))
        assert on.outcome(exchange) is Outcome.ok
        assert on.told == []
        assert on.station.last_id == id


def test_a_message_in_pieces_is_told_once_it_is_whole() -> None:
    with stage() as on:
        exchange = on.due()
        on.peer().say(CHUNKED + chunk(b"id: 12"), chunk(b"34\ndata: a\n"))
        gevent.sleep(0.03)
        assert on.told == []
        on.peer().say(chunk(b"\n"))
        assert on.outcome(exchange) is Outcome.ok
    assert [row[1] for row in on.told] == [1234]
