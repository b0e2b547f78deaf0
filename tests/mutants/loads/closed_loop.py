"""The load as a closed loop: nothing falls due while something is on its way."""

from __future__ import annotations

from plain import main

from zdtest.sending.exchange import now_ns
from zdtest.sending.generator import Generator

_send_due = Generator._send_due


def send_due(self: Generator, until: int) -> bool:
    """Send what is due, unless somebody waits: then all of it falls due that much later."""
    if self.on_the_way:
        self.began += max(0, now_ns() + 1_000_000 - self._next)
        return True
    return _send_due(self, until)


Generator._send_due = send_due  # type: ignore[method-assign]
main()
