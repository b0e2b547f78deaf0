"""The images: built once, known by what is in them, and fit to be run."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import pytest
from docker_engine import lent

from zdtest.engine import ports, probe, remains
from zdtest.engine.images import Image, Images, builder, recipe
from zdtest.engine.images.builder import IMAGE, Builder, Steps
from zdtest.engine.images.recipe import Recipe, recipes
from zdtest.engine.offer import Docker
from zdtest.engine.private import Private
from zdtest.engine.probe import until
from zdtest.errors import ConfigError, EngineError

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    with lent() as found:
        yield found


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def images(docker, told) -> Images:
    return Images(docker.address, tell=told.append)


@pytest.fixture
def labels() -> list[str]:
    """Return options of `docker run` by which what is left is known as a test's."""
    owner = f"{remains.OWNER}={remains.Owner.me()}"
    return ["--label", f"{remains.RUN}=test-images", "--label", owner]


def cli(docker: Docker, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [shutil.which("docker"), "-H", docker.address, *argv], capture_output=True, text=True
    )


def run(docker: Docker, image: Image, labels: list[str], *argv: str) -> str:
    """Return what the command printed in a container of the image."""
    done = cli(docker, "run", "--rm", "--network", "none", *labels, image.tag, *argv)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_one_that_is_there_is_the_right_one_and_found_in_no_time(images, docker, told):
    first = images.get("app")
    told.clear()
    took = []
    for _ in range(5):  # a machine that stands still for a moment does not do so each time
        began = time.monotonic()
        assert Images(docker.address, tell=told.append).get("app") == first
        took.append(time.monotonic() - began)
    assert min(took) < 0.5  # 20 ms by itself
    assert images.get("app") is images.get("app")
    assert told == []


def test_the_tag_tells_all_that_goes_in(tmp_path, monkeypatch):
    app = recipes()["app"]
    copy = tmp_path / "sample_app"
    shutil.copytree(app.folders["sample_app"], copy, ignore=shutil.ignore_patterns("__pycache__"))
    same = Recipe("app", app.version, {"sample_app": copy}, app.packages)
    digest = app.digest("base")
    assert same.digest("base") == digest
    assert app.digest("another base") != digest
    assert Recipe("app", app.version, app.folders, ["uvicorn==0"]).digest("base") != digest
    assert Recipe("nginx", app.version, app.folders, app.packages).digest("base") != digest
    (copy / "app.py").write_text((copy / "app.py").read_text() + "\n")
    assert same.digest("base") != digest
    (tmp_path / "constraints.txt").write_text("uvicorn==0\n")
    monkeypatch.setattr(recipe, "_CONSTRAINTS", tmp_path / "constraints.txt")
    assert app.digest("base") != digest


def test_equal_files_make_equal_contexts(tmp_path):
    app = recipes()["app"]
    copy = tmp_path / "sample_app"
    shutil.copytree(app.folders["sample_app"], copy)
    os.utime(copy / "app.py", (0, 0))
    same = Recipe("app", app.version, {"sample_app": copy}, app.packages)
    assert same.context().read() == app.context().read()


def test_a_changed_file_makes_another_image_and_the_engine_builds_only_what_follows(
    docker, images, told, tmp_path, monkeypatch
):
    images.get("nginx")
    dockerfile = (recipes()["nginx"].folder / "Dockerfile").read_text()
    name = uuid.uuid4().hex
    files = {"Dockerfile": f"{dockerfile}\nENV CHANGED={name}\n"}
    changed(monkeypatch, tmp_path / "changed", "nginx", files)
    told.clear()
    other = Images(docker.address, tell=told.append).get("nginx")
    try:
        assert other.tag != images.get("nginx").tag
        assert cli(docker, "inspect", "-f", "{{.Config.Env}}", other.tag).stdout.count(name) == 1
        assert told[-1].startswith("image nginx: nginx/")
        assert "apt-get" not in "".join(told)
    finally:
        cli(docker, "rmi", other.tag)


