"""Back to the version before, which was kept running."""

from __future__ import annotations

from zdtest.duration import seconds
from zdtest.engine import Marker
from zdtest.errors import DeployFailed
from zdtest.strategies import switch
from zdtest.strategies.step import Strategy, step, switched
from zdtest.topology import Stack


def rollback(*, drain: str | float = "10s") -> Strategy:
    """Return the strategy that gives all users back to the set that ``keep_old`` left running.

    Marked from ``deploy.rollback.begin`` until no new request goes to the version left, at
    ``deploy.rollback.end``; that one has `drain` to answer what is in flight, and is then stopped.
    Raises DeployFailed, with nothing changed, where the version asked for was not kept.
    """
    limit = seconds(drain, what="drain")

    def deploy(stack: Stack, version: str, mark: Marker) -> None:
        able = switched(stack, "rollback")
        left = able.instances
        kept = [name for name in able.spares if able.running(name) == version]
        with step(mark, "switch", version):
            if len(kept) < len(left):
                raise DeployFailed(
                    f"{len(kept)} of {len(left)} instances kept at {version}: nothing to go back "
                    "to; expected blue_green(keep_old=True) before"
                )
            mark("deploy.rollback.begin", version=version)
            for name in kept:
                able.ready(name)
            switch.flip(able, left, kept, mark)
            mark("deploy.rollback.end", version=version)
        with step(mark, "stop", version):
            switch.retire(able, left, limit)

    deploy.__name__ = "rollback"
    return deploy
