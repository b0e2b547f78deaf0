from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import synthetic

from zdtest.errors import RecordingError
from zdtest.records.recording import (
    NEVER,
    ROW,
    Recording,
    Samples,
    SampleWriter,
    read_samples,
    request_id,
)
from zdtest.records.sample import Outcome


def some_rows(count: int, seed: int = 1) -> np.ndarray:
    """Return rows of random content, due in order."""
    rng = np.random.default_rng(seed)
    rows = np.zeros(count, ROW)
    for name in ("sent", "first", "done", "bytes", "conn"):
        rows[name] = rng.integers(0, 2**32, count)
    for name in ("session", "status"):
        rows[name] = rng.integers(0, 2**16, count)
    rows["version"], rows["instance"] = rng.integers(0, 3, (2, count))
    rows["channel"], rows["outcome"] = rng.integers(0, 7, count), rng.integers(0, 16, count)
    rows["due"] = np.sort(rng.integers(10**12, 10**12 + 10**10, count))
    rows["seq"] = np.arange(count)
    return rows


WORDS = ["", "v1", "v2"], ["", "a", "b"]


def written(path: Path, *batches: np.ndarray, close: bool = True) -> Path:
    writer = SampleWriter(path)
    for batch in batches:
        writer.append(batch, *WORDS)
    if close:
        writer.close({"count": sum(map(len, batches))})
    else:
        writer._sink.close()
    return path


def test_what_was_written_is_read_back(tmp_path: Path):
    rows = some_rows(5000)
    samples, trailer = read_samples(written(tmp_path / "s.arrows", rows[:3000], rows[3000:]))
    assert trailer == {"count": 5000}
    assert np.array_equal(np.round(samples.due * 1e9), rows["due"])
    for name in ("seq", "bytes", "conn", "session", "status", "channel", "outcome"):
        assert np.array_equal(getattr(samples, name), rows[name]), name
    for name in ("sent", "first", "done"):
        assert np.array_equal(getattr(samples, f"{name}_us"), rows[name]), name
    assert [samples.versions[code] for code in samples.version] == [
        WORDS[0][code] for code in rows["version"]
    ]
    assert [samples.instances[code] for code in samples.instance] == [
        WORDS[1][code] for code in rows["instance"]
    ]


def test_batches_that_overlap_are_put_in_due_order(tmp_path: Path):
    rows = some_rows(4000)
    shuffled = np.random.default_rng(2).permutation(rows)
    samples, _ = read_samples(written(tmp_path / "s.arrows", shuffled[:1500], shuffled[1500:]))
    assert np.array_equal(np.round(samples.due * 1e9), rows["due"])
    assert np.array_equal(samples.seq[np.argsort(samples.seq)], rows["seq"])
    by_seq = np.argsort(samples.seq)
    assert np.array_equal(samples.done_us[by_seq], rows["done"])
    assert np.array_equal(samples.outcome[by_seq], rows["outcome"])


def test_a_batch_may_bring_new_words(tmp_path: Path):
    writer, rows = SampleWriter(tmp_path / "s.arrows"), some_rows(2)
    rows["version"] = rows["instance"] = 1
    writer.append(rows[:1], ["", "v1"], ["", "a"])
    writer.append(rows[1:], ["", "v9"], ["", "a"])
    writer.close({})
    samples, _ = read_samples(tmp_path / "s.arrows")
    assert [samples.versions[code] for code in samples.version] == ["v1", "v9"]


def test_a_sample_takes_at_most_sixteen_bytes_on_disk(tmp_path: Path):
    folder = synthetic.run(tmp_path / "r", requests=50_000, rate=2000, journal=False)
    assert (folder / "samples.arrows").stat().st_size / 50_000 <= 16


def test_a_file_that_was_not_closed_is_read_without_a_trailer(tmp_path: Path):
    samples, trailer = read_samples(written(tmp_path / "s.arrows", some_rows(10), close=False))
    assert (len(samples), trailer) == (10, None)


def test_a_file_cut_at_any_byte_is_read_as_far_as_it_goes(tmp_path: Path):
    rows = some_rows(60)
    path = written(tmp_path / "s.arrows", rows[:20], rows[20:40], rows[40:])
    whole, cut = path.read_bytes(), tmp_path / "cut.arrows"
    seen = set()
    for end in range(0, len(whole) - 8, 7):
        cut.write_bytes(whole[:end])
        try:
            samples, trailer = read_samples(cut)
        except RecordingError:
            continue
        seen.add(len(samples))
        if end < len(whole) - 700:
            assert trailer is None
        assert np.array_equal(samples.seq, rows["seq"][: len(samples)])
    assert seen >= {0, 20, 40, 60}


def test_a_damaged_batch_ends_what_is_read(tmp_path: Path):
    rows = some_rows(4000)
    path = written(tmp_path / "s.arrows", rows[:2000], rows[2000:])
    whole = bytearray(path.read_bytes())
    middle = len(whole) * 3 // 4
    whole[middle : middle + 20_000] = bytes(20_000)
    path.write_bytes(whole)
    samples, trailer = read_samples(path)
    assert (len(samples), trailer) == (2000, None)


@pytest.mark.parametrize("name", ["channel", "outcome"])
def test_a_channel_or_outcome_that_does_not_exist_is_refused(tmp_path: Path, name: str):
    rows = some_rows(10)
    rows[name][5] = 99
    with pytest.raises(RecordingError, match="does not exist"):
        read_samples(written(tmp_path / "s.arrows", rows))


@pytest.mark.parametrize("content", [None, b""])
def test_no_samples_at_all_is_an_empty_recording(tmp_path: Path, content: bytes | None):
    if content is not None:
        (tmp_path / "s.arrows").write_bytes(content)
    samples, trailer = read_samples(tmp_path / "s.arrows")
    assert (len(samples), trailer) == (0, None)


