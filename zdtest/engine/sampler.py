"""A `MemorySampler` writes down how much memory the app's instances hold while a run goes on."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import TextIO

from zdtest.engine import Marker

FILE = "memory.jsonl"
"""What the samples are called in the run's folder."""

EVERY = 0.5
"""Seconds from one sample to the next. One process takes less than a millisecond of a core."""

_MOMENTS = ("app.ready", "app.term", "deploy.")
"""What is marked when the most instances run, or when that may be over at once."""

_UNSEEN = -1
_GONE = (FileNotFoundError, ProcessLookupError)


class MemorySampler:
    """A marker that passes on to `mark` what an engine tells, and samples what it tells of.

    While it is entered, ``memory.jsonl`` gets a line every `EVERY` seconds, and one as soon as an
    instance is ready or told to stop, and at each step of a deploy (`moment`): ``t``, seconds on
    CLOCK_MONOTONIC, and ``bytes`` by instance. They are proportional set sizes: what a process and
    its descendants alone hold, and their shares of what others hold too. The kernel tells them
    alike of processes and of what runs in containers, whatever engine started it. null stands where
    we may not ask; who has ended is not there. Nothing is written before the first instance runs.
    """

    def __init__(self, path: Path, mark: Marker) -> None:
        self._path = path
        self._mark = mark
        self._folders: list[tuple[str, int]] = []
        self._known = threading.Lock()
        self._wake = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._sample, name="memory", daemon=True)

    def __enter__(self) -> MemorySampler:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._known:
            self._over = True
        self._wake.set()
        self._thread.join()
        for _, folder in self._folders:
            if folder != _UNSEEN:
                os.close(folder)

    def __call__(self, name: str, /, **about: object) -> None:
        """Note that it is now; from its ``app.started`` on an instance is sampled."""
        self._mark(name, **about)
        if name == "app.started":
            with self._known:
                if not self._over:
                    self._begun(str(about["instance"]), about.get("pid"))

    def moment(self, name: str, about: Mapping[str, object]) -> bool:
        """Whether a sample is to be taken at once, as a mark of that name is set."""
        return name.startswith(_MOMENTS)

    def now(self) -> None:
        """Take a sample at once."""
        self._wake.set()

    def _begun(self, instance: str, pid: object) -> None:
        try:
            # Held open it is that process's for ever, and no later one's with its pid.
            folder = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY)
        except _GONE:
            return
        except OSError:
            folder = _UNSEEN
        self._folders.append((instance, folder))

    def _sample(self) -> None:
        with ExitStack() as tidy:
            file: TextIO | None = None
            while not self._over:
                at, told = time.monotonic(), self._read()
                if told:
                    file = file or tidy.enter_context(self._path.open("a", encoding="utf-8"))
                    file.write(json.dumps({"t": round(at, 6), "bytes": told}) + "\n")
                    file.flush()
                self._wake.wait(max(0.0, at + EVERY - time.monotonic()))
                self._wake.clear()

    def _read(self) -> dict[str, int | None]:
        """Return what each instance holds now; those that have ended are forgotten."""
        with self._known:
            folders = list(self._folders)
        told: dict[str, int | None] = {}
        for name, folder in folders:
            try:
                size = None if folder == _UNSEEN else held(f"/proc/self/fd/{folder}")
            except _GONE:
                with self._known:
                    self._folders.remove((name, folder))
                os.close(folder)
                continue
            except PermissionError:
                size = None
            before = told.get(name, 0)
            # Of one name there may be two for a while: one that ends, and its successor.
            told[name] = None if size is None or before is None else before + size
        return told


def held(process: str) -> int:
    """Return the bytes that a process and its descendants hold, each page shared out evenly.

    `process` is its folder of /proc. Raises FileNotFoundError or ProcessLookupError where it has
    ended, PermissionError where it or one of them is not ours to ask.
    """
    total = _proportional(process)
    for thread in os.listdir(f"{process}/task"):
        with suppress(*_GONE):
            children = Path(process, "task", thread, "children").read_text().split()
            for child in children:
                with suppress(*_GONE):
                    total += held(f"/proc/{child}")
    return total


def _proportional(process: str) -> int:
    """Return the proportional set size of one process, as smaps_rollup of proc(5) tells it."""
    with open(f"{process}/smaps_rollup", "rb") as file:
        for line in file:
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    raise ProcessLookupError(process)
