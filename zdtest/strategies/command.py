"""Whatever a script does."""

from __future__ import annotations

from collections.abc import Sequence

from zdtest.duration import seconds
from zdtest.engine import Marker
from zdtest.strategies.step import Strategy, step
from zdtest.topology import Commanded, Stack


def command(argv: Sequence[str], *, timeout: str | float = "10m") -> Strategy:
    """Return the strategy that runs `argv`, ``{version}`` and ``{url}`` in it filled in.

    It fails when the command exits with anything but 0, or runs longer than `timeout`.
    """
    limit = seconds(timeout, what="timeout")

    def run(stack: Stack, version: str, mark: Marker) -> None:
        filled = [word.replace("{version}", version).replace("{url}", stack.url) for word in argv]
        with step(mark, "command", version):
            if isinstance(stack, Commanded):
                stack.command(filled, timeout=limit)
            else:
                stack.engine.run("deploy", filled, timeout=limit)

    run.__name__ = "command"
    return run
