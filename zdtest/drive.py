"""A `Drive` is one load at work, from its first request to its closed recording."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import gevent
from gevent.event import Event

from zdtest.channel import Channel
from zdtest.generator import Generator, Lane
from zdtest.lag import Lag
from zdtest.plan import Plan, target
from zdtest.recorder import Recorder
from zdtest.resolver import Resolver
from zdtest.sample import Outcome
from zdtest.summary import REACHED
from zdtest.wire import Target, Wire

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TELL: Final = 0.25
_WRITE: Final = 8.0
_WRITE_ROWS: Final = 16_384
_RESOLVE: Final = 1.0
_CONTROL_RATE: Final = 50.0


class Drive:
    """Carries out a `Plan` on gevent's loop; `show` is given the rows of each quarter second."""

    def __init__(self, plan: Plan, show: Callable[[NDArray[np.void]], None]) -> None:
        self.plan = plan
        self._show = show
        self._write_manifest()
        hub = gevent.get_hub()
        self.recorder = Recorder(plan.folder / "samples.arrows")
        self.generator = Generator(hub.loop, run=plan.run)
        self._target = target(plan.parts, verify=not plan.options.insecure)
        self._control = target(plan.control) if plan.control else None
        self._resolvers = [Resolver(one) for one in (self._target, self._control) if one]
        for resolver in self._resolvers:
            resolver.resolve()
        self._lanes = list(self._make_lanes(hub.loop, plan.options))
        self._lag = Lag()
        self._news: int | None = None
        if plan.options.zd_news:
            self._news = os.open(
                plan.options.zd_news, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644
            )
        self._greenlets: list[Any] = []
        self._ending, self._ended = Event(), Event()
        self.trouble = ""
        self.trailer: dict[str, Any] = {}

    def _write_manifest(self) -> None:
        """Say what runs, unless whoever started the load has said it already."""
        self.plan.folder.mkdir(parents=True, exist_ok=True)
        path = self.plan.folder / "manifest.json"
        if not path.exists():
            path.write_text(json.dumps(self.plan.manifest(), indent=2) + "\n", "utf-8")

    def _make_lanes(self, loop: Any, options: Namespace) -> Iterator[Lane]:
        wire = Wire(
            loop,
            self._target,
            self.recorder.take,
            expected=self.plan.expected,
            body=options.expect_body.encode(),
            only_version=options.expect_version.encode(),
            version_header=options.version_header,
            instance_header=options.instance_header,
        )
        for spec in self.plan.channels:
            yield Lane(spec, wire, seed=self.plan.seed, write_body=options.write_body)
        if self._control is not None:
            yield self._control_lane(loop, self._control)

    def _control_lane(self, loop: Any, echo: Target) -> Lane:
        spec = Channel("control", 0.0, _CONTROL_RATE, timeout=1.0)
        return Lane(spec, Wire(loop, echo, self.recorder.take), seed=self.plan.seed)

    def start(self) -> None:
        """Begin to send, and to tell how it goes."""
        _prefer()
        # What lives now lives to the end; collecting it again and again would stall the schedule.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        self.generator.start(self._lanes)
        self._tell({"began": self.generator.began * 1e-9})
        self._greenlets = [
            gevent.spawn(self._regularly, _TELL, self.tell),
            gevent.spawn(self._regularly, _TELL, self._write),
        ]
        for one in self._resolvers:
            if not one.settled:
                self._greenlets.append(gevent.spawn(self._regularly, _RESOLVE, one.resolve))
        self._written = time.monotonic()

    def _regularly(self, pause: float, step: Callable[[], None]) -> None:
        while not self._ending.wait(pause):
            step()

    def tell(self) -> None:
        """Bring the page and whoever started the load up to date."""
        rows = self.recorder.news()
        late = self._lag.add(rows["sent"])
        self._show(rows)
        self._tell(
            {
                "t": time.monotonic(),
                "done": self.recorder.total(),
                "failed": self.recorder.total(failed=True),
                "on_the_way": self.generator.on_the_way,
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
                # In place, a millisecond for a thousand rows: handed to gevent's threads, the
                # write was seen to be lost for good when a signal came at the same moment.
                self.recorder.write(lambda append, *rows: append(*rows))
            except OSError as error:
                self.trouble = f"cannot write the recording: {error}"
            self._written = time.monotonic()

    def close(self, *, interrupted: bool = False) -> None:
        """Stop sending, wait for what is on its way, and close the recording; once."""
        if self._ending.is_set():
            self._ended.wait()
            return
        self.generator.stop()
        while self.generator.on_the_way:
            gevent.sleep(0.01)
        self._ending.set()
        gevent.joinall(self._greenlets)
        for broken in (one.exception for one in self._greenlets if one.exception):
            self.trouble = self.trouble or f"a part of the load broke: {broken!r}"
        self.tell()
        self._close_recording(interrupted)
        self.generator.close()
        if self._news is not None:
            os.close(self._news)
            self._news = None
        gc.unfreeze()
        self._ended.set()

    def _close_recording(self, interrupted: bool) -> None:
        self.trailer = {
            **self.generator.account(),
            **self._lag.as_dict(),
            "unsent": self.unsent,
            "interrupted": interrupted,
        }
        if not self.trouble:
            try:
                self.recorder.close(self.trailer)
            except OSError as error:
                self.trouble = f"cannot write the recording: {error}"

    @property
    def unsent(self) -> int:
        """How many requests this process itself could not send."""
        tally = self.recorder.tally
        return sum(n for (_, outcome), n in tally.items() if outcome == Outcome.unsent)

    @property
    def exit_code(self) -> int:
        """0 all answered, 1 the system failed, 3 the load failed."""
        reached = self.trailer["reached_rate"] >= REACHED * self.trailer["offered_rate"] > 0
        if self.trouble or self.unsent or self.recorder.dropped or not reached:
            return 3
        return 1 if self.recorder.total(failed=True) else 0


def _prefer() -> None:
    """Run before what is measured where the system lets us: late load measures itself."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)
