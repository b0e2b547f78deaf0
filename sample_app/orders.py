"""Orders: a write that can be counted, and with an Idempotency-Key has one effect only.

The journal is the store. An order's line is written once per execution and before its answer, so
an order a client was told of is in the journal whatever happens next, and an order run twice is
there twice. Instances that share the journal see each other's orders, so a key holds across
instances, versions and restarts.
"""

from __future__ import annotations

import json
import secrets
import threading
from dataclasses import asdict, dataclass, fields

from sample_app.journal import Journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One execution: the request that caused it, what it carried, and who ran it."""

    order: str
    id: str | None
    key: str | None
    bytes: int
    sha256: str
    version: str
    instance: str

    def told(self) -> dict[str, object]:
        """Return the order as replies and the journal tell it."""
        return asdict(self)


_FIELDS = tuple(field.name for field in fields(Order))


class KeyReused(Exception):
    """The key already stands for an order with another body."""


class Orders:
    """The orders of every instance that shares the journal."""

    def __init__(self, journal: Journal, *, instance: str, version: str) -> None:
        self._journal, self._instance, self._version = journal, instance, version
        self._lock = threading.Lock()
        self._known: dict[str, Order] = {}
        self._by_key: dict[str, Order] = {}
        self._catch_up()

    def place(
        self, *, request: str | None, key: str | None, size: int, sha256: str
    ) -> tuple[Order, bool]:
        """Run the order, or find the one its key stands for; says whether it is a repeat.

        Without a key every call is an execution. Raises KeyReused, having run nothing, where the
        key was used with another body. May wait for another instance.
        """
        if key is None:
            return self._execute(request, None, size, sha256), False
        with self._lock, self._journal.alone():
            self._catch_up()
            known = self._by_key.get(key)
            if known is None:
                return self._execute(request, key, size, sha256), False
        if known.sha256 != sha256:
            raise KeyReused(f"Idempotency-Key {key!r} was used with another body")
        self._journal.write("replayed", id=request, key=key, order=known.order)
        return known, True

    def find(self, order: str) -> Order | None:
        """Return the order of that number, whichever instance ran it."""
        with self._lock:
            self._catch_up()
        return self._known.get(order)

    def _execute(self, request: str | None, key: str | None, size: int, sha256: str) -> Order:
        order = Order(
            order=secrets.token_hex(8),
            id=request,
            key=key,
            bytes=size,
            sha256=sha256,
            version=self._version,
            instance=self._instance,
        )
        self._commit(order)
        self._learn(order)
        return order

    def _commit(self, order: Order) -> None:
        self._journal.write("order", **order.told())

    def _catch_up(self) -> None:
        for line in self._journal.unread():
            if b'"event": "order"' in line:
                told = json.loads(line)
                self._learn(Order(**{name: told[name] for name in _FIELDS}))

    def _learn(self, order: Order) -> None:
        self._known[order.order] = order
        if order.key is not None:
            self._by_key[order.key] = order
