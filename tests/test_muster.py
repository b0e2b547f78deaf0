"""Master and workers by their messages: what is lost, late or foreign on the way between them.

Both sides are the real ones, in one process; only Locust's connection between them is made up, so
that a test can lose what it likes.
"""

from __future__ import annotations

import itertools
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent
import numpy as np
import pytest
from scripted import OK, Peer, ScriptedServer, until

import zdtest.fleet.fleet
import zdtest.fleet.master
import zdtest.fleet.part
import zdtest.fleet.worker
import zdtest.sending.drive
from zdtest import channel
from zdtest.errors import LoadFailed
from zdtest.fleet.clock import Round
from zdtest.fleet.fleet import Fleet
from zdtest.fleet.master import Master
from zdtest.fleet.part import Member, Part
from zdtest.fleet.shipper import ROWS, Beside, Shipper
from zdtest.fleet.worker import Worker
from zdtest.history import gaps, repeats
from zdtest.records.recording import ROW, Recording, Samples, read_samples
from zdtest.sending.exchange import Exchange, now_ns
from zdtest.sending.generator import Generator, Lane
from zdtest.sending.plan import Plan
from zdtest.sending.recorder import Recorder
from zdtest.sending.schedule import Schedule, Stripe
from zdtest.sending.wire import Target, Wire

OPTIONS = {
    "rate": 1000.0,
    "channels": "new=3,reused=1",
    "path": "/",
    "seed": 5,
    "timeout": "2s",
    "expect_status": "2xx",
    "expect_body": "",
    "expect_version": "",
    "version_header": "X-App-Version",
    "instance_header": "X-App-Instance",
    "write_body": "{}",
    "header": [],
    "insecure": False,
    "control": "",
    "zd_run": "r",
    "zd_out": "",
    "zd_news": "",
}

Lost = Callable[[str, dict[str, Any]], bool]


class Office:
    """Locust's connection between a master and its workers: `lost` says what does not arrive."""

    def __init__(self, expected: int = 2) -> None:
        self.lost: Lost = lambda message, told: False
        self.passed: list[str] = []
        self.refusals: list[str] = []
        self.runners: dict[str, Any] = {}
        options = Namespace(**OPTIONS, expect_workers=expected)
        clients = SimpleNamespace(ready=[], spawning=[], running=[])
        runner = self._runner("", clients=clients)
        self.environment = SimpleNamespace(runner=runner, parsed_options=options)
        self.master = Master(self.environment, {"expect_workers"})
        self.workers: list[Worker] = []

    def _runner(self, id: str, **more: Any) -> Any:
        listeners: dict[str, Callable[..., None]] = {}

        def send(message: str, told: dict[str, Any], client_id: str = "") -> None:
            if not self.lost(message, told):
                msg = SimpleNamespace(type=message, data=dict(told), node_id=id)
                gevent.spawn(self._arrive, client_id, msg)

        self.runners[id] = SimpleNamespace(
            register_message=lambda name, call, concurrent=False: listeners.update({name: call}),
            send_message=send,
            listeners=listeners,
            quit=lambda: self.passed.append(f"{id} quit"),
            **more,
        )
        return self.runners[id]

    def _arrive(self, to: str, msg: Any) -> None:
        self.passed.append(msg.type)
        if call := self.runners[to].listeners.get(msg.type):
            call(environment=None, msg=msg)

    def cut(self, id: str) -> Callable[[], None]:
        """Let nothing through to or from a worker any more; return what mends it."""
        one = self.runners[id]
        before = one.listeners.copy(), one.send_message
        one.listeners.clear()
        one.send_message = lambda *_, **__: None

        def mend() -> None:
            one.listeners.update(before[0])
            one.send_message = before[1]

        return mend

    def connect(self, version: str | None = None, *, silent: bool = False) -> Any:
        """Let a worker come, a real one unless its version is told; return its environment."""
        id = f"w{len(self.runners)}"
        environment = SimpleNamespace(runner=self._runner(id), process_exit_code=None)
        self.runners[""].clients.ready.append(SimpleNamespace(id=id))
        if silent:
            pass
        elif version is None:
            self.workers.append(Worker(environment))
        else:
            told = {"version": version, "host": "old", "pid": 7, "clock": ""}
            self.runners[id].listeners["zd_refused"] = lambda msg, **_: self.refusals.append(
                msg.data["why"]
            )
            self.runners[id].send_message("zd_hello", told)
        return environment

    def muster(self, host: str, folder: Path, **more: Any) -> Fleet:
        options = self.environment.parsed_options
        vars(options).update(more, zd_out=str(folder))
        return self.master.muster(Plan.of(options, host), lambda rows: None)

    def run(self, host: str, folder: Path, **more: Any) -> Recording:
        fleet = self.muster(host, folder, **more)
        fleet.start()
        came(fleet, 150)
        fleet.close()
        return Recording.read(folder)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for what a test loses on purpose, and no priority for the tests' own process."""
    monkeypatch.setattr(zdtest.sending.drive, "_prefer", lambda: None)
    monkeypatch.setattr(zdtest.fleet.worker, "_SHIP", 0.05)
    monkeypatch.setattr(zdtest.fleet.worker, "_LAST_WORDS", 1.5)
    monkeypatch.setattr(zdtest.fleet.fleet, "_LOST_NS", 1_500_000_000)
    monkeypatch.setattr(zdtest.fleet.fleet, "_ENDS", 3.0)
    monkeypatch.setattr("zdtest.fleet.shipper._AGAIN_NS", 100_000_000)


