"""One instance after the other."""

from __future__ import annotations

import time

from zdtest.duration import seconds
from zdtest.engine import Marker
from zdtest.strategies.step import Strategy, awaited, expect, step
from zdtest.topology import Stack


def rolling(pause: str | float = 0) -> Strategy:
    """Return the strategy that stops, starts and awaits one instance after the other.

    `pause` is how long it waits after each that became ready.
    """
    settle = seconds(pause, what="pause")

    def roll(stack: Stack, version: str, mark: Marker) -> None:
        expect(stack, "rolling")
        for name in stack.instances:
            with step(mark, name, version):
                stack.stop(name)
                stack.start(name, version)
                awaited(stack, name, version, mark)
            time.sleep(settle)

    roll.__name__ = "rolling"
    return roll
