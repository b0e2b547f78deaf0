"""What the machine can run, as `zdtest doctor` says it."""

from __future__ import annotations

import importlib.util
import shutil

import pytest

from zdtest import doctor
from zdtest.cli import main
from zdtest.doctor import Finding, findings
from zdtest.engine import daemon, debian
from zdtest.engine.daemon import Reached


def found(subject: str) -> Finding:
    return next(one for one in findings() if one.subject == subject)


def test_a_machine_that_runs_these_tests_has_what_is_needed(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "MISSING" not in out
    for subject in ("Python", "locust", "kernel", "free ports", "cores", "Docker Engine", "nginx"):
        assert subject in out


def test_a_missing_package_is_named_with_its_cure_and_makes_2(capsys, monkeypatch):
    real = importlib.util.find_spec
    gone = lambda name, *more: None if name == "pyarrow" else real(name, *more)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", gone)
    assert main(["doctor"]) == 2
    assert "MISSING  pyarrow            the recording: pip install zdtest" in (
        capsys.readouterr().out
    )


def test_what_is_only_wanted_is_no_failure(capsys, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name, **_: None)
    assert main(["doctor"]) == 0
    assert "apt-get install nginx" in capsys.readouterr().out


def engine(monkeypatch: pytest.MonkeyPatch, **case: object) -> Finding:
    """Return what is said of a machine on which it is so, and no engine answers."""
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(daemon, "found", lambda: case.get("there", "/x: nothing answers"))
    monkeypatch.setattr(daemon, "unwilling", lambda: case.get("unwilling", ""))
    monkeypatch.setattr(debian, "forbidding", lambda: case.get("forbidding", ""))
    monkeypatch.setattr(debian, "engine_lacks", lambda: case.get("lacks", []))
    return found("Docker Engine")


def test_an_engine_that_answers_is_named_with_its_version(monkeypatch):
    there = engine(monkeypatch, there=Reached("unix:///var/run/docker.sock", "28.0.1"))
    assert there == Finding("Docker Engine", True, "28.0.1 at unix:///var/run/docker.sock")


def test_one_that_could_be_started_is_as_good(monkeypatch):
    there = engine(monkeypatch)
    assert there.works
    assert there.detail == "a private one is started when needed (/x: nothing answers)"


def test_one_that_could_be_installed_is_said_with_the_command(monkeypatch):
    there = engine(monkeypatch, unwilling="no dockerd here to start a private one", lacks=["it"])
    assert not there.works
    assert there.detail == (
        "/x: nothing answers; no dockerd here to start a private one; "
        "`zdtest engine install` brings one; scenarios run as processes"
    )


def test_where_it_cannot_be_installed_the_reason_is_said(monkeypatch):
    there = engine(
        monkeypatch,
        unwilling="a private one needs root",
        lacks=["docker.io"],
        forbidding="installing needs root: sudo apt-get install docker.io",
    )
    assert "needs root; installing needs root: sudo apt-get install docker.io; " in there.detail
    there = engine(monkeypatch, unwilling="a private one needs root", lacks=[])
    assert there.detail.endswith("; a private one needs root; scenarios run as processes")


def test_an_engine_that_is_refused_is_said_with_what_was_expected(tmp_path, monkeypatch):
    for host in ("tcp://127.0.0.1:9", f"unix://{tmp_path}/none.sock", f"unix://{'x' * 200}"):
        monkeypatch.setenv("DOCKER_HOST", host)
        there = found("Docker Engine")
        assert not there.works
        assert host.removeprefix("unix://") in there.detail
        assert "DOCKER_HOST says which one to use: no private one is started" in there.detail


def test_compose_is_found_or_named_with_its_package(monkeypatch):
    monkeypatch.setattr(daemon, "compose", lambda: ("docker", "compose"))
    assert found("Docker Compose") == Finding("Docker Compose", True, "docker compose")
    monkeypatch.setattr(daemon, "compose", lambda: ())
    assert not found("Docker Compose").works
    assert "apt-get install docker-compose" in found("Docker Compose").detail


def test_a_disk_without_room_for_images_is_said_to_be_that(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "not" / "there"))
    room = found("room for images")
    assert room.works
    assert f"GB free in {tmp_path}/not/there/zdtest/engine" in room.detail
    assert not (tmp_path / "not").exists()
    monkeypatch.setattr(doctor, "_IMAGES", 1e18)
    assert not found("room for images").works
    assert "images need 1000000000 GB" in found("room for images").detail