def test_the_app_is_no_root_and_the_main_process_and_small(docker, images, labels):
    image, base = images.get("app"), images.get("base")
    assert image.size - base.size < 75e6
    assert run(docker, image, labels, "id", "-u").strip() == "10001"
    main = run(docker, image, labels, "python3", "-c", "import os; print(os.getpid())")
    assert main.strip() == "1"
    assert inspected(docker, image, "{{json .Config.Cmd}}") == '["python3","-m","sample_app"]'
    assert inspected(docker, image, "{{json .Config.Entrypoint}}") == "null"
    assert inspected(docker, image, f'{{{{index .Config.Labels "{IMAGE}"}}}}') == "app"
    which = "command -v curl; command -v pip; command -v pip3; python3 -m pip; true"
    found = run(docker, image, labels, "sh", "-c", which).splitlines()
    assert found == ["/usr/bin/curl", "/usr/bin/python3: No module named pip"]


def test_the_report_hears_which_software_an_image_has(images):
    starlette, uvicorn = metadata.version("starlette"), metadata.version("uvicorn")
    version = images.get("app").version
    assert version.startswith("Python 3.11.")
    assert version.endswith(f", starlette {starlette}, uvicorn {uvicorn}")
    assert images.get("nginx").version.startswith("nginx/1.")
    assert images.get("nginx").id.startswith("sha256:")


def test_the_app_runs_the_tests_sample_app_and_ends_on_sigterm(docker, images, labels):
    name = f"zdtest-test-{uuid.uuid4().hex[:8]}"
    lease = ports.lease()
    try:
        host = ("--network", "host", "-e", f"PORT={lease.port}", "-e", "APP_VERSION=v7")
        assert cli(docker, "run", "-d", "--name", name, *labels, *host, images.get("app").tag)
        until("ready", lambda: _not_ready(lease.port), timeout=20)
        began = time.monotonic()
        cli(docker, "stop", "--time", "10", name)
        assert time.monotonic() - began < 5
        assert cli(docker, "inspect", "-f", "{{.State.ExitCode}}", name).stdout.strip() == "143"
    finally:
        cli(docker, "rm", "-f", name)
        lease.release()


def _not_ready(port: int) -> str:
    reply = probe.ask(port, "/ready")
    return reply if isinstance(reply, str) else "" if reply.version == "v7" else str(reply)


def test_nginx_is_as_its_own_image_is(docker, images, labels):
    image = images.get("nginx")
    assert "test is successful" in run(docker, image, labels, "nginx", "-t")
    assert run(docker, image, labels, "ls", "/etc/nginx/conf.d", "/etc/nginx/sites-enabled") == (
        "/etc/nginx/conf.d:\n\n/etc/nginx/sites-enabled:\n"
    )
    assert run(docker, image, labels, "readlink", "/var/log/nginx/access.log") == "/dev/stdout\n"
    assert run(docker, image, labels, "readlink", "/var/log/nginx/error.log") == "/dev/stderr\n"
    assert "uid=" in run(docker, image, labels, "id", "nginx")
    assert "curl " in run(docker, image, labels, "curl", "--version")
    assert inspected(docker, image, "{{.Config.StopSignal}}") == "SIGQUIT"
    assert inspected(docker, image, "{{json .Config.Cmd}}") == '["nginx","-g","daemon off;"]'


def test_haproxy_is_as_its_own_image_is_and_has_python_beside_it(docker, images, labels):
    image = images.get("haproxy")
    assert image.version.startswith("HAProxy version 2.6.")
    assert "http" not in image.version
    assert "curl " in run(docker, image, labels, "curl", "--version")
    client = "import http.client, json, ssl, socketserver; print('complete')"
    assert run(docker, image, labels, "python3", "-c", client) == "complete\n"
    config = "/usr/local/etc/haproxy/haproxy.cfg"
    text = "global\n  log stdout format raw local0 info\nfrontend fe\n  bind :80\n  mode http\n"
    check = f"printf '{text}' >{config} && haproxy -W -db -c -f {config} 2>&1"
    assert "Configuration file is valid" in run(docker, image, labels, "sh", "-c", check)
    assert inspected(docker, image, "{{.Config.StopSignal}}") == "SIGUSR1"
    command = f'["haproxy","-W","-db","-f","{config}"]'
    assert inspected(docker, image, "{{json .Config.Cmd}}") == command


def inspected(docker: Docker, image: Image, what: str) -> str:
    return cli(docker, "inspect", "-f", what, image.tag).stdout.strip()


