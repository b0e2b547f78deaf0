"""The instance's own account of what it did; whatever kills the process, what was written stays.

One JSON object a line: ``t`` (CLOCK_MONOTONIC seconds), ``event``, ``instance``, ``version``,
``pid``, ``process`` (a token of this process alone: in containers all have the same pid), and what
the event is about. Each line is one write to a file opened for appending, so
lines of several processes that share the file never mix, and a line is with the kernel when
`write` returns: it survives ``kill -9``.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sample_app.settings import Settings, SettingsError

_BLOCK = 1 << 20


class Journal:
    """A journal file, or nothing at all where no path is given."""

    def __init__(self, path: str | None, *, instance: str, version: str) -> None:
        whose = {"instance": instance, "version": version, "pid": os.getpid()}
        self._whose = {**whose, "process": secrets.token_hex(4)}
        self._out = self._in = -1
        self._rest = b""
        if path:
            self._out = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._in = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    @classmethod
    def of(cls, settings: Settings) -> Journal:
        """Return the journal the settings name; raises SettingsError where it cannot be opened."""
        try:
            return cls(settings.journal, instance=settings.instance, version=settings.version)
        except OSError as error:
            reason = f"{error.strerror}: expected the path of a file that can be written"
            raise SettingsError(f"JOURNAL {settings.journal!r}: {reason}") from error

    def write(self, event: str, **about: object) -> None:
        """Append one line; raises OSError where the file takes no more."""
        if self._out < 0:
            return
        line = {"t": round(time.monotonic(), 6), "event": event, **self._whose, **about}
        encoded = json.dumps(line).encode() + b"\n"
        if os.write(self._out, encoded) != len(encoded):
            raise OSError("the journal took half a line: its disk is full")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other process that shares the file out of its own `alone`.

        Threads of this process are not kept out. The kernel lets go when the process dies.
        """
        if self._in < 0:
            yield
            return
        fcntl.flock(self._in, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._in, fcntl.LOCK_UN)

    def unread(self) -> Iterator[bytes]:
        """Yield the lines of all processes that were not yielded before; not for two threads."""
        while self._in >= 0 and (block := os.read(self._in, _BLOCK)):
            *lines, self._rest = (self._rest + block).split(b"\n")
            yield from lines

    def close(self) -> None:
        """Close the file; later lines go nowhere."""
        for descriptor in (self._out, self._in):
            if descriptor >= 0:
                os.close(descriptor)
        self._out = self._in = -1
