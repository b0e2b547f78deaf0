"""The load against the ground truth: every scripted outage found and sized, nothing made up.

Both rates run at the same time, once, against a server each; every test below reads what they
left. A sample knows when it was due; the server knows when it came. The difference is lateness of
the generator and of the machine, not of the method, so a check of an edge grants exactly that
difference, taken from the samples at that edge, and not a microsecond more.

``ZD_QUIET_SECONDS=600`` makes the quiet test the ten minutes that are promised.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ground_truth import GroundTruth

from zdtest.judging.outage import Outage, brownouts, episodes
from zdtest.records.recording import NEVER, Recording, Samples, request_id
from zdtest.records.sample import NEVER_SENT, Outcome

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parent.parent
THINK = 0.1
CHANNELS = (
    f"new=4@/new,reused=4@/reused,idle=1@/idle,slow=1@/{THINK * 1e3:.0f}~{THINK}s,write=1@/orders,"
    f"stream=1@/events?every={THINK * 1e3:.0f}~{THINK}s"
)
RATES = (200, 2000)
MERGE = 0.5
"""Shorter than the default, so that the script fits into twenty seconds."""
GAP = MERGE + 3 * THINK
TIMEOUT = 4.5
CATCH_UP = 2.0
"""How long, at most, both sides are busy with what a hang has piled up."""
START = 4.0
"""What Locust takes off its run time before the first request."""
BOUND = 0.35
"""Slower than this, beyond the think time, is a brownout."""

PLAYED = (
    ("refused", 0.03, Outcome.refused),
    ("refused", 0.1, Outcome.refused),
    ("refused", 0.5, Outcome.refused),
    ("http_503", 0.05, Outcome.http_5xx),
    ("reset", 0.05, Outcome.reset),
    ("truncated", 0.05, Outcome.truncated),
    ("bad_body", 0.05, Outcome.bad_body),
    ("close_first_attempt", 0.2, Outcome.reset),
    ("reset_in_flight", 0.0, Outcome.reset),
    ("partial", 2.0, Outcome.http_5xx),
    ("refused", 3.0, Outcome.refused),
    ("hang", 2.0, Outcome.ok),
    ("black_hole", 1.0, Outcome.timeout),
)
NAMES = [f"{n:02}-{kind}-{seconds * 1e3:.0f}ms" for n, (kind, seconds, _) in enumerate(PLAYED)]
WHOLE = ("new", "reused", "idle", "write", "slow")
"""Channels that send a request for each sample; on a stream only the connection can be hit."""


def script() -> Iterator[dict[str, Any]]:
    at = GAP
    for kind, seconds, _ in PLAYED:
        yield {"kind": kind, "at": at, "for": seconds}
        at += seconds + (CATCH_UP if kind == "hang" else GAP)


def load(url: str, folder: Path, *, rate: float, seconds: float, more: Sequence[str] = ()) -> Any:
    """Start the load as a user does."""
    command = f"-m locust -f {ROOT / 'zdtest' / 'load.py'} --headless --only-summary --seed 1"
    command += f" --host {url} --rate {rate} --run-time {math.ceil(seconds)}s --zd-out {folder}"
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *command.split(), *more], **pipes)  # type: ignore[call-overload]


def ended(process: subprocess.Popen[str], *, within: float) -> int:
    """Wait for the end of a load and return its exit code; what it complained about is shown."""
    with process:
        try:
            _, complaints = process.communicate(timeout=within)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    print(complaints)
    return process.returncode


@dataclass(frozen=True)
class Run:
    """What one load recorded, beside the truth."""

    rate: int
    recording: Recording
    outages: list[dict[str, Any]]
    account: dict[str, Any]
    stood_still: float = 0.0
    """For how long, at most, the machine ran nobody."""

    def channel(self, name: str) -> Samples:
        return self.recording.samples.of(name)

    def interval(self, channel: str) -> float:
        return float(self.recording.manifest["channels"][channel]["interval"])

    @property
    def stall(self) -> float:
        """Return for how long, at most, the machine kept the generator from its work."""
        return float(np.nanmax(self.recording.samples.lag))

    def late(self, samples: Samples) -> Any:
        """Return how long after its due time each sample met the server, as the server has it."""
        came = self.account["came"]
        met = [
            came.get(id, done)
            for id, done in zip(self.ids(samples), samples.done.tolist(), strict=True)
        ]
        return np.maximum(np.array(met) - samples.due, 0)

    def lateness_at(self, samples: Samples, found: Outage) -> tuple[float, float]:
        """Return the most that the samples on both sides of each edge of `found` were late."""
        late = self.late(samples)
        edges = (found.earliest, found.start), (found.end, found.latest)
        begin, end = (late[np.searchsorted(samples.due, edge)].max() for edge in edges)
        return float(begin), float(end)

    def ids(self, samples: Samples) -> list[str]:
        return [request_id(self.recording.run, seq) for seq in samples.seq.tolist()]


class Machine:
    """Watches, from entering the block until it is left, how long the machine runs nobody."""

    def __enter__(self) -> Machine:
        self.stood_still = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._over.wait(0.01):
            now = time.monotonic()
            self.stood_still = max(self.stood_still, now - before - 0.01)
            before = now


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Run]:
    """Play the script to both rates side by side; anew when the machine itself stood still."""
    for _ in range(3):
        with Machine() as machine:
            found = played(tmp_path_factory)
        found = {
            rate: dataclasses.replace(one, stood_still=machine.stood_still)
            for rate, one in found.items()
        }
        if machine.stood_still < GAP / 2:
            break
        warnings.warn(
            f"a machine that stood still for {machine.stood_still:.2f} s proves nothing, "
            "the script is played again",
            stacklevel=1,
        )
    return found


def played(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Run]:
    """Play the script to both rates side by side, once."""
    lines = list(script())
    seconds = lines[-1]["at"] + lines[-1]["for"] + GAP + START
    options = ["--channels", CHANNELS, "--timeout", f"{TIMEOUT}s", "--expect-body", "whole truth"]
    folders = {rate: tmp_path_factory.mktemp(f"rate-{rate}") for rate in RATES}
    with GroundTruth(lines) as one, GroundTruth(lines) as other:
        servers = dict(zip(RATES, (one, other), strict=True))
        loads = [
            load(servers[rate].url, folders[rate], rate=rate, seconds=seconds, more=options)
            for rate in RATES
        ]
        codes = [ended(each, within=seconds + 30) for each in loads]
        found = {
            rate: Run(rate, Recording.read(folders[rate]), server.outages, server.account)
            for rate, server in servers.items()
        }
    assert 2 not in codes, "the load refused its options"
    return found


@pytest.fixture(params=RATES, ids=lambda rate: f"{rate}/s")
def run(request: pytest.FixtureRequest, runs: dict[int, Run]) -> Run:
    found = runs[request.param]
    told = (
        f"the machine is too busy: the load fell behind by {found.stall:.2f} s, nothing is proven"
    )
    assert found.stall < GAP / 2, told
    return found


def failed(samples: Samples) -> Any:
    return samples.outcome != Outcome.ok


def touched(run: Run, number: int, channel: str) -> tuple[float, float] | None:
    """Return from when to when a request must be due to be hit; None when none need be hit.

    A request that was late, or in service already as on `slow`, was hit though due before the
    outage began: just how early, the server's list of those it hit says. A partial outage spares
    most, so there the list says both ends.
    """
    kind = PLAYED[number][0]
    begin, end = span(run, number)
    if channel == "stream" or kind == "close_first_attempt":
        return None
    if kind == "reset_in_flight" and channel != "slow":
        return None
    hit = set(run.outages[number]["ids"])
    samples = run.channel(channel)
    due = [at for at, id in zip(samples.due, run.ids(samples), strict=True) if id in hit]
    if kind == "partial":
        return min(due), max(due)
    return min([begin, *due]), end


def span(run: Run, number: int) -> tuple[float, float]:
    outage = run.outages[number]
    return outage["begin"], outage["end"]


def near(found: Sequence[Outage], begin: float, end: float) -> list[Outage]:
    return [each for each in found if each.end > begin - GAP / 2 and each.start < end + GAP / 2]


@pytest.mark.parametrize("channel", WHOLE)
@pytest.mark.parametrize("number", range(len(PLAYED)), ids=NAMES)
def test_an_outage_is_found_and_sized_within_an_interval_at_each_end(
    run: Run, number: int, channel: str
) -> None:
    kind = PLAYED[number][0]
    hit = touched(run, number, channel)
    samples = run.channel(channel)
    if kind == "hang":
        think = THINK if channel == "slow" else 0.0
        found = near(brownouts(samples, samples.latency > BOUND + think, MERGE), *span(run, number))
    else:
        found = near(episodes(samples, failed(samples), MERGE), *span(run, number))
    if hit is None:
        assert len(found) <= 1
    elif found or hit[1] - hit[0] > run.interval(channel):
        assert len(found) == 1, f"{len(found)} episodes for one outage"
        _check_size(run, number, hit, found[0], samples)


def _check_size(
    run: Run, number: int, hit: tuple[float, float], found: Outage, samples: Samples
) -> None:
    """Assert that `found` is where and as long as the truth, within an interval at each end."""
    kind = PLAYED[number][0]
    begin, end = hit
    interval = run.interval(found.channel)
    late_begin, late_end = run.lateness_at(samples, found)
    if kind == "hang":  # seen from when it begins to when there is less than the bound to wait
        # What came while the server caught up has its turn after that.
        taken = max(run.outages[number]["clear"], found.end + late_end)
        late_begin, late_end = 0.02, taken - end + 0.1
        end -= BOUND
    early, late = found.start - begin, found.end - end
    told = f"begins {early * 1e3:+.2f} ms, ends {late * 1e3:+.2f} ms; granted "
    told += ", ".join(f"{each * 1e3:.2f}" for each in (interval, late_begin, late_end))
    print(told)
    assert -late_begin <= early <= interval, told
    assert -interval - late_end <= late <= (late_end if kind == "hang" else 0.0), told
    granted = interval + late_begin + late_end
    assert found.min <= end - begin + granted, told
    assert found.max >= end - begin - granted, told


@pytest.mark.parametrize("number", range(len(PLAYED)), ids=NAMES)
def test_a_cut_of_the_streams_is_found_at_the_messages_next_to_it(run: Run, number: int) -> None:
    begin, end = span(run, number)
    samples = run.channel("stream")
    found = near(episodes(samples, failed(samples), MERGE), begin, end)
    if PLAYED[number][0] not in ("refused", "reset_in_flight"):
        assert found == []
        return
    (outage,) = found
    period = 1.3 * THINK  # of one subscriber; the load rounds their number
    stall = run.stall
    assert begin - period - stall <= outage.start <= begin + period
    assert end - period - stall <= outage.end <= max(end, begin + period) + run.interval("stream")


def test_nothing_is_found_where_nothing_was_played(run: Run) -> None:
    """A failure was hit by an outage, by the server's word, or was due while one lasted."""
    hit = {id for outage in run.outages for id in outage["ids"]}
    spans = [span(run, number) for number in range(len(PLAYED))]
    strays = []
    for channel in (*WHOLE, "stream"):
        samples = run.channel(channel)
        samples = samples.where(failed(samples))
        reach = 2 * THINK + run.stall if channel == "stream" else 0.0
        rows = zip(samples.due, run.late(samples), run.ids(samples), strict=True)
        for due, late, id in rows:
            if id not in hit and not any(
                begin - reach - late - 1e-3 <= due <= end + reach for begin, end in spans
            ):
                strays.append((channel, due - run.account["began"]))
    assert strays == []


