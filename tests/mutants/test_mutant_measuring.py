"""Mutants of the measuring side: loads, recorders and clocks that would call a bad deploy good.

The live ones send to the ground truth server, which says what it did to whom; those of the clock
and of the journal are made by hand.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import synthetic
import urllib3
from ground_truth import GroundTruth

from mutants.kill_list import MEASURING, Mutant
from mutants.stage import Watched, loads
from zdtest.judging.slo import Slo
from zdtest.judging.verdict import Verdict, judge
from zdtest.records.recording import Recording, request_id
from zdtest.records.sample import Outcome

pytestmark = pytest.mark.alone

PROMISED = Slo(p99_ratio=None, p99_over=None, min_requests=30)
PATIENT = dataclasses.replace(PROMISED, slow=None, hole=3.0, stall=3.0, stale=None)
"""The same, of a load that stands still for a while because the machine does.

The ground truth is of one version all along."""

RATE = 60.0
RESETS: Mapping[str, Any] = {"kind": "close_first_attempt", "at": 0.5, "for": 0.5}
BUSY: Mapping[str, Any] = {"kind": "http_503", "at": 1.4, "for": 0.3}
HANG: Mapping[str, Any] = {"kind": "hang", "at": 2.1, "for": 0.7}
LENGTH = 3.4

Script = Sequence[Mapping[str, Any]]
SEATS: Mapping[str, tuple[str, Script]] = {
    "honest": ("plain", [RESETS, BUSY, HANG]),
    "resends": ("resends", [RESETS]),
    "closed-loop": ("closed_loop", [HANG]),
    "drops-failures": ("drops_failures", [BUSY]),
    "killed": ("plain", []),
    "starved-of-time": ("plain", []),
    "starved-of-sockets": ("few_sockets", []),
    "wall-clock": ("wall_clock", []),
}
"""The load that each of them is, and what its server does."""


@dataclass(frozen=True)
class Seen:
    """What a load reported, and the truth about it."""

    recording: Recording
    outages: list[dict[str, Any]]
    repeated: Mapping[str, int]

    @property
    def failed(self) -> set[str]:
        samples = self.recording.samples
        seqs = samples.seq[samples.outcome != Outcome.ok].tolist()
        return {request_id(self.recording.run, seq) for seq in seqs}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    """Let every load run at the same time, each against a server of its own."""
    folder = tmp_path_factory.mktemp("measuring")
    with ExitStack() as stack:
        servers = {n: stack.enter_context(GroundTruth(lines)) for n, (_, lines) in SEATS.items()}
        seats = {name: (servers[name].url, load(name, file)) for name, (file, _) in SEATS.items()}
        with loads(folder, seats, baseline=0.3, settle=0.7) as audience:
            audience.mark("deploy.begin")
            end = time.monotonic() + LENGTH
            time.sleep(0.7)
            signal(audience.runs["starved-of-time"], "STOP")
            signal(audience.runs["killed"], "KILL")
            time.sleep(0.6)
            signal(audience.runs["starved-of-time"], "CONT")
            time.sleep(end - time.monotonic())
            audience.mark("deploy.end")
        assert audience.troubles.keys() == {"killed"}
        return {
            name: Seen(Recording.read(folder / name), one.outages, one.account["repeated"])
            for name, one in servers.items()
        }


def load(name: str, file: str) -> Watched:
    channels = "reused=3@/" if name != "starved-of-sockets" else "new=1@/,slow=2@/700~700ms"
    return Watched(rate=RATE, channels=channels, seed=1, file=file)


def signal(one: Any, name: str) -> None:
    one.engine.signal(one.traffic.process, name)


def complaints(
    failed: Iterable[str], outages: Iterable[Mapping[str, Any]], repeated: Mapping[str, int]
) -> Iterator[str]:
    """Yield what the self-test has against a prober that reported these requests as failed."""
    hit = {id for outage in outages if outage["kind"] != "hang" for id in outage["ids"]}
    assert hit, "nobody was hit: the check is void"
    if missed := hit - set(failed):
        yield f"{len(hit - missed)} of {len(hit)} requests that were hit were reported"
    if repeated:
        yield f"{len(repeated)} requests came more than once"


# What must hold.


def test_the_honest_load_passes_the_self_test(seen: dict[str, Seen]) -> None:
    one = seen["honest"]
    assert list(complaints(one.failed, one.outages, one.repeated)) == []


def test_a_wall_clock_that_is_moved_changes_nothing(seen: dict[str, Seen]) -> None:
    verdict = judge(seen["wall-clock"].recording, PATIENT)
    assert verdict.verdict == "holds", verdict.summary()


def test_the_open_loop_sizes_a_hang_of_which_the_closed_one_sees_a_reply_or_two(
    seen: dict[str, Seen],
) -> None:
    held_up = {
        name: sum(seen[name].recording.samples.of("reused").latency > 0.2)
        for name in ("honest", "closed-loop")
    }
    assert held_up["closed-loop"] <= 4
    assert held_up["honest"] >= 0.8 * RATE * (HANG["for"] - 0.2)


def test_a_clean_run_made_by_hand_holds(tmp_path: Path) -> None:
    assert judge(Recording.read(synthetic.run(tmp_path / "r")), Slo()).verdict == "holds"


# What must not.


def self_tested(name: str, seen: dict[str, Seen], _: Path) -> tuple[str, ...]:
    one = seen[name]
    verdict = judge(one.recording, PATIENT)
    assert verdict.failed == 0, "it has to hide them, or it controls nothing"
    return tuple(complaints(one.failed, one.outages, one.repeated))


def urllib3_tested(_: str, seen: dict[str, Seen], __: Path) -> tuple[str, ...]:
    """Let urllib3 as it comes, which tries three times more, ask fifty times."""
    failed = []
    with GroundTruth([{**RESETS, "at": 0.1, "for": 1.0}]) as truth:
        with urllib3.PoolManager() as pool:
            for number in range(50):
                id = f"p-{number:08x}"
                try:
                    pool.request("GET", truth.url, headers={"X-Request-ID": id}, timeout=2.0)
                except urllib3.exceptions.HTTPError:
                    failed.append(id)
                time.sleep(0.01)
        assert failed == [], "it has to hide them, or it controls nothing"
        return tuple(complaints(failed, truth.outages, truth.account["repeated"]))


def judged(name: str, seen: dict[str, Seen], _: Path) -> Verdict:
    return judge(seen[name].recording, PROMISED)


def stepped_samples(_: str, __: dict[str, Seen], folder: Path) -> Verdict:
    plan = synthetic.Plan(deploy=(6.0, 3613.0), switch=10.0, journal=False)
    run = synthetic.run(folder / "r", deploy=(6.0, 3613.0), switch=10.0, journal=False)
    rows = synthetic.samples(plan)
    rows["due"][rows["due"] > (synthetic.BEGAN + 10.0) * 1e9] += 3600 * 10**9
    synthetic._write_samples(run / "samples.arrows", plan, rows)
    return judge(Recording.read(run), PROMISED)


def stepped_marks(begin: float, end: float) -> Callable[..., Verdict]:
    def stepped(_: str, __: dict[str, Seen], folder: Path) -> Verdict:
        none: dict[str, object] = {}
        marks = [(begin, "deploy.begin", none), (end, "deploy.end", none)]
        run = synthetic.run(folder / "r", deploy=None, marks=marks)
        return judge(Recording.read(run), PROMISED)

    return stepped


def without_a_line(_: str, __: dict[str, Seen], folder: Path) -> Verdict:
    run = synthetic.run(folder / "r")
    journal = run / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    assert json.loads(lines.pop(100))["event"] == "order"
    journal.write_text("".join(lines))
    return judge(Recording.read(run), PROMISED)


LOOKS: Mapping[str, Callable[..., Verdict | tuple[str, ...]]] = {
    "resends": self_tested,
    "urllib3-retries": urllib3_tested,
    "clock-stepped-in-the-samples": stepped_samples,
    "clock-stepped-before-the-marks": stepped_marks(7.0 - 3600.0, 13.0 - 3600.0),
    "clock-stepped-between-the-marks": stepped_marks(7.0, 13.0 + 3600.0),
    "journal-line-missing": without_a_line,
}
"""How each is looked at, where not by the verdict on its live run."""


@pytest.mark.parametrize("mutant", MEASURING, ids=lambda mutant: mutant.name)
def test_a_mutant_of_the_measuring_is_caught(
    mutant: Mutant, seen: dict[str, Seen], tmp_path: Path
) -> None:
    found = LOOKS.get(mutant.name, judged)(mutant.name, seen, tmp_path)
    reasons = found.reasons if isinstance(found, Verdict) else found
    assert any(re.search(mutant.says, reason) for reason in reasons), reasons
    if isinstance(found, Verdict):
        assert found.verdict == ("broken" if mutant.promise else "inconclusive"), found.summary()
