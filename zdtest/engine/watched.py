"""A watched process: its end is known the moment it comes, and no other gets its signals."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable

from zdtest.engine import reaper

_WHOLE = {"STOP", "CONT", "KILL"}
"""Signals that act on all of an instance, as they would on a container."""


class Watched:
    """The process `pid`, our child or one adopted, until it ends and `on_end` is called.

    `handle` is its pidfd, which this object closes. `on_end` gets how it ended, and when, in
    seconds on CLOCK_MONOTONIC, on a thread.
    """

    def __init__(
        self,
        pid: int,
        handle: int,
        child: subprocess.Popen[bytes] | None,
        on_end: Callable[[str, float], None],
    ) -> None:
        self._pid = pid
        self._handle = handle
        self._child = child
        self._on_end = on_end
        self._ended = threading.Event()
        # Held while the process is signalled or reaped: a zombie keeps its pid from being reused.
        self._reaping = threading.Lock()
        self._thread = threading.Thread(target=self._until_ended, name=f"pid-{pid}", daemon=True)
        self._thread.start()

    @property
    def fate(self) -> str:
        """How it ended, "" while it runs; an adopted process does not tell its exit code."""
        if not self._ended.is_set():
            return ""
        code = self._child.returncode if self._child else None
        if code is None:
            return "ended"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited {code}"

    def signal(self, name: str) -> None:
        """Send the signal, unless it has ended.

        STOP, CONT and KILL go to the whole process group where it leads one, as a child does.
        """
        number = signal.Signals[f"SIG{name}"]
        with self._reaping, contextlib.suppress(ProcessLookupError):
            if self._ended.is_set():
                return
            if self._child and name in _WHOLE:
                os.killpg(self._pid, number)
                return
            if name in _WHOLE:
                self._tell_group(number)
            signal.pidfd_send_signal(self._handle, number)

    def _tell_group(self, number: int) -> None:
        """Send the signal to all others of the group that an adopted process leads, if it does.

        Somebody else waits for it: whenever it ends, its number may become anybody's, and so may
        its group's once all of that have ended. So none is signalled by number. Each is held first,
        so that it is one and the same process from then on, and belonged to the group at a moment
        after which the leader still lived: for so long the number was the leader's.

        The leader stands still meanwhile, unless it is to go on: it neither ends nor starts others.
        """
        if number is not signal.SIGCONT:
            signal.pidfd_send_signal(self._handle, signal.SIGSTOP)
        told = {self._pid}
        while new := set(reaper.group(self._pid)) - told:  # until nobody has started one meanwhile
            told |= new
            for pid in new:
                with contextlib.suppress(OSError):  # it has ended, or is another user's
                    self._tell(pid, number)

    def _tell(self, pid: int, number: int) -> None:
        handle = os.pidfd_open(pid)
        try:
            if pid in reaper.group(self._pid) and self._lives():
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)

    def _lives(self) -> bool:
        """Return whether it has not ended yet; a zombie has."""
        end = select.poll()
        end.register(self._handle, select.POLLIN)
        return not end.poll(0)

    def wait(self, timeout: float) -> bool:
        """Return whether it has ended within `timeout` seconds."""
        return self._ended.wait(timeout)

    def join(self, timeout: float) -> None:
        """Return once `on_end` has returned, or after `timeout` seconds."""
        self._thread.join(timeout)

    def _until_ended(self) -> None:
        end = select.poll()
        end.register(self._handle, select.POLLIN)
        end.poll()
        at = time.monotonic()
        with self._reaping:
            if self._child:
                self._child.wait()
            os.close(self._handle)
            self._ended.set()
        self._on_end(self.fate, at)