def test_each_request_that_was_hit_is_reported_failed_as_what_it_was(run: Run) -> None:
    samples = run.recording.samples
    by_id = dict(zip(run.ids(samples), samples.outcome.tolist(), strict=True))
    for (kind, _, outcome), outage in zip(PLAYED, run.outages, strict=True):
        expected = {outcome}
        if kind in ("refused", "reset_in_flight"):
            expected = {Outcome.reset, Outcome.truncated}  # a stream has its status line already
        streams = set(run.ids(run.channel("stream")))
        wrong = {
            id: Outcome(by_id[id]).name
            for id in outage["ids"]
            if id not in streams and by_id[id] not in expected
        }
        assert wrong == {}, kind
        assert outage["ids"] or kind == "refused", f"{kind} hit nobody: the check is void"


def test_each_failure_was_a_request_that_was_hit_or_never_came(run: Run) -> None:
    hit = {id for outage in run.outages for id in outage["ids"]}
    made_up = []
    for channel in WHOLE:
        samples = run.channel(channel)
        samples = samples.where(failed(samples))
        for id, outcome in zip(run.ids(samples), samples.outcome.tolist(), strict=True):
            came = id in run.account["came"]
            if (came and id not in hit) or (came and Outcome(outcome) in NEVER_SENT):
                made_up.append((channel, id, Outcome(outcome).name))
    assert made_up == []


