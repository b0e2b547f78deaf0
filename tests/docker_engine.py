"""The Docker Engine that tests run on: one that answers, else a private one; skipped without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from zdtest.engine.offer import Docker, Offer
from zdtest.errors import EngineMissing


@contextmanager
def lent() -> Iterator[Docker]:
    """Yield it, with its images built where they were missing."""
    with Offer("docker", tell=print) as offer:
        try:
            found = offer.docker()
        except EngineMissing as error:
            pytest.skip(str(error))
        yield found
