"""What a proxy hid from users, counted from its log, the samples and the app's journal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import synthetic

from zdtest.blame.masked import SHOWN, Masked
from zdtest.records.recording import Recording

MASKED = {"new": 9, "reused": 3, "write": 2}


@pytest.fixture
def masked(tmp_path: Path) -> Callable[..., Masked | None]:
    """What is found in a made-up run, its log changed by `edit` a line at a time (b"" drops it)."""

    def masked(edit: Callable[[bytes], bytes] = bytes, **plan: Any) -> Masked | None:
        folder = synthetic.run(tmp_path / "r", **{"requests": 1000, "proxy": True, **plan})
        log = folder / "logs" / "proxy.log"
        if log.exists():
            log.write_bytes(b"".join(map(edit, log.read_bytes().splitlines(keepends=True))))
        return Masked.of(Recording.read(folder))

    return masked


def test_each_request_answered_ok_after_a_failed_attempt_is_counted_once(masked):
    found = masked(masked=MASKED)
    assert (found.requests, found.attempts_failed, found.writes) == (14, 14, 2)
    assert found.by_method == {"GET": 12, "POST": 2}
    assert found.by_upstream == {"127.0.0.1:18082": 14}
    assert (len(found.logged), len(found.unlogged)) == (1000, 0)


def test_where_nothing_was_tried_again_nothing_is_masked(masked):
    found = masked()
    assert (found.requests, found.attempts_failed, found.twice, found.first) == (0, 0, 0, ())
    assert (found.by_method, found.by_upstream) == ({}, {})
    assert found.text() == "of 1000 requests answered ok the proxy tried none again"


def test_without_a_proxys_log_nothing_is_known(masked):
    assert masked(proxy=False) is None


def test_every_failed_attempt_counts_and_goes_to_its_server(masked):
    def thrice(line: bytes) -> bytes:
        return line.replace(b"127.0.0.1:18082, ", b"c:1, 127.0.0.1:18082, ").replace(
            b'"502, 200"', b'"504, 502, 200"'
        )

    found = masked(thrice, masked=MASKED)
    assert (found.requests, found.attempts_failed) == (14, 28)
    assert found.by_upstream == {"c:1": 14, "127.0.0.1:18082": 14}


def test_a_request_that_failed_for_its_user_all_the_same_is_not_masked(masked):
    edited = []

    def in_vain(line: bytes) -> bytes:
        if b'"status":"503"' not in line:
            return line
        edited.append(line)
        return line.replace(b'_addr":"127', b'_addr":"a:1, 127').replace(
            b'_status":"503"', b'_status":"502, 503"'
        )

    found = masked(in_vain, outages=[(1.0, 1.5, "http_5xx", None)], masked={"new": 1})
    assert len(edited) == 100
    assert (found.requests, found.attempts_failed) == (1, 1)


def test_one_that_arrived_more_than_once_is_counted_whatever_its_method(masked):
    found = masked(masked={"new": 3}, masked_twice=2)
    assert (found.requests, found.twice) == (3, 2)
    assert [one.arrived for one in found.first] == [2, 2, 1]
    assert found.text() == (
        "the proxy tried 3 requests again (3 attempts failed) that users saw nothing of; "
        "2 of them arrived more than once"
    )


def test_how_often_one_arrived_is_unknown_without_a_journal_of_requests(masked, tmp_path: Path):
    found = masked(masked=MASKED, journal=False)
    assert (found.twice, found.first[0].arrived) == (None, None)
    folder = synthetic.run(tmp_path / "orders", requests=1000, proxy=True, masked=MASKED)
    lines = (folder / "journal.jsonl").read_text().splitlines(keepends=True)
    (folder / "journal.jsonl").write_text("".join(one for one in lines if '"order"' in one))
    assert Masked.of(Recording.read(folder)).twice is None


def test_a_request_answered_ok_that_the_log_does_not_know_is_told(masked):
    lost = []

    def lossy(line: bytes) -> bytes:
        if line.startswith(b"{") and len(lost) < 7:
            lost.append(line)
            return b""
        return line

    found = masked(lossy)
    assert (len(found.logged), len(found.unlogged)) == (993, 7)
    assert found.text().endswith("; its log lacks 7 more that were answered ok")


def test_one_that_failed_need_not_be_in_the_log(masked):
    assert len(masked(outages=[(1.0, 1.5, "refused", None)]).unlogged) == 0


def test_a_message_of_a_stream_is_no_request_that_the_log_could_know(masked):
    found = masked(channels={"stream": 1.0, "new": 1.0}, masked={"stream": 1})
    assert (len(found.logged), len(found.unlogged)) == (501, 0)


def test_another_runs_requests_are_not_this_ones(masked):
    found = masked(lambda line: line.replace(b'"id":"r-', b'"id":"q-'), masked=MASKED)
    assert (found.requests, len(found.logged), len(found.unlogged)) == (0, 0, 1000)


def test_the_first_ones_are_told_with_all_their_attempts(masked):
    told = masked(masked={"write": 1, "new": 30}, masked_twice=1).as_json(synthetic.BEGAN)
    assert len(told["witnesses"]) == SHOWN
    first = told["witnesses"][0]
    assert first["id"].startswith("r-0000")
    assert 2.5 < first["at_s"] < 2.6
    assert first["upstreams"] == ["127.0.0.1:18082", "127.0.0.1:18081"]
    assert (first["statuses"], first["arrived"]) == ([502, 200], 2)
    assert {one["method"] for one in told["witnesses"]} == {"GET", "POST"}
    assert json.loads(json.dumps(told)) == told


def test_an_attempt_that_brought_no_status_has_none(masked):
    found = masked(lambda line: line.replace(b'"502, 200"', b'"-, 200"'), masked={"new": 1})
    assert found.as_json(0.0)["witnesses"][0]["statuses"] == [None, 200]
