"""Everything at once, with nobody there in between."""

from __future__ import annotations

from zdtest.engine import Marker
from zdtest.strategies.step import awaited, expect, step
from zdtest.topology import Replaces, Stack


def recreate(stack: Stack, version: str, mark: Marker) -> None:
    """Replace everything at once, by the topology's own script where it has one.

    Otherwise every instance is stopped, and then every instance is started. Down in between.
    """
    expect(stack, "recreate")
    with step(mark, "all", version):
        if isinstance(stack, Replaces):
            stack.replace(version)
        else:
            for name in stack.instances:
                stack.stop(name)
            for name in stack.instances:
                stack.start(name, version)
        for name in stack.instances:
            awaited(stack, name, version, mark)
