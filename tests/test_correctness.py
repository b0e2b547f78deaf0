"""Each correctness check turned red by real load on a broken release, and green on a good one.

All loads go out at the same time on one loop, each with a recording of its own. Between some of
them and their apps stands a `Front` of the test's: it cuts connections, so that clients have to
ask again, and some fronts are themselves what is broken.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import signal
import socket as plain
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.server import StreamServer
from scripted import target, until
from test_sample_app import App
from tiny_server import free_port

from zdtest import channel
from zdtest.history import CHECKS, Found, History
from zdtest.judging.evidence import Evidence
from zdtest.judging.promise import findings
from zdtest.judging.slo import Slo
from zdtest.records.recording import Recording
from zdtest.sending.exchange import Exchange
from zdtest.sending.generator import Generator, Lane
from zdtest.sending.keyed import KeyedLane
from zdtest.sending.recorder import Recorder
from zdtest.sending.wire import Wire

RATE = 80.0
ENOUGH = 60
"""Requests that each load has to see the end of."""
AGAIN = 12
"""How often clients behind a front that cuts have to ask again."""
STREAM = "stream@/events?every=20ms~20ms"
DOWNLOAD = "new@/download?bytes=3000"
PROMISES = Slo(gaps=0, repeats=0, backwards=0)

_CUTS_AFTER = 3
_LAST_CHUNK = b"0\r\n\r\n"
_RST = struct.pack("ii", 1, 0)


class Front:
    """Hands each connection to one of `ports`, the nth to the nth unless `route` says which.

    When it `cuts`, a stream is ended in due form and any other connection reset in place of its
    fourth reply.
    """

    def __init__(
        self,
        *ports: int,
        cuts: bool = False,
        route: Callable[[bytes, int], int] = lambda head, number: number,
    ) -> None:
        self._ports, self._cuts, self._route = ports, cuts, route
        self._numbers = itertools.count()
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()
        self.port: int = self._server.server_port
        self.requests = 0

    def close(self) -> None:
        self._server.stop(timeout=0)

    def _serve(self, client: Any, _: object) -> None:
        with suppress(OSError):
            head = client.recv(65_536)
            port = self._ports[self._route(head, next(self._numbers)) % len(self._ports)]
            app = socket.create_connection(("127.0.0.1", port))
            up = gevent.spawn(self._up, head, client, app, port)
            try:
                self._down(app, client, stream=b"/events" in head)
            finally:
                up.kill()
                app.close()
                client.close()

    def _up(self, request: bytes, client: Any, app: Any, port: int) -> None:
        with suppress(OSError):
            while request:
                self.requests += 1
                self.passes(request, port)
                app.sendall(request)
                request = client.recv(65_536)

    def _down(self, app: Any, client: Any, *, stream: bool) -> None:
        replies = 0
        while data := app.recv(65_536):
            begins = stream or data.startswith(b"HTTP/")
            replies += begins
            if self._cuts and begins and replies > _CUTS_AFTER:
                if stream:
                    client.sendall(_LAST_CHUNK)
                else:
                    client.setsockopt(plain.SOL_SOCKET, plain.SO_LINGER, _RST)
                return
            client.sendall(data)

    def passes(self, request: bytes, port: int) -> None:
        """A request goes by, to the app at that port."""


def ask(port: int, request: bytes) -> None:
    """Send a request of the front's own, and see it answered."""
    with socket.create_connection(("127.0.0.1", port)) as app:
        app.sendall(request)
        app.recv(65_536)


class Repeats(Front):
    """Sends every tenth request twice."""

    def passes(self, request: bytes, port: int) -> None:
        if self.requests % 10 == 0:
            ask(port, request)


class Invents(Front):
    """Sends requests under ids that its clients will never give."""

    def passes(self, request: bytes, port: int) -> None:
        if self.requests % 10 == 0:
            ask(port, re.sub(rb"(X-Request-ID: \S+-)\d", rb"\g<1>e", request))


