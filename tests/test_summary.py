"""What a load says in the end, from its recording alone."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic

from zdtest.records.recording import ROW, Recording, Samples
from zdtest.records.sample import CHANNELS, Outcome
from zdtest.sending.summary import of_folder, replies, summary

TRAILER = {
    "count": 2000, "offered_rate": 200.0, "reached_rate": 200.0, "lag_p50_ms": 0.1,
    "lag_p99_ms": 0.4, "lag_max_ms": 3.0, "unsent": 0, "dropped": 0, "interrupted": False,
}  # fmt: skip


def recording(
    *, failed: dict[tuple[str, float, float], Outcome] | None = None, **trailer: Any
) -> Recording:
    """Return ten seconds of two channels, each at 100 a second, with what failed in between."""
    rows = np.zeros(2000, ROW)
    rows["due"] = 10**12 + np.arange(2000) * 5_000_000
    rows["channel"] = np.arange(2000) % 2
    since = np.arange(2000) * 0.005
    for (name, begin, end), outcome in (failed or {}).items():
        hit = (rows["channel"] == CHANNELS.index(name)) & (since >= begin) & (since < end)
        rows["outcome"][hit] = outcome
    told = None if trailer.get("closed") is False else {**TRAILER, **trailer}
    return Recording(Path("run"), {"run": "r"}, Samples.from_rows(rows), (), told)


def test_a_run_without_failures_says_what_that_proves_and_how_the_load_did() -> None:
    said = summary(recording())
    assert "nothing failed: failure rate below 0.15 % at 95 % (2000 requests)" in said
    assert "load: 200.0 of 200.0 requests/s reached; sent late by 0.10 ms (median)" in said
    assert said.endswith("recorded in run")
    assert "FAILED" not in said


def test_each_outage_has_its_start_and_its_least_and_greatest_length() -> None:
    said = summary(
        recording(failed={("new", 2, 2.5): Outcome.refused, ("reused", 4, 4.1): Outcome.http_5xx})
    )
    assert re.search(r"^new +1000 +50  ok=950 refused=50$", said, re.M), said
    assert re.search(
        r"^new +at \+2.000 s for 490ms to 510ms: 50 of 50 failed, refused=50$", said, re.M
    ), said
    assert re.search(
        r"^reused +at \+4.005 s for 90ms to 110ms: 10 of 10 failed, http_5xx=10$", said, re.M
    ), said
    assert "nothing failed" not in said


def test_an_outage_without_an_end_may_have_lasted_longer() -> None:
    said = summary(recording(failed={("new", 9, 11): Outcome.timeout}))
    assert re.search(r"^new +at .* or more: 100 of 100 failed, timeout=100$", said, re.M), said


def test_of_many_outages_the_first_are_shown() -> None:
    many = {("new", at, at + 0.02): Outcome.reset for at in np.arange(0.5, 9.5, 2)}
    assert "more" not in summary(recording(failed=many)).replace("or more", "")
    rows = np.zeros(100, ROW)
    rows["due"] = np.arange(100) * 2 * 10**9
    rows["outcome"][::2] = Outcome.reset
    one = replace(recording(), samples=Samples.from_rows(rows))
    assert "and 30 more" in summary(one)


def test_what_could_not_be_sent_and_the_control_server_say_nothing_of_the_system() -> None:
    one = recording(failed={("new", 2, 3): Outcome.unsent}, unsent=100)
    said = summary(one)
    assert "nothing failed" in said
    assert "(1900 requests)" in said
    assert "THE LOAD FAILED: 100 requests could not be sent from this machine" in said
    one.samples.channel[one.samples.channel == 1] = CHANNELS.index("control")
    one.samples.outcome[one.samples.channel == CHANNELS.index("control")] = Outcome.refused
    assert "nothing failed" in summary(one)


@pytest.mark.parametrize(
    ("trailer", "said"),
    [
        ({"closed": False}, "THE LOAD FAILED: it did not close its recording"),
        ({"reached_rate": 197.0}, "THE LOAD FAILED: it did not reach the rate"),
        ({"dropped": 5}, "THE LOAD FAILED: 5 samples could not be written in time"),
        ({"interrupted": True}, "interrupted before its time"),
    ],
)
def test_a_load_that_failed_says_so_plainly(trailer: dict[str, Any], said: str) -> None:
    assert said in summary(recording(**trailer))


def test_what_the_proxy_tried_again_is_told_where_it_keeps_a_log(tmp_path: Path) -> None:
    folder = synthetic.run(tmp_path / "r", requests=400, proxy=True, masked={"new": 3})
    said = summary(Recording.read(folder))
    line = "the proxy tried 3 requests again (3 attempts failed) that users saw nothing of"
    assert line in said.splitlines()
    assert "proxy" not in summary(recording())


def test_a_run_without_requests_claims_nothing() -> None:
    empty = replace(recording(), samples=Samples.from_rows(np.empty(0, ROW)))
    assert "nothing is known about the system" in summary(empty)


def test_a_huge_recording_is_not_read() -> None:
    assert "10000000 samples recorded in nowhere" in of_folder(Path("nowhere"), 10_000_000)


def test_replies_are_counted_by_status_and_what_brought_none_by_why(tmp_path):
    folder = synthetic.run(
        tmp_path / "r",
        requests=1000,
        rate=100,
        control=50,
        outages=[
            (2, 2.5, "refused", None),
            (3, 3.2, "http_5xx", None),
            (4, 4.1, "truncated", None),
        ],
    )
    told = replies(Recording.read(folder))
    assert told.startswith("replies  ")
    words = {word: int(n) for n, word in re.findall(r"(\d+) × ([^,]+)", told)}
    assert set(words) == {"200", "503", "refused", "200 truncated"}
    assert (words["refused"], words["503"], words["200 truncated"]) == (50, 20, 10)
    assert sum(words.values()) == 1000, "the control is not the system"


def test_a_recording_of_nothing_has_no_replies(tmp_path):
    assert replies(Recording.read(synthetic.run(tmp_path / "r", requests=0))) == "replies  none"
