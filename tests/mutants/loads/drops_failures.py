"""The load with a recorder that keeps no request that failed."""

from __future__ import annotations

from plain import main

from zdtest.records.sample import Outcome
from zdtest.sending.exchange import Exchange
from zdtest.sending.recorder import Recorder

_take = Recorder.take


def take(self: Recorder, exchange: Exchange) -> None:
    """Keep what went well."""
    if exchange.outcome is Outcome.ok:
        _take(self, exchange)


Recorder.take = take  # type: ignore[method-assign]
main()