def answers(peer: Peer) -> None:
    while peer.hear():
        peer.heard = b""
        peer.say(OK)


@pytest.fixture
def url() -> Iterator[str]:
    with ScriptedServer(answers) as one:
        yield f"http://127.0.0.1:{one.port}"


@pytest.fixture
def office(url: str) -> Iterator[Office]:
    """One that ends before the server does, whatever a test left at work."""
    one = Office()
    yield one
    for worker in one.workers:
        worker.heard = 0
        worker.leave()


def came(fleet: Fleet, count: int) -> None:
    """Return once so many more samples have come."""
    before = fleet.ledger.recorder.total()
    until(lambda: fleet.ledger.recorder.total() >= before + count, within=20)


def why(recording: Recording) -> list[str]:
    assert recording.trailer is not None
    return [one["why"] for one in recording.trailer["workers"]]


def together(recording: Recording) -> Samples:
    """Return what was sent until the first one stopped: where we are busy, one hears it late."""
    samples = recording.samples
    count = len(recording.manifest["clocks"])
    last = min(samples.seq[samples.conn % count == n].max() for n in range(count))
    return samples.where(samples.seq <= last)


def complete(recording: Recording) -> bool:
    """Whether every request is on file, once."""
    seqs = sorted(together(recording).seq.tolist())
    return seqs == list(range(len(seqs))) and len(seqs) > 50


# What each carries.


def sent(stripe: Stripe, spec: str) -> list[tuple[int, str, int]]:
    """Return seq, channel and due time of what a process with that stripe sends in 0.2 s."""
    ended: list[Exchange] = []
    loop = gevent.get_hub().loop
    wire = Wire(loop, Target("nowhere.invalid", 80, tls=False), ended.append)
    lanes = [Lane(one, wire, seed=3, stripe=stripe) for one in channel.parse(spec, rate=3000)]
    generator = Generator(loop, run="r")
    generator.start(lanes)
    gevent.sleep(0.2)
    generator.stop()
    until(lambda: not generator.on_the_way)
    generator.close()
    return [(one.seq, one.channel.spec.name, one.due - generator.began) for one in ended]


@pytest.mark.parametrize("count", [2, 3])
def test_stripes_together_are_the_schedule_of_one_process(count: int) -> None:
    spec = "new=3,reused=1,idle=1,slow=1,write=2"
    alone = {seq: rest for seq, *rest in sent(Stripe(), spec)}
    parts = [sent(Stripe(index, count), spec) for index in range(count)]
    together = sorted(itertools.chain(*parts))
    assert len({seq for seq, *_ in together}) == len(together), "an id was given twice"
    least = min(max(seq for seq, *_ in part) for part in [*parts, [(max(alone), "", 0)]])
    assert least > 300
    assert {seq: rest for seq, *rest in together if seq <= least} == {
        seq: rest for seq, rest in alone.items() if seq <= least
    }


