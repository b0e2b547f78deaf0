"""The schedule is open: what is due is sent, on time or late, whatever came of what was before."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import numpy as np
import pytest
from scripted import OK, Peer, ScriptedServer, target, until

from zdtest import channel
from zdtest.records.sample import Outcome
from zdtest.sending.exchange import Exchange, now_ns
from zdtest.sending.generator import Generator, Lane
from zdtest.sending.ticker import Ticker
from zdtest.sending.wire import Target, Wire

pytestmark = pytest.mark.alone


def answers(peer: Peer) -> None:
    while peer.hear():
        peer.say(OK)


def is_silent(peer: Peer) -> None:
    peer.hear()
    peer.wait_for_end()


class Run:
    """A generator on its way, and what ended."""

    def __init__(self, place: Target, spec: str, *, seed: int = 1, **options: Any) -> None:
        self.ended: list[Exchange] = []
        loop = gevent.get_hub().loop
        self.wire = Wire(loop, place, self.ended.append)
        self.lanes = [
            Lane(one, self.wire, seed=seed, write_body="{}")
            for one in channel.parse(spec, **options)
        ]
        self.generator = Generator(loop, run="r")

    def due(self, name: str) -> Any:
        """Return the due times of one channel, nanoseconds after the beginning."""
        ended = sorted((one for one in self.ended if one.channel.spec.name == name), key=_seq)
        return np.array([one.due - self.generator.began for one in ended])


def _seq(exchange: Exchange) -> int:
    return exchange.seq


@contextmanager
def run(place: Target | int, spec: str, **options: Any) -> Iterator[Run]:
    one = Run(target(place) if isinstance(place, int) else place, spec, **options)
    try:
        yield one
    finally:
        one.generator.stop()
        one.generator.close()
        gevent.sleep(0)


def went(one: Run, seconds: float) -> tuple[int, int]:
    """Let the schedule go on for so long; return how many nanoseconds it did at least, at most.

    A busy machine sleeps longer than it is asked to.
    """
    one.generator.start(one.lanes)
    gevent.sleep(seconds)
    least = now_ns() - one.generator.began
    one.generator.stop()
    return least, now_ns() - one.generator.began


def complete(one: Run, seconds: float) -> tuple[int, int]:
    """Do that, and return it once nothing is on its way."""
    lasted = went(one, seconds)
    until(lambda: not one.generator.on_the_way)
    return lasted


_BEAT = 1_000_000


class Beat:
    """A timer of the loop's own that tells when this process stood still, and nothing was sent."""

    def __init__(self) -> None:
        self._at = [now_ns()]
        self._timer = gevent.get_hub().loop.timer(_BEAT * 1e-9, _BEAT * 1e-9)

    def __enter__(self) -> Beat:
        self._timer.start(lambda: self._at.append(now_ns()), update=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.stop()
        self._timer.close()

    def still(self, begin: int, end: int) -> int:
        """Return for how many nanoseconds it did between these moments."""
        at = np.array(self._at)
        gaps = np.minimum(at[1:], end) - np.maximum(at[:-1] + _BEAT, begin)
        return int(np.maximum(gaps, 0).sum())


NOWHERE = Target("nowhere.invalid", 80, tls=False)
"""Every request ends the moment it is sent: only the schedule is at work."""


def test_each_channel_is_evenly_spaced_at_its_own_rate_behind_its_own_phase() -> None:
    with run(NOWHERE, "new=3,reused=1", rate=400) as one:
        least, most = complete(one, 0.5)
    phases = []
    for name, interval in ((name, 1e9 / one_rate(one, name)) for name in ("new", "reused")):
        due = one.due(name)
        assert least / interval - 1 <= len(due) <= most / interval + 1
        phases.append(due[0] / interval)
        expected = (np.arange(len(due)) + one_phase(one, name)) * interval
        assert np.abs(due - expected).max() <= 1
    assert all(0 <= phase < 1 for phase in phases)
    assert phases[0] != phases[1]


def one_rate(one: Run, name: str) -> float:
    return next(lane.spec.rate for lane in one.lanes if lane.spec.name == name)


def one_phase(one: Run, name: str) -> float:
    return next(lane.schedule.phase for lane in one.lanes if lane.spec.name == name)


def test_the_same_seed_is_the_same_schedule_and_another_is_another() -> None:
    def due(seed: int) -> list[int]:
        with run(NOWHERE, "new,reused", rate=500, seed=seed) as one:
            complete(one, 0.1)
        return list(one.due("new")[:15])

    assert due(1) == due(1)
    assert due(1) != due(2)


def test_a_stall_of_our_own_is_no_timeout_of_the_servers() -> None:
    def takes_30_ms(peer: Peer) -> None:
        while peer.hear():
            time.sleep(0.03)
            peer.say(OK)

    with (
        ScriptedServer(takes_30_ms) as server,
        run(server.port, "new=1,reused=1", rate=200, timeout=0.2) as one,
    ):
        one.generator.start(one.lanes)
        for _ in range(4):
            gevent.sleep(0.1)
            time.sleep(0.25)
        one.generator.stop()
        until(lambda: not one.generator.on_the_way)
    assert {exchange.outcome for exchange in one.ended} == {Outcome.ok}


def test_what_fell_due_in_a_stall_is_sent_at_once_with_the_due_time_it_had() -> None:
    with run(NOWHERE, "new", rate=500) as one:
        one.generator.start(one.lanes)
        late = []
        for _ in range(3):
            gevent.sleep(0.1)
            begin = now_ns()
            time.sleep(0.2)
            end = now_ns()
            until(lambda end=end: one.ended and one.ended[-1].due > end)
            missed = [each for each in one.ended if begin < each.due < end]
            assert len(missed) == pytest.approx((end - begin) / 2_000_000, abs=1)
            assert all(each.done >= end for each in missed)
            late.append(max(each.done for each in missed) - end)
        one.generator.stop()
        # The machine itself may stand still once more after one of them.
        assert min(late) < 50_000_000
        assert np.abs(np.diff(one.due("new")) - 2_000_000).max() <= 1


def test_a_reply_that_stalls_delays_no_other_request() -> None:
    with (
        ScriptedServer(is_silent) as server,
        Beat() as beat,
        run(server.port, "new,reused", rate=200) as one,
    ):
        least, most = (sum(x.due_before(each) for x in one.lanes) for each in went(one, 0.5))
        waiting = [each for lane in one.lanes for each in lane.waiting]
        assert least <= len(waiting) <= most
        assert len(waiting) > 80
        assert not one.ended
        until(lambda: all(each.sent for each in waiting))
        assert not one.ended
        # Where others want the processor as well, not even most of them are on time: what counts is
        # by how much they are later than this process stood still, which no connection makes it do.
        late = [each.sent - each.due - beat.still(each.due, each.sent) for each in waiting]
        assert np.quantile(late, 0.9) < 20_000_000
        assert not any(line.sock.getblocking() for line in one.wire.lines)
        until(lambda: server.seen >= len(waiting))


def test_time_runs_out_at_each_channels_own_limit() -> None:
    with (
        ScriptedServer(is_silent) as server,
        run(server.port, "new,slow~200ms", rate=100, timeout=0.1) as one,
    ):
        complete(one, 2.0)  # so long that a moment in which the machine stands still is not most
        for name, limit in (("new", 0.1), ("slow", 0.3)):
            took = [each.done - each.due for each in one.ended if each.channel.spec.name == name]
            assert min(took) >= limit * 1e9
            # While the machine gives this process no time, theirs stands still as well.
            assert np.median(took) < limit * 1e9 + 60_000_000 + one.generator._still
            assert min(took) < limit * 1e9 + 60_000_000
        assert {each.outcome for each in one.ended} == {Outcome.timeout}
        assert not one.wire.lines


def test_every_request_ends_exactly_once_and_numbers_are_never_used_twice() -> None:
    spec = "new,reused,idle,slow~1ms,write"
    with ScriptedServer(answers) as server, run(server.port, spec, rate=300) as one:
        complete(one, 0.5)
        account = one.generator.account()
    numbers = [each.seq for each in one.ended]
    assert sorted(numbers) == list(range(account["scheduled"]))  # type: ignore[call-overload]
    assert {each.outcome for each in one.ended} == {Outcome.ok}
    assert {each.session for each in one.ended} == set(range(20))


def test_channels_use_connections_as_they_say() -> None:
    spec = "new,reused,idle,slow~1ms,write"
    with ScriptedServer(answers) as server, run(server.port, spec, rate=200) as one:
        complete(one, 0.4)

    def connections(name: str) -> tuple[int, int]:
        ended = [each.conn for each in one.ended if each.channel.spec.name == name]
        return len(ended), len(set(ended))

    for name in ("new", "slow", "idle"):
        requests, opened = connections(name)
        assert requests == opened, name
    for name in ("reused", "write"):
        requests, opened = connections(name)
        assert opened < requests, name


def test_an_idle_connection_rests_as_long_as_it_is_told() -> None:
    with ScriptedServer(answers) as server, run(server.port, "idle", rate=50) as one:
        lane = one.lanes[0]
        lane.parked = lane.pool.most = 10
        # Each is answered before the next one is sent, however slow the machine is.
        one.generator.start(one.lanes, now_ns() + 3600 * 10**9)
        for seq in range(30):
            exchange = lane.exchange(b"r", seq, lane.due(), now_ns())
            lane.slot += 1
            lane.send(exchange)
            until(lambda exchange=exchange: exchange.outcome is not None)
    by_line: dict[int, list[int]] = {}
    for each in sorted(one.ended, key=_seq):
        by_line.setdefault(each.conn, []).append(each.due)
    assert len(by_line) == 10
    rests = np.concatenate([np.diff(due) for due in by_line.values()])
    assert np.abs(rests - 200_000_000).max() <= 10


def test_what_is_sent_carries_its_id() -> None:
    heard = []

    def script(peer: Peer) -> None:
        while head := peer.hear():
            heard.append(head)
            peer.heard = peer.heard[2:]
            peer.say(OK)

    with ScriptedServer(script) as server, run(server.port, "write", rate=50) as one:
        complete(one, 0.1)
    heard.sort(key=lambda head: head.rpartition(b": ")[2])  # two at once may be heard in any order
    assert heard[0].startswith(b"POST / HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nX-Request-ID: r-00000000" in heard[0]
    assert b"\r\nContent-Length: 2\r\n" in heard[0]
    assert len({head.rpartition(b": ")[2] for head in heard}) == len(heard) > 2


def test_more_connections_than_files_are_our_own_failure() -> None:
    with ScriptedServer(is_silent) as server, run(server.port, "new", rate=200) as one:
        one.generator._most = 5
        one.generator.start(one.lanes)
        until(lambda: len(one.ended) > 20)
        assert len(one.wire.lines) == 5
        assert {each.outcome for each in one.ended} == {Outcome.unsent}


# Stopping, and the account.


def test_after_stop_nothing_is_sent() -> None:
    with run(NOWHERE, "new", rate=1000) as one:
        complete(one, 0.1)
        sent = len(one.ended)
        gevent.sleep(0.1)
        assert len(one.ended) == sent


@pytest.mark.parametrize(
    ("rate", "seconds"), [(1, 0.3), (1, 1.3), (5, 0.5), (200, 0.1), (2000, 0.3)]
)
def test_a_rate_that_was_kept_up_is_reached_however_short_the_run(
    rate: float, seconds: float
) -> None:
    with run(NOWHERE, "new,reused", rate=rate) as one:
        complete(one, seconds)
        account = one.generator.account()
    assert account["scheduled"] == len(one.ended)
    if one.ended:
        assert account["reached_rate"] == account["offered_rate"] == rate
        assert account["ended"] == max(each.due for each in one.ended) * 1e-9
    else:
        assert account["reached_rate"] == 0


def test_a_rate_beyond_reach_is_not_reached() -> None:
    with run(NOWHERE, "new", rate=200_000) as one:
        one.lanes[0].send = lambda exchange: (  # type: ignore[method-assign]
            time.sleep(0.0001),
            one.wire.open(exchange),
        )[1]
        least, most = complete(one, 0.3)
        account = one.generator.account()
    assert account["reached_rate"] < 0.1 * account["offered_rate"]  # type: ignore[operator]
    assert least // 5_000 - 1 <= account["scheduled"] <= most // 5_000 + 1  # type: ignore[operator]


def wakes(rate: float, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how far ahead each wake was set, in nanoseconds; zero where more was due at once."""
    ahead: list[int] = []
    at = Ticker.at

    def noted(ticker: Ticker, instant: int, now: int) -> None:
        ahead.append(instant - now)
        at(ticker, instant, now)

    with run(NOWHERE, "new", rate=rate) as one, monkeypatch.context() as patch:
        patch.setattr(Ticker, "at", noted)
        complete(one, 0.2)
    return ahead[1:]


def test_a_dense_schedule_is_sent_a_few_requests_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """To wake costs more than to send; what falls due meanwhile is late by the pause at most."""
    assert all(ahead == 0 or 500_000 <= ahead < 700_000 for ahead in wakes(8_000, monkeypatch))


def test_a_sparse_schedule_is_sent_to_the_instant(monkeypatch: pytest.MonkeyPatch) -> None:
    assert max(wakes(4_000, monkeypatch)) <= 250_000


def test_the_control_server_is_no_part_of_the_rate() -> None:
    with run(NOWHERE, "new", rate=100) as one:
        spec = channel.Channel("control", 0.0, 50.0)
        one.lanes.append(Lane(spec, one.wire, seed=1))
        complete(one, 0.2)
        account = one.generator.account()
    assert account["offered_rate"] == 100
    assert account["scheduled"] == len(one.due("new")) < len(one.ended)


# The ticker.


def test_the_ticker_wakes_at_the_instant_and_not_before() -> None:
    woken: list[int] = []
    plain: list[int] = []
    ticker = Ticker(gevent.get_hub().loop, lambda: woken.append(now_ns()))
    beside = gevent.get_hub().loop.timer(0.003)
    try:
        late, others = [], []
        for _ in range(20):
            woken.clear()
            plain.clear()
            instant = now_ns() + 3_000_000
            ticker.at(instant, now_ns())
            beside.start(lambda: plain.append(now_ns()), update=True)
            until(lambda: woken and plain)
            late.append(woken[0] - instant)
            others.append(plain[0] - instant)
        assert min(late) >= 0
        # It may have to wait for a processor: then the loop's own timer, which is a millisecond
        # late anyhow, has to as well.
        on_time = [a < 1_000_000 or a <= b for a, b in zip(late, others, strict=True)]
        assert sum(on_time) >= 15
        woken.clear()
        ticker.at(now_ns() - 5, now_ns())
        until(lambda: woken)
    finally:
        ticker.close()
        beside.close()
    gevent.sleep(0)


def test_without_a_timerfd_the_loops_own_timer_has_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes

    monkeypatch.setattr(ctypes, "PyDLL", lambda *_, **__: object())
    woken: list[int] = []
    ticker = Ticker(gevent.get_hub().loop, lambda: woken.append(now_ns()))
    try:
        for _ in range(2):
            woken.clear()
            instant = now_ns() + 3_000_000
            ticker.at(instant, now_ns())
            until(lambda: woken)
            assert woken[0] - instant > -1_500_000
    finally:
        ticker.close()
