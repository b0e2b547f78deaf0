"""What is damaged in a run's folder is told in plain words, and no verdict holds on it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import synthetic

from zdtest.cli import main
from zdtest.errors import RecordingError
from zdtest.judging.slo import Slo
from zdtest.judging.verdict import judge
from zdtest.records.arrows import SCHEMA
from zdtest.records.beside import MESSAGE, Beside
from zdtest.records.recording import ROW, Recording, SampleWriter, read_samples
from zdtest.sending.recorder import Side


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run that holds, of an app and a proxy that keep accounts."""
    folder = synthetic.run(tmp_path / "r", proxy=True)
    assert reasons(folder) == []
    return folder


def reasons(folder: Path, slo: str = "") -> list[str]:
    verdict = judge(Recording.read(folder), Slo.parse(slo))
    assert (verdict.verdict == "holds") == (not verdict.reasons)
    return list(verdict.reasons)


@pytest.mark.parametrize("name", ["events.jsonl", "journal.jsonl"])
@pytest.mark.parametrize(
    "damage",
    [b'{"t": 12.5, "mark"\n', b"\0\0\0\0\0\0\n", b"{}}\n", b"[1]\n", b"\xff\xfe{}\n"],
)
def test_a_line_that_cannot_be_read_is_counted_and_proves_nothing(
    folder: Path, name: str, damage: bytes
) -> None:
    path = folder / name
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], damage, *lines[3:]]))
    assert reasons(folder) == [f"inconclusive: {name} is damaged: 1 line of it cannot be read"]
    path.write_bytes(b"".join([*lines[:3], damage, damage, *lines[3:]]))
    assert reasons(folder) == [f"inconclusive: {name} is damaged: 2 lines of it cannot be read"]


@pytest.mark.parametrize("name", ["events.jsonl", "journal.jsonl"])
def test_a_last_line_that_was_cut_is_damage_too(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[:-5])
    assert f"inconclusive: {name} is damaged: 1 line of it cannot be read" in reasons(folder)


