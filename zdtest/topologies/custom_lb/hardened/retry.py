"""When a request may be sent again (RFC 9110 section 9.2.2), and how often."""

from __future__ import annotations

from .http1 import Request, values

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS"))


class Lost(Exception):
    """A target took a request, or could not be reached, and nothing to pass on came back.

    `sent` says that it may have run; `stale` that it went over a kept connection, which the
    target may have been closing for idleness just then.
    """

    def __init__(self, reason: str, *, sent: bool, stale: bool = False) -> None:
        super().__init__(reason)
        self.sent = sent
        self.stale = stale


def repeatable(request: Request, *, replayable: bool, lost: Lost) -> bool:
    """Return whether running `request` again can't do harm; `replayable`: its body is at hand."""
    if not lost.sent:
        return True
    keyed = bool(values(request.headers, b"idempotency-key"))
    return replayable and (request.method in IDEMPOTENT or keyed)


class RetryBudget:
    """Retries are at most a share of requests, so that they can't multiply an overload."""

    def __init__(self, *, ratio: float, reserve: float, burst: float) -> None:
        self._ratio = ratio
        self._burst = burst
        self._left = reserve

    def earn(self) -> None:
        """One more request was accepted."""
        self._left = min(self._burst, self._left + self._ratio)

    def spend(self) -> bool:
        """Return whether one more retry is allowed; it is then paid for."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
