"""Keeps a private Docker Engine while somebody uses it, and leaves nothing of it behind.

A process between the engine and its users. A user is a connection, which the kernel closes when its
process ends, in whatever way: once the last one is gone the engine ends, unless it is to be kept.
All that the engine starts, and leaves, stays below this process, as it is the subreaper of all its
descendants. Should it be killed itself, then the engine gets SIGTERM from the kernel.

Whoever connects may say ``use``, which makes it a user and is answered by ``ready``, or by why not;
``keep`` and ``release``, which say whether the engine goes on without users; and ``who``, answered
by ``kept 0|1 PID…``. Who has nothing more to say shuts down its side, and reads an end-of-file once
the engine has ended, or at once where it goes on.

The standard library only, and nothing of ours: it is started by its path.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib.util
import itertools
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

USE, READY, KEEP, RELEASE, WHO = "use", "ready", "keep", "release", "who"
"""The lines of its protocol."""

DOCKER, USERS, LOG, LOCK = "docker.sock", "users.sock", "log", "lock"
"""What is in its folder: the engine's socket and its own, what both print, who may be here."""

STARTED_WITHIN = 60.0
ENDED_WITHIN = 20.0

_PART = re.compile(r"dockerd|containerd|containerd-shim(-[a-z0-9-]+)?")
_STEP = 0.02
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER, _MNT_DETACH = 1, 36, 2
_LIBC = ctypes.CDLL(None, use_errno=True)
_CONTAINERD = 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'


