"""A Docker Engine of our own, for machines that have none: there while somebody uses it."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from zdtest.engine import keeper
from zdtest.engine.ports import own_folder
from zdtest.errors import EngineError, EngineMissing

_STARTED_WITHIN = keeper.STARTED_WITHIN + 3 * keeper.ENDED_WITHIN
_ENDED_WITHIN = 3 * keeper.ENDED_WITHIN
_LONGEST_SOCKET = 100
SYSTEM = "/usr/sbin:/sbin"
"""Where dockerd and ip are; not every user's path has it."""


Tell = Callable[[str], None]
"""Hears of what takes long, a line at a time."""


def silent(line: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Who has the private engine go on."""

    kept: bool
    """Whether it was asked to go on without users."""
    pids: tuple[int, ...]
    """The processes that use it."""


class Private:
    """The private engine with its sockets and log in `folder`, and its images in `data`.

    By default in folders of this user, so that all runs share one engine, and the images last.
    """

    def __init__(self, folder: Path | None = None, data: Path | None = None) -> None:
        self.folder = folder or own_folder("engine")
        self.data = data or cache_folder("engine")
        self.address = f"unix://{self.folder / keeper.DOCKER}"

    def missing(self) -> str:
        """Return why it could not be started here, "" when it could."""
        if os.geteuid() != 0:
            return "a private one needs root"
        if len(self.address) > _LONGEST_SOCKET:
            return f"{self.folder} is too long a path for a socket: set TMPDIR"
        lacking = [name for name in ("dockerd", "containerd", "ip") if not _found(name)]
        if lacking:
            return f"no {' and no '.join(lacking)} here to start a private one"
        return ""

    @contextmanager
    def lent(self, *, keep: bool = False, tell: Tell = silent) -> Iterator[str]:
        """Yield its address; it runs as long as the context, and ends with the last of them.

        With `keep` it goes on until `stop`. Raises EngineMissing where there can be none, and
        EngineError with what it printed last when it does not come up.
        """
        with self._joined(tell) as user:
            try:
                yield self.address
            finally:
                if keep:
                    _say(user, keeper.KEEP)
                _leave(user)

    def usage(self) -> Usage | None:
        """Return who uses it, None when it does not run."""
        if (user := self._connected()) is None:
            return None
        with closing(user):
            _say(user, keeper.WHO)
            if not (told := _line(user)):
                return None  # it is about to end
            _, kept, *pids = told.split()
            return Usage(kept == "1", tuple(map(int, pids)))

    def stop(self) -> Usage | None:
        """Return once it has ended, though it was kept; who uses it still when it goes on."""
        if user := self._connected():
            with closing(user):
                _say(user, keeper.RELEASE)
                _leave(user)
        return self.usage()

    @contextmanager
    def _joined(self, tell: Tell) -> Iterator[socket.socket]:
        """Yield the connection by which we are one of its users."""
        with self._alone():
            for connect in (self._connected, lambda: self._started(tell)):
                if (user := connect()) is None:
                    continue
                _say(user, keeper.USE)
                if (said := _line(user)) == keeper.READY:
                    break
                _leave(user)
                user.close()
                if said:
                    raise EngineError(f"the private Docker Engine: {said}\n{self._log()}")
                # It was about to end when we came.
            else:
                raise EngineError(f"the private Docker Engine did not start\n{self._log()}")
        with closing(user):
            yield user

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time looks whether it runs, and starts it."""
        with (self.folder / "start").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _connected(self) -> socket.socket | None:
        """Return a connection to the keeper, None when there is none."""
        user = socket.socket(socket.AF_UNIX)
        user.settimeout(_STARTED_WITHIN)
        try:
            user.connect(str(self.folder / keeper.USERS))
        except OSError:
            user.close()
            return None
        return user

    def _started(self, tell: Tell) -> socket.socket:
        """Return our connection to a new keeper, which lives on by itself."""
        if why := self.missing():
            raise EngineMissing(why)
        tell("starting a private Docker Engine")
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        ours, theirs = socket.socketpair()
        ours.settimeout(_STARTED_WITHIN)
        # By path and isolated, as the reaper. No label of a run is on it: it outlives ours.
        env = {name: value for name, value in os.environ.items() if not name.startswith("ZDTEST_")}
        folders = (str(self.folder), str(self.data / "root"))
        with theirs:
            subprocess.run(
                [sys.executable, "-I", "-S", keeper.__file__, *folders],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={**env, "PATH": f"{env.get('PATH', os.defpath)}:{SYSTEM}"},
                start_new_session=True,
                check=False,
            )
        return ours

    def _log(self, tail: int = 5) -> str:
        try:
            lines = (self.folder / keeper.LOG).read_text("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-tail:])


def cache_folder(*below: str) -> Path:
    """Return where this user keeps what can be made again; it may not be there yet."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home, "zdtest", *below)


def _found(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=SYSTEM)


def _say(user: socket.socket, line: str) -> None:
    """Say it, unless it has ended."""
    with suppress(OSError):
        user.sendall(f"{line}\n".encode())


def _line(user: socket.socket) -> str:
    """Return the next line, "" when no whole one came before the other side closed."""
    got = b""
    with suppress(OSError):
        while not got.endswith(b"\n"):
            if not (more := user.recv(1)):
                return ""
            got += more
    return got.decode().strip()


def _leave(user: socket.socket) -> None:
    """Return once the engine has ended, or goes on without us."""
    user.settimeout(_ENDED_WITHIN)
    with suppress(OSError):
        user.shutdown(socket.SHUT_WR)
        while user.recv(4096):
            pass
