"""Whatever a script does."""

from __future__ import annotations

from collections.abc import Sequence

from zdtest.duration import seconds
from zdtest.engine import Marker
from zdtest.errors import CommandError, EngineError
from zdtest.strategies.step import Strategy, step
from zdtest.topology import Commanded, Stack


def command(argv: Sequence[str], *, timeout: str | float = "10m") -> Strategy:
    """Return the strategy that runs `argv`, ``{version}`` and ``{url}`` in it filled in.

    It fails when the command exits with anything but 0, or runs longer than `timeout`; what cannot
    be executed raises CommandError.
    """
    limit = seconds(timeout, what="timeout")

    def run(stack: Stack, version: str, mark: Marker) -> None:
        filled = [word.replace("{version}", version).replace("{url}", stack.url) for word in argv]
        with step(mark, "command", version):
            if isinstance(stack, Commanded):
                stack.command(filled, timeout=limit)
                return
            try:
                stack.engine.run("deploy", filled, timeout=limit)
            except EngineError as error:
                if isinstance(error.__cause__, OSError):  # the system's, that it cannot be executed
                    raise CommandError(str(error)) from error
                raise

    run.__name__ = "command"
    return run
