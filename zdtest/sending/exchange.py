"""An `Exchange` is one request on its way, from its due time to its one `Outcome`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from zdtest.records.recording import NEVER
from zdtest.records.sample import Outcome

if TYPE_CHECKING:
    from zdtest.sending.line import Line

now_ns = time.monotonic_ns


class Exchange:
    """One request on its way; `finish` of the wire's owner sees it exactly once.

    `due`, `sent`, `first` and `done` are nanoseconds on CLOCK_MONOTONIC, 0 while they have not
    happened. `deadline` is when its time is up by its generator's clock, which stands still while
    the process does. `key` numbers the Idempotency-Key, where it carries one. Its reply's body has
    to hold one of `texts`, where there are any.
    """

    key: int

    __slots__ = (
        "channel",
        "conn",
        "deadline",
        "done",
        "due",
        "first",
        "instance",
        "key",
        "line",
        "outcome",
        "payload",
        "sent",
        "seq",
        "session",
        "size",
        "status",
        "texts",
        "version",
    )

    def __init__(
        self,
        channel: Any,
        seq: int,
        session: int,
        due: int,
        payload: bytes,
        deadline: int = 0,
        texts: tuple[bytes, ...] = (),
    ) -> None:
        self.channel = channel
        self.seq = seq
        self.session = session
        self.due = due
        self.payload = payload
        self.deadline = deadline
        self.texts = texts
        self.sent = self.first = self.done = self.status = self.size = self.conn = 0
        self.version = self.instance = b""
        self.outcome: Outcome | None = None
        self.line: Line | None = None

    def offset(self, moment: int) -> int:
        """Return `moment` as microseconds after `due`, `NEVER` where it has not happened."""
        if not moment:
            return NEVER
        offset = (moment - self.due) // 1000
        if 0 <= offset < NEVER:
            return offset
        return 0 if offset < 0 else NEVER - 1
