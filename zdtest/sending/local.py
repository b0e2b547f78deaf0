"""A `Local` load is one that a single process both sends and records."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from zdtest.sending.chores import Latch
from zdtest.sending.drive import Drive
from zdtest.sending.ledger import Ledger
from zdtest.sending.plan import Plan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Local:
    """Carries out a `Plan`; `show` is given the rows of each quarter second."""

    def __init__(self, plan: Plan, show: Callable[[NDArray[np.void]], None]) -> None:
        self.ledger = Ledger(plan, show, lambda: self._drive.generator.on_the_way)
        self._drive = Drive(plan, self.ledger.recorder)
        self._closing, self._closed = Latch(), Latch()

    def start(self) -> None:
        """Begin to send, and to tell how it goes."""
        self._drive.start()
        self.ledger.begin(self._drive.generator.began)

    def stop(self) -> None:
        """Send nothing more."""
        self._drive.generator.stop()

    def close(self, *, interrupted: bool = False) -> None:
        """Stop sending, wait for what is on its way, and close the recording; once."""
        if self._closing.is_set():
            self._closed.wait()
            return
        self._closing.set()
        trouble = self._drive.finish()
        self.ledger.close({**self._drive.account(), "interrupted": interrupted}, trouble)
        self._drive.close()
        self.ledger.silence()
        self._closed.set()
