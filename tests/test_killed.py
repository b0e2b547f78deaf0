"""``kill -9`` of pytest in the midst of a scenario: nothing of it is left half a minute later."""

from __future__ import annotations

import random
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_engine import lent

from zdtest.engine import probe, reaper, remains
from zdtest.engine.offer import Docker

MOMENTS = 10
LATEST = 9.0
"""Seconds from the start of pytest: the scenario takes some four to raise and five to deploy."""

SCENARIO = """
import pytest
from zdtest import Slo, rolling

@pytest.mark.topology("custom_lb", variant="hardened", boot=0.5)
def test_{name}(zd):
    with zd.load(rate=50, baseline="500ms", settle="500ms"):
        zd.deploy("v2", rolling())
"""


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    with lent() as found:
        found.images.get("app")
        yield found


def left(docker: Docker, name: str) -> list[str]:
    """What there is of runs with that in their names, of any kind."""
    live = [one for one in reaper.processes() if name in one.labels.get(reaper.RUN, "")]
    held = [one.kind for one in remains.remnants(docker.address) if name in one.run]
    return held + [f"process {one.pid}" for one in live]


def started(docker: Docker, folder: Path, name: str) -> subprocess.Popen[bytes]:
    folder.mkdir()
    (folder / f"test_{name}.py").write_text(SCENARIO.format(name=name))
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"test_{name}.py"]
    argv += ["--zd-engine", "docker", "--zd-report-dir", "out", "--rootdir", str(folder)]
    with (folder / "output").open("wb") as out:
        return subprocess.Popen(argv, cwd=folder, stdout=out, stderr=out, start_new_session=True)


@pytest.mark.docker
@pytest.mark.alone
@pytest.mark.parametrize("half", [1, 2])
def test_nothing_is_left_half_a_minute_after_kill_nine(
    docker: Docker, tmp_path: Path, half: int
) -> None:
    """At ten random moments, five side by side at a time.

    On a slow machine all of them may come before there is anything: then the last one waits for it.
    """
    salt = f"killed{uuid.uuid4().hex[:6]}"
    moments = sorted(random.uniform(0.5, LATEST) for _ in range(MOMENTS // 2))
    print("killed after", [f"{moment:.2f} s" for moment in moments])
    names = [f"{salt}n{number}" for number in range(len(moments))]
    began = time.monotonic()
    runs = [started(docker, tmp_path / name, name) for name in names]
    seen: list[str] = []
    for run, moment in zip(runs, moments, strict=True):
        time.sleep(max(0.0, began + moment - time.monotonic()))
        if run is runs[-1] and "container" not in seen:
            probe.until(
                "a container",
                lambda: "" if "container" in left(docker, salt) else "none",
                timeout=60,
                evidence=(tmp_path / names[-1] / "output").read_text,
            )
        seen += left(docker, salt)
        run.kill()
        run.wait()
    probe.until("nothing left", lambda: ", ".join(left(docker, salt)), timeout=30)
    assert "container" in seen, "some were killed while they had something to leave"
