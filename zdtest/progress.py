"""The `Progress` of a run: time, phase, rate and failures so far, on a terminal or in a log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

_EVERY = 0.2
_EVERY_LOGGED = 10.0
_ERASE = "\r\x1b[K"


class Progress:
    """A watcher of a run: keeps one line up to date on a terminal, else adds one every ten seconds.

    What is no terminal is a log, of a CI for instance, whose reader wants to know that it goes on.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._live = self._out.isatty()
        self._began = time.monotonic()
        self._next = 0.0
        self._before = (0.0, 0)
        self._rate = 0.0

    def __call__(self, phase: str, news: Mapping[str, Any]) -> None:
        """Redraw the line, a few times a second at most, or add one once it is time."""
        now = time.monotonic()
        if self._live and now >= self._next:
            self._next = now + _EVERY
            self._write(_ERASE + self.line(phase, news, now - self._began))
        elif not self._live and "t" in news:
            self._next = self._next or now + _EVERY_LOGGED
            if now >= self._next:
                self._next += _EVERY_LOGGED
                self._write(f"zdtest: {self.line(phase, news, now - self._began)}\n")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # nobody reads: no reason to stop measuring
            self._out.write(text)
            self._out.flush()

    def line(self, phase: str, news: Mapping[str, Any], elapsed: float) -> str:
        """Return the line for these counters of the load."""
        done, failed = int(news.get("done", 0)), int(news.get("failed", 0))
        at, before = self._before
        if (moment := float(news.get("t", 0.0))) > at + 0.5:
            self._rate = (done - before) / (moment - at) if at else 0.0
            self._before = (moment, done)
        return (
            f"{elapsed:7.1f} s  {phase:<9} {self._rate:7.0f}/s  {done:9,} done  {failed:,} failed"
        )

    def clear(self) -> None:
        """Take the line away, so that others can print."""
        if self._live:
            self._write(_ERASE)
