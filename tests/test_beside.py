"""What is recorded beside the samples: messages of streams, and writes asked again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import synthetic

from zdtest import channel
from zdtest.errors import RecordingError
from zdtest.history import History
from zdtest.records.arrows import RowWriter
from zdtest.records.beside import MESSAGE, RETRY, Beside
from zdtest.records.recording import Recording
from zdtest.sending.recorder import Recorder, Side


def at_once(append: Any, *rows: Any) -> None:
    append(*rows)


def recorder(folder: Path, channels: str) -> Recorder:
    return Recorder.of(folder, channel.parse(channels, rate=100))


def messages(folder: Path, *ids: int, close: bool = True) -> Path:
    """Write a run whose one stream got these messages, one a nanosecond."""
    synthetic.run(folder, requests=100)
    side = Side(folder / "messages.arrows", MESSAGE)
    for t, id in enumerate(ids):
        side.take(t, id, 3, 0)
    if close:
        side.close()
    else:
        side.write(at_once)
        side._writer._sink.close()  # type: ignore[attr-defined]
    return folder


def history(folder: Path) -> History:
    return History.of(Recording.read(folder), "v2")


def test_what_was_taken_is_read_back_in_order(tmp_path: Path) -> None:
    side = Side(tmp_path / "m.arrows", MESSAGE)
    rows = [(10**15 + n, 2**62 + n, n % 7, n % 2) for n in range(5000)]
    for row in rows[:2000]:
        side.take(*row)
    side.write(at_once)
    side.write(at_once)
    for row in rows[2000:]:
        side.take(*row)
    side.close()
    found = Beside.read(tmp_path / "m.arrows", MESSAGE)
    assert found is not None
    assert found.whole
    assert found.rows.tolist() == rows


def test_news_are_the_callers_to_write(tmp_path: Path) -> None:
    worker, master = (Side(tmp_path / name, RETRY) for name in ("w.arrows", "m.arrows"))
    worker.take(5, 2)
    worker.take(7, 2)
    news = worker.news()
    assert len(worker.news()) == 0
    master.write(at_once, news)
    for side in (worker, master):
        side.close()
    counts = [len(Beside.read(tmp_path / name, RETRY) or ()) for name in ("w.arrows", "m.arrows")]
    assert counts == [0, 2]


def test_more_than_memory_allows_is_dropped_counted_and_no_whole_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zdtest.sending.recorder._MOST_BESIDE", 10)
    side = Side(tmp_path / "m.arrows", MESSAGE)
    for n in range(12):
        side.take(n, n, 0, 0)
    assert (len(side._taken), side.dropped) == (10, 2)
    side.close()
    found = Beside.read(tmp_path / "m.arrows", MESSAGE)
    assert found is not None
    assert (len(found), found.whole) == (10, False)


@pytest.mark.parametrize(
    ("channels", "files"),
    [
        ("new,write@/orders", []),
        ("new,stream@/events", ["messages.arrows"]),
        ("write+key@/orders", ["retries.arrows"]),
        ("write+key@/orders,stream@/events", ["messages.arrows", "retries.arrows"]),
    ],
)
def test_a_file_is_there_where_a_channel_has_something_to_tell(
    tmp_path: Path, channels: str, files: list[str]
) -> None:
    recorder(tmp_path, channels).close({})
    assert sorted(path.name for path in tmp_path.iterdir()) == [*files, "samples.arrows"]


def test_samples_and_what_is_beside_them_are_written_and_closed_together(tmp_path: Path) -> None:
    one = recorder(tmp_path, "stream@/events")
    assert one.messages is not None
    one.messages.take(1, 1, 0, 0)
    one.write(at_once)
    before = Beside.read(tmp_path / "messages.arrows", MESSAGE)
    assert before is not None
    assert (len(before), before.whole) == (1, False)
    one.messages.take(2, 2, 0, 0)
    one.close({})
    after = Beside.read(tmp_path / "messages.arrows", MESSAGE)
    assert after is not None
    assert (len(after), after.whole) == (2, True)


def test_an_older_recording_knows_nothing_of_messages_or_keys(tmp_path: Path) -> None:
    folder = synthetic.run(tmp_path / "r", requests=100)
    recording = Recording.read(folder)
    assert (recording.messages, recording.retries) == (None, None)
    found = history(folder)
    assert (found.gaps.count, found.repeats.count, found.key_lost.count) == (None, None, None)


def test_messages_on_file_are_counted_with_their_gaps_and_repeats(tmp_path: Path) -> None:
    found = history(messages(tmp_path / "r", 1, 2, 5, 4, 6))
    assert (found.gaps.count, found.repeats.count) == (2, 1)
    assert found.gaps.witnesses[0].id == "message 5 of stream 3"
    healthy = history(messages(tmp_path / "h", 4, 5, 6))
    assert (healthy.gaps.count, healthy.repeats.count) == (0, 0)


def test_no_numbered_message_proves_nothing_about_gaps(tmp_path: Path) -> None:
    found = history(messages(tmp_path / "r"))
    assert (found.gaps.count, found.repeats.count) == (None, None)


def test_a_file_that_was_not_closed_is_read_and_proves_nothing(tmp_path: Path) -> None:
    folder = messages(tmp_path / "r", 1, 2, 5, close=False)
    told = Recording.read(folder).messages
    assert told is not None
    assert (told.rows["id"].tolist(), told.whole) == ([1, 2, 5], False)
    assert history(folder).gaps.count is None


def test_a_file_cut_at_any_byte_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path, cut = tmp_path / "m.arrows", tmp_path / "cut.arrows"
    writer = RowWriter(path, MESSAGE)
    rows = np.zeros(60, MESSAGE)
    rows["id"] = np.arange(60)
    for part in np.split(rows, 3):
        writer.append(part)
    writer.close({"count": 60})
    whole, seen = path.read_bytes(), set()
    for end in range(0, len(whole) - 8, 7):
        cut.write_bytes(whole[:end])
        try:
            found = Beside.read(cut, MESSAGE)
        except RecordingError:
            continue
        assert found is not None
        seen.add(len(found))
        assert found.rows["id"].tolist() == list(range(len(found)))
        assert not found.whole or end > len(whole) - 400
    assert seen >= {0, 20, 40, 60}


def test_a_file_of_somebody_else_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = synthetic.run(tmp_path / "r", requests=100)
    (folder / "messages.arrows").write_text("t,id\n1,2\n" * 9)
    with pytest.raises(RecordingError, match=r"^not a zdtest recording: .*messages\.arrows"):
        Recording.read(folder)
    table = pa.table({"id": [1, 2]})
    with pa.ipc.new_stream(str(folder / "messages.arrows"), table.schema) as stream:
        stream.write_table(table)
    with pytest.raises(RecordingError, match="expected the columns t, id, stream, resumed"):
        Recording.read(folder)


def test_with_half_an_account_of_the_retries_nobody_is_accused_of_a_lost_write(
    tmp_path: Path,
) -> None:
    folder = synthetic.run(tmp_path / "r", requests=400, lost=1)
    side = Side(folder / "retries.arrows", RETRY)
    side.close()
    found = history(folder)
    assert (found.lost.count, found.writes.lost, found.key_lost.count) == (1, 1, 1)
    (folder / "retries.arrows").write_bytes(b"")
    found = history(folder)
    assert (found.lost.count, found.writes.lost, found.key_lost.count) == (None, None, None)
