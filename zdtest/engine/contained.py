"""A watched container: its end is known the moment it comes, and its output is kept."""

from __future__ import annotations

import math
import os
import select
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from docker.errors import APIError, DockerException
from requests.exceptions import RequestException

LATE = 0.25
"""Seconds by which an engine may say later that it sent a signal than it ended who got it."""

_DRAINED_WITHIN = 5.0
_STEP = 0.005


class Contained:
    """What runs in `container` under `pid`, until it ends and `on_end` is called.

    `pid` is that of this machine, 0 for what has ended. Its output is appended to `log`, all of it
    by the time its end is told. `on_end` gets how it ended, and when, in seconds on
    CLOCK_MONOTONIC, on a thread. A container that was started anew is another one's to watch.
    """

    def __init__(
        self, container: Any, pid: int, log: Path, on_end: Callable[[str, float], None]
    ) -> None:
        self.container = container
        state = container.attrs["State"]
        self.started = str(state["StartedAt"])
        """When, as the engine writes it: no two starts of a container have the same."""
        self._pid = pid
        self._named = state["Pid"]
        """As its engine counts, which may be in a container itself."""
        self._on_end = on_end
        self._fate = ""
        self.ended = math.inf
        """When it ended, seconds on CLOCK_MONOTONIC."""
        self._ended = threading.Event()
        since = _before(state)
        self._log = threading.Thread(target=self._copy, args=(log, since), daemon=True)
        self._log.start()
        self._thread = threading.Thread(target=self._until_ended, name=f"pid-{pid}", daemon=True)
        self._thread.start()

    @property
    def fate(self) -> str:
        """How it ended, "" while it runs."""
        return self._fate if self._ended.is_set() else ""

    @property
    def frozen(self) -> bool:
        """Whether the engine says that it is paused."""
        return bool(self._state()["Paused"])

    def signal(self, name: str) -> None:
        """Send the signal to its main process, unless it has ended; STOP and CONT pause it all."""
        if self._ended.is_set():
            return
        act = {"STOP": self.container.pause, "CONT": self.container.unpause}.get(name)
        try:
            act() if act else self.container.kill(f"SIG{name}")
        except APIError as error:
            # It has ended meanwhile, or is paused or not, as was wanted.
            if error.status_code not in (404, 409):
                raise

    def wait(self, timeout: float) -> bool:
        """Return whether it has ended within `timeout` seconds."""
        return self._ended.wait(timeout)

    def join(self, timeout: float) -> None:
        """Return once `on_end` has returned, or after `timeout` seconds."""
        self._thread.join(timeout)

    def _until_ended(self) -> None:
        with suppress(OSError):  # it ended before we looked
            handle = os.pidfd_open(self._pid)
            try:
                end = select.poll()
                end.register(handle, select.POLLIN)
                end.poll()
            finally:
                os.close(handle)
        self.ended = at = time.monotonic()
        self._fate = self._exit()
        self._log.join(_DRAINED_WITHIN)
        self._ended.set()
        self._on_end(self._fate, at)

    def _exit(self) -> str:
        """Return how it ended, asked of the engine once the kernel has said that it did."""
        try:
            while (state := self._state())["Running"] and state["Pid"] == self._named:
                time.sleep(_STEP)
        except (DockerException, RequestException):
            return "ended"  # removed, with what it had to tell
        if state["Running"]:
            return "ended"  # the container runs something else by now
        return f"exited {state['ExitCode']}{', out of memory' if state['OOMKilled'] else ''}"

    def _state(self) -> Mapping[str, Any]:
        self.container.reload()
        state: Mapping[str, Any] = self.container.attrs["State"]
        return state

    def _copy(self, path: Path, since: datetime | None) -> None:
        """Append what it prints to `path` until its end; nothing of an earlier start of it."""
        with path.open("ab", buffering=0) as log, suppress(DockerException, RequestException):
            for chunk in self.container.logs(stream=True, follow=True, since=since):
                log.write(chunk)


def _before(state: Mapping[str, Any]) -> datetime | None:
    """Return when the container last ended, None where it was never started before."""
    stamp = str(state["FinishedAt"])
    return None if stamp.startswith("0001") else datetime.fromisoformat(f"{stamp[:26]}+00:00")
