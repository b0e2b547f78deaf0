"""Every exchange that ended is one row, on disk within seconds, at a few bytes each."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from zdtest.records.recording import NEVER, ROW, read_samples
from zdtest.records.sample import CHANNELS, Outcome
from zdtest.sending.exchange import Exchange
from zdtest.sending.lag import Lag
from zdtest.sending.recorder import Recorder

LANES = [SimpleNamespace(number=number) for number in range(len(CHANNELS))]


def at_once(append: Any, *rows: Any) -> None:
    append(*rows)


def exchange(seq: int, **told: Any) -> Exchange:
    one = Exchange(LANES[told.pop("channel", 0)], seq, seq % 20, 10**12 + seq * 5_000_000, b"")
    one.done = one.due + 1_000_000
    one.outcome = Outcome.ok
    for name, value in told.items():
        setattr(one, name, value)
    return one


def test_a_row_says_what_its_exchange_said(tmp_path: Path) -> None:
    rng = random.Random(1)
    sent = [
        exchange(
            seq,
            channel=rng.randrange(7),
            sent=10**12 + seq * 5_000_000 + rng.choice([0, 1_000, 2_345_678]),
            first=rng.choice([0, 10**12 + seq * 5_000_000 + 3_000_999]),
            done=10**12 + seq * 5_000_000 + rng.randrange(10**10),
            outcome=rng.choice(list(Outcome)),
            status=rng.choice([0, 200, 503]),
            size=rng.choice([0, 12, 1 << 40]),
            version=rng.choice([b"", b"v1", b"v2"]),
            instance=rng.choice([b"", b"a", b"\xff\xfe"]),
            conn=rng.randrange(1 << 32),
        )
        for seq in range(40_000)
    ]
    recorder = Recorder(tmp_path / "samples.arrows")
    for number, one in enumerate(rng.sample(sent, len(sent))):
        recorder.take(one)
        if number % 9_000 == 0:
            recorder.news()
            recorder.write(at_once)
    recorder.close({"offered_rate": 5.0})
    samples, trailer = read_samples(tmp_path / "samples.arrows")
    assert trailer == {"count": 40_000, "dropped": 0, "offered_rate": 5.0}
    assert len(samples) == 40_000
    for one, row in zip(sent, samples.rows("r"), strict=True):
        assert row.id == f"r-{one.seq:08x}"
        assert row.due == pytest.approx(one.due * 1e-9, abs=1e-9)
        assert (row.sent is None) == (not one.sent)
        assert (row.first_byte is None) == (not one.first)
        for found, moment in ((row.sent, one.sent), (row.first_byte, one.first)):
            if found is not None:
                assert found - row.due == pytest.approx((moment - one.due) * 1e-9, abs=1.1e-6)
        assert row.latency == pytest.approx((one.done - one.due) * 1e-9, abs=1.1e-6)
        assert row.channel == CHANNELS[one.channel.number]
        assert row.outcome is one.outcome
        assert (row.status, row.conn, row.session) == (one.status, one.conn, one.session)
        assert row.bytes == min(one.size, 0xFFFF_FFFF)
        assert row.version.encode() == one.version
        assert row.instance == one.instance.decode("utf-8", "replace")


def test_an_offset_beyond_its_width_is_the_widest_and_not_never(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "samples.arrows")
    one = exchange(0)
    one.done = one.due + 10**14
    one.sent = one.due - 5
    recorder.take(one)
    rows = recorder.news()
    assert (rows["done"][0], rows["sent"][0], rows["first"][0]) == (NEVER - 1, 0, NEVER)
    recorder.close({})


def test_news_are_told_once_and_counted(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "samples.arrows")
    assert len(recorder.news()) == 0
    for seq in range(20_000):
        recorder.take(exchange(seq, outcome=Outcome.reset if seq % 2 else Outcome.ok))
    recorder.take(exchange(20_000, channel=6, outcome=Outcome.reset))
    recorder.take(exchange(20_001, outcome=Outcome.unsent))
    assert len(recorder.news()) == 20_002
    assert len(recorder.news()) == 0
    assert recorder.total() == 20_001
    assert recorder.total(failed=True) == 10_000
    assert recorder.tally[0, Outcome.unsent] == 1
    assert (recorder.waiting, recorder.count) == (20_002, 0)
    recorder.write(at_once)
    assert (recorder.waiting, recorder.count) == (0, 20_002)
    recorder.close({})


def test_versions_past_all_counting_are_not_told(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "samples.arrows")
    for seq in range(70_000):
        recorder.take(exchange(seq, version=b"v%d" % seq))
    recorder.take(exchange(70_000, version=b"v7"))
    recorder.close({})
    samples, trailer = read_samples(tmp_path / "samples.arrows")
    assert trailer is not None
    told = [samples.versions[code] for code in samples.version.tolist()]
    assert told[:65_000] == [f"v{seq}" for seq in range(65_000)]
    assert told[65_535:70_000] == [""] * 4_465
    assert told[70_000] == "v7"


def test_what_the_disk_is_too_slow_for_is_dropped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zdtest.sending.recorder._MOST", 150)
    recorder = Recorder(tmp_path / "samples.arrows")
    for seq in range(300):
        recorder.take(exchange(seq))
        if seq % 100 == 99:
            recorder.news()
    assert (recorder.waiting, recorder.dropped) == (100, 200)
    recorder.close({})
    samples, trailer = read_samples(tmp_path / "samples.arrows")
    assert len(samples) == 100
    assert trailer is not None
    assert (trailer["count"], trailer["dropped"]) == (100, 200)


def test_a_minute_at_200_a_second_takes_sixteen_bytes_a_sample_at_most(tmp_path: Path) -> None:
    """As the load writes it: a chunk each eight seconds, latencies as a real server has them."""
    rng = random.Random(1)
    path = tmp_path / "samples.arrows"
    recorder = Recorder(path)
    for seq in range(12_000):
        one = exchange(seq, channel=seq % 2, status=200, size=13, version=b"v1", instance=b"i1")
        one.sent = one.due + int(rng.lognormvariate(11.5, 0.5))
        one.first = one.sent + int(rng.lognormvariate(13, 0.4))
        one.done = one.first + rng.randrange(20_000, 60_000)
        one.conn = seq if seq % 2 else seq % 20
        recorder.take(one)
        if seq % 1650 == 1649:
            recorder.news()
            recorder.write(at_once)
    recorder.close({})
    assert path.stat().st_size / 12_000 <= 16


def test_what_was_written_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "samples.arrows"
    code = f"""
        import os, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from test_recorder import Recorder, at_once, exchange
        recorder = Recorder(Path({str(path)!r}))
        for seq in range(3000):
            recorder.take(exchange(seq))
            if seq % 1000 == 999:
                recorder.news()
                if seq < 2000:
                    recorder.write(at_once)
        os.kill(os.getpid(), {signal.SIGKILL.value})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -signal.SIGKILL
    samples, trailer = read_samples(path)
    assert trailer is None
    assert samples.seq.tolist() == list(range(2000))


def test_the_lag_is_exact_below_a_millisecond_and_to_three_digits_above() -> None:
    rng = np.random.default_rng(1)
    late = (rng.lognormal(6, 1.5, 50_000)).astype(np.uint32)
    lag = Lag()
    most = [lag.add(part) for part in np.split(np.r_[late, [NEVER] * 50_000].astype("u4"), 100)]
    assert max(most) == late.max()
    for percent in (50, 99):
        exact = np.sort(late)[-(-percent * len(late) // 100) - 1]
        found = lag.percentile(percent)
        assert found == exact if exact < 1000 else 0 <= exact - found <= exact / 100
    assert lag.as_dict()["lag_max_ms"] == late.max() / 1000
    assert len(lag._counts) < 10_000


def test_no_request_sent_is_no_lag() -> None:
    lag = Lag()
    assert lag.add(np.array([NEVER], "u4")) == 0
    assert lag.add(np.empty(0, ROW)["sent"]) == 0
    assert set(lag.as_dict().values()) == {0.0}
    assert json.dumps(lag.as_dict())
