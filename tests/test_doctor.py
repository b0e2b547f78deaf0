"""What the machine can run, as `zdtest doctor` says it."""

from __future__ import annotations

import importlib.util
import shutil
import socket

from zdtest.cli import main
from zdtest.doctor import Finding, findings


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
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert main(["doctor"]) == 0
    assert "apt-get install nginx" in capsys.readouterr().out


def test_an_engine_that_answers_is_found_and_nothing_is_asked_of_it(tmp_path, monkeypatch):
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        assert found("Docker Engine") == Finding("Docker Engine", True, str(path))
        asked, _ = server.accept()
        with asked:
            assert asked.recv(1) == b""


def test_an_engine_elsewhere_or_nowhere_is_no_crash(tmp_path, monkeypatch):
    for host in ("tcp://127.0.0.1:9", f"unix://{tmp_path}/none.sock", f"unix://{'x' * 200}"):
        monkeypatch.setenv("DOCKER_HOST", host)
        assert not found("Docker Engine").works
