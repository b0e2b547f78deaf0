"""What the judge makes of a recording that several workers sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import synthetic

from zdtest.judging.slo import Slo
from zdtest.judging.verdict import Verdict, judge
from zdtest.records import crew
from zdtest.records.recording import Recording
from zdtest.sending.summary import summary

FINE = {"why": "", "clock_error_ms": 0.0}


def worker(number: int | None, **told: Any) -> dict[str, Any]:
    return {"worker": number, "name": f"host pid {number}", **FINE, **told}


def recorded(
    tmp_path: Path, *workers: dict[str, Any], lookup_ms: float = 0.0, **plan: Any
) -> Recording:
    """Return a made-up run of two workers: the deploy lasts from 6.67 s to 13.33 s."""
    trailer = {"lookup_ms": lookup_ms, **({"workers": list(workers)} if workers else {})}
    recording = Recording.read(synthetic.run(tmp_path / "r", trailer=trailer, **plan))
    recording.samples.conn[:] = 2 + recording.samples.seq % 2
    return recording


def judged(recording: Recording) -> Verdict:
    return judge(recording, Slo())


def test_workers_that_did_their_part_are_no_reason(tmp_path: Path) -> None:
    verdict = judged(recorded(tmp_path, worker(0), worker(1)))
    assert (verdict.verdict, verdict.reasons) == ("holds", ())


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (worker(1, why="was lost: last heard of at +1.000 s"), "worker 1 (host pid 1) was lost: "),
        (worker(1, why="reached only 90.0 of its 100.0 requests/s"), "worker 1 (host pid 1) reach"),
        (
            {"worker": None, "name": "host pid 9", "why": "is zdtest 0.0.9, expected 0.1.0"},
            "worker (host pid 9) is zdtest 0.0.9, expected 0.1.0",
        ),
    ],
)
def test_a_worker_that_did_not_is_named_and_the_run_inconclusive(
    tmp_path: Path, one: dict[str, Any], said: str
) -> None:
    recording = recorded(tmp_path, worker(0), one)
    verdict = judged(recording)
    assert verdict.verdict == "inconclusive"
    (reason,) = verdict.reasons
    assert reason.removeprefix("inconclusive: ").startswith(said)
    assert f"THE LOAD FAILED: {said}" in summary(whole(recording))


def whole(recording: Recording) -> Recording:
    """Return it with what the summary asks of a trailer beside the workers."""
    assert isinstance(recording.trailer, dict)
    lag = {"lag_p50_ms": 0.0, "lag_p99_ms": 0.0, "lag_max_ms": 0.0}
    recording.trailer.update(lag, unsent=0, interrupted=False)
    return recording


def test_what_failed_all_the_same_is_broken(tmp_path: Path) -> None:
    lost = worker(1, why="was lost")
    outage = (8.0, 8.5, "refused", None)
    assert judged(recorded(tmp_path, worker(0), lost, outages=[outage])).verdict == "broken"


def stall(recording: Recording, begin: float, end: float) -> Recording:
    """Hold worker 1 up from `begin` to `end`: it sends late, at once, what fell due."""
    samples = recording.samples
    held = (samples.due >= synthetic.BEGAN + begin) & (samples.due < synthetic.BEGAN + end)
    held &= samples.conn % 2 == 1
    late = ((synthetic.BEGAN + end - samples.due[held]) * 1e6).astype("uint32")
    for offsets in (samples.sent_us, samples.first_us, samples.done_us):
        offsets[held] += late
    return recording


def test_a_worker_that_stood_still_is_found_though_the_other_one_went_on(tmp_path: Path) -> None:
    recording = stall(recorded(tmp_path, worker(0), worker(1)), 8.0, 8.6)
    verdict = judged(recording)
    assert verdict.verdict == "inconclusive"
    slow, reason = verdict.reasons
    assert "only while the host or the generator was in trouble" in slow
    assert "worker 1 (host pid 1) stalled for " in reason
    assert "+8.0" in reason


def test_outside_the_deploy_that_matters_not(tmp_path: Path) -> None:
    recording = stall(recorded(tmp_path, worker(0), worker(1)), 2.0, 2.6)
    assert judged(recording).verdict == "holds"


def test_a_worker_that_stood_still_is_found_without_a_trailer_too(tmp_path: Path) -> None:
    recording = stall(recorded(tmp_path, closed=False, manifest={"workers": 2}), 8.0, 8.6)
    assert any("worker 1 stalled for" in reason for reason in judged(recording).reasons)


def test_by_one_process_that_is_lateness_of_the_system(tmp_path: Path) -> None:
    """The control: what is due later has overtaken it, so that the generator was not held up."""
    verdict = judged(stall(recorded(tmp_path), 8.0, 8.6))
    assert not any("stalled" in reason for reason in verdict.reasons)


def test_the_clocks_error_widens_the_bounds_of_an_outage(tmp_path: Path) -> None:
    outages = [(8.0, 8.5, "refused", ["new"])]
    sure = judged(recorded(tmp_path / "a", worker(0), worker(1), outages=outages))
    error = worker(1, clock_error_ms=3.0)
    unsure = judged(recorded(tmp_path / "b", worker(0), error, outages=outages))
    (one,), (other,) = sure.outages, unsure.outages
    assert other.min == pytest.approx(one.min - 0.006)
    assert other.max == pytest.approx(one.max + 0.006)
    low, high = (verdict.as_json()["channels"]["new"] for verdict in (sure, unsure))
    assert high["downtime_min_ms"] == pytest.approx(low["downtime_min_ms"] - 6)
    assert high["downtime_max_ms"] == pytest.approx(low["downtime_max_ms"] + 6)
    assert crew.clock_error({"workers": [worker(0), error]}) == pytest.approx(0.003)


def test_what_lookups_leave_open_widens_an_outage_for_want_of_an_address_and_no_other(
    tmp_path: Path,
) -> None:
    outages = [(8.0, 8.5, "dns", ["new"]), (8.0, 8.5, "refused", ["reused"])]
    sure = judged(recorded(tmp_path / "a", outages=outages, lookup_ms=0.0))
    unsure = judged(recorded(tmp_path / "b", outages=outages, lookup_ms=120.0))
    found = {one.channel: one for one in sure.outages}
    for one in unsure.outages:
        open = 0.12 if one.channel == "new" else 0.0
        assert one.min == pytest.approx(found[one.channel].min - open)
        assert one.max == pytest.approx(found[one.channel].max + open)
    low, high = (verdict.as_json()["channels"]["new"] for verdict in (sure, unsure))
    assert high["downtime_min_ms"] == pytest.approx(low["downtime_min_ms"] - 120)
    assert high["downtime_max_ms"] == pytest.approx(low["downtime_max_ms"] + 120)


def test_a_load_that_told_nothing_of_its_lookups_may_have_made_one_a_second() -> None:
    assert [crew.lookup(told) for told in (None, {}, {"lookup_ms": 110.0})] == [1.0, 1.0, 0.11]


def test_a_single_failure_lasted_no_less_than_no_time(tmp_path: Path) -> None:
    outages = [(8.0, 8.005, "refused", ["new"])]
    error = worker(1, clock_error_ms=3.0)
    (one,) = judged(recorded(tmp_path, worker(0), error, outages=outages)).outages
    assert one.min == 0.0


def test_a_trailer_without_workers_tells_of_none() -> None:
    for trailer in (None, {}):
        assert crew.carried(trailer) == []
        assert crew.faults(trailer) == []
        assert crew.clock_error(trailer) == 0.0
