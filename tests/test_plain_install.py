"""What `pip install zdtest` alone can do, without any extra: never a crash, always the cure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from own_stack import serving

EXTRAS = (
    "anyio", "docker", "httptools", "httpx", "starlette", "testcontainers", "uvicorn", "yaml",
)  # fmt: skip
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """A folder of packages in which those of the extras are not."""
    folder = tmp_path_factory.mktemp("packages")
    for package in Path(yaml.__file__).parents[1].iterdir():
        if package.name.partition("-")[0].partition(".")[0].lower() not in (*EXTRAS, "zdtest"):
            (folder / package.name).symlink_to(package)
    (folder / "zdtest").symlink_to(ROOT / "zdtest")
    (folder / "sample_app").symlink_to(ROOT / "sample_app")
    return folder


def run(plain: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Return what the command says where only these packages are, and no Docker Engine answers."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "zdtest", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(plain), "DOCKER_HOST": f"unix://{cwd}/none.sock"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done


def test_the_extras_are_not_there(plain, tmp_path):
    """Else nothing here would mean anything."""
    code = f"import importlib.util as u; print([n for n in {EXTRAS} if u.find_spec(n)])"
    argv = [sys.executable, "-S", "-c", code]
    said = subprocess.check_output(argv, env={**os.environ, "PYTHONPATH": str(plain)}, cwd=tmp_path)
    assert said == b"[]\n"


def test_topologies_are_listed_and_those_that_lack_a_package_say_which(plain, tmp_path):
    done = run(plain, tmp_path, "topologies")
    assert (done.returncode, done.stderr) == (0, "")
    assert "custom_lb" in done.stdout
    assert "the package yaml is missing: pip install 'zdtest[scenarios]'" in done.stdout
    assert "haproxy " in done.stdout
    assert "variants documented, hardened" in done.stdout


def test_a_topology_that_lacks_a_package_names_the_extra(plain, tmp_path):
    done = run(plain, tmp_path, "up", "custom_lb")
    assert done.returncode == 2
    assert done.stderr.startswith("zdtest: topology custom_lb: the package yaml is missing: pip")
    assert done.stderr.endswith("pip install 'zdtest[scenarios]'\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("topology", "extra"), [("haproxy_swarm", "docker"), ("in_place", "scenarios")]
)
def test_so_does_one_whose_engine_or_app_lacks_it(plain, tmp_path, topology, extra):
    done = run(plain, tmp_path, "up", topology)
    assert done.returncode == 2
    assert done.stderr.startswith(f"zdtest: topology {topology}: the package ")
    assert done.stderr.endswith(f" is missing: pip install 'zdtest[{extra}]'\n")
    assert done.stderr.count("\n") == 1


def test_a_private_engine_that_is_used_cannot_be_asked(plain, tmp_path):
    """It runs, and who lacks the package is told so in words: nothing fails."""
    code = (
        "from zdtest.engine import daemon, private, leftovers\n"
        "from zdtest import doctor\n"
        "private.Private.usage = lambda self: private.Usage(False, (1,))\n"
        "print(daemon.found())\n"
        "print(leftovers.found())\n"
        "print(*doctor.findings(), sep='\\n')\n"
    )
    env = {name: value for name, value in os.environ.items() if name != "DOCKER_HOST"}
    argv = [sys.executable, "-S", "-c", code]
    env |= {"PYTHONPATH": str(plain)}
    said = subprocess.check_output(argv, env=env, cwd=tmp_path, text=True).splitlines()
    assert said[0] == "the package docker is missing: pip install 'zdtest[docker]'"
    assert " chromium " in said[-1]


def test_the_doctor_tells_all_that_there_is_to_tell(plain, tmp_path):
    done = run(plain, tmp_path, "doctor")
    assert (done.returncode, done.stderr) == (0, "")
    for subject in ("Python", "starlette", "Docker Engine", "Docker Compose", "room", "chromium"):
        assert f" {subject} " in done.stdout, subject
    assert "the package docker is missing: pip install 'zdtest[docker]'" in done.stdout


@pytest.mark.parametrize(
    ("words", "code"), [("engine status", 4), ("engine start", 4), ("engine stop", 0)]
)
def test_the_engine_says_what_it_lacks(plain, tmp_path, words, code):
    done = run(plain, tmp_path, *words.split())
    assert done.returncode == code, done.stderr
    if code:
        assert "the package docker is missing: pip install 'zdtest[docker]'" in done.stderr


@pytest.mark.parametrize("words", [("clean", "--dry-run"), ("down", "no-such-run")])
def test_what_asks_every_engine_goes_without(plain, tmp_path, words):
    done = run(plain, tmp_path, *words)
    assert done.returncode in (0, 2)


def test_ones_own_stack_is_measured(plain, tmp_path):
    with serving() as url:
        quick = ("--baseline", "300ms", "--settle", "300ms", "--slo", "min_requests=1,stall=2s")
        done = run(plain, tmp_path, "during", "--url", url, "--duration", "1s", *quick)
    assert done.returncode in (0, 1, 3), done.stderr
    assert "answered well" in done.stdout
