"""Network namespaces of our own: nothing of them has a name, so nothing of them can stay behind.

Each is held by a process that ends with our standard input, however we end; its links go with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

MASTER = "10.77.0.1"
"""Where the hub is reached from every spoke."""


def missing() -> str:
    """Return what keeps this machine from making namespaces, "" where nothing does."""
    absent = [name for name in ("ip", "unshare", "nsenter") if not _found(name)]
    if os.geteuid():
        return "needs root"
    if absent:
        return f"needs {', '.join(absent)} (apt-get install iproute2 util-linux)"
    tried = subprocess.run(["unshare", "-n", "true"], capture_output=True, text=True, check=False)
    return tried.stderr.strip()


def _found(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def shifted(seconds: int) -> list[str]:
    """Return what makes a command run with CLOCK_MONOTONIC that far ahead; [] where none can."""
    words = ["unshare", "--time", "--monotonic", str(seconds), "--fork", "--kill-child"]
    tried = subprocess.run([*words, "true"], capture_output=True, check=False)
    return words if tried.returncode == 0 else []


class Namespace:
    """A network namespace; `inside` makes a command run in it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.inside = ["nsenter", "--net", "--target", str(pid)]

    def ip(self, words: str) -> None:
        subprocess.run([*self.inside, str(_found("ip")), *words.split()], check=True)


@contextmanager
def namespace() -> Iterator[Namespace]:
    """Yield a new namespace, its loopback up."""
    holder = subprocess.Popen(
        ["unshare", "-n", "sh", "-c", "echo ready; exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "ready\n"
            one = Namespace(holder.pid)
            one.ip("link set lo up")
            yield one
        finally:
            holder.kill()


@contextmanager
def star(names: Sequence[str]) -> Iterator[tuple[Namespace, dict[str, Namespace]]]:
    """Yield a hub and a spoke for each name, linked to the hub by an interface of that name."""
    with ExitStack() as tidy:
        hub = tidy.enter_context(namespace())
        hub.ip(f"addr add {MASTER}/32 dev lo")
        spokes = {name: tidy.enter_context(namespace()) for name in names}
        for number, (name, spoke) in enumerate(spokes.items(), 1):
            hub.ip(f"link add name {name} type veth peer name hub netns {spoke.pid}")
            hub.ip(f"addr add 10.77.{number}.1/30 dev {name}")
            hub.ip(f"link set {name} up")
            spoke.ip(f"addr add 10.77.{number}.2/30 dev hub")
            spoke.ip("link set hub up")
            spoke.ip(f"route add default via 10.77.{number}.1")
        yield hub, spokes
