"""What a run ran on, for its manifest."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from zdtest import __version__


def host() -> dict[str, object]:
    """Return the machine's name, size and software, as the manifest tells them."""
    return {
        "name": platform.node(),
        "cpus": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "locust": _version("locust"),
        "gevent": _version("gevent"),
        "zdtest": __version__,
    }


def clock() -> str:
    """Return what names this process's CLOCK_MONOTONIC, "" where nothing does.

    Processes with the same name read the same clock: one boot of one kernel, and the same shift of
    their time namespace.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    try:
        shifts = Path("/proc/self/timens_offsets").read_text().split()
    except OSError:
        shifts = []  # a kernel without time namespaces has one clock
    return " ".join([boot, *shifts[1:3]])


def commit(folder: Path) -> str | None:
    """Return what git calls the checkout that `folder` is in, None where there is none."""
    try:
        told = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--tags"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return told.stdout.strip() or None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
