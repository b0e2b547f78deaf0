"""Everything at once, with nobody there in between."""

from __future__ import annotations

from zdtest.engine import Marker, silent
from zdtest.errors import ConfigError
from zdtest.strategies.step import awaited, expect, step
from zdtest.topology import Replaces, Stack


def recreate(stack: Stack | None = None, version: str = "", mark: Marker = silent) -> None:
    """Replace everything at once, by the topology's own script where it has one.

    Otherwise every instance is stopped, and then every instance is started. Down in between.
    """
    if stack is None:
        raise ConfigError("recreate is a strategy as it is: expected it without ()")
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
