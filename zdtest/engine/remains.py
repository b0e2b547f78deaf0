"""What runs left in a Docker Engine: containers, networks and volumes, known by their labels.

Each carries ``zdtest.run``, the run's name, and ``zdtest.owner``, who runs it. Nothing without that
label is ever looked at. Compose projects are containers and networks like any other.

The standard library only, and nothing of ours: the reaper loads this file by its path.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

RUN, OWNER, KEPT = "zdtest.run", "zdtest.owner", "zdtest.kept"
INSTANCE, VERSION = "zdtest.instance", "zdtest.version"
"""The labels: the run's name, who runs it, "left on purpose" ("" where not); of a container, what
it is."""

_PATIENCE = 10.0
_QUIET = 0.5
"""So long nothing new must have come: what was asked for before its asker died may come late."""


class Owner(NamedTuple):
    """The process that runs a run, told apart from every other one of any boot or container."""

    pid: int
    began: int
    namespace: str
    boot: str

    @classmethod
    def me(cls) -> Owner:
        """Return this process."""
        return cls(os.getpid(), _began(os.getpid()), os.readlink("/proc/self/ns/pid"), _boot())

    @classmethod
    def read(cls, label: str) -> Owner | None:
        """Return the owner that `str` wrote; None where it means nothing."""
        pid, began, namespace, boot = ([*label.split("|"), "", "", "", ""])[:4]
        if not (pid.isdecimal() and began.isdecimal()):
            return None
        return cls(int(pid), int(began), namespace, boot)

    def __str__(self) -> str:
        return "|".join(map(str, self))

    @property
    def dead(self) -> bool:
        """Whether it has ended for certain; one whose pids are not ours may live."""
        if self.boot != _boot():
            return True
        if self.namespace != os.readlink("/proc/self/ns/pid"):
            return False
        try:
            return _began(self.pid) != self.began
        except (OSError, ValueError):
            return True


def _began(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19])


def _boot() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


@dataclass(frozen=True)
class Remnant:
    """One labelled object of an engine."""

    kind: str
    """``container``, ``network`` or ``volume``."""
    name: str
    labels: Mapping[str, str]

    @property
    def run(self) -> str:
        """The run it belongs to."""
        return self.labels[RUN]

    @property
    def orphaned(self) -> bool:
        """Whether who made it has ended and did not leave it on purpose."""
        owner = Owner.read(self.labels.get(OWNER, ""))
        return not self.labels.get(KEPT) and (owner is None or owner.dead)

    @property
    def kept(self) -> bool:
        """Whether it was left on purpose, by somebody who has ended since."""
        owner = Owner.read(self.labels.get(OWNER, ""))
        return bool(self.labels.get(KEPT)) and (owner is None or owner.dead)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _ask(address: str, method: str, path: str) -> Any:
    """Return what the engine answers, None where it says no; raises OSError without an engine."""
    connection = _Connection(address.removeprefix("unix://"))
    try:
        connection.request(method, path)
        reply = connection.getresponse()
        body = reply.read()
    except http.client.HTTPException as error:
        raise OSError(f"{address}: {error!r}") from error
    finally:
        connection.close()
    return (json.loads(body) if body else {}) if reply.status < 300 else None


def remnants(address: str, run: str = "") -> Iterator[Remnant]:
    """Yield what carries the label of `run`, "" for any; raises OSError without an engine."""
    label = f"{RUN}={run}" if run else RUN
    chosen = "filters=" + quote(json.dumps({"label": [label]}))
    for one in _ask(address, "GET", f"/containers/json?all=1&{chosen}") or []:
        yield Remnant("container", one["Id"], one["Labels"])
    for one in _ask(address, "GET", f"/networks?{chosen}") or []:
        yield Remnant("network", one["Id"], one["Labels"])
    for one in (_ask(address, "GET", f"/volumes?{chosen}") or {}).get("Volumes") or []:
        yield Remnant("volume", one["Name"], one["Labels"] or {})


def _remove(address: str, one: Remnant) -> None:
    options = {"container": "?force=1&v=1", "volume": "?force=1"}.get(one.kind, "")
    _ask(address, "DELETE", f"/{one.kind}s/{quote(one.name)}{options}")


def remove(address: str, run: str, *, quiet: float = _QUIET) -> list[Remnant]:
    """Remove everything of `run`; return what could not be, [] too where there is no engine.

    Nothing of it is left, and for `quiet` seconds nothing more came.
    """
    began = last = time.monotonic()
    while True:
        try:
            left = list(remnants(address, run))
            for one in left:
                _remove(address, one)
        except OSError:
            return []
        now = time.monotonic()
        last = now if left else last
        if (not left and now - last >= quiet) or now - began > _PATIENCE:
            return left
        time.sleep(0.02)


def sweep(address: str) -> list[str]:
    """Remove what runs whose owner is dead left behind, kept ones aside; return their names."""
    return _remove_all(address, sorted({one.run for one in remnants(address) if one.orphaned}))


def remove_kept(address: str, run: str = "") -> list[str]:
    """Remove the kept run, "" for all, unless its owner is still at it; return their names."""
    runs = {one.run for one in remnants(address) if one.kept and run in ("", one.run)}
    return _remove_all(address, sorted(runs))


def _remove_all(address: str, runs: list[str]) -> list[str]:
    for run in runs:
        remove(address, run)
    return runs
