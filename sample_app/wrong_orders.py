"""Orders as broken releases keep them; each overrides the one thing that it does wrong."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from starlette.exceptions import HTTPException

from sample_app.journal import Journal
from sample_app.orders import Order, Orders
from sample_app.release import UNCOMMITTED, Release


def orders(release: Release, journal: Journal, *, instance: str, version: str) -> Orders:
    """Return the orders as that release keeps them."""
    return _KEPT.get(release.name, Orders)(journal, instance=instance, version=version)


class _AcksBeforeCommit(Orders):
    """Answers first: the line follows, unless the process has ended before."""

    def _commit(self, order: Order) -> None:
        later = threading.Timer(UNCOMMITTED, super()._commit, (order,))
        later.daemon = True
        later.start()


class _Twice(Orders):
    """Runs every order a second time, as a job queue does that delivers at least once."""

    def _execute(self, request: str | None, key: str | None, size: int, sha256: str) -> Order:
        super()._execute(request, key, size, sha256)
        return super()._execute(request, key, size, sha256)


class _ForgetsKeys(Orders):
    """Knows the keys of its own process only."""

    def _catch_up(self) -> None:
        own = self._by_key.copy()
        super()._catch_up()
        self._by_key = own


class _NotesKeysFirst(Orders):
    """Notes a key before its order has run, and breaks in between at every fifth."""

    _keys = 0

    def _commit(self, order: Order) -> None:
        if order.key is not None:
            self._keys += 1
            if self._keys % 5 == 0:
                self._learn(order)
                raise HTTPException(500, "broke after the key was noted")
        super()._commit(order)


_KEPT: Mapping[str, type[Orders]] = {
    "acks-before-commit": _AcksBeforeCommit,
    "twice": _Twice,
    "forgets-keys": _ForgetsKeys,
    "notes-keys-first": _NotesKeysFirst,
}
