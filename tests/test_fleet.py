"""Several workers send the one schedule, and the master records it as one run.

All that runs for real runs once, side by side; the tests read what it left.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import namespaces
import numpy as np
import pytest
from ground_truth import GroundTruth
from own_stack import LENIENT, left_of, start, until

from zdtest.cli import main
from zdtest.judging.outage import Outage, outages
from zdtest.records.recording import Recording, Samples, request_id
from zdtest.records.sample import Outcome
from zdtest.sending.schedule import Schedule
from zdtest.sending.summary import summary

pytestmark = pytest.mark.alone

TESTS = Path(__file__).parent
LOAD = TESTS.parent / "zdtest" / "load.py"
AHEAD = 1000
"""Seconds by which the clock of worker a is ahead of the master's, where the kernel can do that."""
PORT, TARGET, PAGE = 5557, 8080, 8089
"""In namespaces of our own every port is free."""
PLAYED = (("refused", 0.2), ("http_503", 0.05), ("reset", 0.1), ("refused", 0.5))
SCRIPT = [
    {"kind": kind, "at": 1.5 + 1.2 * number, "for": seconds}
    for number, (kind, seconds) in enumerate(PLAYED)
]
MERGE = 0.4


class Program:
    """A process, what it printed in files, and its end."""

    def __init__(self, argv: Sequence[str], folder: Path, name: str) -> None:
        self._paths = [folder / f"{name}.{end}" for end in ("out", "err")]
        environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LOCUST_", "ZD_"))
        }
        with self._paths[0].open("wb") as out, self._paths[1].open("wb") as err:
            self.process = subprocess.Popen(
                argv, cwd=folder, env=environ, stdin=subprocess.PIPE, stdout=out, stderr=err
            )

    def close(self) -> str:
        """Close its standard input, and return what it printed once it has ended."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.end()
        return self.said[0]

    @property
    def said(self) -> tuple[str, str]:
        out, err = (path.read_text() for path in self._paths)
        assert "Traceback" not in out + err, out + err
        return out, err

    def end(self, within: float = 40) -> int:
        return self.process.wait(within)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()


def locust(*words: object) -> list[str]:
    return [sys.executable, "-m", "locust", "-f", str(LOAD), *map(str, words)]


def of_version(version: str) -> list[str]:
    """Return how to start what `locust` starts, as another zdtest would be."""
    code = f"import runpy, zdtest; zdtest.__version__ = {version!r}; "
    return [sys.executable, "-c", code + "runpy.run_module('locust', run_name='__main__')"]


# In namespaces: worker a has a clock of its own, worker b loses its link in the middle.


@dataclass(frozen=True)
class Cut:
    """What the run in namespaces left."""

    folder: Path
    recording: Recording
    code: int
    err: str
    shifted: bool
    before: int
    """Samples that had been told of when the link went down."""
    page: Mapping[str, Any]
    stranger: tuple[int, str]
    """How a worker of another version ended, and what it said."""
    account: Mapping[str, Any]
    """What the server that worker a asks says."""

    @property
    def workers(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """What the trailer tells of workers a and b."""
        assert self.recording.trailer is not None
        first, second = sorted(self.recording.trailer["workers"], key=lambda one: bool(one["why"]))
        return first, second

    def samples(self, worker: Mapping[str, Any]) -> Samples:
        samples = self.recording.samples
        return samples.where(samples.conn % 2 == worker["worker"])


def page(place: namespaces.Namespace, path: str, form: str = "") -> Any:
    """Return what Locust's web page in `place` answers, None while there is none."""
    url, data = f"http://127.0.0.1:{PAGE}{path}", form.encode() or None
    code = f"import urllib.request as u; print(u.urlopen({url!r}, {data!r}).read().decode())"
    told = subprocess.run(
        [*place.inside, sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    return json.loads(told.stdout) if told.returncode == 0 else None


@contextmanager
def cutting(folder: Path) -> Iterator[Callable[[], Cut]]:
    """Start what runs in namespaces; yield what cuts the link, ends it, and returns what it left.

    The server of each worker listens beside it, so that only the way to the master is cut.
    """
    ahead = namespaces.shifted(AHEAD)
    server = [sys.executable, "-S", str(TESTS / "ground_truth.py"), "--port", str(TARGET)]
    where = ("--worker", "--master-host", namespaces.MASTER, "--master-port", PORT)
    what = ("--rate", 200, "--channels", "new,reused", "--seed", 1, "--zd-out", folder / "run")
    bound = ("--master-bind-host", namespaces.MASTER, "--master-bind-port", PORT)
    web = ("--web-host", "127.0.0.1", "--web-port", PAGE, "--expect-workers", 2)
    news = folder / "news"
    with namespaces.star(["to-a", "to-b"]) as (hub, spokes), ExitStack() as tidy:

        def run(name: str, place: namespaces.Namespace, argv: Sequence[str]) -> Program:
            return tidy.enter_context(Program([*place.inside, *argv], folder, name))

        servers = {name: run(f"server-{name}", spoke, server) for name, spoke in spokes.items()}
        for name, spoke in spokes.items():
            run(f"worker-{name}", spoke, [*(ahead if name == "to-a" else ()), *locust(*where)])
        told = (*what, *bound, *web, "--zd-news", news)
        master = run("master", hub, locust("--master", *told))

        def ended() -> Cut:
            until(lambda: (page(hub, "/stats/requests") or {"workers": ()})["workers"][1:])
            form = f"user_count=1&spawn_rate=1&host=http://127.0.0.1:{TARGET}"
            assert page(hub, "/swarm", form)["success"]
            until(lambda: _done(news) > 200)
            old = run("stranger", hub, [*of_version("0.0.9"), *locust(*where)[3:]])
            refused = old.end(), old.said[1]
            # It is shown until its last word has come.
            shown = until(
                lambda: (
                    (told := page(hub, "/stats/requests")) and len(told["workers"]) == 2 and told
                )
            )
            before = _done(news)
            hub.ip("link set to-b down")
            until(lambda: _done(news) > before + 150)
            master.process.send_signal(signal.SIGTERM)
            code = master.end()
            told = servers["to-a"].close()
            return Cut(
                folder=folder / "run",
                recording=Recording.read(folder / "run"),
                code=code,
                err=master.said[1],
                shifted=bool(ahead),
                before=before,
                page=shown,
                stranger=refused,
                account=json.loads(told.splitlines()[-1]),
            )

        yield ended


def _done(news: Path) -> int:
    lines = [json.loads(line) for line in news.read_text().splitlines()] if news.exists() else []
    return int(lines[-1].get("done", 0)) if lines else 0


# On this machine: what `zdtest during --workers 2` says of outages that were played on purpose.


@dataclass(frozen=True)
class During:
    """What the run of two workers left, and how it ended; the truth about the outages beside it."""

    recording: Recording
    verdict: Mapping[str, Any]
    code: int
    said: tuple[str, str]
    left: Sequence[int]
    played: Sequence[Mapping[str, Any]]
    account: Mapping[str, Any]

    def ids(self, samples: Samples) -> list[str]:
        return [request_id(self.recording.run, seq) for seq in samples.seq.tolist()]


@contextmanager
def measuring(folder: Path) -> Iterator[Callable[[], During]]:
    """Start the measurement; yield what waits for its end, and returns what it left.

    The script begins with the first request. These two channels are not asked before the load.
    """
    seconds = SCRIPT[-1]["at"] + SCRIPT[-1]["for"] + 1.0
    words = ("--workers", 2, "--rate", 400, "--channels", "slow@/slow~0s,write@/orders")
    times = ("--baseline", "300ms", "--settle", "300ms", "--duration", f"{seconds}s")
    slo = ("--slo", f"{LENIENT},hole=2s,merge={MERGE}s")
    with GroundTruth(SCRIPT) as truth:
        out = ("--out", folder / "run", "--url", truth.url)
        with start("during", *words, *times, *slo, *out, cwd=folder) as process:

            def ended() -> During:
                said = process.communicate(timeout=60)
                return During(
                    recording=Recording.read(folder / "run"),
                    verdict=json.loads((folder / "run" / "verdict.json").read_text()),
                    code=process.returncode,
                    said=said,
                    left=left_of(folder / "run"),
                    played=truth.outages,
                    account=truth.account,
                )

            try:
                yield ended
            finally:
                process.kill()


@dataclass(frozen=True)
class Killed:
    """What was left of a measurement with two workers, before and after it was killed."""

    before: Sequence[int]
    after: Sequence[int]


def killed(folder: Path) -> Killed:
    words = ("--workers", 2, "--duration", "60s", "--out", folder / "run")
    with GroundTruth() as truth:
        process = start("during", "--url", truth.url, *words, cwd=folder)
        with process:
            try:
                until(lambda: _done(folder / "run" / "logs" / "load.jsonl"))
                before = left_of(folder / "run")
            finally:
                process.kill()
            until(lambda: not left_of(folder / "run"), seconds=5)
            return Killed(before, left_of(folder / "run"))


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Cut | None, During, Killed]:
    """All that runs for real, side by side."""
    with ExitStack() as tidy:
        cut = None
        if not namespaces.missing():
            cut = tidy.enter_context(cutting(tmp_path_factory.mktemp("cut")))
        during = tidy.enter_context(measuring(tmp_path_factory.mktemp("during")))
        cut_off = cut() if cut else None
        gone = killed(tmp_path_factory.mktemp("killed"))
        return cut_off, during(), gone


@pytest.fixture
def cut(runs: tuple[Cut | None, During, Killed]) -> Cut:
    if runs[0] is None:
        pytest.skip(f"network namespaces: {namespaces.missing()}")
    return runs[0]


@pytest.fixture
def measured(runs: tuple[Cut | None, During, Killed]) -> During:
    return runs[1]


def test_a_worker_that_is_cut_off_is_named_and_the_load_exits_3(cut: Cut) -> None:
    a, b = cut.workers
    assert a["why"] == ""
    assert b["why"].startswith("was lost: last heard of at +")
    assert cut.code == 3
    name = f"worker {b['worker']} ({b['name']})"
    assert f"zdtest: not heard of {name} for 3 s" in cut.err
    assert f"THE LOAD FAILED: {name} was lost" in summary(cut.recording)


def test_what_had_come_of_it_stays_and_the_other_one_goes_on(cut: Cut) -> None:
    a, b = cut.workers
    trailer = cut.recording.trailer
    assert trailer is not None
    assert trailer["count"] == len(cut.recording.samples) == a["samples"] + b["samples"]
    assert trailer["count"] > cut.before + 150
    assert 50 < b["samples"] < a["samples"] - 50
    assert a["reached_rate"] == a["offered_rate"] == 100
    assert trailer["reached_rate"] < 0.99 * trailer["offered_rate"] == 0.99 * 200
    assert set(cut.recording.samples.outcome.tolist()) == {int(Outcome.ok)}


def test_a_run_with_a_lost_worker_is_inconclusive_whenever_it_is_judged(
    cut: Cut, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["judge", str(cut.folder)]) == 3
    _, b = cut.workers
    said = capsys.readouterr().out
    assert said.startswith("INCONCLUSIVE")
    assert f"worker {b['worker']} ({b['name']}) was lost: last heard of at +" in said


def test_a_clock_that_is_ahead_is_found_within_the_error_that_is_told(cut: Cut) -> None:
    if not cut.shifted:
        pytest.skip("this kernel has no time namespaces")
    a, b = cut.workers
    assert not a["clock_shared"]
    assert abs(a["clock_offset_ms"] - 1000 * AHEAD) <= a["clock_error_ms"]
    assert 0 < a["clock_error_ms"] < 1000
    assert (b["clock_shared"], b["clock_offset_ms"], b["clock_error_ms"]) == (True, 0, 0)


def test_samples_are_on_the_masters_clock_within_that_error(cut: Cut) -> None:
    """By the server's clock, which is the master's: it got a request between sent and done."""
    a, _ = cut.workers
    samples = cut.samples(a)
    error = a["clock_error_ms"] / 1e3 + 2e-6
    came = [cut.account["came"][request_id(cut.recording.run, seq)] for seq in samples.seq.tolist()]
    assert (samples.due + samples.lag - error <= came).all()
    assert (came <= samples.done + error).all()
    began = cut.recording.trailer["began"] if cut.recording.trailer else 0.0
    for name, told in cut.recording.manifest["channels"].items():
        grid = Schedule.of(name, told["rate"], cut.recording.manifest["seed"])
        due = samples.of(name).due - began
        slots = np.rint(due * told["rate"] - grid.phase)
        assert np.abs(due - (slots + grid.phase) / told["rate"]).max() <= error, name


def test_locusts_page_shows_what_the_workers_send(cut: Cut) -> None:
    rows = {row["name"]: row for row in cut.page["stats"]}
    assert rows["new"]["num_requests"] > 50
    assert rows["Aggregated"]["num_requests"] >= 200
    assert [worker["state"] for worker in cut.page["workers"]] == ["running", "running"]
    assert cut.page["errors"] == []


def test_a_worker_of_another_version_is_refused_with_one_line(cut: Cut) -> None:
    code, said = cut.stranger
    lines = [line for line in said.splitlines() if "/INFO/" not in line]
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith("zdtest: refused by the master: this worker is zdtest 0.0.9, expec")
    assert "is zdtest 0.0.9, expected " in cut.err


def test_two_workers_carry_the_one_schedule_and_nothing_of_them_is_left(measured: During) -> None:
    trailer = measured.recording.trailer
    assert trailer is not None
    print(measured.said, json.dumps(trailer, indent=1))
    assert [one["why"] for one in trailer["workers"]] == ["", ""]
    assert measured.recording.manifest["workers"] == 2
    assert trailer["count"] == len(measured.recording.samples)
    seqs = measured.recording.samples.seq.tolist()
    assert len(set(seqs)) == len(seqs)
    samples = measured.recording.samples
    # Where the machine is busy one of them hears late that it ends.
    last = min(samples.seq[samples.conn % 2 == number].max() for number in range(2))
    together = samples.where(samples.seq <= last)
    assert len(together) > 0.95 * len(samples)
    for name, told in measured.recording.manifest["channels"].items():
        steps = np.diff(together.of(name).due)
        assert np.abs(steps - told["interval"]).max() < 1e-6, name
    assert measured.left == []


def test_the_verdict_on_outages_that_were_played_is_broken(measured: During) -> None:
    assert (measured.code, measured.verdict["verdict"]) == (1, "broken"), measured.said
    assert measured.account["repeated"] == {}


def test_each_request_that_was_hit_failed_and_no_other_did(measured: During) -> None:
    samples = measured.recording.samples
    failed = set(measured.ids(samples.where(samples.outcome != Outcome.ok)))
    hit = {id for outage in measured.played for id in outage["ids"]}
    came = set(measured.account["came"])
    assert hit <= failed
    assert {id for id in failed if id in came} <= hit
    for number in range(2):
        mine = samples.where(samples.conn % 2 == number)
        assert hit & set(measured.ids(mine)), f"worker {number} met none: the check is void"


@pytest.mark.parametrize("number", range(len(PLAYED)), ids=[f"{k}-{s}s" for k, s in PLAYED])
@pytest.mark.parametrize("channel", ["slow", "write"])
def test_outages_are_sized_as_by_one_process(measured: During, channel: str, number: int) -> None:
    samples = measured.recording.samples.of(channel)
    truth = measured.played[number]
    begin, end = truth["begin"], truth["end"]
    (found,) = [
        one
        for one in outages(samples, samples.outcome != Outcome.ok, MERGE)
        if one.end > begin - MERGE and one.start < end + MERGE
    ]
    interval = measured.recording.manifest["channels"][channel]["interval"]
    late = _late(measured, samples, found)
    told = f"{found.min:.4f} to {found.max:.4f} s, truly {end - begin:.4f}, late {late}"
    assert found.min <= end - begin + late[0], told
    assert found.max >= end - begin - late[1], told
    assert found.max - found.min <= 2 * interval + 1e-6, told
    assert begin - late[0] <= found.start, told
    assert found.end <= end, told


def _late(measured: During, samples: Samples, found: Outage) -> tuple[float, float]:
    """Return the most that the requests at each edge were late, as the server has it."""
    came = measured.account["came"]
    met = [
        came.get(id, done)
        for id, done in zip(measured.ids(samples), samples.done.tolist(), strict=True)
    ]
    late = np.maximum(np.array(met) - samples.due, 0)
    edges = (found.earliest, found.start), (found.end, found.latest)
    begin, end = (float(late[np.searchsorted(samples.due, edge)].max()) for edge in edges)
    return begin, end


def test_killed_during_leaves_neither_master_nor_workers(
    runs: tuple[Cut | None, During, Killed],
) -> None:
    gone = runs[2]
    assert len(gone.before) == 4, "the master, two workers and the control server"
    assert gone.after == []


@pytest.mark.parametrize("number", ["0", "-1", "65", "two", "1.5"])
def test_a_number_of_workers_that_means_nothing_is_one_line(
    number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--url", "http://127.0.0.1:1/", f"--workers={number}", "--", "true"]
    assert main(["during", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("zdtest: ")
    assert "workers" in line
    assert number in line