def test_stripes_share_a_count_without_remainder() -> None:
    for count, slots in itertools.product((1, 2, 3, 7), (0, 1, 5, 20)):
        stripes = [Stripe(index, count) for index in range(count)]
        assert sum(one.of(slots) for one in stripes) == slots
        for one in stripes:
            assert one.of(slots) == sum(map(one.carries, range(slots)))


def test_nothing_is_sent_that_falls_due_after_the_end() -> None:
    ended: list[Exchange] = []
    loop = gevent.get_hub().loop
    wire = Wire(loop, Target("nowhere.invalid", 80, tls=False), ended.append)
    generator = Generator(loop, run="r")
    generator.start([Lane(one, wire, seed=3) for one in channel.parse("new,reused", rate=2000)])
    generator.end(generator.began + 50_000_000)
    gevent.sleep(0.15)
    generator.stop()
    generator.close()
    assert max(one.due for one in ended) <= generator.began + 50_000_000
    assert generator.account()["scheduled"] == len(ended) == pytest.approx(100, abs=2)


def test_streams_have_as_many_subscribers_together_as_alone() -> None:
    spec = channel.parse("stream=1~200ms", rate=40)[0]
    wire = Wire(gevent.get_hub().loop, Target("x", 80, tls=False), lambda _: None)
    lanes = [Lane(spec, wire, seed=1, stripe=Stripe(index, 2)) for index in range(2)]
    alone = Lane(spec, wire, seed=1)
    assert sum(len(one.stations) for one in lanes) == len(alone.stations) == 8
    numbers = [station.number for one in lanes for station in one.stations]
    assert len(set(numbers)) == 8


# The run as a whole.


def test_two_workers_record_every_request_once(office: Office, url: str, tmp_path: Path) -> None:
    office.connect(), office.connect()
    recording = office.run(url, tmp_path / "run")
    trailer = recording.trailer
    assert trailer is not None
    assert why(recording) == ["", ""]
    assert complete(recording)
    assert trailer["scheduled"] == trailer["count"] == len(recording.samples)
    assert trailer["reached_rate"] == trailer["offered_rate"] == 1000
    each = [one["samples"] for one in trailer["workers"]]
    assert sum(each) == trailer["count"]
    assert {one["clock_error_ms"] for one in trailer["workers"]} == {0.0}
    assert recording.manifest["workers"] == len(recording.manifest["clocks"]) == 2
    assert not recording.samples.outcome.any()
    assert np.bincount(recording.samples.conn % 2).tolist() == each
    for name, told in recording.manifest["channels"].items():
        steps = np.diff(together(recording).of(name).due)
        assert np.abs(steps - told["interval"]).max() < 2e-9