def test_a_request_is_never_sent_twice(run: Run) -> None:
    assert run.account["repeated"] == {}
    assert len(run.account["came"]) > 5 * run.rate, "the check is void"


def test_a_reset_of_a_kept_connection_is_reported_and_not_retried(run: Run) -> None:
    number = [kind for kind, _, _ in PLAYED].index("close_first_attempt")
    samples = run.channel("reused")
    reset = set(run.ids(samples.where(samples.outcome == Outcome.reset)))
    hit = set(run.outages[number]["ids"]) & set(run.ids(samples))
    assert hit
    assert hit <= reset


def test_a_black_hole_is_found_as_timeouts(run: Run) -> None:
    begin, end = span(run, len(PLAYED) - 1)
    for channel in WHOLE:
        samples = run.channel(channel)
        met = samples.due + run.late(samples)
        inside = samples.where((samples.due > begin) & (met < end))
        assert set(inside.outcome.tolist()) == {int(Outcome.timeout)}, channel


def test_a_hang_is_found_as_latency_and_not_as_failures(run: Run) -> None:
    begin, end = span(run, len(PLAYED) - 2)
    for channel in (*WHOLE, "stream"):
        samples = run.channel(channel)
        inside = samples.where((samples.due > begin) & (samples.due < end - 0.05))
        assert not failed(inside).any(), channel
        assert inside.latency.max() > end - begin - 0.2, channel
        waited = end - inside.due
        assert (inside.latency >= waited - 0.001).all(), f"{channel}: answered before it could be"


