"""The scripts of document 003 by themselves: what they do when things are not as they should be."""

from __future__ import annotations

import fcntl
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from docker_engine import lent

from zdtest import topology
from zdtest.engine import probe, silent
from zdtest.engine.offer import Docker
from zdtest.engine.process import ProcessEngine
from zdtest.errors import ConfigError, EngineError

pytestmark = pytest.mark.alone

NGINX_COMPOSE = topology.find("nginx_compose")
DOCUMENTED, HARDENED = (NGINX_COMPOSE.folder / name for name in NGINX_COMPOSE.variants)

Raise = Callable[..., Any]


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    with lent() as found:
        yield found


@pytest.fixture
def raised(docker: Docker, tmp_path: Path) -> Iterator[Raise]:
    """Raises the topology, boot 0, at v1."""
    from zdtest.engine.docker import DockerEngine

    with ExitStack() as tidy:
        host = tidy.enter_context(ProcessEngine(f"test-{uuid.uuid4().hex[:8]}", tmp_path))
        engine = tidy.enter_context(DockerEngine(host, docker.address, docker.images))

        def raise_(variant: str, **parameters: object) -> Any:
            told = {"boot": 0.0, **parameters}
            return tidy.enter_context(NGINX_COMPOSE.raised(variant, "v1", engine, **told))

        yield raise_


def at(stack: Any) -> tuple[str, str]:
    """The version and the colour that answer users now."""
    reply = probe.ask(int(stack.url.rpartition(":")[2]), "/api", timeout=10)
    assert isinstance(reply, probe.Reply), reply
    return reply.version, re.findall('"deploy":"([a-z]+)"', reply.body)[0]


def refused(stack: Any, version: str = "v2") -> str:
    """What the script says that does not deploy that version."""
    with pytest.raises(EngineError) as error:
        stack.deploy(version, silent, timeout=60)
    return str(error.value)


@pytest.mark.parametrize("folder", [DOCUMENTED, HARDENED], ids=lambda folder: folder.name)
def test_the_colours_differ_in_name_and_port_alone(folder: Path) -> None:
    blue, green = (
        (folder / f"docker-compose.{name}.yml").read_text() for name in ("blue", "green")
    )
    assert green == re.sub("8081", "8082", blue.replace("blue", "green").replace("BLUE", "GREEN"))


def test_the_mended_script_has_two_dollars_more() -> None:
    printed, mended = (
        (DOCUMENTED / name).read_text() for name in ("deploy.sh", "deploy-mended.sh")
    )
    assert printed.count("curl -s CHECK_URL ") == 2
    assert mended == printed.replace("curl -s CHECK_URL ", "curl -s $CHECK_URL ")


def test_the_document_s_own_lines_are_in_nginx_conf() -> None:
    conf = (DOCUMENTED / "nginx.conf").read_text()
    for port in (8081, 8082):
        assert f"server docker-network-ip:{port} max_fails=3 fail_timeout=10s;" in conf


def test_it_needs_containers(tmp_path: Path) -> None:
    with (
        ProcessEngine(f"test-{uuid.uuid4().hex[:8]}", tmp_path) as engine,
        pytest.raises(ConfigError, match="expected --zd-engine docker"),
        NGINX_COMPOSE.raised("documented", "v1", engine),
    ):
        pass


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"live": "red"}, "live 'red': expected blue or green"),
        ({"check_url": "both"}, "check_url 'both': expected printed or mended"),
    ],
)
def test_a_parameter_that_means_nothing_is_refused(
    tmp_path: Path, parameters: dict[str, object], told: str
) -> None:
    with (
        ProcessEngine(f"test-{uuid.uuid4().hex[:8]}", tmp_path) as engine,
        pytest.raises(ConfigError, match=told),
        NGINX_COMPOSE.raised("hardened", "v1", engine, **parameters),
    ):
        pass


@pytest.mark.docker
def test_hardened_there_and_back_from_green(raised: Raise) -> None:
    stack = raised("hardened", live="green")
    assert at(stack) == ("v1", "green")
    marks: list[tuple[str, object]] = []
    stack.deploy("v2", lambda name, **about: marks.append((name, about["instance"])), timeout=60)
    assert marks == [("app.ready", "blue"), ("deploy.switch", "blue")]
    assert at(stack) == ("v2", "blue")
    assert not stack.wanted("green")
    stack.deploy("v1", silent, timeout=60)
    assert at(stack) == ("v1", "green")
    assert not stack.wanted("blue")


