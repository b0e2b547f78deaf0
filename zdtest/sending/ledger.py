"""The `Ledger` of a load: its recording, the news of it, its trailer, and its own troubles."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from zdtest.errors import RecordingError
from zdtest.records import crew
from zdtest.records.eventlog import EventLog
from zdtest.records.sample import Outcome
from zdtest.sending.chores import Chores
from zdtest.sending.lag import Lag
from zdtest.sending.plan import Plan
from zdtest.sending.recorder import Recorder
from zdtest.sending.summary import REACHED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TELL: Final = 0.25
"""Seconds between two pieces of news."""

_WRITE: Final = 1.0
_WRITE_ROWS: Final = 4_096


class Ledger:
    """Keeps what a load does; `show` is given the rows of each quarter second.

    `on_the_way` tells how many requests have been sent and have not ended.
    """

    def __init__(
        self,
        plan: Plan,
        show: Callable[[NDArray[np.void]], None],
        on_the_way: Callable[[], int],
    ) -> None:
        self.plan = plan
        self._show = show
        self._on_the_way = on_the_way
        self._own_manifest = False
        self._write_manifest()
        self.recorder = Recorder.of(plan.folder, plan.channels)
        self.lag = Lag()
        self._chores = Chores()
        self._news: int | None = None
        if plan.options.zd_news:
            self._news = os.open(
                plan.options.zd_news, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644
            )
        self._written = time.monotonic()
        self.trouble = ""
        self.trailer: dict[str, Any] = {}

    def _write_manifest(self, **about: object) -> None:
        """Say what runs, unless whoever started the load has said it already."""
        self.plan.folder.mkdir(parents=True, exist_ok=True)
        path = self.plan.folder / "manifest.json"
        if self._own_manifest or not path.exists():
            self._own_manifest = True
            told = {**self.plan.manifest(), **about}
            path.write_text(json.dumps(told, indent=2) + "\n", "utf-8")

    def begin(self, began: int, **about: object) -> None:
        """Tell that the first request is due, and from now on how it goes."""
        if about:
            self._write_manifest(**about)
        self._tell({"began": began * 1e-9})
        self._chores.add(TELL, self.tell)
        self._chores.add(TELL, self._write)
        self._written = time.monotonic()

    def tell(self) -> None:
        """Bring the page and whoever started the load up to date."""
        rows = self.recorder.news()
        late = self.lag.add(rows["sent"])
        self._show(rows)
        self._tell(
            {
                "t": time.monotonic(),
                "done": self.recorder.total(),
                "failed": self.recorder.total(failed=True),
                "on_the_way": self._on_the_way(),
                "lag_ms": late / 1000,
            }
        )

    def _tell(self, news: dict[str, object]) -> None:
        if self._news is not None:
            os.write(self._news, json.dumps(news).encode() + b"\n")

    def _write(self) -> None:
        """Put samples on disk when there is a chunk of them, or before many seconds are at risk."""
        late = time.monotonic() - self._written > _WRITE
        if (late or self.recorder.waiting >= _WRITE_ROWS) and not self.trouble:
            try:
                # In place, a millisecond for a thousand rows: few enough at a time.
                self.recorder.write(lambda append, *rows: append(*rows))
            except OSError as error:
                self.trouble = f"cannot write the recording: {error}"
            self._written = time.monotonic()

    def close(self, account: Mapping[str, Any], trouble: str = "") -> None:
        """Close the recording with `account` in its trailer; `trouble` is what else went wrong."""
        broken = self._chores.end()
        self.trouble = self.trouble or broken or trouble
        self.tell()
        names = account.get("names", ())
        about = {name: value for name, value in account.items() if name != "names"}
        self.trailer = {**about, **self.lag.as_dict(), "unsent": self.unsent}
        if not self.trouble:
            try:
                self._note(names)
                self.recorder.close(self.trailer)
            except (OSError, RecordingError) as error:
                self.trouble = f"cannot write the recording: {error}"

    def _note(self, names: Iterable[Mapping[str, Any]]) -> None:
        """Mark each moment from which on a name was known to stand for other addresses."""
        if not names:
            return
        mark = EventLog(self.plan.folder / "events.jsonl")
        for told in names:
            about = {**told, "happened": told["t"] * 1e-9, "since": told["since"] * 1e-9}
            del about["t"]
            mark("name.found" if told["addresses"] else "name.lost", **about)
        mark.close()

    def silence(self) -> None:
        """Tell nothing more."""
        if self._news is not None:
            os.close(self._news)
            self._news = None

    @property
    def unsent(self) -> int:
        """How many requests could not be sent for want of a socket or a port of ours."""
        tally = self.recorder.tally
        return sum(n for (_, outcome), n in tally.items() if outcome == Outcome.unsent)

    @property
    def exit_code(self) -> int:
        """0 all answered, 1 the system failed, 3 the load failed."""
        told = self.trailer
        reached = told["reached_rate"] >= REACHED * told["offered_rate"] > 0
        lacking = self.unsent or self.recorder.dropped or crew.faults(told)
        if self.trouble or lacking or not reached:
            return 3
        return 1 if self.recorder.total(failed=True) else 0