def test_a_partial_outage_tells_how_many_of_how_many_failed(run: Run) -> None:
    number = [kind for kind, _, _ in PLAYED].index("partial")
    begin, end = span(run, number)
    for channel in ("new", "reused", "write", "slow"):
        samples = run.channel(channel)
        inside = samples.where((samples.due > begin) & (samples.due < end))
        share = failed(inside).mean()
        assert 0.25 < share < 0.42, f"{channel}: {share:.2f} of {len(inside)}"


def test_the_schedule_is_even_and_complete_whatever_the_server_does(run: Run) -> None:
    for channel in (*WHOLE, "stream"):
        spacing = np.diff(run.channel(channel).due)
        assert np.abs(spacing - run.interval(channel)).max() < 1e-6, channel
    assert run.recording.trailer is not None
    assert run.recording.trailer["unsent"] == 0
    missing = run.recording.trailer["scheduled"] - run.recording.trailer["count"]
    assert missing <= run.stall * run.rate, (
        "only what a stall held up at the very end may be unsent"
    )
    assert len(set(run.recording.samples.seq.tolist())) == run.recording.trailer["count"]


def test_a_stalled_reply_never_delays_another_request(run: Run) -> None:
    """During the hang no reply comes at all; sending goes on as before."""
    begin, end = span(run, len(PLAYED) - 2)
    samples = run.recording.samples
    inside = samples.where((samples.due > begin) & (samples.due < end - 0.1))
    assert (inside.sent_us != NEVER).all()
    held_up = int((inside.lag > 0.1).sum())
    # A machine that stands still holds them up as well, whatever the server does.
    granted = 0.02 * len(inside) + max(0.0, run.stood_still - 0.1) * run.rate
    assert held_up < granted, f"{held_up} of {len(inside)} were held up, granted {granted:.0f}"


