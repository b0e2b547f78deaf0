"""The topology's own deploy script, as its document has it."""

from __future__ import annotations

from zdtest.duration import seconds
from zdtest.engine import Marker
from zdtest.errors import ConfigError
from zdtest.strategies.step import Strategy, expect, step
from zdtest.topology import Scripted, Stack


def scripted(*, timeout: str | float = "10m") -> Strategy:
    """Return the strategy that runs the script with which the topology comes.

    It fails when the script exits with anything but 0, or runs longer than `timeout`. The way back
    is the same script with the version before.
    """
    limit = seconds(timeout, what="timeout")

    def deploy(stack: Stack, version: str, mark: Marker) -> None:
        expect(stack, "scripted")
        if not isinstance(stack, Scripted):
            raise ConfigError("this topology comes with no script of its own that deploys")
        with step(mark, "script", version):
            stack.deploy(version, mark, timeout=limit)

    deploy.__name__ = "scripted"
    return deploy
