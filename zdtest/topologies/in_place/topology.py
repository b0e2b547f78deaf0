"""One server that its start script ends with kill -9 and starts anew in its place."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from zdtest.engine import Containers, Engine, Instance, probe
from zdtest.engine.roster import Roster
from zdtest.topologies import app
from zdtest.topology import Stack, Topology


class InPlace:
    """The server, and the script that replaces it."""

    instances: tuple[str, ...] = ("app",)
    strategies: tuple[str, ...] = ("recreate",)

    def __init__(self, scripts: Path, engine: Engine, boot: float) -> None:
        self.engine = engine
        self.journal: Path | None = engine.folder / "journal.jsonl"
        self._scripts = scripts
        self._boot = boot
        self._port = engine.port()
        self._roster = Roster(engine, self._started)
        self.url = f"http://127.0.0.1:{self._port}"

    def instance(self, name: str) -> Instance:
        """Return the process that the script last started."""
        return self._roster.instance(name)

    def start(self, name: str, version: str) -> None:
        """Run the script, which ends what runs first."""
        self._roster.start(name, version)

    def _started(self, name: str, version: str) -> Instance:
        env = app(self._port, name, version, self.journal, boot_seconds=self._boot)
        if isinstance(self.engine, Containers):
            self._run("start-in-docker.sh", {**env, "IMAGE": self.engine.image("app")})
            return self.engine.attach(name)
        script = self._run("start.sh", {**env, "PYTHON": sys.executable})
        pid = int((self._work / "app.pid").read_text())
        return self.engine.adopt(name, pid, beside=script, version=version)

    def _run(self, script: str, env: Mapping[str, str]) -> Instance:
        path = str(self._scripts / script)
        return self.engine.run(script, ["bash", path], env=env, cwd=self._work)

    def stop(self, name: str) -> None:
        """End it as the script does: SIGKILL."""
        self._roster.stop(name, self.engine.kill)

    def wanted(self, name: str) -> bool:
        """Return whether it should run."""
        return self._roster.wanted(name)

    def revive(self, one: Instance) -> bool:
        """Run the script for it again, unless it has been replaced; return whether it was."""
        return self._roster.revive(one)

    def ready(self, name: str) -> None:
        """Return once the server answers: nothing stands before it."""
        app, limit = self.instance(name), self._boot + 15
        probe.serves(self.engine, app, self._port, "/ready", timeout=limit)

    def replace(self, version: str) -> None:
        """Run the script."""
        self.start("app", version)

    @property
    def _work(self) -> Path:
        folder = self.engine.folder / "app"
        folder.mkdir(exist_ok=True)
        return folder


@contextmanager
def raised(variant: str, version: str, engine: Engine, *, boot: float = 0.5) -> Iterator[Stack]:
    """Yield the server at `version`; it takes `boot` seconds longer to start than it has to."""
    stack = InPlace(topology.folder / variant, engine, boot)
    stack.start("app", version)
    stack.ready("app")
    yield stack


topology = Topology(
    folder=Path(__file__).parent,
    source="001",
    summary="one server, ended with kill -9 and started anew in its place",
    channels={
        "documented": "new=4,reused=4,slow=1@/500~500ms,write=1@/orders,"
        "stream=1@/events?every=200ms~200ms"
    },
    strategies=InPlace.strategies,
    raises=raised,
    engines=("process", "docker"),
)
