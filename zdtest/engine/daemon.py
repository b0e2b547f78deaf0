"""Which Docker Engine there is: the one that answers on this machine, else a private one."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from zdtest.engine.private import Private, Tell, silent
from zdtest.errors import EngineError, EngineMissing, lacking

USUAL = "unix:///var/run/docker.sock"
"""Where a machine's own Docker Engine answers."""

OLDEST = "1.40"
"""The API of Docker 19.03, the first with a limit on a service's tasks a node, and its sysctls."""

_PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Reached:
    """A Docker Engine that answers, and whose processes are this machine's."""

    address: str
    """Its socket, as ``unix://PATH``."""
    version: str
    private: bool = False
    """Whether it is ours, and ends with its last user."""

    def __str__(self) -> str:
        return f"{self.version} at {self.address}{', private' if self.private else ''}"


def found() -> Reached | str:
    """Return the engine that answers, or in words why none does; none is started.

    ``DOCKER_HOST`` is the only candidate where it is set.
    """
    if asked := os.environ.get("DOCKER_HOST"):
        return probe(asked)
    usual, private = probe(USUAL), Private()
    if isinstance(usual, str) and private.usage():
        there = probe(private.address)
        return replace(there, private=True) if isinstance(there, Reached) else there
    return usual


@contextmanager
def reached(*, keep: bool = False, tell: Tell = silent) -> Iterator[Reached]:
    """Yield the engine that answers, else a private one, started unless it runs.

    A private one ends with the last who uses it, with `keep` not before ``zdtest engine stop``.
    Raises EngineMissing with the reasons where there is none.
    """
    there = probe(os.environ.get("DOCKER_HOST") or USUAL)
    if isinstance(there, Reached):
        yield there
        return
    private = Private()
    if why := unwilling(private):
        raise EngineMissing(f"no Docker Engine: {there}; {why}")
    with private.lent(keep=keep, tell=tell) as address:
        yield _private(address)


def unwilling(private: Private | None = None) -> str:
    """Return why no private engine is started here where none answers, "" where one is."""
    if os.environ.get("DOCKER_HOST"):
        return "DOCKER_HOST says which one to use: no private one is started"
    private = private or Private()
    return "" if private.usage() else private.missing()


@contextmanager
def lent(*, keep: bool = False, tell: Tell = silent) -> Iterator[Reached]:
    """Yield the private engine, whatever else answers. Raises EngineMissing, EngineError."""
    with Private().lent(keep=keep, tell=tell) as address:
        yield _private(address)


def _private(address: str) -> Reached:
    there = probe(address)
    if isinstance(there, str):
        raise EngineError(f"the private Docker Engine: {there}")
    return replace(there, private=True)


def probe(address: str) -> Reached | str:
    """Return the engine that answers at `address`, or in words why it cannot be used."""
    path = address.removeprefix("unix://")
    if not address.startswith("unix://") or not path.startswith("/"):
        return f"{address}: expected unix:///PATH, as clocks and pids must be this machine's"
    try:
        from docker import APIClient
        from docker.errors import DockerException
        from requests.exceptions import RequestException
    except ImportError:
        return lacking("docker")
    if why := _unreachable(path):
        return f"{path}: {why}"
    try:
        # The first question is asked in no version, so that an engine of any age answers.
        with closing(APIClient(base_url=address, version=OLDEST, timeout=_PATIENCE)) as client:
            told = client.version(api_version=False)
        if _number(api := str(told["ApiVersion"])) < _number(OLDEST):
            return (
                f"{path}: Docker {told.get('Version')} is too old: its API is {api}, "
                f"expected {OLDEST} (Docker 19.03) or later"
            )
        with closing(APIClient(base_url=address, version=api, timeout=_PATIENCE)) as client:
            info = client.info()
    except (DockerException, RequestException, ValueError, LookupError) as error:
        return f"{path}: no answer from a Docker Engine: {str(error).strip().splitlines()[0]}"
    if why := _elsewhere(info):
        return f"{path}: {why}"
    return Reached(address, str(told["Version"]))


def _unreachable(path: str) -> str:
    """Return why nothing can be asked at the socket, "" when it can."""
    with socket.socket(socket.AF_UNIX) as asked:
        asked.settimeout(_PATIENCE)
        try:
            asked.connect(path)
        except PermissionError:
            return "permission denied: expected root, or a member of the group docker"
        except OSError as error:
            return f"nothing answers: {error.strerror or error}"
        peer = asked.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    if struct.unpack("3i", peer)[0] == 0:  # a process that we have no number for
        return "runs outside of our pid namespace: expected an engine whose processes we see"
    return ""


def _elsewhere(info: Mapping[str, Any]) -> str:
    """Return why its containers are no processes of ours to signal and time, "" when they are."""
    kernel, system = info.get("KernelVersion", ""), info.get("OperatingSystem", "")
    if "Docker Desktop" in system or kernel != platform.release():
        return (
            f"{system} runs in a machine of its own (kernel {kernel}): expected this one's, "
            f"{platform.release()}, as clocks and pids must be this machine's"
        )
    if any("rootless" in option for option in info.get("SecurityOptions") or ()):
        return "it is rootless: expected one of root's, with networks that this machine sees"
    return ""


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


@cache
def compose() -> tuple[str, ...]:
    """Return the command of Docker Compose, () where there is none."""
    for command in (("docker", "compose"), ("docker-compose",)):
        if shutil.which(command[0]):
            told = subprocess.run(
                [*command, "version"], capture_output=True, check=False, timeout=30
            )
            if told.returncode == 0:
                return command
    return ()