@pytest.mark.parametrize("line", [{"t": 1.0}, {"mark": "a"}, {"t": "1", "mark": "a"}, {}])
def test_a_line_of_events_that_is_no_mark_is_damage(folder: Path, line: dict[str, object]) -> None:
    with (folder / "events.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    assert reasons(folder) == ["inconclusive: events.jsonl is damaged: 1 line of it cannot be read"]


def test_empty_lines_are_no_damage(folder: Path) -> None:
    for name in ("events.jsonl", "journal.jsonl", "logs/proxy.log"):
        (folder / name).write_bytes((folder / name).read_bytes() + b"\n\n")
    assert Recording.read(folder).damage == {}


def test_a_damaged_line_of_the_proxys_log_proves_nothing_of_what_it_hid(folder: Path) -> None:
    path = folder / "logs" / "proxy.log"
    lines = path.read_bytes().splitlines(keepends=True)
    assert not lines[0].startswith(b"{"), "what nginx says besides is no damage"
    path.write_bytes(b"".join([*lines[:5], lines[5][:40] + b"\n", *lines[6:]]))
    assert Recording.read(folder).damage == {"logs/proxy.log": 1}
    (reason,) = reasons(folder, "masked=0")
    assert "the proxy's log lacks 1 of" in reason
    assert reasons(folder) == [], "nothing else is held to that log"


def test_samples_that_are_gone_are_said_to_be_gone(folder: Path) -> None:
    (folder / "samples.arrows").unlink()
    assert (
        "inconclusive: there is no samples.arrows: the load never began, or the file was removed"
    ) in reasons(folder)
    assert "not close" not in " ".join(reasons(folder))


def test_samples_that_were_cut_are_said_not_to_be_closed(folder: Path) -> None:
    path = folder / "samples.arrows"
    path.write_bytes(path.read_bytes()[:-1000])
    assert "inconclusive: the recorder did not close its file: " in " ".join(reasons(folder))


def test_samples_that_are_damaged_are_said_to_be_so(tmp_path: Path) -> None:
    folder = synthetic.run(tmp_path / "r", batch=1000)
    path = folder / "samples.arrows"
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 8
    path.write_bytes(whole)
    read = len(Recording.read(folder).samples)
    assert 0 < read < 4400
    told = f"inconclusive: samples.arrows is damaged: of it {read} samples could be read"
    assert told in reasons(folder)


def some_rows(count: int) -> np.ndarray:
    rows = np.zeros(count, ROW)
    rows["due"] = np.arange(count) * 10**7
    rows["seq"] = np.arange(count)
    rows["sent"], rows["first"], rows["done"] = 100, 200, np.arange(count) % 7 + 300
    rows["version"] = np.arange(count) % 2
    return rows


def test_whatever_byte_is_damaged_no_other_sample_is_read(tmp_path: Path) -> None:
    """What does not matter may be changed; all else ends what is read, with a word."""
    path, rows = tmp_path / "samples.arrows", some_rows(60)
    writer = SampleWriter(path)
    for at in (0, 20, 40):
        writer.append(rows[at : at + 20], ["", "v1"], [""])
    writer.close({"count": 60, "reached_rate": 200.0})
    whole, read = path.read_bytes(), set()
    for place in range(0, len(whole), 2):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place // 2 % 8
        path.write_bytes(damaged)
        try:
            samples, trailer = read_samples(path)
        except RecordingError:
            continue
        assert np.array_equal(samples.seq, rows["seq"][: len(samples)])
        assert np.array_equal(samples.done_us, rows["done"][: len(samples)])
        assert [samples.versions[one] for one in samples.version] == [
            ["", "v1"][one] for one in rows["version"][: len(samples)]
        ]
        assert trailer in (None, {"count": 60, "reached_rate": 200.0})
        assert trailer is None or len(samples) == 60
        read.add((len(samples), trailer is not None))
    assert read >= {(0, False), (20, False), (40, False), (60, False), (60, True)}


def test_whatever_byte_is_damaged_of_what_is_beside_it_is_not_whole(tmp_path: Path) -> None:
    path = tmp_path / "messages.arrows"
    side = Side(path, MESSAGE)
    for t in range(50):
        side.take(t, t * 3, 1, 0)
    side.close()
    original = Beside.read(path, MESSAGE)
    assert original is not None
    assert original.whole
    whole, damage = path.read_bytes(), 0
    for place in range(0, len(whole), 2):
        damaged = bytearray(whole)
        damaged[place] ^= 16
        path.write_bytes(damaged)
        try:
            found = Beside.read(path, MESSAGE)
        except RecordingError:
            continue
        assert found is not None
        assert not found.whole or np.array_equal(found.rows, original.rows)
        damage += not found.whole
    assert damage > 100


def test_a_number_that_was_never_given_is_damage_and_not_a_million_missing_rows(
    tmp_path: Path,
) -> None:
    """As it may be in a recording from before samples had checksums."""
    made = synthetic.Plan()
    rows = synthetic.samples(made)
    rows["seq"][1000] = 4_278_190_081
    folder = synthetic.run(tmp_path / "r", journal=False)
    synthetic._write_samples(folder / "samples.arrows", made, rows)
    assert reasons(folder) == [
        "inconclusive: a request has the number 4278190081, of 4400 on file: "
        "samples.arrows is damaged"
    ]


def test_a_recording_from_before_checksums_is_read_all_the_same(tmp_path: Path) -> None:
    path, rows = tmp_path / "samples.arrows", some_rows(20)
    writer = SampleWriter(path)
    writer.append(rows, ["", "v1"], [""])
    writer.close({"count": 20})
    older = tmp_path / "older.arrows"
    stream = pa.ipc.open_stream(path.read_bytes())
    with pa.ipc.new_stream(str(older), stream.schema) as old:
        batch, _ = stream.read_next_batch_with_custom_metadata()
        old.write_batch(batch)
        batch, metadata = stream.read_next_batch_with_custom_metadata()
        old.write_batch(batch, custom_metadata={"trailer": metadata[b"trailer"]})
    samples, trailer = read_samples(older)
    assert (len(samples), trailer) == (20, {"count": 20})
    assert stream.schema.metadata[b"zdtest"] == str(SCHEMA).encode()


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_checksum_that_one_batch_lacks_and_another_has_is_damage(
    tmp_path: Path, which: int
) -> None:
    path = tmp_path / "samples.arrows"
    writer = SampleWriter(path)
    writer.append(some_rows(20), ["", "v1"], [""])
    writer.append(some_rows(20), ["", "v1"], [""])
    writer.close({"count": 40})
    parts = path.read_bytes().split(b"crc32")
    assert len(parts) == 4
    names = [b"crc32", b"crc32", b"crc32"]
    names[which] = b"crc33"
    path.write_bytes(parts[0] + b"".join(a + b for a, b in zip(names, parts[1:], strict=True)))
    assert read_samples(path)[1] is None


def refused(capsys: pytest.CaptureFixture[str], folder: Path) -> str:
    """Return the one line that ``zdtest judge`` says, which exits by 2: never by 1, "broken"."""
    assert main(["judge", str(folder)]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    return said.err


@pytest.mark.parametrize(
    "channels",
    [{"new": 5}, {"nosuch": {"think": 1}}, {"new": {"think": "2s"}}, {"new": {"interval": "soon"}}],
)
def test_a_manifest_that_says_what_it_cannot_is_damage_and_no_broken_promise(
    folder: Path, capsys: pytest.CaptureFixture[str], channels: dict[str, object]
) -> None:
    told = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(told | {"channels": channels}))
    said = refused(capsys, folder)
    assert said.startswith(f"zdtest: damaged {folder}")
    assert "expected" in said


def test_a_run_without_a_name_is_damage_as_no_account_would_know_its_requests(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(told | {"run": 1e999}))
    assert "run inf, expected its name" in refused(capsys, folder)


def test_a_page_of_a_damaged_run_is_refused_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["judge", str(folder)]) == 0
    capsys.readouterr()
    told = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(told | {"channels": {"new": 5}}))
    assert main(["report", str(folder)]) == 2
    assert capsys.readouterr().err.startswith(f"zdtest: damaged {folder}")