@pytest.mark.docker
def test_hardened_goes_by_what_nginx_was_told(raised: Raise) -> None:
    """A deploy cut off between `mv` and reload: nginx still does what the file said before."""
    stack = raised("hardened")
    stack.start("green", "v2")
    stack.ready("green")
    live = stack.folder / "nginx" / "live.inc"
    told = live.read_text()
    live.write_text(told.translate(str.maketrans({"1": "2", "2": "1"})))
    assert at(stack) == ("v1", "blue")
    stack.deploy("v3", silent, timeout=60)
    assert "blue is left of a deploy that was cut off" in stack.said()
    assert at(stack) == ("v3", "blue")
    assert live.read_text() == told
    assert not stack.wanted("green")


@pytest.mark.docker
def test_hardened_does_not_take_down_who_stands_in(raised: Raise) -> None:
    """The live colour is dead and the one left over has its users: nothing is touched."""
    stack = raised("hardened")
    stack.start("green", "v2")
    stack.ready("green")
    stack.engine.kill(stack.instance("blue"))
    assert at(stack) == ("v2", "green")
    refused(stack, "v3")
    assert at(stack) == ("v2", "green")


@pytest.mark.docker
def test_hardened_deploys_on_nothing_broken(raised: Raise) -> None:
    stack = raised("hardened")
    conf = stack.folder / "nginx" / "nginx.conf"
    live = stack.folder / "nginx" / "live.inc"
    good, told = conf.read_text(), live.read_text()
    conf.write_text(good.replace("events {", "event {"))
    assert "nginx does not take it: blue stays" in refused(stack)
    assert (at(stack), live.read_text()) == (("v1", "blue"), told)
    assert not stack.wanted("green")
    conf.write_text(good)
    live.write_text("server docker-network-ip:80;\n")
    assert "nginx/live.inc names no colour" in refused(stack)
    live.write_text(told)
    stack.deploy("v2", silent, timeout=60)
    assert at(stack) == ("v2", "green")


@pytest.mark.docker
def test_hardened_deploys_one_at_a_time(raised: Raise) -> None:
    stack = raised("hardened")
    lock = str(stack.folder / "deploy.lock")
    holder = stack.engine.host.start("holder", ["flock", lock, "sleep", "60"])
    # Its file is there before it is locked.
    probe.until("the lock held", lambda: "" if held(lock) else "no lock", timeout=20)
    assert "another deploy is under way" in refused(stack)
    stack.engine.host.kill(holder)
    stack.deploy("v2", silent, timeout=60)
    assert at(stack) == ("v2", "green")


def held(lock: str) -> bool:
    """Return whether somebody has the lock."""
    if not Path(lock).exists():
        return False
    with open(lock) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.mark.docker
def test_documented_finds_the_idle_colour_there_and_back(raised: Raise) -> None:
    """What of the five checks finds is chance with two colours up: with one there is none."""
    stack = raised("documented", scale=0.03, fail_timeout=1)
    stack.deploy("v2", silent, timeout=60)
    assert "brings up green" in stack.said()
    up = [name for name in ("blue", "green") if stack.wanted(name)]
    assert up in (["blue"], ["green"])
    stack.deploy("v3", silent, timeout=60)
    other = {"blue": "green", "green": "blue"}[up[0]]
    assert f"brings up {other}" in stack.said()


@pytest.mark.docker
def test_documented_restarts_as_what_was_delivered_last(raised: Raise) -> None:
    stack = raised("documented")
    stack.deliver("v2")
    assert at(stack) == ("v1", "blue")
    stack.restart("blue")
    probe.until("v2", lambda: "" if version(stack) == "v2" else version(stack), timeout=30)


def version(stack: Any) -> str:
    reply = probe.ask(8081, "/ready", host=stack.gateway)
    return reply.version if isinstance(reply, probe.Reply) else reply


@pytest.mark.docker
def test_documented_what_runs_is_not_made_anew_by_its_label(raised: Raise) -> None:
    stack = raised("documented", scale=0.01)
    one = stack.instance("blue")
    stack.start("blue", "v2")
    assert stack.instance("blue") == one
    assert not stack.engine.fate(one)
