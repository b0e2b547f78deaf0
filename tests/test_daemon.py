"""The private Docker Engine: there while somebody uses it, and nothing of it is left after that."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socketserver
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace

import pytest
from namespaces import missing as no_namespaces

from zdtest.cli import main
from zdtest.engine import daemon, debian, keeper, private, reaper, remains
from zdtest.engine.daemon import Reached
from zdtest.engine.private import Private, Usage
from zdtest.engine.probe import until
from zdtest.errors import EngineError, EngineMissing

ROOT = Path(__file__).parent.parent

USER = """
import sys
from pathlib import Path
from zdtest.engine.private import Private
with Private(Path(sys.argv[1]), Path(sys.argv[2])).lent() as address:
    print(address, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def own() -> Iterator[Private]:
    """Yield a private engine apart from all others, with a short path for its sockets."""
    if why := Private().missing():
        pytest.skip(why)
    folder = Path(tempfile.mkdtemp(prefix="zd-"))
    one = Private(folder, folder / "data")
    yield one
    one.stop()
    until("it has ended", lambda: left(one), timeout=30)
    shutil.rmtree(folder)


@contextmanager
def user(one: Private) -> Iterator[subprocess.Popen[str]]:
    """Yield another process that starts to use the engine; it leaves when its stdin ends."""
    argv = [sys.executable, "-c", USER, str(one.folder), str(one.data)]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        yield process
        if process.poll() is None:
            process.communicate()


def named(folder: Path) -> dict[int, str]:
    """Return the processes with an argument that is the folder or lies in it, and their names."""
    found = {}
    for one in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            argv = os.fsdecode(Path("/proc", one, "cmdline").read_bytes()).split("\0")
            if any(f"{argument}/".startswith(f"{folder}/") for argument in argv):
                found[int(one)] = Path(argv[0]).name
    return found


def left(one: Private) -> str:
    """Return what is there of the engine besides files, in words."""
    names = [f"{pid} {name}" for pid, name in named(one.folder).items()]
    mounted = Path("/proc/self/mounts").read_text().splitlines()
    mounts = [line for line in mounted if f" {one.folder}/" in line]
    sockets = [str(path) for path in one.folder.glob("*.sock")]
    return " ".join(names + mounts + sockets + bridges(one))


def bridges(one: Private) -> list[str]:
    """Return the interfaces of networks that it ever had."""
    noted = one.data / "root" / "network" / "files" / "local-kv.db"
    try:
        names = re.findall(rb"br-[0-9a-f]{12}", noted.read_bytes())
    except (FileNotFoundError, NotADirectoryError):  # before it has any, and once it has ended
        names = []
    return sorted({name.decode() for name in names} & set(os.listdir("/sys/class/net")))


def daemons(one: Private) -> list[int]:
    """Return the dockerds that have this folder."""
    return [pid for pid, name in named(one.folder / "exec").items() if name == "dockerd"]


def docker(address: str, *argv: str) -> str:
    client = shutil.which("docker")
    done = subprocess.run([client, "-H", address, *argv], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def sleeper(address: str, folder: Path) -> None:
    """Make an image of nothing but this machine's sleep, and what it needs to run."""
    path = shutil.which("sleep")
    needs = re.findall(r"(/\S+)", subprocess.check_output(["ldd", path], text=True))
    with tarfile.open(folder / "sleep.tar", "w") as tar:
        for name in needs:
            tar.add(Path(name).resolve(), name)
        tar.add(path, "/sleep")
    docker(address, "import", str(folder / "sleep.tar"), "sleeper")


@pytest.mark.docker
def test_it_answers_while_it_is_lent_and_nothing_is_left_after(own):
    told = []
    with own.lent(tell=told.append) as address:
        assert daemon.probe(address) == Reached(address, docker(address, *_VERSION))
        assert own.usage() == Usage(kept=False, pids=(os.getpid(),))
        assert left(own)
    assert left(own) == ""
    assert own.usage() is None
    assert told == ["starting a private Docker Engine"]


_VERSION = ("version", "--format", "{{.Server.Version}}")


@pytest.mark.docker
def test_it_leaves_the_machine_as_it_was(own):
    def machine() -> list[str]:
        rules = subprocess.run(["iptables-save"], capture_output=True, text=True).stdout
        # Comments tell the time, and counters what went through.
        rules = [line.partition(" [")[0] for line in rules.splitlines() if line[:1] != "#"]
        forwarding = Path("/proc/sys/net/ipv4/ip_forward").read_text()
        return [forwarding, str(Path("/sys/class/net/docker0").exists()), *rules]

    before = machine()
    with own.lent() as address:
        network = docker(address, "network", "create", "one")
        assert bridges(own) == [f"br-{network[:12]}"]
        assert machine() == before
    assert bridges(own) == []
    assert machine() == before


@pytest.mark.docker
def test_two_users_share_one_and_the_last_one_ends_it(own):
    with own.lent() as address:
        (first,) = daemons(own)
        with user(own) as other:
            assert other.stdout.readline() == f"{address}\n"
            assert daemons(own) == [first]
            assert set(own.usage().pids) == {os.getpid(), other.pid}
        assert daemon.probe(address)
        assert daemons(own) == [first]
    assert left(own) == ""


@pytest.mark.docker
def test_users_that_come_at_the_same_moment_all_get_the_same_one(own):
    with user(own) as one, user(own) as two, user(own) as three:
        for process in (one, two, three):
            assert process.stdout.readline() == f"{own.address}\n"
        assert len(daemons(own)) == 1
        assert len(own.usage().pids) == 3
    assert left(own) == ""


@pytest.mark.docker
def test_another_one_never_gets_the_same_images(own):
    folder = Path(tempfile.mkdtemp(prefix="zd-"))
    other = Private(folder, own.data)
    with (
        own.lent(),
        pytest.raises(EngineError, match=f"in use by another private engine.*'{own.data}/root'"),
        other.lent(),
    ):
        pass
    assert left(other) == ""
    with other.lent() as address:
        assert isinstance(daemon.probe(address), Reached)
    assert left(other) == ""
    shutil.rmtree(folder)


@pytest.mark.docker
def test_one_that_comes_while_it_ends_gets_another_one(own):
    for _ in range(5):
        with user(own) as first:
            first.stdout.readline()
            first.kill()
        with own.lent() as address:
            assert isinstance(daemon.probe(address), Reached)
    assert left(own) == ""


@pytest.mark.docker
def test_nothing_is_left_thirty_seconds_after_its_only_user_was_killed(own):
    with user(own) as owner:
        address = owner.stdout.readline().strip()
        sleeper(address, own.folder)
        ours = ("--label", f"{remains.RUN}=test")
        docker(address, "network", "create", *ours, "ours")
        docker(address, "network", "create", "theirs")
        docker(address, "volume", "create", *ours, "ours")
        for name, more in (("ours", ours), ("theirs", ())):
            docker(address, "run", "-d", "--network", name, *more, "sleeper", "/sleep", "99")
        assert len(bridges(own)) == 2
        owner.kill()
    until("nothing is left", lambda: left(own), timeout=30)
    with own.lent() as address:
        assert list(remains.remnants(address)) == []
        assert docker(address, "images", "-q")  # which are what it keeps


@pytest.mark.docker
def test_one_whose_user_was_killed_before_it_was_up_ends_as_well(own):
    with user(own) as owner:
        until("it starts", lambda: "" if daemons(own) else "no daemon", timeout=30)
        owner.kill()
    until("nothing is left", lambda: left(own), timeout=30)


@pytest.mark.docker
def test_a_kept_one_goes_on_until_it_is_stopped(own):
    with own.lent(keep=True) as address:
        pass
    assert own.usage() == Usage(kept=True, pids=())
    with own.lent():
        assert own.stop() == Usage(kept=False, pids=(os.getpid(),))
        assert isinstance(daemon.probe(address), Reached)
    assert left(own) == ""
    with own.lent(keep=True):
        pass
    assert own.stop() is None
    assert left(own) == ""


@pytest.mark.docker
def test_one_whose_keeper_was_killed_ends_and_the_next_one_finds_no_trace(own):
    with own.lent() as address:
        docker(address, "network", "create", "one")
        there = named(own.folder).items()
        (guard,) = [pid for pid, name in there if name.startswith("python")]
        os.kill(guard, signal.SIGKILL)
        until("dockerd ends", lambda: " ".join(map(str, daemons(own))), timeout=20)
    with own.lent() as address:
        assert isinstance(daemon.probe(address), Reached)
        assert len(named(own.folder / "exec")) == 2
    assert left(own) == ""


@pytest.mark.docker
def test_half_a_record_of_its_networks_does_not_outlive_it(own):
    """As a kill in the midst of a network's end leaves it; dockerd would panic over it."""
    store = own.data / "root" / "network" / "files" / "local-kv.db"
    with own.lent():
        assert store.exists()
    assert not store.exists()
    store.write_bytes(b"half a record")
    with own.lent() as address:
        assert isinstance(daemon.probe(address), daemon.Reached)


@pytest.fixture
def stranger() -> Iterator[Callable[..., int]]:
    """Starts processes that are none of ours; they end with the test."""
    with contextlib.ExitStack() as tidy:

        def start(*argv: object) -> int:
            one = subprocess.Popen([*map(str, argv)], stderr=subprocess.DEVNULL)
            tidy.callback(one.wait)
            tidy.callback(one.kill)
            return one.pid

        yield start


def test_who_only_looks_into_its_folder_is_not_ended_with_it(tmp_path, stranger, monkeypatch):
    monkeypatch.setattr(keeper, "ENDED_WITHIN", 60.0)
    folder, data = tmp_path / "folder", tmp_path / "data"
    (folder / "exec").mkdir(parents=True)
    (folder / "exec" / "note").write_text("mine\n")
    reads = stranger("tail", "-f", folder / "exec" / "note")
    claims = stranger("sh", "-c", "kill -STOP $$", "--exec-root", folder / "exec")
    until("both run", lambda: "" if len(named(folder)) == 2 else "not yet", timeout=5)
    began = time.monotonic()
    keeper.Engine(folder, data).outlive()
    assert time.monotonic() - began < 30
    assert {reads, claims} <= {one.pid for one in reaper.processes()}


@pytest.mark.parametrize(
    ("program", "argv", "part"),
    [
        ("dockerd", ("--exec-root", "{}"), True),
        ("containerd", ("--state", "{}/containerd"), True),
        ("containerd-shim-runc-v2", ("-address", "{}/containerd.sock"), True),
        ("dockerd", ("--exec-root", "{}/other"), False),
        ("dockerd", ("--data-root", "{}"), False),
        ("containerd", ("--address", "{}-too/containerd.sock"), False),
        ("containerd-shim-runc-v2", ("-address", "/run/containerd/containerd.sock"), False),
        ("tail", ("--exec-root", "{}"), False),
    ],
)
def test_a_part_is_known_by_its_program_and_where_it_was_told_to_live(
    tmp_path, stranger, program, argv, part
):
    """Whatever the arguments say, the kernel knows which program it is."""
    copy = tmp_path / program
    shutil.copy(shutil.which("sh"), copy)
    folder = tmp_path / "exec"
    pid = stranger(copy, "-c", "kill -STOP $$", *(one.format(folder) for one in argv))
    until("it runs", lambda: "" if reaper.state(pid) == "T" else "not yet", timeout=5)
    assert keeper._parts(folder) == ({pid: program} if part else {})


def test_one_that_dies_as_it_starts_says_its_last_words(own):
    own.data.mkdir()
    (own.data / "root").write_text("no folder")
    with (
        pytest.raises(EngineError, match=r"did not start\n(.*\n)*.*FileExistsError") as failed,
        own.lent(),
    ):
        pass
    assert len(str(failed.value).splitlines()) <= 7
    assert left(own) == ""
    (own.data / "root").unlink()
    (own.data / "root" / "image").mkdir(parents=True)
    (own.data / "root" / "image" / "overlay2").write_text("no folder either")
    with pytest.raises(EngineError, match="Engine: it ended\n") as failed, own.lent():
        pass
    assert "overlay2: not a directory" in str(failed.value)
    assert left(own) == ""


def test_what_keeps_it_from_being_started_is_said_in_a_line(own, monkeypatch):
    assert own.missing() == ""
    assert Private(Path("/" + "x" * 100)).missing() == (
        f"/{'x' * 100} is too long a path for a socket: set TMPDIR"
    )
    with as_nobody():
        assert own.missing() == "a private one needs root"
    monkeypatch.setattr(private, "SYSTEM", "/nonexistent")
    monkeypatch.setenv("PATH", "/nonexistent")
    why = "no dockerd and no containerd and no ip here to start a private one"
    assert own.missing() == why
    with pytest.raises(EngineMissing, match=why), own.lent():
        pass


@contextmanager
def as_nobody() -> Iterator[None]:
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


GOOD = {"KernelVersion": os.uname().release, "OperatingSystem": "Debian", "SecurityOptions": []}


@contextmanager
def engine(
    info: dict[str, object], api: str = "1.41", version: str = "20.10.24", **more: str
) -> Iterator[str]:
    """Yield the address of a server that tells this about itself, as a Docker Engine does."""
    told = more or {"ApiVersion": api, "Version": version}

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(told if self.path == "/version" else info).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *about: object) -> None:
            pass

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

    folder = tempfile.mkdtemp(prefix="zd-")
    with Server(f"{folder}/docker.sock", Answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"unix://{folder}/docker.sock"
        server.shutdown()
    shutil.rmtree(folder)


def refused(address: str) -> str:
    """Return why it is refused, without its path, in one line."""
    why = daemon.probe(address)
    assert isinstance(why, str)
    assert "\n" not in why
    return why.removeprefix(f"{address.removeprefix('unix://')}: ")


def test_an_engine_of_this_machine_is_reached():
    with engine(GOOD) as address:
        assert daemon.probe(address) == Reached(address, "20.10.24", private=False)


def test_an_engine_that_cannot_be_used_is_refused_with_what_was_expected(tmp_path):
    with engine(GOOD, "1.39", "18.09.1") as address:
        assert refused(address) == (
            "Docker 18.09.1 is too old: its API is 1.39, expected 1.40 (Docker 19.03) or later"
        )
    with engine({**GOOD, "SecurityOptions": ["name=rootless"]}) as address:
        assert refused(address).startswith("it is rootless: expected one of root's")
    with engine({**GOOD, "OperatingSystem": "Docker Desktop"}) as address:
        assert refused(address).startswith("Docker Desktop runs in a machine of its own (kernel ")
    with engine({**GOOD, "KernelVersion": "6.6.6-other"}) as address:
        assert "(kernel 6.6.6-other): expected this one's, " in refused(address)
    for elsewhere in ("tcp://127.0.0.1:2375", "ssh://somewhere", "unix://relative"):
        assert daemon.probe(elsewhere) == (
            f"{elsewhere}: expected unix:///PATH, as clocks and pids must be this machine's"
        )
    assert refused(f"unix://{tmp_path}/none") == "nothing answers: No such file or directory"
    assert refused(f"unix:///{'x' * 200}").startswith("nothing answers: ")


def test_what_answers_but_is_no_docker_engine_is_refused(monkeypatch):
    with engine({}, Something="else") as address:
        assert refused(address).startswith("no answer from a Docker Engine")
    monkeypatch.setattr(daemon, "_PATIENCE", 0.2)
    with silent_server() as address:
        assert refused(address).startswith("no answer from a Docker Engine: ")


@contextmanager
def silent_server() -> Iterator[str]:
    """Yield the address of a server that accepts, and says nothing."""
    folder = tempfile.mkdtemp(prefix="zd-")
    with socketserver.UnixStreamServer(f"{folder}/s", socketserver.BaseRequestHandler):
        yield f"unix://{folder}/s"
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes somebody else")
def test_a_socket_of_others_is_said_to_be_that():
    with engine(GOOD) as address:
        os.chmod(Path(address.removeprefix("unix://")).parent, 0o755)
        os.chmod(address.removeprefix("unix://"), 0o600)
        with as_nobody():
            assert refused(address) == (
                "permission denied: expected root, or a member of the group docker"
            )


@pytest.mark.skipif(bool(no_namespaces()), reason=no_namespaces())
def test_an_engine_whose_processes_are_not_seen_from_here_is_refused():
    code = "import sys; from zdtest.engine import daemon; print(daemon.probe(sys.argv[1]))"
    with engine(GOOD) as address:
        inside = ["unshare", "--pid", "--fork", sys.executable, "-c", code, address]
        said = subprocess.check_output(inside, text=True, cwd=ROOT)
    assert "runs outside of our pid namespace: expected an engine whose processes we see" in said


def test_docker_host_is_the_only_candidate_where_it_is_set(monkeypatch, tmp_path):
    with engine(GOOD) as address:
        monkeypatch.setattr(daemon, "USUAL", address)
        monkeypatch.delenv("DOCKER_HOST", raising=False)
        assert daemon.found() == Reached(address, "20.10.24")
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
        assert daemon.found() == f"{tmp_path}/none: nothing answers: No such file or directory"
        with pytest.raises(EngineMissing, match="no private one is started"), daemon.reached():
            pass
        monkeypatch.setenv("DOCKER_HOST", address)
        with daemon.reached() as there:
            assert there == Reached(address, "20.10.24")


@pytest.mark.docker
def test_a_private_one_is_lent_where_none_answers_and_found_while_it_runs(own, monkeypatch):
    monkeypatch.setattr(daemon, "Private", lambda: own)
    monkeypatch.setattr(daemon, "USUAL", f"unix://{own.folder}/none")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    assert isinstance(daemon.found(), str)
    with daemon.reached() as there:
        assert there.private
        assert there.address == own.address
        assert daemon.found() == there
    assert left(own) == ""


@pytest.mark.docker
def test_by_hand_it_is_started_shown_and_stopped(own, monkeypatch, capsys):
    monkeypatch.setattr(daemon, "Private", lambda: own)
    monkeypatch.setattr(private, "Private", lambda: own)
    monkeypatch.setattr(daemon, "USUAL", f"unix://{own.folder}/none")
    monkeypatch.delenv("DOCKER_HOST", raising=False)

    def said(act: str) -> str:
        assert main(["engine", act]) == 0
        return capsys.readouterr().out

    assert "a private one is started when it is needed" in said("status")
    assert f"export DOCKER_HOST={own.address}" in said("start")
    assert "kept until `zdtest engine stop`, used by nobody" in said("status")
    assert said("stop") == "ended\n"
    assert said("stop") == "no private engine runs\n"
    assert left(own) == ""
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:2375")
    for act in ("start", "status"):
        assert main(["engine", act]) == 4
        said_wrong = capsys.readouterr().err
        assert "expected unix:///PATH" in said_wrong
        assert said_wrong.count("\n") == 1
    assert main(["engine", "restart"]) == 2


@pytest.fixture
def bare(tmp_path, monkeypatch) -> SimpleNamespace:
    """A Debian without any of it, whose apt-get notes what it is asked."""
    asked, code = tmp_path / "asked", tmp_path / "code"
    (tmp_path / "bin").mkdir()
    apt = tmp_path / "bin" / "apt-get"
    apt.write_text(f'#!/bin/sh\necho "$@" >> {asked}\necho E: broken\nexit "$(cat {code})"\n')
    apt.chmod(0o755)
    code.write_text("0")
    (tmp_path / "bin" / "cat").symlink_to(shutil.which("cat"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(debian, "SYSTEM", "/nonexistent")
    monkeypatch.setattr(debian, "_KEYRING", "/nonexistent")
    monkeypatch.setattr(debian, "_release", lambda: {"ID": "debian", "VERSION_ID": "12"})
    monkeypatch.setattr(debian.os, "geteuid", lambda: 0)
    monkeypatch.setattr(debian, "found", lambda: "nothing answers")
    monkeypatch.delenv("ZD_ENGINE", raising=False)
    daemon.compose.cache_clear()
    yield SimpleNamespace(asked=asked, code=code)
    daemon.compose.cache_clear()


EVERYTHING = [
    "debian-archive-keyring", "debootstrap", "docker-compose", "docker.io", "iproute2", "iptables",
]  # fmt: skip


def test_what_is_lacking_is_installed_and_nothing_else(bare, monkeypatch):
    told = []
    assert sorted(debian.install(tell=told.append)) == EVERYTHING
    update, install = bare.asked.read_text().splitlines()
    assert update.endswith(" update")
    assert "--no-install-recommends" in install
    assert sorted(install.partition(" install ")[2].split()) == EVERYTHING
    assert [line.split("  ")[0].split()[1] for line in told] == ["update", "install"]
    monkeypatch.setattr(debian, "_release", lambda: {"ID": "debian", "VERSION_ID": "13"})
    assert sorted(debian.lacking()) == sorted([*EVERYTHING, "docker-cli"])
    monkeypatch.setattr(debian, "found", lambda: Reached("unix:///x", "28.0"))
    monkeypatch.setattr(debian, "compose", lambda: ("docker", "compose"))
    monkeypatch.setattr(debian, "_has", lambda name: name == "docker")
    monkeypatch.setattr(debian.os, "geteuid", lambda: 1000)
    assert debian.install() == []


def test_where_nothing_can_be_installed_the_reason_is_one_line(bare, monkeypatch, capsys):
    def said() -> str:
        assert main(["engine", "install"]) == 4
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        assert not bare.asked.exists()
        return line

    monkeypatch.setenv("ZD_ENGINE", "process")
    assert "ZD_ENGINE=process: no engine is wanted" in said()
    monkeypatch.delenv("ZD_ENGINE")
    monkeypatch.setattr(debian, "_release", lambda: {"ID": "fedora"})
    assert "this is neither Debian nor Ubuntu" in said()
    monkeypatch.setattr(debian, "_release", lambda: {"ID": "mint", "ID_LIKE": "ubuntu debian"})
    monkeypatch.setattr(debian.os, "geteuid", lambda: 1000)
    assert "sudo apt-get install docker-compose-v2 docker.io iproute2 iptables" in said()


def test_an_apt_get_that_fails_is_shown_with_its_last_lines(bare, capsys):
    bare.code.write_text("100")
    assert main(["engine", "install"]) == 4
    said = capsys.readouterr().err
    assert "update: exited 100\nE: broken\n" in said


def test_compose_is_whichever_answers(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    for there, found in (
        ({}, ()),
        ({"docker-compose": 0, "docker": 1}, ("docker-compose",)),
        ({"docker-compose": 0, "docker": 0}, ("docker", "compose")),
        ({"docker-compose": 1, "docker": 1}, ()),
    ):
        for name, code in there.items():
            (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
            (tmp_path / name).chmod(0o755)
        daemon.compose.cache_clear()
        assert daemon.compose() == found
    daemon.compose.cache_clear()
