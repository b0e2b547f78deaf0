"""What runs left on this machine that nobody runs any more: processes, and objects of Docker."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from zdtest.engine import daemon, reaper, remains


def found() -> dict[str, Counter[str]]:
    """Return, by run, how many of what kind there are; kept stacks are no leftovers."""
    left: dict[str, Counter[str]] = defaultdict(Counter)
    for process in reaper.orphans():
        left[process.labels[reaper.RUN]]["process"] += 1
    for address in _engines():
        for one in remains.remnants(address):
            if one.orphaned:
                left[one.run][one.kind] += 1
    return dict(left)


def remove() -> None:
    """End and remove them, and nothing else."""
    reaper.sweep()
    for address in _engines():
        remains.sweep(address)


def _engines() -> Iterator[str]:
    """Yield the address of the Docker Engine that answers, if one does."""
    if isinstance(there := daemon.found(), daemon.Reached):
        yield there.address
