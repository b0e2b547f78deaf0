"""The `Generator` drives an open-loop schedule: every request has a due time before it starts.

Each channel is evenly spaced at its own rate, behind a small seeded phase, so that an outage
longer than one send interval can't slip between two requests. What falls due while the process is
held up is sent at once, with the due time it had: never skipped, never re-dated. That is what keeps
a stall, ours or the system's, in the latencies (the coordinated omission of closed-loop tools).
"""

from __future__ import annotations

import heapq
import resource
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from zdtest.channel import Channel
from zdtest.records.sample import CHANNELS, Outcome
from zdtest.sending import headers as added
from zdtest.sending.exchange import Exchange, now_ns
from zdtest.sending.schedule import WHOLE, Schedule, Stripe
from zdtest.sending.stream import Heard, Station
from zdtest.sending.ticker import Ticker
from zdtest.sending.wire import Pool, Wire

SESSIONS: Final = 20
"""Simulated clients of each process: those of the second one follow those of the first."""

_BURST: Final = 32
_DENSE: Final = 5_000
_PAUSE_NS: Final = 500_000
_LAST_BURSTS: Final = 32
_FEWEST_KEPT: Final = 4
_MOST_KEPT: Final = 4096
_REST_NS: Final = 1_000_000_000
_EXPIRY: Final = 0.01
_EXPIRY_NS: Final = 10_000_000
_AFTER_REPLIES: Final = -1
_SPARE_FILES: Final = 64
_LEAD_NS: Final = 20_000_000
_NEVER: Final = 1 << 62
_NO_HEADERS: Final[Mapping[str, str]] = {}


class Lane:
    """One channel at work: its schedule, its connections, its requests on the way.

    `slot` numbers the slot of the whole schedule that comes next, whoever carries it. `heard` is
    told of the messages of a stream, whose subscribers are a session each. `headers` are sent with
    every request, in place of ours of the same name.
    """

    def __init__(
        self,
        spec: Channel,
        wire: Wire,
        *,
        seed: int,
        write_body: str = "",
        headers: Mapping[str, str] = _NO_HEADERS,
        stripe: Stripe = WHOLE,
        heard: Heard | None = None,
    ) -> None:
        self.spec = spec
        self.wire = wire
        self.stripe = stripe
        self.schedule = Schedule.of(spec.name, spec.rate, seed)
        self.number = CHANNELS.index(spec.name)
        self.texts = spec.texts
        self.limit = int((spec.timeout + spec.think) * 1e9)
        self.slot = self.fired = 0
        self.waiting: deque[Exchange] = deque()
        rate = spec.rate / stripe.count
        self.parked = max(1, round(rate * spec.park))
        self.pool = Pool(self.parked if spec.name == "idle" else _MOST_KEPT)
        subscribers = max(1, round(rate * spec.think)) if spec.name == "stream" else 0
        self.sessions = subscribers or SESSIONS
        first = stripe.index * self.sessions
        self.stations = [Station(wire, first + n, heard) for n in range(subscribers)]
        self.send = getattr(self, f"_send_{spec.name}", self._send_new)
        self._head, self._tail = self._payload(write_body, headers)

    def due(self) -> int:
        """Return when the next slot falls due, nanoseconds after the beginning."""
        return self.schedule.due(self.slot)

    @property
    def ours(self) -> bool:
        """Whether the next slot is for us to send."""
        return self.stripe.carries(self.slot)

    def _payload(self, write_body: str, headers: Mapping[str, str]) -> tuple[bytes, bytes]:
        """Return a request's bytes before and after its id, made once for all that are sent."""
        spec = self.spec
        told = {
            "Host": self.wire.target.authority,
            "User-Agent": "zdtest",
            "Accept": "text/event-stream" if spec.name == "stream" else "*/*",
        }
        body = b""
        if spec.name == "write":
            body = write_body.encode()
            told |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        if spec.name in ("new", "slow", "control"):
            told["Connection"] = "close"
        lines = [f"{spec.method} {spec.path} HTTP/1.1", *added.written(added.merged(told, headers))]
        head = "\r\n".join([*lines, "X-Request-ID: "]).encode("latin-1")
        return head, b"\r\n\r\n" + body

    def exchange(self, run: bytes, seq: int, due: int, now: int) -> Exchange:
        """Return the request that falls due now, and count it as on the way.

        Its time runs from `now`: lateness of ours is no reason to call the system too slow.
        """
        session = self.stripe.index * self.sessions + self.fired % self.sessions
        self.fired += 1
        payload = b"%s%s-%08x%s" % (self._head, run, seq, self._tail)
        exchange = Exchange(self, seq, session, due, payload, now + self.limit, self.texts)
        self.waiting.append(exchange)
        return exchange

    def _send_new(self, exchange: Exchange) -> None:
        self.wire.open(exchange)

    def _send_reused(self, exchange: Exchange) -> None:
        while line := self.pool.take():
            if line.use(exchange):
                return
        self.wire.open(exchange, keep=self.pool)

    _send_write = _send_reused

    def _send_idle(self, exchange: Exchange) -> None:
        if len(self.pool) < self.parked:
            self.wire.open(exchange, keep=self.pool)
        else:
            self._send_reused(exchange)

    def _send_stream(self, exchange: Exchange) -> None:
        self.stations[(self.fired - 1) % len(self.stations)].due(exchange)

    def expire(self, now: int) -> None:
        """End the requests whose time is up; those that ended by themselves are forgotten."""
        waiting = self.waiting
        while waiting:
            exchange = waiting[0]
            if exchange.outcome is None:
                if now < exchange.deadline:
                    return
                if exchange.line is not None:
                    exchange.line.expire()
                self.wire.end(exchange, Outcome.connect_timeout)
            waiting.popleft()

    def rest(self, now: int) -> None:
        """Let go of connections that a stall has left over: kept ones rest a second or so."""
        if self.spec.name != "idle":
            self.pool.trim(now - _REST_NS, _FEWEST_KEPT)

    def due_before(self, time: int) -> int:
        """Return how many of our requests fall due in the first `time` nanoseconds."""
        return self.stripe.of(self.schedule.before(time))


