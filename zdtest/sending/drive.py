"""A `Drive` is one load at work in this process, from its first request to its last reply."""

from __future__ import annotations

import contextlib
import gc
import os
from argparse import Namespace
from collections.abc import Iterator, Mapping
from typing import Any, Final

import gevent

from zdtest.channel import Channel
from zdtest.sending import resolver
from zdtest.sending.chores import Chores
from zdtest.sending.generator import Generator, Lane
from zdtest.sending.keyed import KeyedLane
from zdtest.sending.plan import Plan, target
from zdtest.sending.recorder import Recorder
from zdtest.sending.resolver import Resolver
from zdtest.sending.schedule import WHOLE, Stripe
from zdtest.sending.wire import Target, Wire

_CONTROL_RATE: Final = 50.0


class Drive:
    """Carries out a `Plan`, or a stripe of it, on gevent's loop; `recorder` hears what comes of it.

    The control server is asked by each process at the same pace: its trouble may be of its own.
    """

    def __init__(self, plan: Plan, recorder: Recorder, stripe: Stripe = WHOLE) -> None:
        self._plan = plan
        self._recorder = recorder
        self._stripe = stripe
        hub = gevent.get_hub()
        self.generator = Generator(hub.loop, run=plan.run)
        self._target = target(plan.parts, verify=not plan.options.insecure)
        self._control = target(plan.control) if plan.control else None
        self._resolvers = [Resolver(one) for one in (self._target, self._control) if one]
        for one in self._resolvers:
            one.resolve()
        self._lanes = list(self._make_lanes(hub.loop, plan.options))
        self._chores = Chores()

    def _make_lanes(self, loop: Any, options: Namespace) -> Iterator[Lane]:
        wire = Wire(
            loop,
            self._target,
            self._recorder.take,
            expected=self._plan.expected,
            body=options.expect_body.encode(),
            only_version=options.expect_version.encode(),
            version_header=options.version_header,
            instance_header=options.instance_header,
        )
        told: dict[str, Any] = {
            "seed": self._plan.seed,
            "stripe": self._stripe,
            "write_body": options.write_body,
            "headers": self._plan.headers,
        }
        messages, retries = self._recorder.messages, self._recorder.retries
        for spec in self._plan.channels:
            if spec.keyed and retries is not None:
                yield KeyedLane(spec, wire, retried=retries.take, **told)
            else:
                yield Lane(spec, wire, heard=messages.take if messages else None, **told)
        if self._control is not None:
            yield self._control_lane(loop, self._control)

    def _control_lane(self, loop: Any, echo: Target) -> Lane:
        spec = Channel("control", 0.0, _CONTROL_RATE * self._stripe.count, timeout=1.0)
        return Lane(
            spec, Wire(loop, echo, self._recorder.take), seed=self._plan.seed, stripe=self._stripe
        )

    def start(self, at: int | None = None) -> None:
        """Begin to send: `at` that moment on CLOCK_MONOTONIC, else at once."""
        _prefer()
        # What lives now lives to the end; collecting it again and again would stall the schedule.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        self.generator.start(self._lanes, at)
        for one in self._resolvers:
            if not one.settled:
                self._chores.add(resolver.PAUSE, one.resolve)

    def finish(self) -> str:
        """Send nothing more, and return once nothing is on its way: what broke, "" if nothing."""
        self.generator.stop()
        while self.generator.on_the_way:
            gevent.sleep(0.01)
        return self._chores.end()

    def account(self) -> Mapping[str, object]:
        """Return what the schedule asked of this process, what was reached, and where names led."""
        return {**self.generator.account(), **resolver.account(self._resolvers)}

    def close(self) -> None:
        """Close every connection."""
        self.generator.close()
        gc.unfreeze()


def _prefer() -> None:
    """Run before what is measured where the system lets us: late load measures itself."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)
