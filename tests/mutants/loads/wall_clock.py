"""The load on a machine whose wall clock is put an hour ahead, and back, again and again."""

from __future__ import annotations

import time

_time, _time_ns = time.time, time.time_ns


def _moved() -> int:
    return 3600 * (int(time.monotonic() * 4) % 2)


time.time = lambda: _time() + _moved()
time.time_ns = lambda: _time_ns() + _moved() * 10**9

from plain import main  # noqa: E402

main()