@dataclass
class Load:
    """What goes to one port, and what the run's manifest tells of it.

    When a third of it is done, what is to happen `meanwhile` happens. It has had `enough` when
    clients had to write, and to subscribe, `again` so often.
    """

    name: str
    port: int
    channels: str
    journal: Path
    new: str | None = None
    settled: bool = False
    meanwhile: Callable[[], object] | None = None
    again: Mapping[str, int] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    generator: Generator = field(init=False)
    recorder: Recorder = field(init=False)

    def start(self, folder: Path) -> None:
        self.folder = folder / self.name
        self.folder.mkdir()
        specs = channel.parse(self.channels, rate=RATE)
        told = {one.name: one.as_dict() for one in specs}
        about = {"schema": 1, "run": self.name, "channels": told, "new_version": self.new}
        (self.folder / "manifest.json").write_text(json.dumps(about))
        self.recorder = Recorder.of(self.folder, specs)
        loop = gevent.get_hub().loop
        wire = Wire(loop, target(self.port), self._take, expected=frozenset(range(200, 300)))
        self.generator = Generator(loop, run=self.name)
        self.generator.start([self._lane(one, wire) for one in specs])
        marks = ["deploy.begin", *(["deploy.end"] if self.settled else [])]
        lines = [json.dumps({"t": time.monotonic(), "mark": mark}) + "\n" for mark in marks]
        (self.folder / "events.jsonl").write_text("".join(lines))

    def _lane(self, spec: channel.Channel, wire: Wire) -> Lane:
        told = {"seed": 1, "write_body": "{}"}
        if spec.keyed:
            return KeyedLane(spec, wire, retried=self._retried, **told)
        return Lane(spec, wire, heard=self._heard, **told)

    def _take(self, exchange: Exchange) -> None:
        self.recorder.take(exchange)
        self.done["requests"] += 1
        if self.meanwhile is not None and self.done["requests"] == ENOUGH // 3:
            gevent.spawn(self.meanwhile)

    def _retried(self, seq: int, key: int) -> None:
        assert self.recorder.retries is not None
        self.recorder.retries.take(seq, key)
        self.done["write"] += 1

    def _heard(self, t: int, id: int, stream: int, resumed: int) -> None:
        assert self.recorder.messages is not None
        self.recorder.messages.take(t, id, stream, resumed)
        self.done["subscribe"] += resumed

    @property
    def enough(self) -> bool:
        wanted = {"requests": ENOUGH, **self.again}
        return all(self.done[what] >= count for what, count in wanted.items())

    def close(self) -> None:
        until(lambda: not self.generator.on_the_way, within=60)
        self.generator.close()
        self.recorder.close({})
        shutil.copy(self.journal, self.folder / "journal.jsonl")


def serving_early(stack: ExitStack, journal: Path) -> App:
    """Return an app that serves though its boot goes on longer than any test."""
    port = free_port()
    app = App(journal, PORT=str(port), BOOT_SECONDS="600", RELEASE="serves-before-ready")
    stack.callback(app.end)
    app.port = port
    return app


def by_channel(head: bytes, _: int) -> int:
    return 1 if b" /api " in head else 0


def loads(stack: ExitStack, folder: Path) -> Iterator[Load]:
    """Yield one load a broken release, and those on the good one."""
    started: dict[str, App] = {}

    def app(release: str, version: str = "v2", instance: str = "a") -> App:
        one = App(
            folder / f"{release}.jsonl",
            RELEASE=release,
            APP_VERSION=version,
            APP_INSTANCE=instance,
        )
        stack.callback(one.end)
        return one

    # Processes boot side by side.
    for release in (
        *("acks-before-commit", "twice", "notes-keys-first", "loses-messages"),
        *("repeats-messages", "wrong-body", "cuts-body", "late-listener"),
    ):
        started[release] = app(release)
    good = [app("good"), app("good", instance="b"), app("good", "v1", "old")]
    forgetful = [app("forgets-keys", instance=name) for name in "ab"]
    early = serving_early(stack, folder / "serves-before-ready.jsonl")
    for one in (*started.values(), *good, *forgetful):
        one.ready()
    until(lambda: not early.refuses(), within=60)
    a, b, old = (one.port for one in good)

    def front(kind: type[Front], *ports: int, **options: Any) -> int:
        one = kind(*ports, **options)
        stack.callback(one.close)
        return one.port

    def broken(release: str, channels: str, **about: Any) -> Load:
        return Load(release, started[release].port, channels, started[release].path, **about)

    def cutting(release: str, channels: str) -> Load:
        port, again = front(Front, started[release].port, cuts=True), {"subscribe": AGAIN}
        return Load(release, port, channels, started[release].path, again=again)

    everything = f"write+key=1@/orders,{STREAM},{DOWNLOAD}"
    path = good[0].path
    cut, both = front(Front, a, b, cuts=True), {"write": AGAIN, "subscribe": AGAIN}
    yield Load("good", cut, everything, path, new="v2", settled=True, again=both)
    dying, late = started["acks-before-commit"], started["late-listener"]
    yield broken("acks-before-commit", "write@/orders", meanwhile=lambda: dying.signal(9))
    yield broken("late-listener", "new@/api", meanwhile=lambda: late.signal(signal.SIGTERM))
    yield broken("twice", "write@/orders")
    yield broken("notes-keys-first", "write+key@/orders")
    two = front(Front, *(one.port for one in forgetful), cuts=True)
    yield Load("forgets-keys", two, "write+key@/orders", forgetful[0].path, again={"write": AGAIN})
    yield cutting("loses-messages", STREAM)
    yield cutting("repeats-messages", STREAM)
    yield broken("wrong-body", DOWNLOAD)
    yield broken("cuts-body", DOWNLOAD)
    yield Load("serves-before-ready", early.port, "new@/api", early.path)
    yield Load("repeating-front", front(Repeats, a), "new@/api", path)
    yield Load("inventing-front", front(Invents, a), "new@/api", path)
    # Three of them for two subscribers, or each might always meet its own.
    mixed = front(Front, a, old, b, cuts=True)
    yield Load("old-and-new", mixed, STREAM, path, new="v2", again={"subscribe": AGAIN})
    apart = front(Front, old, a, route=by_channel)
    yield Load("never-told", apart, "new@/ping,reused@/api", path, new="v2", settled=True)


