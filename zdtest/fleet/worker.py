"""A `Worker` carries the stripe of a load that the master gives it, and ships what it recorded.

Its users are Locust's (``locust -f zdtest/load.py --worker``). Which of them Locust spawns where
does not matter: the master's own messages say what to send, and when.
"""

from __future__ import annotations

import os
import socket
import sys
from argparse import Namespace
from collections.abc import Mapping
from typing import Any, Final

import gevent

from zdtest import __version__
from zdtest.errors import ZdError
from zdtest.fleet.shipper import Beside, Shipper
from zdtest.records.beside import MESSAGE, RETRY
from zdtest.records.host import clock
from zdtest.sending.chores import Chores
from zdtest.sending.drive import Drive
from zdtest.sending.exchange import now_ns
from zdtest.sending.plan import Plan
from zdtest.sending.recorder import Recorder, Side
from zdtest.sending.schedule import Stripe

_HELLO: Final = 0.5
_SHIP: Final = 0.25
_QUIET_NS: Final = 1_000_000_000
_ALONE_NS: Final = 10_000_000_000
_LAST_WORDS: Final = 5.0


class Carried:
    """One stripe at work: what sends it, what records it, what ships that to the master."""

    def __init__(self, told: Mapping[str, Any], worker: Worker) -> None:
        self.key = told["key"]
        self._worker = worker
        stripe = Stripe(told["index"], told["count"])
        self.shipper = Shipper(self._ship, stripe.count, stripe.index)
        plan = Plan.of(Namespace(**told["options"]), told["host"])
        streams = any(one.stations for one in plan.channels)
        keyed = any(one.keyed for one in plan.channels)
        self._recorder = Recorder(
            self.shipper,
            messages=Side(Beside(self.shipper, "messages"), MESSAGE) if streams else None,
            retries=Side(Beside(self.shipper, "retries"), RETRY) if keyed else None,
        )
        self.drive = Drive(plan, self._recorder, stripe)
        self._chores = Chores()
        self._ending = self._finished = False
        self._stopped = 0
        self.began = False

    def _ship(self, chunk: Mapping[str, Any]) -> None:
        self._worker.send("zd_chunk", key=self.key, **chunk)

    def begin(self, at: int) -> None:
        """Send from that moment on, which is one of this process's clock."""
        if not self.began and not self._ending:
            self.began = True
            self.drive.start(at)
            self._chores.add(_SHIP, self._step)

    def follow(self, began: int) -> None:
        """Keep the schedule's zero where the master's clock has it."""
        if self.began and not self._stopped:
            self.drive.generator.began = began

    def _step(self) -> None:
        now = now_ns()
        self._recorder.news()
        if self.shipper.idle:
            self._recorder.write(lambda append, *rows: append(*rows))
        silent = now - self._worker.heard
        if silent > _ALONE_NS and not self._stopped:
            print("zdtest: no word from the master for 10 s: sending ends", file=sys.stderr)
            self.stop()
        # While the link is down it keeps what it was given; more of the same would only pile up.
        if silent < _QUIET_NS:
            self.shipper.step(now)

    def stop(self, at: int = 0) -> None:
        """Send nothing more that is due after that moment, or after now."""
        if not self._stopped:
            self._stopped = at or now_ns()
            if self.began:
                self.drive.generator.stop()

    def end(self, at: int = 0) -> None:
        """Stop, at that moment if it is still to come, and account for all; once."""
        if self._ending:
            return
        self._ending = True
        if self.began and at:
            self.drive.generator.end(at)
            gevent.sleep(max(0, at - now_ns()) * 1e-9)
        self.stop(at)
        trouble = ""
        if self.began:
            trouble = self.drive.finish()
            account = {**self.drive.account(), "stopped": self._stopped, "trouble": trouble}
            self._recorder.close(account)

    def finish(self) -> bool:
        """Return once the master has all, or False where it does not answer for five seconds."""
        while not self.shipper.done and self.began:
            if now_ns() - self._worker.heard > _LAST_WORDS * 1e9:
                break
            gevent.sleep(0.02)
            self.shipper.step(now_ns())
        if not self._finished:
            self._finished = True
            self._chores.end()
            self.drive.close()
        return self.shipper.done or not self.began


class Worker:
    """Listens to the master on Locust's own connection; `heard` is when (ns) it last did."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self._runner = environment.runner
        self._carried: Carried | None = None
        self._known = False
        self.heard = now_ns()
        for name in ("welcome", "refused", "begin", "ping", "ack"):
            self._runner.register_message(f"zd_{name}", getattr(self, f"_{name}"))
        for name in ("prepare", "end"):
            self._runner.register_message(f"zd_{name}", getattr(self, f"_{name}"), concurrent=True)
        gevent.spawn(self._introduce)

    def send(self, message: str, **told: object) -> None:
        """Send a message to the master."""
        self._runner.send_message(message, told)

    def _introduce(self) -> None:
        """Say who we are until the master has heard it."""
        while not self._known:
            self.send(
                "zd_hello",
                version=__version__,
                clock=clock(),
                host=socket.gethostname(),
                pid=os.getpid(),
            )
            gevent.sleep(_HELLO)

    def _welcome(self, msg: Any, **_: Any) -> None:
        self._known = True
        self.heard = now_ns()

    def _refused(self, msg: Any, **_: Any) -> None:
        if not self._known:
            self._known = True
            print(f"zdtest: {msg.data['why']}", file=sys.stderr, flush=True)
            self._environment.process_exit_code = 2
            gevent.spawn(self._runner.quit)

    def _prepare(self, msg: Any, **_: Any) -> None:
        self.heard = now_ns()
        self.leave()
        try:
            self._carried = Carried(msg.data, self)
        except (ZdError, OSError) as error:
            self.send("zd_ready", key=msg.data["key"], failure=str(error))
        except Exception as error:
            self.send("zd_ready", key=msg.data["key"], failure=f"broke: {error!r}")
        else:
            self.send("zd_ready", key=msg.data["key"], failure="")

    def _of(self, msg: Any) -> Carried | None:
        """Return the load that the message is about, None when it is over or another one."""
        self.heard = now_ns()
        carried = self._carried
        return carried if carried is not None and carried.key == msg.data["key"] else None

    def _begin(self, msg: Any, **_: Any) -> None:
        if carried := self._of(msg):
            carried.begin(msg.data["at"])

    def _ping(self, msg: Any, **_: Any) -> None:
        came = now_ns()
        carried = self._of(msg)
        on_the_way = 0
        if carried is not None and carried.began:
            if msg.data["began"] is not None:
                carried.follow(msg.data["began"])
            on_the_way = carried.drive.generator.on_the_way
        told = {"key": msg.data["key"], "sent": msg.data["sent"], "on_the_way": on_the_way}
        self.send("zd_pong", **told, came=came, went=now_ns())

    def _ack(self, msg: Any, **_: Any) -> None:
        if carried := self._of(msg):
            carried.shipper.arrived(msg.data["until"], now_ns())

    def _end(self, msg: Any, **_: Any) -> None:
        if carried := self._of(msg):
            carried.end(msg.data["at"])
            self._finish(carried)

    def _finish(self, carried: Carried) -> None:
        if not carried.finish():
            print("zdtest: the master is gone: not all samples reached it", file=sys.stderr)
            self._environment.process_exit_code = 3
        elif self._environment.process_exit_code is None:
            self._environment.process_exit_code = 0
        if self._carried is carried:
            self._carried = None

    def leave(self) -> None:
        """End what is carried, if anything is; the master is told the rest of it."""
        carried = self._carried
        if carried is not None:
            carried.end()
            self._finish(carried)
