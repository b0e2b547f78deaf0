"""Leases of TCP ports on 127.0.0.1 that runs side by side never share.

The ports lie outside the kernel's ephemeral range: there, an outgoing connection of the load could
sit on an app's port between its stop and its start. A lease is a locked file, so the kernel takes
it back when its process dies; a port is also tried by a bind, which sees everybody else's servers,
a kept stack's among them.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from zdtest.errors import EngineError

_LOWEST, _ENOUGH = 15_000, 1_000


@dataclass(frozen=True, slots=True)
class Lease:
    """A port that is ours until `release`, or until this process dies."""

    port: int
    lock: int

    def release(self) -> None:
        """Give the port back."""
        os.close(self.lock)


def lease() -> Lease:
    """Return the lease of a port that nobody uses; raises EngineError when there is none."""
    span = span_outside(ephemeral())
    first = random.randrange(len(span))
    for port in chain(span[first:], span[:first]):
        if taken := _lock(port):
            if is_free(port):
                return taken
            taken.release()
    raise EngineError(f"no free port on 127.0.0.1 from {span[0]} to {span[-1]}")


def is_free(port: int) -> bool:
    """Return whether nothing at all holds the port: no server, no connection, no TIME_WAIT.

    Without SO_REUSEADDR the bind is stricter than a server's, on purpose.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def ephemeral() -> range:
    """Return the ports from which the kernel picks those of outgoing connections."""
    low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()
    return range(int(low), int(high) + 1)


def span_outside(taken: range) -> range:
    """Return the ports to lease from: below `taken`, else above it, else right in it."""
    for span in (range(_LOWEST, taken.start), range(taken.stop, 65_536)):
        if len(span) >= _ENOUGH:
            return span
    return range(_LOWEST, 32_768)


def own_folder(*below: str) -> Path:
    """Return a folder of this user only, shared by all runs of this machine."""
    top = Path(tempfile.gettempdir()) / f"zdtest-{os.getuid()}"
    top.mkdir(mode=0o700, exist_ok=True)
    if top.lstat().st_uid != os.getuid() or top.is_symlink():
        raise EngineError(f"{top} belongs to somebody else; expected a folder of our own")
    folder = top.joinpath(*below)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _lock(port: int) -> Lease | None:
    lock = os.open(own_folder("ports") / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return Lease(port, lock)