class Generator:
    """Sends what falls due on each lane until `stop`; the lanes' wires tell how each one ends.

    `began` is the schedule's zero, nanoseconds on CLOCK_MONOTONIC. It may be moved while the
    schedule runs, to follow another clock.
    """

    def __init__(self, loop: Any, *, run: str) -> None:
        self._run = run.encode()
        self.lanes: list[Lane] = []
        self._wires: set[Wire] = set()
        self._heap: list[tuple[int, int]] = []
        self._seq = 0
        self._most = _open_files()
        self._ticker = Ticker(loop, self._tick)
        # What has come by now is read before anything is called late.
        self._sweeper = loop.timer(_EXPIRY, _EXPIRY, priority=_AFTER_REPLIES)
        self.began = self._last_due = self._pause = 0
        self._swept = self._still = 0
        self._stopping, self._end = 0, _NEVER

    def start(self, lanes: Sequence[Lane], at: int | None = None) -> None:
        """Begin the schedule of `lanes`, `at` that moment where one is told.

        The first request falls due within one interval.
        """
        self.lanes = list(lanes)
        self._wires = {lane.wire for lane in lanes}
        # To wake costs more than to send: a dense schedule is sent a few requests at a time, late
        # by no more than the pause between, which shows in the lag like any other lateness.
        self._pause = _PAUSE_NS if self._offered >= _DENSE else 0
        self.began = now_ns() + _LEAD_NS if at is None else at
        self._heap = [(lane.due(), index) for index, lane in enumerate(self.lanes)]
        heapq.heapify(self._heap)
        self._pass_over()
        self._swept = now_ns()
        self._sweeper.start(self._sweep, update=True)
        self._ticker.at(self._next, now_ns())

    @property
    def _offered(self) -> float:
        """The requests a second that are ours to send, the control server's aside."""
        return sum(one.spec.rate / one.stripe.count for one in self._measured)

    @property
    def _measured(self) -> list[Lane]:
        return [lane for lane in self.lanes if lane.spec.name != "control"]

    @property
    def _next(self) -> int:
        """When the next request of ours falls due."""
        return self.began + self._heap[0][0]

    def _advance(self) -> Lane:
        """Go on to the next slot of all, and return the lane of this one."""
        index = self._heap[0][1]
        lane = self.lanes[index]
        lane.slot += 1
        self._seq += 1
        heapq.heapreplace(self._heap, (lane.due(), index))
        return lane

    def _pass_over(self) -> None:
        """Pass over the slots that others carry; they are numbered all the same."""
        while not self.lanes[self._heap[0][1]].ours:
            self._advance()

    def _tick(self) -> None:
        """Send what is due, a burst at the most, so that replies are read in between."""
        now = now_ns()
        if now >= self._end:
            self.stop()
        elif not self._stopping:
            caught_up = self._send_due(now)
            self._ticker.at(max(self._next, now + self._pause) if caught_up else now, now)

    def _send_due(self, until: int) -> bool:
        """Send what is due by `until`, a burst at the most; False when more is."""
        for _ in range(_BURST):
            due, seq = self._next, self._seq
            if due > until:
                return True
            lane = self._advance()
            self._pass_over()
            exchange = lane.exchange(self._run, seq, due, now_ns() - self._still)
            if len(lane.wire.lines) < self._most:
                lane.send(exchange)
            else:
                lane.wire.end(exchange, Outcome.unsent)
            self._last_due = due
        return self._next > until

    def _sweep(self) -> None:
        now = now_ns()
        # The clock of the deadlines stands still while this process does: what was sent, or was
        # still to be, would run out of time that nobody had.
        late = now - self._swept - _EXPIRY_NS
        if late > _EXPIRY_NS:
            self._still += late
        self._swept = now
        for lane in self.lanes:
            lane.expire(now - self._still)
            lane.rest(now)
        for wire in self._wires:
            wire.sweep(now)

    def end(self, at: int) -> None:
        """Send nothing that falls due after that moment; `stop` is still to be called then."""
        self._end = at

    def stop(self) -> None:
        """Send what is due by now, a few bursts at the most, and nothing after it."""
        if not self._stopping:
            self._stopping = min(now_ns(), self._end)
            for _ in range(_LAST_BURSTS):
                if self._send_due(self._stopping):
                    break

    @property
    def on_the_way(self) -> int:
        """How many requests have been sent and have not ended."""
        return sum(1 for lane in self.lanes for one in lane.waiting if one.outcome is None)

    def close(self) -> None:
        """Close every connection and watcher."""
        self._ticker.close()
        self._sweeper.stop()
        self._sweeper.close()
        for wire in self._wires:
            wire.close()

    def account(self) -> Mapping[str, object]:
        """Return what the schedule asked for and what was reached, for the trailer."""
        lanes, offered = self._measured, self._offered
        scheduled = sum(lane.due_before(self._stopping - self.began) for lane in lanes)
        fired = sum(lane.fired for lane in lanes)
        return {
            "scheduled": scheduled,
            "offered_rate": offered,
            "reached_rate": offered * fired / scheduled if scheduled else 0.0,
            "began": self.began * 1e-9,
            "ended": self._last_due * 1e-9,
        }


def _open_files() -> int:
    """Raise this process's limit of open files as far as it goes and return what is left of it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 65_536) if hard != resource.RLIM_INFINITY else 65_536
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(wanted, soft) - _SPARE_FILES
