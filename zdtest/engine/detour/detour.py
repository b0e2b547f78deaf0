"""A `Detour` leads what is sent to a port through a proxy whose conditions can be changed."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from zdtest.engine import Engine, probe
from zdtest.engine.detour.conditions import CLEAN, Conditions
from zdtest.errors import FaultError

_PATIENCE = 5.0


class Detour:
    """A running proxy from `port` to the port `target`, which need not listen yet.

    It is a process of the engine and ends with it. Raises EngineError when it does not start.
    """

    def __init__(self, engine: Engine, name: str, target: int, *, seed: int = 0) -> None:
        self.target = target
        self.port = engine.port()
        self._name = f"detour-{name}"
        self._admin = engine.port()
        ports = map(str, (self.port, target, self._admin, seed))
        argv = [sys.executable, "-m", "zdtest.engine.detour.proxy", *ports]
        process = engine.host.start(self._name, argv)

        def missing() -> str:
            with contextlib.suppress(FaultError):
                return "" if self.told() else "no answer"
            return engine.fate(process) or "no answer"

        probe.until(
            f"{self._name} ready", missing, timeout=15, evidence=lambda: engine.logs(process)
        )

    def set(self, conditions: Conditions) -> None:
        """Put all connections, open and new, under `conditions`."""
        self._order({"set": asdict(conditions)})

    def clear(self) -> None:
        """Make it a clean path again."""
        self.set(CLEAN)

    def reset(self) -> None:
        """End every open connection with RST, at both its ends."""
        self._order({"reset": True})

    def told(self) -> Mapping[str, Any]:
        """Return its conditions and how many connections are open, half_open, and accepted."""
        return self._order({})

    def _order(self, order: Mapping[str, object]) -> Mapping[str, Any]:
        """Return the proxy's answer; raises FaultError when it refuses, or is not there."""
        try:
            with socket.create_connection(("127.0.0.1", self._admin), _PATIENCE) as admin:
                admin.sendall(json.dumps(order).encode() + b"\n")
                with admin.makefile() as answers:
                    answer: Mapping[str, Any] = json.loads(answers.readline())
        except (OSError, ValueError) as error:
            raise FaultError(f"{self._name} does not obey: {error}") from error
        if "error" in answer:
            raise FaultError(f"{self._name} refuses: {answer['error']}")
        return answer
