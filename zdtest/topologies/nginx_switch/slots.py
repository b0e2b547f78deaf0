"""The slots for the server, each with a port of its own and one process of the app at the most."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from zdtest.engine import Engine, Instance, probe
from zdtest.topologies import SAMPLE_APP, app

NAMES = ("was1", "was2")

Releases = Mapping[str, Mapping[str, object]]
"""Further settings of the sample app, by version."""


class Slots:
    """Processes of this machine on `host`, started by us or by a script that runs in `home`.

    Either leaves their pids in ``<slot>.pid``, where the script looks for what it has to end.
    """

    def __init__(
        self,
        engine: Engine,
        home: Path,
        host: str,
        *,
        settings: Mapping[str, object],
        releases: Releases,
    ) -> None:
        self.ports = {name: engine.port() for name in NAMES}
        self.host = host
        self.journal = engine.folder / "journal.jsonl"
        self._engine = engine
        self._home = home
        self._settings, self._releases = settings, releases
        self._left: dict[str, tuple[int, Instance]] = {}
        self._known: dict[str, int] = {}

    def environment(self, version: str) -> Mapping[str, str]:
        """What a script is told of the slots and of the app that it is to start."""
        settings = {**self._settings, **self._releases.get(version, {})}
        told = app(0, "", version, self.journal, host=self.host, **settings)
        ports = {f"{name.upper()}_PORT": str(port) for name, port in self.ports.items()}
        return {**told, **ports, "PYTHON": sys.executable}

    def started(self, name: str, version: str) -> Instance:
        """Return the process that a script left in the slot, else start one there."""
        if name in self._left:
            pid, script = self._left.pop(name)
            one = self._engine.adopt(name, pid, beside=script, version=version)
            self._known[name] = pid
            return one
        mine = {"PORT": str(self.ports[name]), "APP_INSTANCE": name, "PROFILE": name}
        env = {**self.environment(version), **mine}
        one = self._engine.host.start(name, SAMPLE_APP, env=env, version=version)
        self._known[name] = one.pid
        self._file(name).write_text(f"{one.pid}\n")
        return one

    def left(self, name: str, script: Instance) -> bool:
        """Return whether `script` has put a process there that `started` has not taken yet."""
        with suppress(OSError, ValueError):
            pid = int(self._file(name).read_text())
            if pid != self._known.get(name):
                self._left[name] = pid, script
                return True
        return False

    def serves(self, instance: Instance, path: str, *, timeout: float) -> None:
        """Return once what runs in the slot answers there; raises EngineError in time."""
        port = self.ports[instance.name]
        probe.serves(self._engine, instance, port, path, host=self.host, timeout=timeout)

    def _file(self, name: str) -> Path:
        return self._home / f"{name}.pid"
