"""What a run leaves in a Docker Engine when its runner dies: nothing, and nobody else's goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from docker_engine import lent

from zdtest.engine import probe, reaper, remains
from zdtest.engine.offer import Docker
from zdtest.engine.remains import KEPT, OWNER, RUN, Owner, Remnant


def test_an_owner_is_read_as_it_was_written() -> None:
    me = Owner.me()
    assert Owner.read(str(me)) == me
    assert not me.dead


def test_an_owner_is_dead_once_its_pid_is_another_ones_or_the_machine_was_booted() -> None:
    me = Owner.me()
    assert me._replace(began=me.began + 1).dead
    assert me._replace(boot="another").dead


def test_an_owner_whose_pids_are_not_ours_may_live() -> None:
    assert not Owner.me()._replace(pid=2**22, namespace="pid:[1]").dead


@pytest.mark.parametrize("label", ["", "x", "1", "1|x|y|z"])
def test_a_label_that_means_nothing_is_nobodys(label: str) -> None:
    assert Owner.read(label) is None
    assert Remnant("container", "c", {RUN: "r", OWNER: label}).orphaned


def test_what_was_left_on_purpose_is_no_orphan() -> None:
    dead = str(Owner.me()._replace(boot="another"))
    assert Remnant("volume", "v", {RUN: "r", OWNER: dead}).orphaned
    assert Remnant("volume", "v", {RUN: "r", OWNER: dead, KEPT: ""}).orphaned
    assert not Remnant("volume", "v", {RUN: "r", OWNER: dead, KEPT: "1"}).orphaned
    assert Remnant("volume", "v", {RUN: "r", OWNER: dead, KEPT: "1"}).kept


def test_without_an_engine_nothing_is_left_to_remove(tmp_path: Path) -> None:
    assert remains.remove(f"unix://{tmp_path}/nobody.sock", "run") == []


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    with lent() as found:
        yield found


@pytest.fixture
def client(docker: Docker) -> Iterator[Any]:
    from docker import DockerClient

    there = DockerClient(base_url=docker.address)
    yield there
    there.close()


@pytest.fixture
def stranger(client: Any, docker: Docker) -> Iterator[Any]:
    """Somebody else's container, network and volume, without our label."""
    with ExitStack() as tidy:
        name = f"stranger-{uuid.uuid4().hex[:8]}"
        volume = client.volumes.create(name)
        tidy.callback(volume.remove, force=True)
        network = client.networks.create(name)
        tidy.callback(network.remove)
        one = client.containers.create(docker.images.get("app").tag, ["true"], name=name)
        tidy.callback(one.remove, force=True)
        yield one, network, volume


RUNNER = """
import sys, time
from pathlib import Path
from zdtest.engine import Container
from zdtest.engine.docker import DockerEngine
from zdtest.engine.images import Images
from zdtest.engine.process import ProcessEngine

address, run, folder = sys.argv[1:]
with (
    ProcessEngine(run, Path(folder)) as host,
    DockerEngine(host, address, Images(address)) as engine,
):
    network = engine.network("net")
    engine.start("a", ["sleep", "600"])
    engine.start("b", ["sleep", "600"], container=Container(network=network))
    host.start("script", ["sh", "-c", f'''
        docker volume create --label zdtest.run={run} --label "zdtest.owner=$ZD_OWNER" v-{run}
        echo made; while :; do
        docker run -d --label zdtest.run={run} --label zdtest.instance=more \\
            {engine.image("app")} sleep 600; done'''], env=engine.environment)
    while host.logs(next(iter(host._watched))) == "":
        time.sleep(0.01)
    print("up", flush=True)
    time.sleep(600)
"""


def left(docker: Docker, run: str) -> list[str]:
    live = [one for one in reaper.processes() if one.labels.get(reaper.RUN) == run]
    return [one.kind for one in remains.remnants(docker.address, run)] + ["process"] * len(live)


@pytest.mark.docker
def test_nothing_is_left_of_a_run_whose_runner_was_killed(
    docker: Docker, stranger: Any, tmp_path: Path
) -> None:
    """Not even what a script of it was still starting, one container after the other."""
    run = f"test-{uuid.uuid4().hex[:8]}"
    docker.images.get("app")
    argv = [sys.executable, "-c", RUNNER, docker.address, run, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout is not None
        assert runner.stdout.readline() == "up\n"
        probe.until(
            "more", lambda: "" if left(docker, run).count("container") > 3 else "few", timeout=20
        )
        assert {"container", "network", "volume", "process"} <= set(left(docker, run))
        os.kill(runner.pid, signal.SIGKILL)
    probe.until("nothing left", lambda: ", ".join(left(docker, run)), timeout=30)
    for one in stranger:
        one.reload()


@pytest.mark.docker
def test_the_next_start_sweeps_what_the_dead_left_and_nothing_else(
    docker: Docker, client: Any, stranger: Any
) -> None:
    me = Owner.me()
    labels = {
        "dead": {OWNER: str(me._replace(began=1))},
        "alive": {OWNER: str(me)},
        "kept": {OWNER: str(me._replace(began=1)), KEPT: "1"},
    }
    salt = uuid.uuid4().hex[:8]
    for name, told in labels.items():
        client.volumes.create(f"{name}-{salt}", labels={RUN: f"{name}-{salt}", **told})
    try:
        assert f"dead-{salt}" in remains.sweep(docker.address)
        mine = {one.run for one in remains.remnants(docker.address) if one.run.endswith(salt)}
        assert mine == {f"alive-{salt}", f"kept-{salt}"}
        assert remains.remove_kept(docker.address, f"alive-{salt}") == []
        assert remains.remove_kept(docker.address, f"kept-{salt}") == [f"kept-{salt}"]
    finally:
        for name in labels:
            remains.remove(docker.address, f"{name}-{salt}", quiet=0)
    for one in stranger:
        one.reload()
