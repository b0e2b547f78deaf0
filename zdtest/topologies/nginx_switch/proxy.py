"""The nginx that the users come to: a process, or a container where the engine has those."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from zdtest.engine import Container, Containers, Engine, Instance, Network, probe
from zdtest.errors import EngineError

_INSIDE = 80


class Proxy:
    """An nginx over the files in `home`, which scripts may change while it runs.

    The servers behind it are processes of this machine, which it reaches at `host`. Of a container,
    `terminal` has its commands ask for one, and `alone` is a file of `home` mounted by itself.
    """

    def __init__(
        self, engine: Engine, home: Path, *, terminal: bool = False, alone: str = ""
    ) -> None:
        self.home = home.absolute()
        self.port = engine.port()
        self.log = engine.folder / "logs" / "proxy.log"
        self._engine = engine
        self._flags = ("-it",) if terminal else ()
        self._mounts: dict[str, Path] = {}
        self._network: Network | None = None
        self._last: Instance | None = None
        self.host = "127.0.0.1"
        if isinstance(engine, Containers):
            self._network = engine.network("switch")
            self.host = self._network.gateway
            if alone:
                self._mount(alone)
        else:
            (home / "listen.inc").write_text(f"listen 127.0.0.1:{self.port};\n")

    @property
    def instance(self) -> Instance:
        """What was last started; raises EngineError before anything was."""
        if self._last is None:
            raise EngineError("no proxy yet: expected a raised topology")
        return self._last

    def start(self) -> None:
        """Start it; it takes connections on return. Raises EngineError with what it says."""
        # Its workers, too, may use the run's folder, whose parents may be closed to others.
        self._last = one = self._nginx("proxy", "-g", "daemon off; user root;")

        def missing() -> str:
            if fate := self._engine.fate(one):
                raise EngineError(f"proxy {fate}\n{self._engine.logs(one)}")
            reply = probe.ask(self.port, "/ready")
            return reply if isinstance(reply, str) else ""

        probe.until("the proxy takes connections", missing, timeout=15, evidence=self._said)

    def test(self) -> None:
        """Raise EngineError with what nginx says of a configuration that it would not start with.

        It is another nginx that is asked: this one need not run.
        """
        one = self._nginx("proxy-test", "-t", "-q")
        if not self._engine.wait(one, 15) or self._engine.fate(one) != "exited 0":
            raise EngineError(f"nginx refuses its configuration\n{self._engine.logs(one)}")

    def _nginx(self, name: str, *argv: str) -> Instance:
        publish = {} if "-t" in argv else {_INSIDE: self.port}
        inside = Container("nginx", self._network, publish, self._mounts)
        return self._engine.start(
            name,
            ["nginx", "-p", ".", "-c", "nginx.conf", *argv],
            env={"WAS_HOST": self.host},
            cwd=self.home,
            container=inside,
        )

    def _mount(self, file: str) -> None:
        """Have nginx include the file where it is mounted, outside of `home`."""
        inside = f"/etc/nginx/{file}"
        self._mounts[inside] = self.home / file
        config = self.home / "nginx.conf"
        config.write_text(config.read_text().replace(f"include {file};", f"include {inside};"))

    @property
    def way_in(self) -> Sequence[str]:
        """What stands before a command so that it runs where the proxy does."""
        if isinstance(self._engine, Containers):
            return "docker", "exec", *self._flags, self._engine.container(self.instance)
        return ()

    @property
    def environment(self) -> Mapping[str, str]:
        """What a script is told of it."""
        # Everything is on this machine, whatever proxies its users go by.
        told = {"URL": f"http://127.0.0.1:{self.port}", "WAS_HOST": self.host, "no_proxy": "*"}
        if isinstance(self._engine, Containers):
            told |= self._engine.environment
        return {**told, "IN_PROXY": " ".join(self.way_in)}

    def run(self, *argv: str) -> None:
        """Run a command where the proxy runs, in `home`; raises EngineError unless it exits 0."""
        self._engine.run("in-proxy", [*self.way_in, *argv], env=self.environment, cwd=self.home)

    def replaced(self, change: Callable[[], None]) -> None:
        """Return once no worker from before `change` takes connections any more; EngineError."""
        before = set(self.workers())
        change()

        def missing() -> str:
            now = self.workers()
            return "" if now and not before & set(now) else f"workers {now}, before {before}"

        probe.until("nginx has reloaded", missing, timeout=15, evidence=self._said)

    def workers(self) -> list[int]:
        """Return the pids of those that take connections, in this machine's numbering."""
        found = []
        for worker in psutil.Process(self.instance.pid).children():
            try:
                title = " ".join(worker.cmdline())
            except psutil.NoSuchProcess:
                continue
            if title and "shutting down" not in title:
                found.append(worker.pid)
        return found

    def _said(self) -> str:
        return self._engine.logs(self.instance)