@pytest.mark.parametrize(
    "line",
    [
        {"event": "ready", "instance": "a"},
        {"event": "ready", "instance": "a", "t": "2026-11-26T05:00:00Z"},
        {"event": "ready", "t": 1, "pid": [1]},
        {"event": "order", "id": "r-00000001"},
    ],
)
def test_a_journal_that_lacks_what_is_asked_of_it_proves_nothing_and_breaks_no_promise(
    folder: Path, capsys: pytest.CaptureFixture[str], line: dict[str, object]
) -> None:
    with (folder / "journal.jsonl").open("a") as journal:
        journal.write(f"{json.dumps(line)}\n")
    assert main(["judge", str(folder)]) == 3
    said = capsys.readouterr()
    assert said.err == ""
    assert "journal.jsonl is damaged: 1 line of it cannot be read" in said.out


def test_a_process_id_that_is_none_is_not_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (folder / "journal.jsonl").open("a") as journal:
        journal.write('{"event": "ready", "t": 1, "instance": "a", "pid": [1], "process": [2]}\n')
    assert main(["judge", str(folder)]) == 0
    assert capsys.readouterr().err == ""


def test_a_mistake_of_ours_is_4_with_its_traceback(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python itself would exit by 1, which says that a promise was broken."""

    def mistaken(*_: object) -> None:
        raise RuntimeError("mistaken")

    monkeypatch.setattr("zdtest.run.verdict", mistaken)
    assert main(["judge", str(folder)]) == 4
    assert capsys.readouterr().err.endswith("RuntimeError: mistaken\n")


def test_a_verdict_that_cannot_be_written_is_printed_and_leaves_the_one_before(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["judge", str(folder)]) == 0
    before = (folder / "verdict.json").read_bytes()
    (folder / ".verdict.json").symlink_to("/dev/full")
    capsys.readouterr()
    assert main(["judge", str(folder)]) == 2
    said = capsys.readouterr()
    assert said.out.startswith("HOLDS  r\n")
    assert said.err.startswith(f"zdtest: cannot write {folder}: No space left on device")
    assert (folder / "verdict.json").read_bytes() == before
    assert not (folder / ".verdict.json").is_symlink()
