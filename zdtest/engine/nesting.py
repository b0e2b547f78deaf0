"""What a container needs that runs containers itself, as far as this machine gives it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docker.types import Mount

_CAPABILITIES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT
SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ
"""
"""By their numbers, as capabilities(7) has them up to Linux 3.16: no node needs a later one."""


def options(name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return how the container is made, besides what every one of the run's has.

    Its containers' limits are below its own, and their layers on a volume that goes with it.
    """
    return {
        "hostname": name,
        "cgroupns": "private",
        "mounts": [Mount("/var/lib/docker", None, type="volume", labels=dict(labels))],
        **rights(bounding_set(), int(Path("/proc/sys/kernel/cap_last_cap").read_text())),
    }


def rights(held: int, last: int) -> dict[str, Any]:
    """Return what asks for every right that there is to give.

    `held` has a bit for each capability that a process here can have, `last` is the kernel's last.
    Docker refuses ``--privileged`` where it lacks a single one of them.
    """
    if held == (1 << last + 1) - 1:
        return {"privileged": True}
    return {
        "cap_add": [name for bit, name in enumerate(_CAPABILITIES.split()) if held >> bit & 1],
        "security_opt": ["seccomp=unconfined", "apparmor=unconfined"],
    }


def bounding_set() -> int:
    """Return the capabilities that this process's descendants can have, a bit for each."""
    for line in Path("/proc/self/status").read_text("utf-8", "replace").splitlines():
        if line.startswith("CapBnd:"):
            return int(line.split()[1], 16)
    return 0