RED: Mapping[str, set[str]] = {
    "acks-before-commit": {"lost"},
    "twice": {"twice"},
    "notes-keys-first": {"lost", "key_lost"},
    "forgets-keys": {"key_twice"},
    "inventing-front": {"phantom"},
    "serves-before-ready": {"early"},
    "late-listener": {"early"},
    "repeating-front": {"repeated"},
    "old-and-new": {"backwards"},
    "never-told": {"stale"},
    "cuts-body": {"cut"},
    "wrong-body": {"altered"},
    "loses-messages": {"gaps"},
    "repeats-messages": {"repeats"},
}
"""Which checks each broken thing turns red, and no other."""

PROMISE = {"key_lost": "lost", "key_twice": "twice", "cut": "bad_body", "altered": "bad_body"}
"""The promise of a check, where it has not the check's name."""

ENDED = {"acks-before-commit", "late-listener"}
"""Their process ends under load, which may cut a reply short as well."""


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Evidence]:
    folder = tmp_path_factory.mktemp("correctness")
    with ExitStack() as stack:
        every = list(loads(stack, folder))
        for one in every:
            one.start(folder)
        until(lambda: all(one.enough for one in every), within=60)
        for one in every:
            one.generator.stop()
        for one in every:
            one.close()
    return {one.name: Evidence.of(Recording.read(one.folder), PROMISES) for one in every}


def found(history: History, check: str) -> Found:
    one: Found = getattr(history, check)
    return one


def red(history: History) -> set[str]:
    return {check for check in CHECKS if found(history, check).count}


def test_a_good_release_is_green_in_every_check_though_clients_had_to_ask_again(
    evidence: dict[str, Evidence],
) -> None:
    one = evidence["good"]
    counts = {check: found(one.history, check).count for check in CHECKS}
    assert counts == dict.fromkeys(CHECKS, 0), "None would be a check that did not happen"
    messages, retries = one.recording.messages, one.recording.retries
    assert messages is not None
    assert retries is not None
    assert (messages.whole, retries.whole) == (True, True)
    assert one.history.retried == len(retries) >= AGAIN
    assert one.history.resumed == messages.rows["resumed"].sum() >= AGAIN
    assert one.writes.undecided_ran, "no write ran unanswered: the check is void"


def test_every_check_has_something_that_turns_it_red() -> None:
    assert set().union(*RED.values()) == set(CHECKS)


@pytest.mark.parametrize("name", RED)
def test_what_is_broken_turns_its_check_red_and_no_other(
    evidence: dict[str, Evidence], name: str
) -> None:
    history = evidence[name].history
    assert red(history) - ({"cut"} if name in ENDED else set()) == RED[name]
    for check in RED[name]:
        one = found(history, check)
        assert one.witnesses, check
        assert all(witness.told for witness in one.witnesses), check


@pytest.mark.parametrize("name", [one for one in RED if one != "repeating-front"])
def test_what_is_broken_breaks_the_promise_of_it(evidence: dict[str, Evidence], name: str) -> None:
    broken = {one.promise for one in findings(evidence[name]) if one.stands}
    assert broken >= {PROMISE.get(check, check) for check in RED[name]}


def test_a_stream_keeps_its_session_over_all_its_connections(
    evidence: dict[str, Evidence],
) -> None:
    recording = evidence["good"].recording
    samples = recording.samples.of("stream")
    sessions = set(samples.session.tolist())
    assert sessions == set(range(recording.manifest["channels"]["stream"]["stations"]))
    for session in sessions:
        own = samples.where(samples.session == session)
        assert len(set(own.conn.tolist())) > 1