@pytest.mark.parametrize("message", ["zd_chunk", "zd_ack"])
def test_what_is_lost_on_the_way_is_sent_again_and_taken_once(
    office: Office, url: str, tmp_path: Path, message: str
) -> None:
    office.connect(), office.connect()
    turns: list[bool] = []

    def lost(one: str, _: object) -> bool:
        # Eight in a row: an answer stands for all before it, so that the next one makes up for it.
        if one == message:
            turns.append(len(turns) // 8 % 2 == 0)
        return one == message and turns[-1]

    office.lost = lost
    fleet = office.muster(url, tmp_path / "run")
    fleet.start()
    came(fleet, 150)
    until(lambda: len(turns) > 16, within=20)
    fleet.close()
    recording = Recording.read(tmp_path / "run")
    assert why(recording) == ["", ""]
    assert complete(recording)
    assert recording.trailer is not None
    if message == "zd_ack":
        assert any(one["repeated"] for one in recording.trailer["workers"])


def test_a_worker_that_is_not_heard_of_any_more_is_named_and_what_came_stays(
    office: Office, url: str, tmp_path: Path
) -> None:
    office.connect(), office.connect()
    fleet = office.muster(url, tmp_path / "run")
    fleet.start()
    came(fleet, 100)
    office.cut("w2")
    came(fleet, 50)
    fleet.close()
    recording = Recording.read(tmp_path / "run")
    trailer = recording.trailer
    assert trailer is not None
    fine, lost = why(recording)
    assert fine == ""
    assert lost.startswith("was lost: last heard of at +")
    assert fleet.ledger.exit_code == 3
    first, second = (one["samples"] for one in trailer["workers"])
    assert 0 < second < first
    assert f"{second} samples came" in lost
    assert trailer["count"] == len(recording.samples) == first + second
    assert trailer["reached_rate"] < 0.99 * 1000


def test_a_worker_that_leaves_before_the_end_is_named(
    office: Office, url: str, tmp_path: Path
) -> None:
    office.connect(), office.connect()
    fleet = office.muster(url, tmp_path / "run")
    fleet.start()
    came(fleet, 100)
    office.workers[0].leave()
    gevent.sleep(1.1)
    fleet.close()
    recording = Recording.read(tmp_path / "run")
    left, fine = why(recording)
    assert left.startswith("stopped by itself at +")
    assert fine == ""
    assert fleet.ledger.exit_code == 3


def test_a_worker_without_a_word_from_its_master_stops_by_itself(
    office: Office,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    environment = office.connect()
    fleet = office.muster(url, tmp_path / "run")
    fleet.start()
    came(fleet, 100)
    # No sooner: a busy machine may keep the two apart for as long while they begin.
    monkeypatch.setattr(zdtest.fleet.worker, "_ALONE_NS", 300_000_000)
    office.cut("w1")
    gevent.sleep(0.6)
    (carried,) = [worker._carried for worker in office.workers]
    assert carried is not None
    fired = carried.drive.generator.lanes[0].fired
    assert fired > 50
    gevent.sleep(0.2)
    assert carried.drive.generator.lanes[0].fired == fired
    fleet.close()
    office.workers[0].leave()
    assert environment.process_exit_code == 3
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "zdtest: no word from the master for 10 s: sending ends",
        "zdtest: the master is gone: not all samples reached it",
    ]


def test_who_falls_silent_is_said_once_however_late_that_is_looked_at(
    office: Office, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    office.connect(), office.connect()
    fleet = office.muster(url, tmp_path / "run")
    first, second = fleet._all
    first.member.heard = second.member.heard = now_ns()
    for silent, said in ((0, 0), (60_000_000_000, 1), (61_000_000_000, 0), (0, 0), (4 * 10**9, 1)):
        first.member.heard = now_ns() - silent
        fleet._watch()
        told = capsys.readouterr().err
        assert told == f"zdtest: not heard of worker 0 ({first.member.name}) for 3 s\n" * said
    fleet.close()


def test_a_link_that_comes_back_costs_nothing(office: Office, url: str, tmp_path: Path) -> None:
    office.connect(), office.connect()
    fleet = office.muster(url, tmp_path / "run")
    fleet.start()
    came(fleet, 100)
    mend = office.cut("w1")
    gevent.sleep(0.45)
    mend()
    came(fleet, 100)
    fleet.close()
    recording = Recording.read(tmp_path / "run")
    assert why(recording) == ["", ""]
    assert complete(recording)
    assert recording.trailer is not None
    assert recording.trailer["workers"][0]["silent_ms"] > 400


def test_what_a_worker_cannot_keep_until_the_link_is_back_is_counted_and_told(
    office: Office, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two seconds of one worker's part: what the other one keeps, though we all stand still.
    monkeypatch.setattr("zdtest.sending.recorder._MOST", 1000)
    monkeypatch.setattr("zdtest.fleet.shipper._WINDOW", 1)
    office.connect(), office.connect()
    fleet = office.muster(url, tmp_path / "run")
    fleet.start()
    came(fleet, 100)
    mend = office.cut("w1")
    (carried,) = [one._carried for one in office.workers if one._runner is office.runners["w1"]]
    assert carried is not None
    until(lambda: carried._recorder.dropped > 50, within=20)
    mend()
    came(fleet, 100)
    fleet.close()
    recording = Recording.read(tmp_path / "run")
    short, fine = why(recording)
    assert fine == ""
    assert short == f"dropped {carried._recorder.dropped} samples"
    assert fleet.ledger.exit_code == 3


class Moved:
    """A clock that the master is told is 2 ms ahead."""

    shared, offset, rounds, jumps = False, 0, 0, 0

    def add(self, one: Round) -> None:
        self.rounds += 1

    def error(self, now: int) -> int:
        return 0


def test_the_schedule_follows_the_masters_clock(office: Office, url: str, tmp_path: Path) -> None:
    office.connect()
    fleet = office.muster(url, tmp_path / "run")
    (part,) = fleet._parts.values()
    part.member.clock = clock = Moved()  # type: ignore[assignment]
    fleet.start()
    came(fleet, 50)
    clock.offset = 2_000_000
    (worker,) = office.workers
    assert worker._carried is not None
    generator = worker._carried.drive.generator
    until(lambda: generator.began == fleet._began + 2_000_000)
    came(fleet, 200)
    fleet.close()
    recording = Recording.read(tmp_path / "run")
    for name, told in recording.manifest["channels"].items():
        due = recording.samples.of(name).due - fleet._began * 1e-9
        grid = Schedule.of(name, told["rate"], recording.manifest["seed"])
        off = due - np.array([grid.due(slot) for slot in range(len(due))]) * 1e-9
        assert np.abs(off).max() <= 0.002 + 1e-6, "what had been sent before is 2 ms off"
        assert np.abs(off[-20:]).max() < 1e-6, name


def test_one_load_after_another_goes_to_the_same_workers(
    office: Office, url: str, tmp_path: Path
) -> None:
    office.connect(), office.connect()
    first = office.run(url, tmp_path / "first")
    second = office.run(url, tmp_path / "second", rate=500.0, seed=6)
    assert why(first) == why(second) == ["", ""]
    assert complete(first)
    assert complete(second)
    assert second.trailer is not None
    assert (second.trailer["offered_rate"], second.manifest["seed"]) == (500, 6)


# Who is let in.


def test_a_worker_of_another_version_is_refused_in_one_line_and_missed(
    office: Office, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    office.connect(), office.connect("0.0.9")
    until(lambda: office.refusals)
    recording = office.run(url, tmp_path / "run")
    ours = zdtest.fleet.master.__version__
    line = f"is zdtest 0.0.9, expected {ours} as the master is"
    assert set(office.refusals) == {f"refused by the master: this worker {line}"}
    assert capsys.readouterr().err.splitlines() == [f"zdtest: worker old pid 7 {line}"]
    assert why(recording) == ["", line]
    assert complete(recording), "the other one carries all of it"


def test_a_worker_of_another_version_is_not_missed_where_another_came_in_its_place(
    office: Office, url: str, tmp_path: Path
) -> None:
    office.connect("0.0.9"), office.connect(), office.connect()
    until(lambda: office.refusals)
    assert why(office.run(url, tmp_path / "run")) == ["", ""]


def test_who_does_not_tell_its_version_is_refused(
    office: Office,
    url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(zdtest.fleet.master, "_INTRODUCED", 0.3)
    stranger = office.connect(None, silent=True)
    assert stranger.process_exit_code is None
    with pytest.raises(LoadFailed, match="no worker to send the load: worker w1 did not tell"):
        office.muster(url, tmp_path / "run")
    until(lambda: "quit" in office.passed)
    assert "did not tell its version" in capsys.readouterr().err


def test_a_load_without_any_worker_fails_in_one_line(
    office: Office, url: str, tmp_path: Path
) -> None:
    with pytest.raises(LoadFailed, match=r"^no worker to send the load: none has come$"):
        office.muster(url, tmp_path / "run")


def test_a_worker_that_does_not_get_ready_ends_the_load_and_is_named(
    office: Office, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zdtest.fleet.fleet, "_READY", 2.0)
    office.connect(), office.connect()
    fleet = office.muster(url, tmp_path / "run")
    office.lost = lambda message, told: message == "zd_prepare" and told["index"] == 1
    with pytest.raises(LoadFailed, match=r"worker 1 \(.* pid \d+\) was not ready within"):
        fleet.start()
    fleet.close()
    recording = Recording.read(tmp_path / "run")
    assert why(recording)[0] == ""
    assert why(recording)[1].startswith("was not ready")
    assert (len(recording.samples), fleet.ledger.exit_code) == (0, 3)


def test_a_worker_that_does_not_tell_its_time_ends_the_load(
    office: Office, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.connect()
    fleet = office.muster(url, tmp_path / "run")
    office.lost = lambda message, _: message == "zd_pong"
    monkeypatch.setattr(zdtest.fleet.fleet, "_READY", 2.0)
    with pytest.raises(LoadFailed, match="did not tell its time within 2 s"):
        fleet.start()
    fleet.close()


def test_a_worker_that_cannot_carry_it_says_why(office: Office, url: str, tmp_path: Path) -> None:
    office.connect()
    fleet = office.muster(url, tmp_path / "run")
    fleet._options["timeout"] = "soon"
    with pytest.raises(LoadFailed, match="--timeout 'soon'"):
        fleet.start()
    fleet.close()


# The chunks by hand.


def rows_of(count: int, *, first: int = 0) -> Any:
    rows = np.zeros(count, ROW)
    rows["seq"] = np.arange(first, first + count)
    rows["due"] = 10**12 + rows["seq"].astype(np.int64) * 1000
    rows["sent"] = 7
    return rows


def member(*, shared: bool = True) -> Member:
    return Member("w", {"host": "h", "pid": 1}, shared=shared, now=0)


def test_a_shipper_has_no_more_than_a_window_on_the_way() -> None:
    chunks: list[Any] = []
    shipper = Shipper(chunks.append, 1, 0)
    shipper.append(rows_of(100 * ROWS), [""], [""])
    shipper.step(1)
    assert len(chunks) == 32
    assert not shipper.idle
    shipper.step(2)
    shipper.arrived(10, 3)
    shipper.step(4)
    assert [chunk["n"] for chunk in chunks] == list(range(42))
    shipper.step(10**9)
    assert [chunk["n"] for chunk in chunks[42:]] == list(range(10, 42)), "all again, in order"
    shipper.arrived(100, 10**9)
    assert shipper.idle
    assert not shipper.done
    shipper.close({})
    shipper.step(10**9)
    shipper.arrived(101, 10**9)
    assert shipper.done


def test_a_chunk_is_taken_once_and_in_order() -> None:
    chunks: list[Any] = []
    shipper = Shipper(chunks.append, 2, 1)
    for n in range(3):
        shipper.append(rows_of(5, first=5 * n), [""], [""])
    shipper.step(0)
    part = Part(member(), Stripe())
    taken = [part.take(chunks[n]) for n in (0, 2, 0, 1, 1, 2)]
    assert [None if rows is None else int(rows["seq"][0]) for rows in taken] == [
        *(0, None, None, 5, None, 10)
    ]
    assert (part.rows, part.repeated, part.ahead, part.next) == (15, 2, 1, 3)


def test_the_words_of_all_workers_are_brought_together(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "samples.arrows")
    told = {0: ([["v1"], ["v1", "v2"]], ["a"]), 1: ([["v2"], ["v2", "v1"]], ["ä"])}
    for index, (versions, instances) in told.items():
        chunks: list[Any] = []
        shipper = Shipper(chunks.append, 2, index)
        part = Part(member(), Stripe(index, 2))
        for n, words in enumerate(versions):
            rows = rows_of(2, first=4 * index + 2 * n)
            rows["version"], rows["instance"] = [len(words), 0], [1, 0]
            rows["conn"] = [3, 0]
            shipper.append(rows, ["", *words], ["", *instances])
        shipper.step(0)
        for chunk in chunks:
            taken = part.take(chunk)
            assert taken is not None
            recorder.add(taken, part.versions, part.instances)
    recorder.close({})
    samples, _ = read_samples(tmp_path / "samples.arrows")
    versions = [samples.versions[code] for code in samples.version]
    assert versions == ["v1", "", "v2", "", "v2", "", "v1", ""]
    assert [samples.instances[code] for code in samples.instance][::2] == ["a", "a", "ä", "ä"]
    assert samples.conn.tolist() == [6, 0, 6, 0, 7, 0, 7, 0]


def test_samples_are_brought_on_the_masters_clock() -> None:
    chunks: list[Any] = []
    shipper = Shipper(chunks.append, 1, 0)
    shipper.append(rows_of(3), [""], [""])
    Beside(shipper, "messages").append(np.array([(10**12, 1, 2, 0)], zdtest.fleet.part.MESSAGE))
    Beside(shipper, "retries").append(np.array([(9, 8)], zdtest.fleet.part.RETRY))
    shipper.step(0)
    other = member(shared=False)
    now = 9 * 10**11
    other.clock.add(Round(now, 10**12 + 1000, 10**12 + 1000, now + 2000))
    part = Part(other, Stripe())
    samples, messages, retries = (part.take(chunk) for chunk in chunks)
    assert samples is not None
    assert messages is not None
    assert retries is not None
    assert samples["due"].tolist() == [9 * 10**11 + n * 1000 for n in range(3)]
    assert samples["sent"].tolist() == [7, 7, 7]
    assert messages["t"].tolist() == [9 * 10**11]
    assert retries.tolist() == [(9, 8)]
    assert part.error == 1001


def test_messages_stay_in_order_as_their_workers_clock_comes_to_be_known_better() -> None:
    other = member(shared=False)
    part = Part(other, Stripe())
    rows = []
    for n, back in enumerate((900_000, 100_000)):
        came = n * 10**8 + 100_000
        other.clock.add(Round(n * 10**8, came, came, came + back))
        told = [(10**9 + (3 * n + i) * 10_000, 3 * n + i + 1, 0, 0) for i in range(3)]
        text = np.array(told, zdtest.fleet.part.MESSAGE).tobytes()
        taken = part.take({"n": n, "kind": "messages", "rows": text})
        assert taken is not None
        rows.append(taken)
    seen = np.concatenate(rows)
    assert seen["t"].argsort().tolist() == [3, 4, 5, 0, 1, 2]
    assert (gaps(seen).count, repeats(seen).count) == (0, 0)


def test_a_chunk_that_comes_late_is_as_uncertain_as_it_was_when_its_requests_were_due() -> None:
    """Its worker's clock gains 150 ppm, and the link was broken from 0.25 s to 9 s."""

    def ahead(now: int) -> int:
        return int(now * 150e-6)

    other = member(shared=False)
    for now in (0, 200_000_000, 9_000_000_000):
        came = now + 50_000 + ahead(now)
        other.clock.add(Round(now, came, came + 1_000, now + 101_000))
    rows = rows_of(1)
    due = 300_000_000
    rows["due"] = due + ahead(due)
    part = Part(other, Stripe())
    taken = part.take({"n": 0, "kind": "samples", "rows": rows.tobytes(), **NO_WORDS})
    assert taken is not None
    off = abs(int(taken["due"][0]) - due)
    assert off > 1_000_000
    assert off <= part.error


def test_what_a_worker_found_of_names_is_told_on_the_masters_clock() -> None:
    other = member(shared=False)
    other.clock.add(Round(0, 5_000, 5_000, 0))
    part = Part(other, Stripe(1, 2))
    assert (part.names, part.lookup_ms) == ([], 0.0)
    found = {"name": "app", "since": 6_000, "t": 9_000, "addresses": ["10.0.0.1"]}
    account = {**ACCOUNT, "names": [found], "lookup_ms": 0.003}
    part.take({"n": 0, "kind": "account", "account": account})
    assert part.names == [{**found, "since": 1_000, "t": 4_000, "worker": 1}]
    assert part.lookup_ms == 0.003


NO_WORDS: dict[str, list[str]] = {"versions": [], "instances": []}
ACCOUNT = {
    "count": 3,
    "dropped": 0,
    "trouble": "",
    "stopped": 20 * 10**9,
    "offered_rate": 100.0,
    "reached_rate": 100.0,
}


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({}, ""),
        ({"count": 4}, "sent 4 samples, 3 came"),
        ({"dropped": 2}, "dropped 2 samples"),
        ({"trouble": "a part broke"}, "a part broke"),
        ({"stopped": 18 * 10**9}, "stopped by itself at +8.000 s"),
        ({"reached_rate": 98.9}, "reached only 98.9 of its 100.0 requests/s"),
    ],
)
def test_a_worker_is_named_for_whatever_its_part_lacks(told: dict[str, Any], why: str) -> None:
    part = Part(member(), Stripe())
    chunks: list[Any] = []
    shipper = Shipper(chunks.append, 1, 0)
    shipper.append(rows_of(3), [""], [""])
    shipper.close({**ACCOUNT, **told})
    shipper.step(0)
    for chunk in chunks:
        part.take(chunk)
    assert part.why(10 * 10**9, 20 * 10**9) == why


def test_a_worker_whose_clock_jumped_is_named() -> None:
    part = Part(member(), Stripe())
    part.account = {**ACCOUNT, "count": 0}
    part.member.clock.jumps = 1
    assert Part(part.member, Stripe())._jumps == 1, "that was in the load before"
    assert "its clock jumped" in part.why(10 * 10**9, 20 * 10**9)
