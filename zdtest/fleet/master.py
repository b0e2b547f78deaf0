"""The `Master` knows the workers that came to it, and makes a `Fleet` of them for each load."""

from __future__ import annotations

import sys
from collections.abc import Callable, Container
from typing import TYPE_CHECKING, Any, Final

import gevent

from zdtest import __version__
from zdtest.errors import LoadFailed
from zdtest.fleet.fleet import Fleet
from zdtest.fleet.part import Member
from zdtest.records.host import clock
from zdtest.sending.exchange import now_ns
from zdtest.sending.plan import Plan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_INTRODUCED: Final = 5.0


class Master:
    """Listens to the workers on Locust's own connections; `fleet` is the load they carry now.

    A worker of another version is refused: both sides say so in one line. `theirs` are the options
    that are Locust's own; all others are the load's, and go to the workers.
    """

    def __init__(self, environment: Any, theirs: Container[str]) -> None:
        self._environment = environment
        self._theirs = theirs
        self._runner = environment.runner
        self._members: dict[str, Member] = {}
        self._refused: dict[str, tuple[str, str]] = {}
        self.fleet: Fleet | None = None
        self._runner.register_message("zd_hello", self._hello)
        for name in ("ready", "pong", "chunk"):
            self._runner.register_message(f"zd_{name}", self._passed_on(name))

    def _passed_on(self, name: str) -> Callable[..., None]:
        def listener(msg: Any, **_: Any) -> None:
            if self.fleet is not None:
                getattr(self.fleet, name)(msg.node_id, msg.data)

        return listener

    def _send(self, message: str, to: str, **told: object) -> None:
        self._runner.send_message(message, told, client_id=to)

    def _hello(self, msg: Any, **_: Any) -> None:
        told = msg.data
        if told["version"] != __version__:
            self._refuse(
                msg.node_id,
                f"{told['host']} pid {told['pid']}",
                f"is zdtest {told['version']}, expected {__version__} as the master is",
            )
            return
        if msg.node_id not in self._members:
            shared = bool(told["clock"]) and told["clock"] == clock()
            self._members[msg.node_id] = Member(msg.node_id, told, shared=shared, now=now_ns())
        self._send("zd_welcome", msg.node_id)

    def _refuse(self, id: str, name: str, why: str) -> None:
        if id not in self._refused:
            self._refused[id] = name, why
            print(f"zdtest: worker {name} {why}", file=sys.stderr, flush=True)
        self._send("zd_refused", id, why=f"refused by the master: this worker {why}")

    @property
    def _connected(self) -> list[str]:
        clients = self._runner.clients
        return [one.id for one in (*clients.ready, *clients.spawning, *clients.running)]

    def muster(self, plan: Plan, show: Callable[[NDArray[np.void]], None]) -> Fleet:
        """Return the fleet of all workers that are there; raises LoadFailed when none is."""
        self._until_introduced()
        options = self._environment.parsed_options
        members = [self._members[id] for id in self._connected if id in self._members]
        refused = dict(self._refused.values())
        self._refused.clear()
        if not members:
            told = "; ".join(f"worker {name} {why}" for name, why in refused.items())
            raise LoadFailed(f"no worker to send the load: {told or 'none has come'}")
        self.fleet = Fleet(
            plan,
            show,
            self._send,
            members,
            # Another one may have come in its place.
            refused=refused if len(members) < options.expect_workers else {},
            options={
                name: value for name, value in vars(options).items() if name not in self._theirs
            },
        )
        return self.fleet

    def _until_introduced(self) -> None:
        """Wait for those that have only just come; who does not say what it is, is refused."""
        until = now_ns() + int(_INTRODUCED * 1e9)
        while strangers := [
            id for id in self._connected if id not in self._members and id not in self._refused
        ]:
            if now_ns() > until:
                for id in strangers:
                    self._refuse(id, id, f"did not tell its version, expected zdtest {__version__}")
                    self._send("quit", id)
                return
            gevent.sleep(0.05)
