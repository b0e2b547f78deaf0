"""The download: a body of any length whose every byte is known beforehand."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Iterator
from functools import lru_cache

LARGEST = 1 << 30
"""The longest body served, in bytes."""

_BLOCK = 1 << 16
_NOISE = random.Random("zdtest").randbytes(_BLOCK - 8)


def content(length: int) -> Iterator[bytes]:
    """Yield the body of that length in blocks; no two blocks are alike."""
    for number in range(-(-length // _BLOCK)):
        yield (number.to_bytes(8, "big") + _NOISE)[: length - number * _BLOCK]


@lru_cache(maxsize=64)
def digest(length: int) -> str:
    """Return the body's SHA-256, in hex."""
    running = hashlib.sha256()
    for block in content(length):
        running.update(block)
    return running.hexdigest()


async def stream(length: int) -> AsyncIterator[bytes]:
    """Yield the body as the connection takes it."""
    for block in content(length):
        yield block