def main(folder: str, data: str) -> NoReturn:
    """Keep the engine for whoever started this, its first user on stdin, and for those to come."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    if os.fork():
        os._exit(0)  # what goes on is nobody's child
    here = Path(folder)
    # Held until we end: who comes later starts once all of this one is gone.
    lock = os.open(here / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    log = os.open(here / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    _LIBC.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    engine = Engine(here, Path(data))
    engine.take()
    engine.outlive()
    try:
        with Users(here / USERS, socket.socket(fileno=os.dup(0))) as users:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            engine.start()
            users.serve(engine)
            engine.empty()
    finally:
        engine.end()
    # At once, so that whoever waits for the end-of-file finds no trace of us either.
    os._exit(0)


class Engine:
    """containerd and dockerd, with a folder for what lives as long as they, and one for images."""

    def __init__(self, folder: Path, data: Path) -> None:
        self._folder, self._data = folder, data
        self._exec = folder / "exec"
        self._address = f"unix://{folder / DOCKER}"
        self._parts: dict[str, subprocess.Popen[bytes]] = {}

    def take(self) -> None:
        """Have the images to ourselves; raises BlockingIOError where another engine has them."""
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            why = "in use by another private engine: expected its TMPDIR, or another XDG_CACHE_HOME"
            raise BlockingIOError(error.errno, why, str(self._data)) from None

    def outlive(self) -> None:
        """Return once nothing is left of one whose keeper was killed: it is ending by itself."""
        limit = time.monotonic() + ENDED_WITHIN
        while left := _parts(self._exec):
            if set(left.values()) == {"containerd"} or time.monotonic() > limit:
                for pid in left:
                    _kill(pid, self._exec)
            time.sleep(_STEP)
        self.clear()

    def start(self) -> None:
        """Start both; they may not answer yet.

        A containerd of its own, because dockerd would share that of the machine's own Docker. The
        machine's firewall, its forwarding and a bridge named docker0 are not ours to change: the
        networks that we make find their containers, and this machine them, without.
        """
        self._exec.mkdir(mode=0o700, exist_ok=True)
        under = self._exec / "containerd.sock"
        # Ours, in the place of those below /etc that the machine's own go by.
        theirs, mine = self._exec / "containerd.toml", self._exec / "dockerd.json"
        theirs.write_text(_CONTAINERD)
        mine.write_text("{}")
        self._run(
            "containerd", "--config", theirs, "--log-level", "warn", "--address", under,
            "--root", self._data / "containerd", "--state", self._exec / "containerd",
        )  # fmt: skip
        self._run(
            "dockerd", "--config-file", mine, "--log-level", "warn", "--containerd", under,
            "--data-root", self._data, "--exec-root", self._exec, "--host", self._address,
            "--pidfile", self._exec / "pid", "--bridge=none", "--iptables=false",
            "--ip6tables=false", "--ip-forward=false", "--ip-masq=false",
        )  # fmt: skip

    def _run(self, *argv: str | Path) -> None:
        """Start a part in a session of its own.

        Should we be killed, dockerd gets SIGTERM and ends its containers, for which it needs
        containerd: that is left to the next keeper.
        """
        fate = signal.SIGTERM if argv[0] == "dockerd" else 0
        self._parts[str(argv[0])] = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            preexec_fn=lambda: _LIBC.prctl(_SET_PDEATHSIG, fate, 0, 0, 0),
        )

    @property
    def answers(self) -> bool:
        """Whether it can be asked."""
        try:
            return list(_remains().remnants(self._address, "none")) == []
        except OSError:
            return False

    @property
    def over(self) -> bool:
        """Whether a part of it has ended."""
        return any(one.poll() is not None for one in self._parts.values())

    def empty(self) -> None:
        """Remove what runs left in it; nothing is asked of one that does not answer."""
        remains = _remains()
        try:
            for run in {one.run for one in remains.remnants(self._address)}:
                remains.remove(self._address, run, quiet=0)
        except OSError:
            pass

    def end(self) -> None:
        """End it: no process, mount, interface or socket of it is left on return."""
        for name, one in reversed(self._parts.items()):  # who uses the other one first
            if one.poll() is None:
                one.terminate()
                try:
                    one.wait(ENDED_WITHIN)
                except subprocess.TimeoutExpired:
                    print(f"{name} still ran after {ENDED_WITHIN:.0f} s", flush=True)
        _end_children()
        self.clear()

    def clear(self) -> None:
        """Take away what engines leave that were killed."""
        for path in _mounts(self._folder, self._data):
            _LIBC.umount2(os.fsencode(path), _MNT_DETACH)
        for bridge in self._bridges():
            subprocess.run(["ip", "link", "delete", bridge], check=False)
        # All its networks have ended with it, and one that was just being deleted when it was
        # killed is half a record in here, on which dockerd panics at every later start.
        self._networks.unlink(missing_ok=True)
        shutil.rmtree(self._exec, ignore_errors=True)
        (self._folder / DOCKER).unlink(missing_ok=True)

    @property
    def _networks(self) -> Path:
        """Where dockerd notes its networks."""
        return self._data / "network" / "files" / "local-kv.db"

    def _bridges(self) -> list[str]:
        """Return the interfaces that are there of all that the engine ever noted as its own."""
        try:
            names = re.findall(rb'"BridgeName":"(br-[0-9a-f]{12})"', self._networks.read_bytes())
        except OSError:
            return []
        here = set(os.listdir("/sys/class/net"))
        return sorted({name.decode() for name in names} & here)


class Users:
    """Those who use the engine: `first`, and whoever says so at the socket at `path`."""

    def __init__(self, path: Path, first: socket.socket) -> None:
        self._path = path
        self._connected = {first.fileno(): first}
        self._users: set[socket.socket] = set()
        self._left: list[socket.socket] = []
        """Who waits for the end of the engine."""
        self._kept = self._ready = False
        self._used(first)

    def __enter__(self) -> Users:
        self._path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen(64)
        self._poll = select.poll()
        for fd in (self._listener.fileno(), *self._connected):
            self._poll.register(fd, select.POLLIN)
        return self

    def __exit__(self, *_: object) -> None:
        # Those whom nobody let in read an end-of-file, and start an engine of their own.
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def serve(self, engine: Engine) -> None:
        """Return when the engine is needed no more, or has ended, or did not come up in time."""
        limit = time.monotonic() + STARTED_WITHIN
        while self._users or self._kept:
            if engine.over or (not self._ready and time.monotonic() > limit):
                return self._tell("it ended" if engine.over else "no answer in time")
            if not self._ready and engine.answers:
                self._ready = True
                self._tell(READY)
            for fd, _ in self._poll.poll(200 if self._ready else _STEP * 1000):
                self._accept() if fd == self._listener.fileno() else self._hear(fd)

    def _accept(self) -> None:
        one, _ = self._listener.accept()
        self._connected[one.fileno()] = one
        self._poll.register(one.fileno(), select.POLLIN)

    def _hear(self, fd: int) -> None:
        """Do as one says who is connected, and who leaves by saying nothing more."""
        one = self._connected[fd]
        try:
            said = one.recv(4096).decode()
        except OSError:
            said = ""
        for line in said.split():
            if line == USE:
                self._used(one)
            elif line == WHO:
                _say(one, " ".join(["kept", str(int(self._kept)), *map(_pid, self._users)]))
            else:
                self._kept = {KEEP: True, RELEASE: False}.get(line, self._kept)
        if not said:
            self._poll.unregister(fd)
            self._users.discard(self._connected.pop(fd))
            if self._users or self._kept:
                one.close()
            else:
                self._left.append(one)

    def _used(self, one: socket.socket) -> None:
        self._users.add(one)
        if self._ready:
            _say(one, READY)

    def _tell(self, line: str) -> None:
        for user in self._users:
            _say(user, line)


def _say(user: socket.socket, line: str) -> None:
    with contextlib.suppress(OSError):  # it has ended, which the next look tells
        user.sendall(f"{line}\n".encode())


def _pid(user: socket.socket) -> str:
    """Return which process connected."""
    told = user.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return str(struct.unpack("3i", told)[0])


def _end_children() -> None:
    """SIGKILL our children, and theirs that become ours by it, until there are none."""
    limit = time.monotonic() + ENDED_WITHIN
    mine = Path("/proc/self/task", str(os.getpid()), "children")
    while (children := mine.read_text().split()) and time.monotonic() < limit:
        for pid in children:
            os.kill(int(pid), signal.SIGKILL)  # ours to wait for: nobody else has its pid yet
        time.sleep(_STEP)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return


def _parts(folder: Path) -> dict[int, str]:
    """Return the parts of the engine that lives in the folder: pids, and names of programs.

    What the kernel says that they run is dockerd, containerd or one of its shims, and it was told
    to live just there. Everybody may have arguments that name the folder, who reads its log or
    looks into it, and is a stranger all the same.
    """
    there = {
        ("--exec-root", str(folder)),
        ("--state", str(folder / "containerd")),
        *((option, str(folder / "containerd.sock")) for option in ("--address", "-address")),
    }
    found = {}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            # A program that was replaced meanwhile, as by an upgrade, is said to be deleted.
            program = Path(os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")).name
            argv = os.fsdecode(Path("/proc", pid, "cmdline").read_bytes()).split("\0")
        except OSError:
            continue
        if _PART.fullmatch(program) and there & {*itertools.pairwise(argv)}:
            found[int(pid)] = program
    return found


def _kill(pid: int, folder: Path) -> None:
    """SIGKILL the process, never a later one that got its pid."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if pid in _parts(folder):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        pass  # it has ended, which the next look tells
    finally:
        os.close(handle)


def _mounts(*folders: Path) -> list[str]:
    """Return what is mounted at or below the folders, what lies deepest first."""
    with open("/proc/self/mountinfo", "rb") as file:
        points = [line.split()[4].decode("unicode_escape") for line in file]
    below = [one for one in points if any(Path(one).is_relative_to(top) for top in folders)]
    return sorted(below, key=len, reverse=True)


def _remains() -> Any:
    """Return the module beside this file, wherever Python looks for modules."""
    spec = importlib.util.spec_from_file_location(
        "zdtest_remains", Path(__file__).with_name("remains.py")
    )
    if spec is None or spec.loader is None:
        raise ImportError("remains.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2])
    except BaseException:
        traceback.print_exc()
        os._exit(1)  # as main does
