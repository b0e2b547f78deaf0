"""The memory of real processes, sampled while they run, and read back."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import synthetic
from test_capacity import OLD, recorded, requests

from zdtest.engine import Instance, probe, sampler
from zdtest.engine.process import ProcessEngine
from zdtest.judging.capacity import capacity
from zdtest.judging.slo import Slo
from zdtest.records.eventlog import EventLog
from zdtest.records.memory import Held, Memory
from zdtest.report import write_report
from zdtest.results.overview import COLUMNS, ways
from zdtest.results.result import Result
from zdtest.run import judged

MB = 1e6
GROWN = 50_000_000
GROWS = f"""
import sys
print("up", flush=True)
sys.stdin = open(sys.argv[1])   # a pipe: opened as soon as somebody writes to it
kept = bytes(range(250)) * {GROWN // 250}
print("grown", flush=True)
sys.stdin.read()
"""

Begin = Callable[..., Instance]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[ProcessEngine]:
    mark = sampler.MemorySampler(tmp_path / sampler.FILE, lambda name, /, **about: None)
    with mark, ProcessEngine(f"test-{uuid.uuid4().hex[:8]}", tmp_path, on_event=mark) as engine:
        yield engine


def said(engine: ProcessEngine, one: Instance, word: str) -> None:
    probe.until(word, lambda: "" if word in engine.logs(one) else "not yet", timeout=10)


def lines(folder: Path) -> list[str]:
    path = folder / sampler.FILE
    return path.read_text().splitlines() if path.exists() else []


def sampled(folder: Path) -> dict[str, int | None]:
    """Return the bytes by instance of a sample that begins from now on."""
    before = len(lines(folder))
    # The next one may have begun already.
    probe.until(
        "samples", lambda: "" if len(lines(folder)) >= before + 2 else "too few", timeout=10
    )
    return json.loads(lines(folder)[-1])["bytes"]


@pytest.fixture
def grows(engine: ProcessEngine, tmp_path: Path) -> Begin:
    """Starts one that grows once `grow` is written to."""
    os.mkfifo(tmp_path / "grow")

    def begin(name: str = "a", *, script: str = GROWS, version: str = "v1") -> Instance:
        argv = [sys.executable, "-c", script, str(tmp_path / "grow")]
        one = engine.start(name, argv, version=version)
        said(engine, one, "up")
        return one

    return begin


def test_a_process_that_grows_by_50_mb_is_seen_to(
    engine: ProcessEngine, grows: Begin, tmp_path: Path
) -> None:
    idles(engine)
    one = grows()
    small = sampled(tmp_path)
    with (tmp_path / "grow").open("w"):
        said(engine, one, "grown")
        large = sampled(tmp_path)
    assert 1 * MB < small["a"] < 30 * MB
    assert beyond(large) - beyond(small) == pytest.approx(GROWN, rel=0.02)


def idles(engine: ProcessEngine) -> None:
    """Start one that does nothing: its share of what all have, as many as there are, is theirs."""
    argv = [sys.executable, "-c", "print('up', flush=True); import time; time.sleep(600)"]
    said(engine, engine.start("idle", argv, version="v1"), "up")


def beyond(told: dict[str, int | None], processes: int = 1) -> int:
    """Return what `a`, so many processes, holds beyond what one holds that does nothing.

    Whenever another interpreter starts or ends anywhere, each one's share changes.
    """
    assert told["a"] is not None
    assert told["idle"] is not None
    return told["a"] - processes * told["idle"]


def test_what_its_children_hold_is_its_own_as_well(
    engine: ProcessEngine, grows: Begin, tmp_path: Path
) -> None:
    parent = (
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {GROWS!r}, sys.argv[1]])"
    )
    idles(engine)
    one = grows(script=parent)
    small = sampled(tmp_path)
    with (tmp_path / "grow").open("w"):
        said(engine, one, "grown")
        large = sampled(tmp_path)
    assert beyond(large, 2) - beyond(small, 2) == pytest.approx(GROWN, rel=0.02)


def test_who_has_ended_is_not_there_and_stops_nothing(
    engine: ProcessEngine, grows: Begin, tmp_path: Path
) -> None:
    gone, stays = grows("gone"), grows("stays")
    assert set(sampled(tmp_path)) == {"gone", "stays"}
    engine.kill(gone)
    assert set(sampled(tmp_path)) == {"stays"}
    engine.kill(stays)


def test_one_that_ends_while_it_is_read_is_not_there(
    monkeypatch: pytest.MonkeyPatch, engine: ProcessEngine, grows: Begin, tmp_path: Path
) -> None:
    """Between the look at who there is and the reading."""
    one, read = grows(), sampler._proportional
    folder = f"/proc/{one.pid}"
    sampler.held(folder)

    def late(process: str) -> int:
        engine.kill(one)
        return read(process)

    monkeypatch.setattr(sampler, "_proportional", late)
    with pytest.raises((FileNotFoundError, ProcessLookupError)):
        sampler.held(folder)


def test_what_runs_no_version_is_no_instance_of_the_app(
    engine: ProcessEngine, grows: Begin, tmp_path: Path
) -> None:
    grows("proxy", version="")
    # Nothing tells that nothing is written: this is as long as two samples take.
    time.sleep(2 * sampler.EVERY)
    assert not (tmp_path / sampler.FILE).exists()


@pytest.mark.parametrize("moment", ["TERM", "deploy.step.begin", "app.ready"])
def test_when_most_of_them_run_they_are_sampled_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, moment: str
) -> None:
    """Between two samples both sets of a blue/green may come and go."""
    monkeypatch.setattr(sampler, "EVERY", 60.0)
    begun, read = threading.Event(), sampler.MemorySampler._read

    def look(self: sampler.MemorySampler) -> dict[str, int | None]:
        told = read(self)
        begun.set()
        return told

    monkeypatch.setattr(sampler.MemorySampler, "_read", look)
    log = EventLog(tmp_path / "events.jsonl")
    mark = sampler.MemorySampler(tmp_path / sampler.FILE, log)
    listener = log.listen(mark.moment, mark.now)
    stubborn = ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done"]
    with mark, ProcessEngine(f"test-{uuid.uuid4().hex[:8]}", tmp_path, on_event=mark) as engine:
        assert begun.wait(10), "it has looked, and nobody was there"
        one = engine.start("a", stubborn, version="v1")
        said(engine, one, "up")
        assert lines(tmp_path) == []
        if moment == "TERM":
            engine.signal(one, moment)
        else:
            log(moment)
        probe.until("a sample", lambda: "" if lines(tmp_path) else "none", timeout=5)
    listener.end()
    log.close()


def test_one_whose_process_cannot_be_opened_makes_the_sum_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mark = sampler.MemorySampler(tmp_path / sampler.FILE, lambda name, /, **about: None)

    def refused(*_: object) -> int:
        raise PermissionError

    with mark:
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", refused)
            mark("app.started", instance="a", pid=1)
        assert sampled(tmp_path) == {"a": None}


def test_one_that_may_not_be_asked_makes_the_sum_unknown(
    monkeypatch: pytest.MonkeyPatch, engine: ProcessEngine, grows: Begin, tmp_path: Path
) -> None:
    def refused(process: str) -> int:
        raise PermissionError(process)

    monkeypatch.setattr(sampler, "_proportional", refused)
    grows()
    assert sampled(tmp_path) == {"a": None}
    memory = Memory.read(tmp_path / sampler.FILE)
    assert memory is not None
    assert np.isnan(memory.bytes).all()


def told(*lines: tuple[float, dict[str, int | None]]) -> Memory:
    return Memory(
        np.array([at for at, _ in lines]),
        np.array([sum(np.nan if n is None else n for n in each.values()) for _, each in lines]),
    )


def test_a_file_is_read_as_far_as_it_makes_sense(tmp_path: Path) -> None:
    path = tmp_path / sampler.FILE
    assert Memory.read(path) is None
    good = ['{"t": 2, "bytes": {"a": 10, "b": 5}}', '{"t": 1, "bytes": {"a": null}}']
    odd = ["[]", "{}", '{"t": "x", "bytes": {}}', '{"t": NaN, "bytes": {}}', '{"t": 1, "bytes": 3}']
    path.write_text("\n".join([*good, *odd, '{"t": 3, "bytes": {"a": "x"}}', '{"t": 4, "by']))
    memory = Memory.read(path)
    assert memory is not None
    assert memory.at.tolist() == [1, 2, 3]
    assert np.isnan(memory.bytes).tolist() == [True, False, True]
    assert memory.bytes[1] == 15


def test_the_price_is_the_most_of_the_deploy_over_the_median_before() -> None:
    import dataclasses

    run = recorded(OLD, requests((5, 25, {"a": 50})))

    def price(*lines: tuple[float, dict[str, int | None]]) -> Held | None:
        return capacity(dataclasses.replace(run, memory=told(*lines))).memory

    before = [(4.0, {"a": 900}), *((5.0 + n, {"a": n}) for n in range(5))]
    found = price(*before, (12.0, {"a": 3, "b": 3}), (14.0, {"a": 1, "b": 2}), (21.0, {"a": 99}))
    assert found == Held(2.0, 6.0), "what booted before the load, or was later, is none of it"
    assert found.ratio == 3
    assert price(*before, (12.0, {"a": 3, "b": None})) is None
    assert price(*before) is None
    assert price((12.0, {"a": 3})) is None
    assert capacity(run).memory is None, "an old recording"
    assert Held(0.0, 6.0).ratio is None


def way(folder: Path, **plan: object) -> str:
    """Return what is shown of the memory of the way that this run is one of."""
    (one,) = ways([Result.read(shown(folder, **plan))])
    return dict(COLUMNS)["peak memory MB (× before)"](one)


def shown(folder: Path, **plan: object) -> Path:
    judged(synthetic.run(folder, requests=1000, **plan), Slo(p99_ratio=None, p99_over=None))
    return folder


def test_it_is_told_beside_the_other_prices_and_a_dash_where_nobody_sampled(tmp_path: Path) -> None:
    both = [(1.0, {"a": 40_000_000}), (2.5, {"a": 40_000_000, "b": 39_600_000})]
    assert way(tmp_path / "sampled", memory=both) == "80 (× 1.99)"
    page = write_report(tmp_path / "sampled").read_text()
    assert "<td>80 (× 1.99)</td>" in page
    assert way(tmp_path / "old") == "–"
    page = write_report(tmp_path / "old").read_text()
    assert '<th scope="row">peak memory MB (× before)</th><td>–</td>' in page
    assert way(tmp_path / "refused", memory=[*both, (2.6, {"a": None})]) == "–"
