"""What this machine can and can't run, and what would have to be installed."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import resource
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zdtest.errors import ZdError

_IMAGES = 2e9
"""Bytes that all images take, and what building them takes for a while."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: whether it works, whether zdtest needs it at all, and what follows."""

    subject: str
    works: bool
    detail: str
    needed: bool = False

    def __str__(self) -> str:
        state = "ok" if self.works else "MISSING" if self.needed else "no"
        return f"{state:<8} {self.subject:<18} {self.detail}"


def findings() -> Iterator[Finding]:
    """Yield what was found, what everything needs first."""
    yield _python()
    yield from _packages()
    yield _linux()
    yield _ports()
    yield _timer()
    yield _files()
    yield _priority()
    yield _cores()
    yield from _engine()
    yield from _programs()


def _python() -> Finding:
    works = sys.version_info >= (3, 11)
    return Finding("Python", works, f"{platform.python_version()}, needs 3.11 or later", True)


def _packages() -> Iterator[Finding]:
    wanted = {
        "locust": ("the load", True, "pip install zdtest"),
        "pyarrow": ("the recording", True, "pip install zdtest"),
        "matplotlib": ("the report's plots", True, "pip install zdtest"),
        "starlette": ("the sample app of the scenarios", False, "pip install 'zdtest[scenarios]'"),
        "testcontainers": ("topologies in containers", False, "pip install 'zdtest[docker]'"),
    }
    for name, (purpose, needed, cure) in wanted.items():
        works = importlib.util.find_spec(name) is not None
        yield Finding(name, works, purpose if works else f"{purpose}: {cure}", needed)


def _linux() -> Finding:
    works = hasattr(os, "pidfd_open") and Path("/proc/self/environ").exists()
    detail = f"{platform.system()} {platform.release()}"
    cure = "" if works else "; raising topologies needs Linux with pidfd_open (5.3) and /proc"
    return Finding("kernel", works, detail + cure)


def _ports() -> Finding:
    from zdtest.engine import ports

    try:
        ports.lease().release()
    except (ZdError, OSError) as error:
        return Finding("free ports", False, str(error))
    span = ports.span_outside(ports.ephemeral())
    return Finding("free ports", True, f"127.0.0.1:{span[0]} to {span[-1]}")


def _timer() -> Finding:
    works = hasattr(ctypes.CDLL(None), "timerfd_create")
    detail = "timerfd: requests leave on time to tens of microseconds"
    return Finding("timer", works, detail if works else "no timerfd: up to a millisecond late")


def _files() -> Finding:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    works = hard == resource.RLIM_INFINITY or hard >= 4096
    said = "no limit" if hard == resource.RLIM_INFINITY else f"limit {hard}"
    cure = "" if works else "; a long stall at a high rate needs more: ulimit -Hn 65536"
    return Finding("open files", works, said + cure)


def _priority() -> Finding:
    """A look only: whether the load may run before the system that it measures."""
    limit = 20 - resource.getrlimit(resource.RLIMIT_NICE)[0] if _has_nice() else 20
    works = os.geteuid() == 0 or limit <= -10
    cure = "the load runs at nice -10" if works else "the load runs at normal priority (not root)"
    return Finding("priority", works, cure)


def _has_nice() -> bool:
    return hasattr(resource, "RLIMIT_NICE")


def _cores() -> Finding:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    cure = "" if count > 1 else "; load and system share one: expect inconclusive latencies"
    return Finding("cores", count > 1, f"{count}{cure}")


def _engine() -> Iterator[Finding]:
    """Whether containers can be run, and what keeps them from it; no engine is started."""
    from zdtest.engine import daemon, debian

    there = daemon.found()
    if isinstance(there, daemon.Reached):
        yield Finding("Docker Engine", True, str(there))
    elif not (why := daemon.unwilling()):
        yield Finding("Docker Engine", True, f"a private one is started when needed ({there})")
    else:
        cure = debian.forbidding() or "`zdtest engine install` brings one"
        detail = f"{there}; {why}{f'; {cure}' if debian.engine_lacks() else ''}"
        yield Finding("Docker Engine", False, f"{detail}; scenarios run as processes")
    command = " ".join(daemon.compose())
    cure = f"the topologies in Compose files: apt-get install {debian.compose_package()}"
    yield Finding("Docker Compose", bool(command), command or cure)
    yield _room()


def _room() -> Finding:
    """Whether the images have room where a private engine keeps them."""
    from zdtest.engine.private import Private

    folder = Private().data
    there = next(one for one in (folder, *folder.parents) if one.exists())
    free = shutil.disk_usage(there).free
    works = free >= _IMAGES
    cure = "" if works else f"; images need {_IMAGES / 1e9:.0f} GB"
    return Finding("room for images", works, f"{free / 1e9:.1f} GB free in {folder}{cure}")


def _programs() -> Iterator[Finding]:
    wanted = {
        "nginx": "the nginx topologies and the benchmark's server",
        "haproxy": "the HAProxy topologies",
        "wrk": "a row of the benchmark",
        "hey": "a row of the benchmark",
        "debootstrap": "images where no registry answers",
        "chromium": "looking at reports as the tests do",
    }
    for name, purpose in wanted.items():
        path = shutil.which(name) or shutil.which(f"/usr/sbin/{name}")
        yield Finding(name, path is not None, path or f"{purpose}: apt-get install {name}")
