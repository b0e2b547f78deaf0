"""What Debian's packages would bring to a machine that cannot run containers yet."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from zdtest.duration import written
from zdtest.engine.daemon import Reached, compose, found
from zdtest.engine.private import SYSTEM, Tell, silent
from zdtest.errors import EngineError, EngineMissing

_APT = "apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=60"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_TAIL = 5


def lacking() -> list[str]:
    """Return the packages that zdtest would install here, [] when nothing is missing."""
    wanted = {compose_package(): bool(compose()), _cli_package(): _has("docker")}
    if os.geteuid() == 0:  # nobody else can bootstrap anything
        wanted |= {
            "debootstrap": _has("debootstrap"),
            "debian-archive-keyring": Path(_KEYRING).exists(),
        }
    return sorted({*(name for name, there in wanted.items() if not there), *engine_lacks()})


def engine_lacks() -> list[str]:
    """Return the packages without which there is no Docker Engine, [] where one answers."""
    if isinstance(found(), Reached):
        return []
    wanted = {"docker.io": "dockerd", "iproute2": "ip", "iptables": "iptables"}
    return [name for name, program in wanted.items() if not _has(program)]


def forbidding() -> str:
    """Return why nothing can be installed here, "" when it can."""
    if os.environ.get("ZD_ENGINE") == "process":
        return "ZD_ENGINE=process: no engine is wanted"
    if not {"debian", "ubuntu"} & _family() or not _has("apt-get"):
        return "this is neither Debian nor Ubuntu: install Docker as your system does"
    if os.geteuid() != 0:
        return f"installing needs root: sudo apt-get install {' '.join(lacking())}"
    return ""


def install(*, tell: Tell = silent) -> list[str]:
    """Return the packages installed, once all that was lacking is there.

    Raises EngineMissing where that is not possible, EngineError with what apt-get said last.
    """
    if not (packages := lacking()):
        return []
    if why := forbidding():
        raise EngineMissing(
            f"no {', no '.join(packages)} here; {why}; the scenarios run what can do without"
        )
    _apt("update", tell=tell)
    _apt("install", *packages, tell=tell)
    compose.cache_clear()
    return packages


def _apt(*what: str, tell: Tell) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [*_APT.split(), *what],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
        text=True,
        errors="replace",
        check=False,
    )
    line = f"apt-get {' '.join(what)}"
    if done.returncode:
        last = "\n".join(done.stdout.strip().splitlines()[-_TAIL:])
        raise EngineError(f"{line}: exited {done.returncode}\n{last}")
    tell(f"{line}  {written(time.monotonic() - began)}")


def compose_package() -> str:
    """Return the name of what brings Docker Compose: Ubuntu's old one no longer runs."""
    return "docker-compose-v2" if "ubuntu" in _family() else "docker-compose"


def _cli_package() -> str:
    """Return the name of what brings the command: Debian 13 took it out of the engine's package."""
    release = _release()
    old = release.get("VERSION_ID", "13") in ("10", "11", "12")
    return "docker-cli" if release.get("ID") == "debian" and not old else "docker.io"


def _family() -> set[str]:
    """Return what this system is, and what it says it is like."""
    release = _release()
    return {*release.get("ID", "").split(), *release.get("ID_LIKE", "").split()}


def _release() -> dict[str, str]:
    """Return which system this is, as os-release(5) tells it."""
    try:
        lines = Path("/etc/os-release").read_text("utf-8").splitlines()
    except OSError:
        return {}
    return {name: value.strip("\"'") for name, _, value in (one.partition("=") for one in lines)}


def _has(name: str) -> bool:
    return bool(shutil.which(name) or shutil.which(name, path=SYSTEM))
