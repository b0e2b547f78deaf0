"""The HAProxy that the users come to: a process, or a container with the machine's own network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from zdtest.engine import Container, Engine, Instance, probe
from zdtest.errors import EngineError
from zdtest.topologies.haproxy.runtime import Runtime


class Proxy:
    """HAProxy over the ``haproxy.cfg`` in `home`, with these `options` of its command.

    `settings` are the variables in the file. The servers of `backend` are on this machine.
    """

    def __init__(
        self,
        engine: Engine,
        home: Path,
        *,
        backend: str,
        options: Sequence[str],
        settings: Mapping[str, object],
    ) -> None:
        self.home = home.absolute()
        self.port = engine.port()
        self.runtime = Runtime(self.home, backend)
        self._engine = engine
        self._argv = ["haproxy", *options, "-f", "haproxy.cfg"]
        self._env = {name: str(value) for name, value in settings.items()}
        self._last: Instance | None = None

    @property
    def instance(self) -> Instance:
        """What was last started; raises EngineError before anything was."""
        if self._last is None:
            raise EngineError("no proxy yet: expected a raised topology")
        return self._last

    def start(self) -> None:
        """Start it on its port; it takes connections on return. EngineError has what it says."""
        env = {**self._env, "PORT": str(self.port)}
        inside = Container("haproxy")
        self._last = one = self._engine.start(
            "proxy", self._argv, env=env, cwd=self.home, container=inside
        )

        def missing() -> str:
            if fate := self._engine.fate(one):
                raise EngineError(f"proxy {fate}\n{self._engine.logs(one)}")
            reply = probe.ask(self.port, "/ready")
            return reply if isinstance(reply, str) else ""

        probe.until("HAProxy takes connections", missing, timeout=15, evidence=self._said)

    def keep(self) -> None:
        """Write down who has the users, where the configuration looks for it when it starts."""
        new = self.home / "haproxy.state.new"
        new.write_text(self.runtime.command("show servers state") + "\n")
        new.replace(self.home / "haproxy.state")

    def reload(self) -> None:
        """Have its master start a worker over the files of now; the one before serves what it has.

        On return the new one takes connections; raises EngineError with what HAProxy says.
        """
        self.keep()
        before = self._worker()
        self._engine.signal(self.instance, "USR2")

        def missing() -> str:
            try:
                now = self._worker()
            except EngineError as error:
                return str(error)
            return "" if now != before else f"worker {now} still has the socket"

        probe.until("HAProxy has reloaded", missing, timeout=15, evidence=self._said)

    def _worker(self) -> str:
        """Return the pid, in its own numbering, of the worker that has the stats socket."""
        info = self.runtime.command("show info")
        return next(line for line in info.splitlines() if line.startswith("Pid:"))

    def _said(self) -> str:
        return self._engine.logs(self.instance)