def test_an_image_that_nobody_knows_is_refused_with_the_nearest_that_is(images):
    with pytest.raises(ConfigError, match="unknown image 'ngnix': did you mean 'nginx'"):
        images.get("ngnix")


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_an_image_of_others_is_taken_as_it_is(docker, images, name):
    ours = images.get(name)
    cli(docker, "tag", ours.tag, f"somebodys/{name}:1")
    try:
        theirs = Images(docker.address, **{name: f"somebodys/{name}:1"}).get(name)
        assert (theirs.tag, theirs.id) == (f"somebodys/{name}:1", ours.id)
        assert theirs.version == ours.version
        assert remnants(docker) == []
    finally:
        cli(docker, "rmi", f"somebodys/{name}:1")


def remnants(docker: Docker) -> list[str]:
    """Return the containers that builds and questions left."""
    return [
        f"{one.run} {one.name}"
        for one in remains.remnants(docker.address)
        if one.run == f"images-{os.getpid()}"
    ]


def test_an_image_of_others_that_is_not_there_is_said_in_a_line(docker):
    with pytest.raises(EngineError, match=r"image no-such/nginx:1: .*; expected one") as failed:
        Images(docker.address, nginx="no-such/nginx:1").get("nginx")
    assert str(failed.value).count("\n") == 0


def test_a_document_s_own_image_is_taken_when_it_is_asked_for(docker, images, monkeypatch):
    ours = images.get("haproxy")
    cli(docker, "tag", ours.tag, "somebodys/dockercloud:1")
    monkeypatch.setattr(
        "zdtest.engine.images._DOCUMENTED", {"dockercloud": "somebodys/dockercloud:1"}
    )
    try:
        theirs = Images(docker.address, documented=True).get("dockercloud")
        assert (theirs.id, theirs.version) == (ours.id, ours.version)
    finally:
        cli(docker, "rmi", "somebodys/dockercloud:1")
    with pytest.raises(EngineError, match=r"image somebodys/dockercloud:1: .*; expected one"):
        Images(docker.address, documented=True).get("dockercloud")
    with pytest.raises(ConfigError, match="unknown image 'dockercloud'"):
        images.get("dockercloud")


def test_a_registry_that_never_answers_is_given_up_on(docker, monkeypatch):
    monkeypatch.setattr(builder, "_PULL_SILENT_FOR", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tag = f"127.0.0.1:{silent.getsockname()[1]}/nginx:1"
        with pytest.raises(EngineError, match=f"image {tag}: no registry answers within 1s"):
            Images(docker.address, nginx=tag).get("nginx")


def changed(
    monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, files: dict[str, str]
) -> None:
    """From now on the image is made of these files."""
    folder.mkdir()
    for file, text in files.items():
        (folder / file).write_text(text)
        (folder / file).chmod(0o755)
    known = Path(recipe.__file__).parent
    monkeypatch.setattr(
        Recipe, "folder", property(lambda self: folder if self.name == name else known / self.name)
    )


def test_a_build_that_fails_says_what_the_step_said_and_leaves_nothing(
    docker, images, tmp_path, monkeypatch
):
    images.get("base")
    dockerfile = "ARG BASE\nFROM ${BASE}\nRUN echo something is wrong && exit 7\n"
    changed(monkeypatch, tmp_path / "nginx", "nginx", {"Dockerfile": dockerfile})
    with pytest.raises(EngineError, match=r"image nginx cannot be built: .*returned") as failed:
        Images(docker.address).get("nginx")
    assert "something is wrong" in str(failed.value)
    assert building(docker) == ""


def test_packages_that_cannot_be_had_are_named(docker, images, monkeypatch):
    images.get("base")
    monkeypatch.setattr(recipe, "_pinned", lambda: ["uvicorn==0.0.0"])
    monkeypatch.setattr(recipe, "_CONSTRAINTS", Path("/nonexistent"))
    with pytest.raises(EngineError, match="image app: no packages: pip exited 1") as failed:
        Images(docker.address).get("app")
    assert "No matching distribution found for uvicorn==0.0.0" in str(failed.value)


def test_a_package_of_the_app_that_is_missing_here_is_named(monkeypatch):
    monkeypatch.setattr(recipe, "_PACKAGES", ("no-such-package",))
    with pytest.raises(EngineError, match="no-such-package is missing: pip install 'zdtest"):
        recipes()


def test_a_full_disk_says_where_and_what_to_do(docker, images, tmp_path):
    """On an engine of its own, whose disk is too small."""
    if why := Private().missing():
        pytest.skip(why)
    folder = Path(tempfile.mkdtemp(prefix="zd-"))
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "zdtest", str(disk)], check=True)
    try:
        (tmp_path / "large").write_bytes(b"x" * 40_000_000)
        with tarfile.open(tmp_path / "large.tar", "w") as tar:
            tar.add(tmp_path / "large", "large")
        with Private(folder, disk).lent() as address:
            full = "the disk is full: free some of .*MB free., and run it again"
            with pytest.raises(EngineError, match=f"image base.*: {full}"):
                Builder(address, print).load("base", tmp_path / "large.tar")
            dockerfile = "FROM scratch\nCOPY large /\n"
            (tmp_path / "Dockerfile").write_text(dockerfile)
            with tarfile.open(tmp_path / "context.tar", "w") as tar:
                tar.add(tmp_path / "large", "large")
                tar.add(tmp_path / "Dockerfile", "Dockerfile")
            with (
                (tmp_path / "context.tar").open("rb") as context,
                pytest.raises(EngineError, match=f"image app.*: {full}"),
            ):
                Builder(address, print).build("app", context, {})
    finally:
        # Another container that begins just then has a copy of all mounts for a moment.
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
        shutil.rmtree(folder)


