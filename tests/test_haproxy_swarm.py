"""What stands behind document 000 by itself: its files, what stands in, and what goes wrong."""

from __future__ import annotations

import http.client
import importlib.util
import inspect
import json
import os
import re
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from docker_engine import lent

from zdtest import topology
from zdtest.engine import probe, remains, silent
from zdtest.engine.offer import Docker
from zdtest.engine.process import ProcessEngine
from zdtest.errors import ConfigError, EngineError

HAPROXY_SWARM = topology.find("haproxy_swarm")
DOCUMENTED, HARDENED = (HAPROXY_SWARM.folder / name for name in HAPROXY_SWARM.variants)
READ_ONLY = DOCUMENTED / "dockercloud" / "read_only.py"

Raise = Callable[..., Any]


# The files.


def stack(*files: Path) -> dict[str, Any]:
    """The services in these files, the later ones' words added."""
    found: dict[str, Any] = {}
    for file in files:
        for name, told in yaml.safe_load(file.read_text())["services"].items():
            found[name] = {**found.get(name, {}), **told}
    return found


def test_the_document_s_own_words_are_in_its_stack() -> None:
    printed = stack(DOCUMENTED / "docker-compose.yml")
    update = {"parallelism": 1, "delay": "${DELAY:-10s}"}
    assert printed["webapp"]["deploy"] == {"replicas": 3, "update_config": update}
    assert printed["webapp"]["hostname"] == "app-{{.Task.Slot}}"
    assert printed["webapp"]["image"].partition(":")[0] == "windowforsun/test-web"
    assert printed["webapp"]["ports"] == [8080]
    assert printed["haproxy"]["image"] == "dockercloud/haproxy"
    assert printed["haproxy"]["environment"] == ["BALANCE=leastconn"]
    assert printed["haproxy"]["ports"] == ["80:80"]


def test_what_stands_in_changes_nothing_of_how_it_is_updated() -> None:
    for name in ("webapp.yml", "haproxy.yml", "no-ipvs.yml"):
        for told in stack(DOCUMENTED / name).values():
            assert told.get("deploy", {}) in ({}, {"endpoint_mode": "dnsrr"})
            assert not {"healthcheck", "stop_grace_period", "image"} & set(told)


def test_both_write_the_log_that_is_read() -> None:
    line = re.compile(r"^ *(log-format '.*')$", re.MULTILINE)
    known = line.findall((topology.HOME / "haproxy_log.md").read_text())
    assert len(known) == 1
    for config in (DOCUMENTED / "dockercloud" / "haproxy.cfg", HARDENED / "haproxy/haproxy.cfg"):
        assert line.findall(config.read_text()) == known


def test_it_needs_containers(tmp_path: Path) -> None:
    with (
        ProcessEngine(f"test-{uuid.uuid4().hex[:8]}", tmp_path) as engine,
        pytest.raises(ConfigError, match="expected --zd-engine docker"),
        HAPROXY_SWARM.raised("documented", "v1", engine),
    ):
        pass


# What does what dockercloud/haproxy does.


@pytest.fixture(scope="module")
def image() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "entrypoint", READ_ONLY.with_name("entrypoint.py")
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def task(slot: int, *, service: str = "S", network: str = "N", ports: str = "8080") -> Any:
    return {
        "ID": f"t{slot}",
        "ServiceID": service,
        "Slot": slot,
        "Spec": {"ContainerSpec": {"Env": [f"SERVICE_PORTS={ports}"]}},
        "NetworksAttachments": [{"Network": {"ID": network}, "Addresses": [f"10.0.1.{slot}/24"]}],
        "Status": {"State": "preparing"},
    }


def test_every_task_that_is_wanted_in_its_network_is_a_server(
    image: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [
        task(2),
        task(1, ports="80, 8080"),
        task(3, service="own"),
        task(4, network="other"),
        task(5, ports=""),
    ]
    asked: list[str] = []

    def answer(path: str) -> Any:
        asked.append(path)
        return tasks if path.startswith("/tasks") else [{"ID": "S", "Spec": {"Name": "web"}}]

    monkeypatch.setattr(image, "asked", answer)
    lines = image.servers("own", {"N"})
    check = "check inter 2000 rise 2 fall 3"
    assert [line.strip() for line in lines] == [
        f"server web.1.t1 10.0.1.1:80 {check}",
        f"server web.1.t1 10.0.1.1:8080 {check}",
        f"server web.2.t2 10.0.1.2:8080 {check}",
    ]
    assert "desired-state" in asked[-1]


# Who answers for the engine.


class Unix(http.client.HTTPConnection):
    """Asks at a socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("docker", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


class Told(BaseHTTPRequestHandler):
    """An engine that says what it was asked."""

    def do_GET(self) -> None:
        body = json.dumps({"path": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_DELETE = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """The socket of who may only look; the engine's is gone with the folder ``engine``."""
    (tmp_path / "engine").mkdir()
    there = tmp_path / "own.sock"
    with socketserver.ThreadingUnixStreamServer(str(tmp_path / "engine" / "sock"), Told) as engine:
        threading.Thread(target=engine.serve_forever, daemon=True).start()
        argv = [sys.executable, str(READ_ONLY), "engine/sock", "own.sock"]
        with subprocess.Popen(argv, cwd=tmp_path) as process:
            probe.until("who listens", lambda: not_listening(there), timeout=10)
            yield there
            process.terminate()
        engine.shutdown()


def not_listening(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as one:
        # It is there from bind on, and listens a moment later.
        return os.strerror(number) if (number := one.connect_ex(str(path))) else ""


def asked(own: Path, method: str, path: str) -> tuple[int, str]:
    connection = Unix(own)
    connection.request(method, path)
    reply = connection.getresponse()
    return reply.status, reply.read().decode()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/tasks?filters=%7B%7D", 200),
        ("GET", "/v1.24/services", 200),
        ("GET", "/containers/0123abc/json", 200),
        ("GET", "/containers/0123abc/archive?path=/etc/shadow", 403),
        ("GET", "/containers/0123abc/attach/ws", 403),
        ("GET", "/swarm/unlockkey", 403),
        ("GET", "/tasks/../secrets", 403),
        ("POST", "/containers/create", 501),
        ("DELETE", "/services/abc", 501),
        ("HEAD", "/tasks", 501),
    ],
)
def test_who_may_only_look_does_nothing_else(
    own: Path, method: str, path: str, status: int
) -> None:
    got, body = asked(own, method, path)
    assert got == status
    if status == 200:
        assert json.loads(body) == {"path": path}