def test_a_file_that_is_no_recording_is_refused(tmp_path: Path):
    (tmp_path / "s.arrows").write_text("time,latency\n1,2\n" * 9)
    with pytest.raises(RecordingError, match="not a zdtest recording"):
        read_samples(tmp_path / "s.arrows")


def test_somebody_elses_arrow_file_is_refused(tmp_path: Path):
    table = pa.table({"a": [1, 2]})
    with pa.ipc.new_stream(str(tmp_path / "s.arrows"), table.schema) as stream:
        stream.write_table(table)
    with pytest.raises(RecordingError, match="foreign recording"):
        read_samples(tmp_path / "s.arrows")


def test_a_folder_that_cannot_be_written_is_said_in_one_line(tmp_path: Path):
    with pytest.raises(RecordingError, match="cannot write"):
        SampleWriter(tmp_path / "missing" / "s.arrows")


def test_a_row_reads_as_a_sample_with_its_request_id():
    rows = np.zeros(2, ROW)
    rows["due"], rows["seq"] = [1_000_000_000, 2_000_000_000], [7, 8]
    rows["sent"], rows["first"], rows["done"] = [100, NEVER], [200, NEVER], [300, 50]
    rows["outcome"] = [Outcome.ok, Outcome.refused]
    ok, refused = Samples.from_rows(rows).rows("run")
    assert (ok.id, ok.due, ok.sent, ok.first_byte) == ("run-00000007", 1.0, 1.0001, 1.0002)
    assert ok.latency == pytest.approx(0.0003)
    assert (refused.sent, refused.first_byte, refused.outcome) == (None, None, Outcome.refused)
    assert request_id("run", 255) == "run-000000ff"


def test_the_lag_of_what_was_never_sent_is_not_a_number():
    rows = np.zeros(2, ROW)
    rows["sent"] = [1500, NEVER]
    lag = Samples.from_rows(rows).lag
    assert lag[0] == pytest.approx(0.0015)
    assert np.isnan(lag[1])


def test_a_runs_folder_is_read_back_whole(tmp_path: Path):
    recording = Recording.read(synthetic.run(tmp_path / "r", requests=400))
    assert recording.run == "r"
    assert len(recording.samples) == recording.trailer["count"] == 440
    assert [mark.at for mark in recording.marks] == sorted(mark.at for mark in recording.marks)
    assert recording.mark("deploy.begin") is not None
    assert recording.mark("nothing") is None
    assert {line["event"] for line in recording.journal} == {"order"}


def test_spans_pair_each_begin_with_its_own_end(tmp_path: Path):
    marks = [
        (1.0, "fault.begin", {"fault": "kill"}),
        (1.1, "fault.begin", {"fault": "pause"}),
        (1.2, "fault.end", {"fault": "pause"}),
    ]
    recording = Recording.read(synthetic.run(tmp_path / "r", requests=400, marks=marks))
    kill, pause = recording.spans("fault")
    assert (kill[0], kill[1]) == (1001.0, float("inf"))
    assert (pause[0], pause[1]) == (1001.1, 1001.2)


def test_an_end_is_that_of_the_last_begin_that_is_open(tmp_path: Path):
    """A step that broke off without one does not take that of the step that was made again."""
    steps = [(0.1, "begin"), (0.3, "begin"), (0.4, "end"), (0.5, "begin"), (0.6, "end")]
    marks = [(at, f"odd.{name}", {"step": "a"}) for at, name in steps]
    recording = Recording.read(synthetic.run(tmp_path / "r", requests=400, marks=marks))
    spans = [
        (round(begin - 1000, 3), round(end - 1000, 3)) for begin, end, _ in recording.spans("odd")
    ]
    assert spans == [(0.1, float("inf")), (0.3, 0.4), (0.5, 0.6)]


def test_no_journal_is_not_an_empty_one(tmp_path: Path):
    folder = synthetic.run(tmp_path / "r", requests=100, journal=False)
    assert Recording.read(folder).journal is None
    (folder / "journal.jsonl").touch()
    assert Recording.read(folder).journal == ()


def test_lines_cut_short_by_a_crash_are_left_out(tmp_path: Path):
    folder = synthetic.run(tmp_path / "r", requests=100)
    before = Recording.read(folder).marks
    with (folder / "events.jsonl").open("a") as lines:
        lines.write('[1]\n{"t": 1}\n{"t": 2, "ma')
    assert Recording.read(folder).marks == before


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (None, "no run at"),
        ("{", "damaged"),
        ("[]", "schema None"),
        (json.dumps({"schema": 99, "run": "r"}), "schema 99, expected 1"),
        (json.dumps({"schema": 1}), "cannot read"),
    ],
)
def test_a_folder_without_a_manifest_of_ours_is_refused(
    tmp_path: Path, manifest: str | None, message: str
):
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(RecordingError, match=message):
        Recording.read(tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(RecordingError, match="no run at"):
        Recording.read(tmp_path / "nothing")


def test_the_proxys_log_is_read_on_the_clock_of_the_run(tmp_path: Path):
    recording = Recording.read(synthetic.run(tmp_path / "r", requests=400, proxy=True))
    assert recording.proxy is not None
    passed, samples = recording.proxy.passed("r"), recording.samples
    known = samples.where(np.isin(samples.seq, passed.seq))
    assert len(known) == len(passed) == 400
    assert np.array_equal(known.seq, passed.seq)
    assert np.abs(known.done - passed.at).max() < 0.001


def test_a_run_without_a_proxy_has_no_log_of_one(tmp_path: Path):
    assert Recording.read(synthetic.run(tmp_path / "r", requests=400)).proxy is None
