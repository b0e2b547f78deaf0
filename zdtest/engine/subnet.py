"""Addresses for a network of the run's own that nothing on this machine goes by.

Those that Docker hands out by itself may be spoken for: by another engine's network, or by the
firewall's rules for one that is long gone, which then change what passes between our containers.
"""

from __future__ import annotations

import fcntl
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from zdtest.engine.ports import own_folder
from zdtest.errors import EngineError

_TESTS = IPv4Network("198.18.0.0/15")
"""Set aside by RFC 2544 for tests between machines; the internet has none of them."""
_LENGTH = 24
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


@contextmanager
def lent() -> Iterator[str]:
    """Yield a subnet, as ``198.18.7.0/24``, that nobody else of ours gets while the context lasts.

    Nothing is routed to any of its addresses yet. Raises EngineError when there is none.
    """
    candidates = list(_TESTS.subnets(new_prefix=_LENGTH))
    random.shuffle(candidates)
    for one in candidates:
        lock = os.open(own_folder("subnets") / one.network_address.compressed, _FLAGS, 0o600)
        try:
            if _locked(lock) and not any(one.overlaps(other) for other in routed()):
                yield str(one)
                return
        finally:
            os.close(lock)
    raise EngineError(f"no free subnet: all of {_TESTS} is routed somewhere")


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def routed() -> list[IPv4Network]:
    """Return where this machine's routes lead, but for the one that leads everywhere."""
    found = []
    for line in Path("/proc/net/route").read_text("ascii").splitlines()[1:]:
        fields = line.split()
        address, mask = (IPv4Address(bytes.fromhex(fields[n])[::-1]) for n in (1, 7))
        found.append(IPv4Network(f"{address}/{mask}"))
    return [one for one in found if one.prefixlen]
