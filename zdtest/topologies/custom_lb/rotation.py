"""The running balancer: which targets get requests, as far as it tells or can be told."""

from __future__ import annotations

import contextlib
import http.client
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from zdtest.engine import Engine, probe
from zdtest.errors import EngineError

_STATES = ("registered", "removed", "draining", "suspect")


class Rotation:
    """A balancer started by the targets.yml beside it, with our ports and `settings` in it.

    What it really ran with is ``targets.yml`` in the engine's folder.
    """

    def __init__(
        self,
        engine: Engine,
        balancer: Path,
        port: int,
        targets: Sequence[int],
        spares: Sequence[int] = (),
        **settings: object,
    ) -> None:
        config = yaml.safe_load(balancer.with_name("targets.yml").read_text("utf-8")) | settings
        config["port"] = port
        config["targets"] = [_place(target) for target in targets]
        config["targets"] += [_place(spare) | {"weight": 0} for spare in spares]
        self._admin_port: int | None = None
        if "admin_port" in config:
            config["admin_port"] = self._admin_port = engine.port()
        path = engine.folder.absolute() / "targets.yml"
        path.write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
        self._engine = engine
        self._balancer = engine.start(
            "balancer", [sys.executable, str(balancer), "--config", str(path)]
        )
        probe.serves(engine, self._balancer, port, "/ping")

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
        """Return each time at which the target on `port` came into that state, monotonic s."""
        return [at for at, event in self._told(f"127.0.0.1:{port}") if event == state]

    def _out(self, target: str) -> str:
        """Return why the target gets no requests, by the balancer's last word on it.

        Before its first word it gets them: the queue starts full.
        """
        last = ([event for _, event in self._told(target)] or ["registered"])[-1]
        return "" if last == "registered" else f"{target} is {last}"

    def _not_up(self, target: str) -> str:
        """Return why the target can get no requests, by the admin API."""
        state = self.told(int(target.rpartition(":")[2]))["state"]
        return "" if state == "up" else f"{target} is {state}"

    def _told(self, target: str) -> Iterator[tuple[float, str]]:
        """Yield what the balancer's log says of the target's states, and when."""
        for line in self._engine.logs(self._balancer, tail=100_000).splitlines():
            with contextlib.suppress(ValueError):
                said = json.loads(line)
                if said.get("target") == target and said["event"] in _STATES:
                    yield float(said["t"]), str(said["event"])


def _place(port: int) -> dict[str, object]:
    return {"host": "http://127.0.0.1", "port": port}