def test_an_engine_that_is_gone_is_said_to_be(own: Path) -> None:
    (own.parent / "engine" / "sock").unlink()
    assert asked(own, "GET", "/tasks")[0] == 502


# On a swarm.


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    with lent() as found:
        yield found


@pytest.fixture
def raised(docker: Docker, tmp_path: Path) -> Iterator[Raise]:
    """Raises the topology at v1."""
    from zdtest.engine.docker import DockerEngine

    with ExitStack() as tidy:
        host = tidy.enter_context(ProcessEngine(f"test-{uuid.uuid4().hex[:8]}", tmp_path))
        engine = tidy.enter_context(DockerEngine(host, docker.address, docker.images))

        def raise_(variant: str, **parameters: object) -> Any:
            told = {"scale": 0.05, **parameters}
            return tidy.enter_context(HAPROXY_SWARM.raised(variant, "v1", engine, **told))

        yield raise_


def refused(stack: Any, version: str = "v2") -> str:
    """What the script says that does not deploy that version."""
    with pytest.raises(EngineError) as error:
        stack.deploy(version, silent, timeout=90)
    return str(error.value)


def images(stack: Any) -> set[str]:
    """The images of the tasks that run and are to."""
    told = stack.cluster.tasks(stack.service)
    return {one.image for one in told if one.state == one.wanted == "running"}


@pytest.mark.docker
def test_hardened_there_and_back_and_nothing_where_nothing_is_to_do(raised: Raise) -> None:
    stack = raised("hardened")
    for version in ("v2", "v1"):
        stack.deploy(version, silent, timeout=90)
        assert images(stack) == {f"windowforsun/test-web:{version}"}
    tasks = stack.cluster.tasks(stack.service)
    stack.deploy("v1", silent, timeout=90)
    assert [one.id for one in stack.cluster.tasks(stack.service)] == [one.id for one in tasks]


@pytest.mark.docker
def test_hardened_tells_of_a_rollback_that_pauses(raised: Raise) -> None:
    """The new one falls ill when it has taken a place, and the image of the old one is gone."""
    stack = raised("hardened", scale=0.3, releases={"v2": {"release": "sick-after:2"}})
    stack.cluster.docker("rmi", "--force", "windowforsun/test-web:v1")
    said = refused(stack)
    assert "rollback_paused" in said
    assert "No such image: windowforsun/test-web:v1" in said


@pytest.mark.docker
def test_a_service_that_never_converges_ends_with_the_tasks_errors(
    raised: Raise, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = inspect.getmodule(inspect.unwrap(HAPROXY_SWARM.raises))
    monkeypatch.setattr(module, "_UP_WITHIN", 15.0)
    with pytest.raises(EngineError, match=r"not within 15(?s:.*)non-zero exit \(1\)"):
        raised("documented", releases={"v1": {"release": "crash"}})


@pytest.mark.docker
def test_up_that_does_not_come_up_exits_with_4_and_leaves_nothing(
    docker: Docker, tmp_path: Path
) -> None:
    folder = tmp_path / "haproxy_swarm"
    shutil.copytree(HAPROXY_SWARM.folder, folder)
    for name, old, new in (
        ("topology.py", "_UP_WITHIN = 60.0", "_UP_WITHIN = 15.0"),
        ("hardened/docker-compose.yml", "image: haproxy:2.6", "image: nosuch/haproxy:2.6"),
    ):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))
    before = {one.run for one in remains.remnants(docker.address)}
    argv = [sys.executable, "-m", "zdtest", "up", str(folder), "--variant", "hardened"]
    env = {**os.environ, "DOCKER_HOST": docker.address}
    ran = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 4, ran.stderr
    assert "not within 15" in ran.stderr
    assert "No such image: nosuch/haproxy:2.6" in ran.stderr
    named = {one.run for one in remains.remnants(docker.address)} - before
    assert not {one for one in named if "up-haproxy_swarm" in one}