def test_a_prober_in_lockstep_misses_an_outage_that_the_load_sees(tmp_path: Path) -> None:
    """The control: 20 users, each once a second, all at the same moment, waiting for replies."""
    lines = [{"kind": "refused", "at": 1.5, "for": 0.03}]
    with GroundTruth(lines) as for_load, GroundTruth(lines) as for_prober:
        process = load(for_load.url, tmp_path, rate=200, seconds=5)
        missed = sum(_burst(for_prober.port, pause) for pause in (0.0, 1.0, 1.0))
        ended(process, within=30)
        assert [outage["kind"] for outage in for_prober.outages] == ["refused"]
    assert missed == 0, "the control must be blind, or it controls nothing"
    assert failed(Recording.read(tmp_path).samples).sum() >= 4


def _burst(port: int, pause: float) -> int:
    """Wait, ask 20 times in a row, and return how many of them failed."""
    time.sleep(pause)
    errors = 0
    for _ in range(20):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: truth\r\n\r\n")
                errors += b" 200 " not in sock.recv(4096)
        except OSError:
            errors += 1
    return errors


def test_locusts_fast_client_reports_no_error_where_the_load_reports_each(tmp_path: Path) -> None:
    """The control: connections reset under a client that resends, and under one that does not."""
    lines = [{"kind": "close_first_attempt", "at": 1.0, "for": 1.0}]
    with GroundTruth(lines) as for_load, GroundTruth(lines) as for_locust:
        process = load(for_load.url, tmp_path, rate=100, seconds=6, more=["--channels", "reused"])
        reported, sent = _locust_errors(for_locust.url)
        ended(process, within=30)
        hidden = for_locust.outages[0]["hits"]
        hits = for_load.outages[0]["hits"]
    assert hidden > 0
    assert reported == 0, f"Locust reported {reported} of {hidden} after all: see the README"
    assert sent < for_locust.account["requests"], "it must have sent some again"
    assert failed(Recording.read(tmp_path).samples).sum() == hits > 0


def _locust_errors(url: str) -> tuple[int, int]:
    """Return how many errors and requests Locust's FastHttpUser reports of six seconds."""
    users = ROOT / "bench" / "locustfiles" / "users.py"
    command = f"-m locust -f {users} Fast --headless --json --host {url} -u 10 -r 100 -t 6s"
    ended = subprocess.run(
        [sys.executable, *command.split()],
        env={**os.environ, "BENCH_PACE": "10"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=30,
    )
    (entry,) = json.loads(ended.stdout)
    return entry["num_failures"], entry["num_requests"]


def test_nothing_is_reported_of_a_quiet_server(tmp_path: Path) -> None:
    seconds = float(os.environ.get("ZD_QUIET_SECONDS", "5"))
    with GroundTruth() as truth:
        process = load(
            truth.url, tmp_path, rate=200, seconds=seconds, more=["--channels", CHANNELS]
        )
        assert ended(process, within=seconds + 30) != 1
    recording = Recording.read(tmp_path)
    assert recording.trailer is not None
    assert len(recording.samples) >= 200 * (seconds - 3)
    assert not failed(recording.samples).any()
    slow = recording.samples.latency > 1.0
    assert not slow.any(), f"{slow.sum()} slower than a second"
    assert truth.account["repeated"] == {}


def test_the_script_keeps_its_outages_apart() -> None:
    lines = list(script())
    gaps = [b["at"] - a["at"] - a["for"] for a, b in itertools.pairwise(lines)]
    assert min(gaps) > MERGE + 2 * THINK - 1e-9
