"""Writes with Idempotency-Keys: each asked once, and where its outcome is open, asked again."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import gevent
import pytest
from scripted import Peer, ScriptedServer, target, until

from zdtest import channel
from zdtest.records.sample import Outcome
from zdtest.sending.exchange import Exchange
from zdtest.sending.generator import Generator
from zdtest.sending.keyed import KeyedLane
from zdtest.sending.wire import Wire

CREATED = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BODY = "{}"

Answer = Callable[[Peer, int], None]
"""Answers the request that came after so many before it."""


class Writer:
    """Keyed writes to a server that answers as told, and what both sides saw."""

    def __init__(self, answer: Answer, *, rate: float = 100, timeout: float = 5.0) -> None:
        self.heard: list[bytes] = []
        self.ended: list[Exchange] = []
        self.retried: list[tuple[int, int]] = []
        self._answer = answer
        self._numbers = itertools.count()
        self._rate, self._timeout = rate, timeout

    def _serve(self, peer: Peer) -> None:
        while head := peer.hear():
            peer.heard = peer.heard[len(BODY) :]
            self.heard.append(head)
            self._answer(peer, next(self._numbers))

    def write(
        self, seconds: float, *, found: bool = True, wanted: Callable[[], object] = lambda: True
    ) -> None:
        """Write for so long and until that is `wanted`, to a server whose name is `found`."""
        with ScriptedServer(self._serve) as server:
            loop = gevent.get_hub().loop
            self.place = target(server.port)
            if not found:
                self.place.move([])
            wire = Wire(loop, self.place, self.ended.append)
            (spec,) = channel.parse("write+key@/orders", rate=self._rate, timeout=self._timeout)
            told = lambda seq, key: self.retried.append((seq, key))  # noqa: E731
            lane = KeyedLane(spec, wire, retried=told, seed=1, write_body=BODY)
            generator = Generator(loop, run="r")
            try:
                generator.start([lane])
                gevent.sleep(seconds)
                until(wanted)
                generator.stop()
                until(lambda: not generator.on_the_way)
            finally:
                generator.close()
                gevent.sleep(0)
        self.ended.sort(key=lambda one: one.seq)

    def keys(self) -> list[str]:
        """Return the key that each request carried, in the order of their numbers."""
        told = {}
        for head in self.heard:
            (seq,) = re.findall(rb"\r\nX-Request-ID: r-([0-9a-f]{8})(?:\r|$)", head)
            (key,) = re.findall(rb"\r\nIdempotency-Key: (r-[0-9a-f]{8})(?:\r|$)", head)
            told[int(seq, 16)] = key.decode()
        return [told[seq] for seq in sorted(told)]


def good(peer: Peer, _: int) -> None:
    peer.say(CREATED)


def test_every_write_carries_a_key_of_its_own_that_is_its_id() -> None:
    one = Writer(good)
    one.write(0.2)
    assert len(one.ended) > 10
    assert one.keys() == [f"r-{each.seq:08x}" for each in one.ended]
    assert one.retried == []
    assert all(head.startswith(b"POST /orders HTTP/1.1\r\n") for head in one.heard)


OPEN = {
    "reset": (lambda peer: peer.reset(), Outcome.reset),
    "closed": (lambda peer: peer.sock.close(), Outcome.closed),
    "truncated": (lambda peer: (peer.say(CREATED[:-1]), peer.reset()), Outcome.truncated),
    "5xx": (
        lambda peer: peer.say(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"),
        Outcome.http_5xx,
    ),
}


@pytest.mark.parametrize("how", OPEN)
def test_a_write_whose_outcome_is_open_is_asked_again_in_a_later_slot(how: str) -> None:
    breaks, outcome = OPEN[how]

    def answer(peer: Peer, number: int) -> None:
        breaks(peer) if number == 3 else good(peer, number)

    one = Writer(answer)
    one.write(0.1, wanted=lambda: one.retried)
    (failed,) = (each for each in one.ended if each.outcome is not Outcome.ok)
    assert failed.outcome is outcome
    ((again, key),) = one.retried
    assert key == failed.seq < again
    retry = one.ended[again]
    assert (retry.seq, retry.key, retry.session) == (again, failed.seq, failed.session)
    assert retry.outcome is Outcome.ok
    expected = [f"r-{each.seq:08x}" for each in one.ended]
    expected[again] = f"r-{failed.seq:08x}"
    assert one.keys() == expected


def test_the_schedule_is_the_same_with_retries_and_without() -> None:
    def fails(peer: Peer, number: int) -> None:
        peer.say(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")

    well, ill = Writer(good), Writer(fails)
    well.write(0.2)
    ill.write(0.2, wanted=lambda: len(ill.retried) > 10)
    count = min(len(well.ended), len(ill.ended))
    gaps = [
        [later.due - earlier.due for earlier, later in zip(one.ended, one.ended[1:], strict=False)]
        for one in (well, ill)
    ]
    assert gaps[0][: count - 1] == gaps[1][: count - 1]
    assert [each.seq for each in ill.ended] == list(range(len(ill.ended)))
    # One slot is one request: what is asked again takes the place of a fresh write.
    assert len(ill.heard) == len(ill.ended)


def test_a_refusal_is_decided_and_asks_nothing_again() -> None:
    for status, outcome in ((404, Outcome.http_4xx), (302, Outcome.http_3xx)):

        def refuses(peer: Peer, _: int, status: int = status) -> None:
            peer.say(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status)

        one = Writer(refuses)
        one.write(0.1)
        assert {each.outcome for each in one.ended} == {outcome}
        assert one.retried == []


def test_a_write_that_was_never_sent_is_decided() -> None:
    one = Writer(good)
    one.write(0.1, found=False)
    assert {each.outcome for each in one.ended} == {Outcome.dns}
    assert one.retried == []


def test_a_retry_that_was_never_sent_leaves_its_key_as_open_as_it_was() -> None:
    def vanishes(peer: Peer, number: int) -> None:
        if number < 2:
            good(peer, number)
        else:
            one.place.move([])
            peer.reset()

    one = Writer(vanishes)
    resets = lambda: sum(each.outcome is Outcome.reset for each in one.ended)  # noqa: E731
    one.write(0.1, wanted=lambda: len(one.retried) > 3 * resets() > 0)
    outcomes = [each.outcome for each in one.ended]
    assert set(outcomes) == {Outcome.ok, Outcome.reset, Outcome.dns}
    open_keys = {each.seq for each in one.ended if each.outcome is Outcome.reset}
    assert {key for _, key in one.retried} <= open_keys


def test_time_running_out_leaves_a_write_open_too() -> None:
    def silent(peer: Peer, number: int) -> None:
        if number:
            good(peer, number)

    one = Writer(silent, timeout=0.1)
    one.write(0.2, wanted=lambda: one.retried)
    late = {each.seq for each in one.ended if each.outcome is Outcome.timeout}
    assert {key for _, key in one.retried} <= late
