"""The `EventLog` notes named moments of a run in ``events.jsonl`` as they happen."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from zdtest.errors import RecordingError

Predicate = Callable[[str, dict[str, object]], bool]
"""Hears each mark's name and what it tells, in order; quick, for the marker waits for it."""


class EventLog:
    """Callable as ``mark(name, **about)`` from any thread; each line is on disk on return."""

    def __init__(self, path: Path) -> None:
        self._listeners: list[Listener] = []
        # Reentrant: a signal's handler may mark in the midst of a mark.
        self._lock = threading.RLock()
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise RecordingError(
                f"cannot write {path}: {error.strerror}; expected a writable folder"
            ) from error

    def __call__(self, name: str, /, **about: object) -> None:
        """Note that it is now, or when it `happened`, seconds on CLOCK_MONOTONIC, if that is told.

        Then the line says in ``noted`` when it was heard of.
        """
        with self._lock:
            now = time.monotonic()
            happened = about.pop("happened", None)
            when = {"t": now} if happened is None else {"t": happened, "noted": now}
            line = {**when, "mark": name, **about}
            if self._file >= 0:
                os.write(self._file, json.dumps(line, default=str).encode() + b"\n")
            for listener in self._listeners:
                listener.hear(name, about)

    def listen(self, predicate: Predicate, call: Callable[[], None]) -> Listener:
        """Call, on a thread of its own, for each mark from now on that `predicate` says yes to."""
        listener = Listener(predicate, call, self._forget)
        with self._lock:
            self._listeners.append(listener)
        return listener

    def _forget(self, listener: Listener) -> None:
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def close(self) -> None:
        """Note nothing more; what comes late is dropped."""
        with self._lock:
            file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


class Listener:
    """What is called for some marks; errors of the predicate and of the calls are kept."""

    def __init__(
        self,
        predicate: Predicate,
        call: Callable[[], None],
        forget: Callable[[Listener], None],
    ) -> None:
        self._predicate = predicate
        self._call = call
        self._forget = forget
        self._threads: list[threading.Thread] = []
        self._errors: list[Exception] = []

    def hear(self, name: str, about: dict[str, object]) -> None:
        """Return at once, the call going on if there is one."""
        try:
            wanted = self._predicate(name, about)
        except Exception as error:
            # The predicate's trouble, and none of whoever marks; `end` tells.
            self._errors.append(error)
            return
        if wanted:
            thread = threading.Thread(target=self._run, name=f"on {name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self) -> None:
        try:
            self._call()
        except Exception as error:
            self._errors.append(error)

    def check(self) -> None:
        """Raise the first error so far, if any."""
        if self._errors:
            raise self._errors[0]

    def end(self) -> None:
        """Return once it hears nothing more and every call has returned; raises the first error."""
        self._forget(self)
        for thread in self._threads:
            thread.join()
        self.check()
