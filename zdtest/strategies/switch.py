"""Users moved from some instances to others, all in one moment, and the way out of the rotation."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from itertools import chain

from zdtest.engine import Marker
from zdtest.topology import Switched

_STEP = 0.02


def flip(stack: Switched, old: Sequence[str], new: Sequence[str], mark: Marker) -> None:
    """Every new request goes to `new`, none to `old`: one call, then marked ``deploy.switch``.

    Raises EngineError, and the instances are what they were, when the topology refuses.
    """
    stack.weigh({name: 100 * (name in new) for name in chain(new, old)})
    stack.take(new)
    mark("deploy.switch", instances=list(new))


def start(stack: Switched, names: Iterable[str], version: str) -> None:
    """Start these, having stopped what a deploy before left running there."""
    for name in names:
        stack.stop(name)
        stack.start(name, version)


def retire(stack: Switched, names: Sequence[str], drain: float) -> None:
    """Stop these, which get no new requests, once they have answered those in flight.

    After `drain` seconds the rest is left to the way in which each stops.
    """
    deadline = time.monotonic() + drain
    while any(stack.told(name).in_flight for name in names) and time.monotonic() < deadline:
        time.sleep(_STEP)
    stop(stack, names)


def stop(stack: Switched, names: Iterable[str]) -> None:
    """Stop these; one that has ended by itself stays ended."""
    for name in names:
        stack.stop(name)
