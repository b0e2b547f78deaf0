"""The running balancer: which targets get requests, as far as it tells or can be told."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any

from zdtest.engine import Engine, Instance, probe
from zdtest.errors import EngineError

_STATES = ("registered", "removed", "draining", "suspect", "ejected")


class Rotation:
    """What the balancer says of its targets, and what it is told, each by its port.

    One with an `admin_port` is asked and told there, another one is read from its log.
    """

    def __init__(self, engine: Engine, balancer: Instance, admin_port: int | None) -> None:
        self._engine = engine
        self._first = self._balancer = balancer
        self._admin_port = admin_port

    def restarted(self, balancer: Instance) -> None:
        """`balancer` runs now in place of the one before, and knows nothing of what that knew."""
        self._balancer = balancer

    def takes(self, instance: str, port: int) -> None:
        """Return once `instance` on `port` gets its share; raises EngineError in time."""
        out = self._out if self._admin_port is None else self._not_up
        probe.until(
            f"{instance} back in the rotation",
            lambda: out(f"127.0.0.1:{port}"),
            timeout=15,
            evidence=lambda: self._engine.logs(self._balancer),
        )

    def weigh(self, weights: Mapping[int, int]) -> None:
        """The targets on these ports have these weights, all at once; raises EngineError."""
        self._admin("PUT", "/weights", {f"127.0.0.1:{p}": weights[p] for p in weights})

    def told(self, port: int) -> Mapping[str, Any]:
        """Return what the admin API shows of the target on `port`; raises EngineError."""
        targets = {target["name"]: target for target in self._admin("GET", "/targets")}
        found: Mapping[str, Any] = targets[f"127.0.0.1:{port}"]
        return found

    def _admin(self, method: str, path: str, value: object = None) -> Any:
        """Return what the admin API answers; raises EngineError with its one line if it refuses."""
        connection = http.client.HTTPConnection("127.0.0.1", self._admin_port, timeout=5)
        try:
            connection.request(method, path, None if value is None else json.dumps(value))
            reply = connection.getresponse()
            told = json.load(reply)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise EngineError(f"balancer: {method} {path}: {error}") from error
        finally:
            connection.close()
        if reply.status != 200:
            raise EngineError(f"balancer refused {method} {path}: {told['error']}")
        return told

    def when(self, state: str, port: int) -> list[float]:
        """Return each time at which the target on `port` came into that state, monotonic s.

        Those before a restart too.
        """
        told = self._told(self._first, f"127.0.0.1:{port}")
        return [at for at, event in told if event == state]

    def _out(self, target: str) -> str:
        """Return why the target gets no requests, by the balancer's last word on it.

        Before its first word it gets them: the queue starts full.
        """
        said = [event for _, event in self._told(self._balancer, target)]
        last = (said or ["registered"])[-1]
        return "" if last == "registered" else f"{target} is {last}"

    def _not_up(self, target: str) -> str:
        """Return why the target can get no requests, by the admin API."""
        state = self.told(int(target.rpartition(":")[2]))["state"]
        return "" if state == "up" else f"{target} is {state}"

    def _told(self, since: Instance, target: str) -> Iterator[tuple[float, str]]:
        """Yield what the log says of the target's states, and when, from that process's start."""
        for line in self._engine.logs(since, tail=100_000).splitlines():
            with contextlib.suppress(ValueError):
                said = json.loads(line)
                if said.get("target") == target and said["event"] in _STATES:
                    yield float(said["t"]), str(said["event"])
