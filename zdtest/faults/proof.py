"""How a fault proves itself: what a client sees, and what the kernel says of a process."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from zdtest.engine import Instance, probe, reaper
from zdtest.errors import ConfigError, EngineError, FaultError
from zdtest.topology import Spares, Stack

_PATIENCE = 1.0
_STARTED = 1.0
"""A start is told before the stack knows of it: so long it may take to."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What one request on a connection of its own met with."""

    kind: str
    """``reply``, ``closed`` or ``reset`` before a whole head, ``cut`` after it, ``silent``,
    ``refused``."""
    took: float
    """Until the connection had ended, seconds."""
    reply: bytes = b""

    def __str__(self) -> str:
        head = self.reply.partition(b"\r\n")[0].decode("latin-1")
        return f"{self.kind} after {self.took:.3f}s {head}".rstrip()


def look(port: int, path: str, *, patience: float = _PATIENCE) -> Sight:
    """Return what a GET of `path` from 127.0.0.1:`port` meets with, after `patience` at most."""
    began = time.monotonic()
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
    got, kind = b"", "refused"
    try:
        with socket.create_connection(("127.0.0.1", port), patience) as client:
            kind = "reset"
            client.sendall(request.encode())
            got, kind = _all(client, began + patience)
    except TimeoutError:
        kind = "silent"
    except ConnectionResetError:
        kind = "reset"
    except OSError:
        pass
    return Sight(kind, time.monotonic() - began, got)


def _all(client: socket.socket, deadline: float) -> tuple[bytes, str]:
    """Return what is received until the end of the connection or the deadline, and how it ended."""
    got = b""
    try:
        while True:
            client.settimeout(max(deadline - time.monotonic(), 1e-3))
            if not (data := client.recv(65_536)):
                return got, "reply" if b"\r\n\r\n" in got else "closed"
            got += data
    except TimeoutError:
        return got, "silent"
    except ConnectionResetError:
        return got, "cut" if b"\r\n\r\n" in got else "reset"


def proven(what: str, missing: Callable[[], str], *, within: float) -> None:
    """Return once `missing` says ""; raises FaultError with what it said after `within` seconds."""
    try:
        probe.until(what, missing, timeout=within)
    except EngineError as error:
        raise FaultError(str(error)) from None


def known(stack: Stack, name: str, fault: str) -> None:
    """Raise ConfigError where there is no instance of that name, nor a spare slot."""
    names = (*stack.instances, *(stack.spares if isinstance(stack, Spares) else ()))
    if name not in names:
        raise ConfigError(f"{fault}: no instance {name!r}: expected one of {', '.join(names)}")


def living(stack: Stack, name: str, fault: str) -> Instance:
    """Return the running instance of that name, in a spare slot as well.

    Raises FaultError when it has ended, and ConfigError when there is none of that name.
    """
    known(stack, name, fault)

    def missing() -> str:
        try:
            fate = stack.engine.fate(stack.instance(name))
        except KeyError:
            return f"{name} was never started"
        return f"{name} {fate}" if fate else ""

    proven(f"{fault}: a running instance", missing, within=_STARTED)
    return stack.instance(name)


def lives(one: Instance) -> bool:
    """Return whether the main process of the instance lives, and none that got its pid later."""
    found = reaper.find(one.pid)
    return found is not None and found.began == one.began


class Heal:
    """Undoes a fault when first called, and does nothing when called again."""

    def __init__(self, undo: Callable[[], None]) -> None:
        self._undo = undo
        self._lock = threading.Lock()
        self._done = False

    def __call__(self) -> None:
        """Undo it; the first call raises FaultError where it cannot be undone."""
        with self._lock:
            if not self._done:
                self._done = True
                self._undo()
