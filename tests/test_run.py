"""A run's folder and what it starts."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from pathlib import Path

import pytest
from own_stack import left_of, serving
from test_sample_app import running

from zdtest.errors import ConfigError, LoadFailed, RecordingError
from zdtest.records.recording import Recording
from zdtest.run import create, fresh, name_of, run
from zdtest.traffic import Load

NAP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("reports/a-b_c.1", "a-b_c.1"),
        ("with space", "with-space"),
        ("ü'\"\n$(x)", "x"),
        ("…", "run"),
        ("x" * 200, "x" * 80),
        (".", Path.cwd().name),
        ("a/../b", "b"),
    ],
)
def test_a_runs_name_can_be_in_a_header_and_a_file_name(folder, name):
    assert name_of(Path(folder)) == name
    assert re.fullmatch(r"[A-Za-z0-9._-]+", name_of(Path(folder)))


def test_fresh_folders_are_never_shared(tmp_path):
    made: list[Path] = []
    threads = [
        threading.Thread(target=lambda: made.append(fresh(tmp_path / "reports", "x")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8
    assert all(folder.is_dir() for folder in made)


def test_a_folder_in_use_is_refused(tmp_path):
    create(tmp_path / "run")
    with pytest.raises(RecordingError, match="is not empty: expected a new or an empty folder"):
        create(tmp_path / "run")


def test_runs_of_one_name_do_not_end_each_other(tmp_path):
    with run(tmp_path / "a" / "run") as first:
        nap = first.engine.start("nap", NAP)
        with run(tmp_path / "b" / "run") as second:
            second.engine.start("nap", NAP)
        assert first.engine.fate(nap) == ""
    assert first.engine.fate(nap) == "killed by SIGKILL"


def test_a_run_has_one_load(tmp_path):
    """A second one would number its requests like the first, into a folder that nobody judges."""
    with serving() as url, run(tmp_path / "run") as one:
        with one.load(url, Load(rate=50), baseline=0.1, settle=0.1):
            pass
        second = one.load(url, Load(rate=50), baseline=0.1, settle=0.1)
        with pytest.raises(ConfigError, match="has had its load: expected one load a run"), second:
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def measured(tmp_path: Path, url: str, seconds: float = 0.2, **load: object) -> Path:
    told = Load(seed=3, **{"rate": 50, **load})
    with (
        run(tmp_path / "run", about={"command": ["true"]}) as one,
        one.load(url, told, baseline=seconds / 2, settle=seconds / 2),
    ):
        one.mark("deploy.begin")
        one.mark("deploy.end")
    return tmp_path / "run"


def test_the_manifest_tells_what_ran(tmp_path):
    with serving() as url:
        folder = measured(tmp_path, url, channels="new=3@/a,write=1@/b")
    told = json.loads((folder / "manifest.json").read_text())
    assert (told["schema"], told["run"], told["url"], told["seed"]) == (1, "run", url, 3)
    assert told["channels"]["new"]["rate"] == pytest.approx(37.5, rel=0.03)
    assert told["channels"]["write"]["method"] == "POST"
    assert told["command"] == ["true"]
    assert told["host"]["cpus"] > 0
    assert set(told["clock"]) == {"monotonic", "wall"}
    assert left_of(folder) == []


def test_messages_and_retries_are_in_the_folder_beside_the_samples(tmp_path):
    channels = "write+key@/orders,stream@/events?every=20ms~20ms"
    with running(tmp_path / "journal.jsonl", RELEASE="notes-keys-first") as app:
        url = f"http://127.0.0.1:{app.port}"
        folder = measured(tmp_path, url, 1.0, rate=200, channels=channels)
    recording = Recording.read(folder)
    for beside in (recording.messages, recording.retries):
        assert beside is not None
        assert beside.whole
        assert len(beside) > 0
    keys = {line["id"]: line["key"] for line in app.told("order", "replayed")}
    assert len(keys) > 3
    again = {f"run-{seq:08x}": f"run-{key:08x}" for seq, key in recording.retries.rows.tolist()}
    assert all(key == again.get(id, id) for id, key in keys.items())


def test_an_interrupted_block_is_marked_and_its_recording_closed(tmp_path):
    with (
        serving() as url,
        pytest.raises(KeyboardInterrupt),
        run(tmp_path / "run") as one,
        one.load(url, Load(rate=50), baseline=0.1, settle=60),
    ):
        raise KeyboardInterrupt
    recording = Recording.read(tmp_path / "run")
    assert recording.mark("run.interrupted") is not None
    assert recording.trailer is not None


def test_a_control_server_that_cannot_start_is_the_loads_failure(tmp_path, monkeypatch):
    said = r"^the control server did not start: cannot start control: "
    with run(tmp_path / "run") as one:
        monkeypatch.setattr("zdtest.run.sys.executable", "/no/such/python")
        load = one.load("http://127.0.0.1:9/", Load(), baseline=0, settle=0)
        with pytest.raises(LoadFailed, match=said):
            load.__enter__()


def test_a_machine_that_was_suspended_meanwhile_is_marked(tmp_path, monkeypatch):
    boot, slept = time.clock_gettime, [0.0]
    monkeypatch.setattr(time, "clock_gettime", lambda which: boot(which) + slept[0])
    with (
        serving() as url,
        run(tmp_path / "run") as one,
        one.load(url, Load(rate=50.0), baseline=0.1, settle=0.1),
    ):
        slept[0] = 12.5
    marks = Recording.read(tmp_path / "run").marks
    told = [mark.about for mark in marks if mark.name == "machine.suspended"]
    assert told == [{"seconds": pytest.approx(12.5, abs=0.002)}]


def test_one_that_was_not_is_not(tmp_path):
    with (
        serving() as url,
        run(tmp_path / "run") as one,
        one.load(url, Load(rate=50.0), baseline=0.1, settle=0.1),
    ):
        pass
    assert Recording.read(tmp_path / "run").mark("machine.suspended") is None
