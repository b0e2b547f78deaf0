"""Keeps one CPU busy: ``python -I -S burn.py CPU SECONDS``, at normal priority, then exits."""

from __future__ import annotations

import os
import sys
import time


def burn(cpu: int, seconds: float) -> None:
    """Use all of `cpu` that can be had for `seconds`."""
    until = time.monotonic() + seconds
    os.sched_setaffinity(0, {cpu})
    while time.monotonic() < until:
        pass


if __name__ == "__main__":
    burn(int(sys.argv[1]), float(sys.argv[2]))
