"""A reply that carries the id of another request was not meant for the one it came to."""

from __future__ import annotations

import time

import pytest
from scripted import Peer, ScriptedServer, client

from zdtest.records.sample import Outcome
from zdtest.sending.exchange import Exchange
from zdtest.sending.reply import head_reader, strays

PAYLOAD = b"GET / HTTP/1.1\r\nHost: x\r\nX-Request-ID: run-1-0000000a\r\n\r\n"
read = head_reader("X-App-Version", "X-App-Instance")


@pytest.mark.parametrize(
    ("told", "stray"),
    [
        (b"run-1-0000000a", False),
        (b"run-1-0000000b", True),
        (b"run-2-0000000b", False),
        (b"0000000b", False),
        (b"run-1-0000000a-1", False),
        (b"run-1-0000000a#1", False),
        (b"run-1-0000000a.1.2", False),
        (b"run-1-0000000b.1.2", True),
        (b"run-1-0000000b1", False),
        (b"run-1-0000000B", False),
        (b"run-1-", False),
        (b"run-1-zzzzzzzz", False),
        (b"6f1c9bd2-6f0e-4f57-9f1a-0d9a4f5f3c11", False),
        (b"", False),
    ],
)
def test_only_an_id_of_this_run_that_is_not_its_own_is_a_stray(told, stray):
    head = read(b"HTTP/1.1 200 OK\r\nx-request-ID: " + told + b"\r\nContent-Length: 0\r\n\r\n")
    assert strays(head, PAYLOAD) is stray


@pytest.mark.parametrize(
    ("told", "outcome"), [(b"r-00000001", Outcome.ok), (b"r-00000002", Outcome.bad_body)]
)
@pytest.mark.parametrize(
    "framed",
    [b"Content-Length: 2\r\n\r\nhi", b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"],
    ids=["sized", "chunked"],
)
def test_a_reply_meant_for_another_request_is_a_wrong_one(told, outcome, framed):
    def answers(peer: Peer) -> None:
        peer.hear()
        peer.say(b"HTTP/1.1 200 OK\r\nX-Request-ID: " + told + b"\r\n" + framed)
        peer.wait_for_end()

    payload = b"GET / HTTP/1.1\r\nHost: x\r\nX-Request-ID: r-00000001\r\n\r\n"
    with ScriptedServer(answers) as server, client(server.port) as one:
        asked = Exchange(None, 1, 0, time.monotonic_ns(), payload)
        one.wire.open(asked)
        one.answer(asked)
    assert (asked.outcome, asked.status) == (outcome, 200)
