"""A whole new set beside the old one, and one switch."""

from __future__ import annotations

from collections.abc import Sequence

from zdtest.duration import seconds
from zdtest.engine import Marker
from zdtest.errors import EngineError
from zdtest.strategies import switch
from zdtest.strategies.step import Strategy, awaited, slots, step, switched
from zdtest.topology import Stack, Switched


def blue_green(*, keep_old: bool = False, drain: str | float = "10s") -> Strategy:
    """Return the strategy that starts a new set in the spare slots and switches all users at once.

    The old set has `drain` to answer what is in flight, and is then stopped; with `keep_old` it
    runs on, without users, so that `rollback` is another switch. The new set is the stack's
    instances afterwards. A failure before the switch leaves the old set as it was, with nothing of
    the new one running.
    """
    limit = seconds(drain, what="drain")

    def deploy(stack: Stack, version: str, mark: Marker) -> None:
        able = switched(stack, "blue_green")
        old = able.instances
        new = slots(able, "blue_green", len(old))
        with step(mark, "start", version, kind="start"):
            _start(able, new, version, mark)
        with step(mark, "switch", version):
            switch.flip(able, old, new, mark)
        if not keep_old:
            with step(mark, "stop", version):
                switch.retire(able, old, limit)

    deploy.__name__ = "blue_green"
    return deploy


def _start(stack: Switched, new: Sequence[str], version: str, mark: Marker) -> None:
    """Return once all of `new` could take users; none of them runs when that fails."""
    try:
        switch.start(stack, new, version)
        for name in new:
            awaited(stack, name, version, mark)
    except EngineError:
        switch.stop(stack, new)
        raise
