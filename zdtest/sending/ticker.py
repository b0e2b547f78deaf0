"""A `Ticker` wakes the event loop at a given instant, within tens of microseconds where it can."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any

_CLOCK_MONOTONIC = 1
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_ABSOLUTE = 1


class _Spec(ctypes.Structure):
    """struct itimerspec: an interval that stays zero, and the instant of the next expiry."""

    _fields_ = (
        ("every_s", ctypes.c_long),
        ("every_ns", ctypes.c_long),
        ("at_s", ctypes.c_long),
        ("at_ns", ctypes.c_long),
    )


class Ticker:
    """Calls `wake` on the gevent `loop` when the instant given to `at` has come.

    The event loop's own timers count in milliseconds; a timerfd does not. Where the kernel has
    none (anything but Linux) they have to do.
    """

    def __init__(self, loop: Any, wake: Callable[[], None]) -> None:
        self._loop = loop
        self._wake = wake
        self._fd = -1
        try:
            # PyDLL: the calls are too short to be worth giving up the interpreter lock for.
            self._libc = ctypes.PyDLL(None, use_errno=True)
            self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
        except AttributeError:
            pass
        self._spec = _Spec()
        self._ref = ctypes.byref(self._spec)
        self._watcher: Any = None
        if self._fd >= 0:
            self._watcher = loop.io(self._fd, 1)
            self._watcher.start(self._expired)

    def at(self, instant: int, now: int) -> None:
        """Wake at `instant`, nanoseconds on CLOCK_MONOTONIC; at once when it is past `now`."""
        instant = max(instant, now + 1)
        if self._fd >= 0:
            self._spec.at_s, self._spec.at_ns = divmod(instant, 1_000_000_000)
            self._libc.timerfd_settime(self._fd, _ABSOLUTE, self._ref, None)
            return
        if self._watcher is not None:
            self._watcher.close()
        self._watcher = self._loop.timer((instant - now) * 1e-9)
        self._watcher.start(self._wake, update=True)

    def _expired(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return
        self._wake()

    def close(self) -> None:
        """Wake no more."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
