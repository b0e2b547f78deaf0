"""The load with the kindness of most clients: what broke on a kept connection is sent again."""

from __future__ import annotations

from plain import main

from zdtest.records.sample import Outcome
from zdtest.sending.line import Line

_broke = Line._broke


def broke(self: Line, outcome: Outcome) -> None:
    """Send it once more, on a fresh connection, where it was a kept one that broke."""
    exchange, kept = self.exchange, self.rested > 0
    if exchange is None or not kept or not self.connected:
        _broke(self, outcome)
        return
    self.exchange = None
    self.close()
    self.wire.open(exchange, keep=self.keep)


Line._broke = broke  # type: ignore[method-assign]
main()