BUILDER = """
import sys
from pathlib import Path
from zdtest.engine.images import Images, recipe
address, name, theirs = sys.argv[1], sys.argv[2], Path(sys.argv[3])
here = Path(recipe.__file__).parent
recipe.Recipe.folder = property(lambda one: theirs if one.name == name else here / one.name)
Images(address).get(name)
"""


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("nginx", {"Dockerfile": "ARG BASE\nFROM ${BASE}\nRUN sleep 987\n"}),
        ("base", {"Dockerfile": "FROM no-such/image\n", "bootstrap.sh": "#!/bin/sh\nsleep 987\n"}),
    ],
)
def test_a_builder_that_is_killed_leaves_nothing(
    docker, images, tmp_path, monkeypatch, name, files
):
    images.get("base")
    changed(monkeypatch, tmp_path / name, name, files)
    known = tags(docker, name)
    argv = [sys.executable, "-c", BUILDER, docker.address, name, str(tmp_path / name)]
    with subprocess.Popen(argv, cwd=ROOT) as process:
        until("it builds", lambda: "" if sleeping() else "not yet", timeout=30)
        process.kill()
    until("nothing sleeps", sleeping, timeout=30)
    until("no container", lambda: building(docker), timeout=30)
    assert tags(docker, name) == known


def building(docker: Docker) -> str:
    """Return the containers in which images are built: those that run are not made of the base."""
    return cli(docker, "ps", "-aq", "--filter", f"label={IMAGE}=base").stdout.strip()


def tags(docker: Docker, name: str) -> list[str]:
    return sorted(cli(docker, "images", "--format", "{{.Tag}}", f"zdtest/{name}").stdout.split())


def sleeping() -> str:
    """Return the processes that sleep for as long as only these builds do."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes().split(b"\0")[:2] == [b"sleep", b"987"]:
                found.append(path.parent.name)
    return " ".join(found)


def test_each_step_that_takes_a_while_is_told_with_its_seconds(monkeypatch):
    told: list[str] = []
    steps = Steps("image app", told.append)
    steps.begin("1/2", "FROM  something")
    steps.begin("2/2", "RUN  make   everything")
    monkeypatch.setattr(builder, "_LONG", 0.0)
    time.sleep(0.01)
    steps.end()
    steps.end()
    assert len(told) == 1
    assert told[0].startswith("image app: 2/2 RUN make everything  ")


def test_a_tag_is_parted_as_docker_parts_it():
    assert builder._parted("nginx") == ("nginx", "latest")
    assert builder._parted("nginx:stable") == ("nginx", "stable")
    assert builder._parted("here:5000/nginx") == ("here:5000/nginx", "latest")
    assert builder._parted("here:5000/nginx:1") == ("here:5000/nginx", "1")
    assert builder._parted("nginx@sha256:ab") == ("nginx", "sha256:ab")
