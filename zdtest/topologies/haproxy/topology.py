"""Two instances behind one HAProxy, which checks them.

The hardened variant has two spare slots beside them, and tells HAProxy what it is about to do.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from zdtest.engine import Container, Engine, Instance, probe
from zdtest.engine.roster import Roster
from zdtest.errors import EngineError
from zdtest.topologies import SAMPLE_APP, app
from zdtest.topologies.haproxy.proxy import Proxy
from zdtest.topology import Counters, Stack, Topology

_CHANNELS = "new=4@/api,reused=4@/api,slow=1@/500~500ms,write=1@/orders"
_SLOTS = ("a", "b", "c", "d")
_INTER = 2.0
"""How many seconds apart the document's HAProxy looks at its servers."""
_GRACE = 40.0
_STEP = 0.02

Releases = Mapping[str, Mapping[str, object]]


class Balanced:
    """The instances, and the HAProxy that has to find out what becomes of them."""

    strategies: tuple[str, ...] = ("rolling", "recreate")
    backend = "default_service"
    options: tuple[str, ...] = ("-db",)
    health = "/healthcheck"

    def __init__(
        self,
        engine: Engine,
        home: Path,
        *,
        app: Mapping[str, object],
        proxy: Mapping[str, object],
        releases: Releases,
    ) -> None:
        self.engine = engine
        self.journal: Path | None = engine.folder / "journal.jsonl"
        self.instances: tuple[str, ...] = _SLOTS[:2]
        self.ports = {name: engine.port() for name in _SLOTS}
        ports = {f"{name.upper()}_PORT": port for name, port in self.ports.items()}
        self.proxy = Proxy(
            engine, home, backend=self.backend, options=self.options, settings={**proxy, **ports}
        )
        self._app, self._releases = app, releases
        self._roster = Roster(engine, self._started)
        self._raised = False

    @property
    def url(self) -> str:
        """Where users come in."""
        return f"http://127.0.0.1:{self.proxy.port}"

    def instance(self, name: str) -> Instance:
        """Return the process that last ran under that name."""
        return self._roster.instance(name)

    def start(self, name: str, version: str) -> None:
        """Start it on the port that it always has."""
        self._roster.start(name, version)

    def stop(self, name: str) -> None:
        """SIGTERM it as Docker does; nobody tells HAProxy."""
        self._roster.stop(name, self.engine.stop)

    def wanted(self, name: str) -> bool:
        """Return whether it should run."""
        return self._roster.wanted(name)

    def revive(self, one: Instance) -> bool:
        """Start it again, unless it has been stopped or replaced; return whether it was."""
        return self._roster.revive(one)

    def ready(self, name: str) -> None:
        """Return once it answers and HAProxy, where it runs, has it among those that are up."""
        one, port = self.instance(name), self.ports[name]
        probe.serves(self.engine, one, port, self.health, timeout=30)
        if self._raised:
            self._taken(name)

    def _taken(self, name: str) -> None:
        probe.until(
            f"{name} is up for HAProxy",
            lambda: self.proxy.runtime.out(name),
            timeout=15,
            evidence=lambda: self.engine.logs(self.balancer),
        )

    @property
    def balancer(self) -> Instance:
        """HAProxy's master; raises EngineError before it was started."""
        return self.proxy.instance

    def start_balancer(self) -> None:
        """Start HAProxy over the files of now; it takes connections on return."""
        self.proxy.start()
        self._raised = True

    def _started(self, name: str, version: str) -> Instance:
        settings = {**self._app, **self._releases.get(version, {})}
        env = app(self.ports[name], name, version, self.journal, **settings)
        return self.engine.start(name, SAMPLE_APP, env=env, version=version, container=Container())


class Weighted(Balanced):
    """Hardened: two spare slots, and HAProxy is told who gets how much, and who is to be left."""

    strategies = ("rolling", "recreate", "blue_green", "canary", "rollback")
    backend = "app"
    options = ("-W", "-db")
    health = "/ready"

    def stop(self, name: str) -> None:
        """Have HAProxy send it nothing more, let it answer what it has, then stop it."""
        self._roster.stop(name, self._drained)

    def _drained(self, one: Instance) -> None:
        self._tell(f"set server {self.backend}/{one.name} state drain")
        until = time.monotonic() + _GRACE
        while self.told(one.name).in_flight and time.monotonic() < until:
            if self.engine.fate(one):
                break
            time.sleep(_STEP)
        self.engine.stop(one, grace=_GRACE)

    def _taken(self, name: str) -> None:
        self._tell(f"set server {self.backend}/{name} state ready")
        super()._taken(name)

    def _tell(self, *commands: str) -> None:
        self.proxy.runtime.set(*commands)
        self.proxy.keep()

    @property
    def spares(self) -> tuple[str, ...]:
        """The slots that get no users."""
        return tuple(name for name in _SLOTS if name not in self.instances)

    def take(self, names: Sequence[str]) -> None:
        """`names` are the instances now."""
        self.instances = tuple(names)

    def running(self, name: str) -> str:
        """Return the version that runs in the slot, "" where nothing does."""
        try:
            last = self.instance(name)
        except KeyError:
            return ""
        return "" if self.engine.fate(last) else last.version

    def weigh(self, weights: Mapping[str, int]) -> None:
        """Each has its weight, in one line to HAProxy: first who gets more, then who gets less.

        Raises EngineError, with no weight changed, for one that means nothing.
        """
        for name, weight in weights.items():
            if name not in _SLOTS or not 0 <= weight <= 100:
                raise EngineError(f"weight {weight} of {name}: expected 0 to 100 of {_SLOTS}")
        now = self.proxy.runtime.weights()
        if not any({**now, **weights}.values()):
            raise EngineError("no weight above 0: expected somebody who gets the users")
        rising = sorted(weights, key=lambda name: now[name] - weights[name])
        self._tell(*(f"set server {self.backend}/{name} weight {weights[name]}" for name in rising))

    def reload(self) -> None:
        """Have HAProxy read its files again; on return it goes by them. Counters begin anew."""
        self.proxy.reload()

    def told(self, name: str) -> Counters:
        """Return what HAProxy counted of that instance."""
        return self.proxy.runtime.told(name)


@contextmanager
def raised(
    variant: str,
    version: str,
    engine: Engine,
    *,
    boot: float = 0.5,
    drain: float = 0.0,
    scale: float = 0.1,
    server_timeout: float = 30.0,
    releases: Releases | None = None,
) -> Iterator[Stack]:
    """Yield both instances behind HAProxy; `boot` and `drain` are seconds.

    On SIGTERM, hardened instances say 503 to /ready for `drain` seconds and then stop gracefully.
    `scale` is how long a second between two checks of the documented HAProxy takes, and
    `server_timeout` how many seconds the hardened one waits for an answer. `releases` are further
    settings of the sample app for the versions it names.
    """
    hardened = variant == "hardened"
    home = engine.folder / "proxy"
    shutil.copytree(topology.folder / variant, home)
    graceful = {"shutdown": "graceful", "drain_seconds": drain} if hardened else {}
    documented = {"INTER": round(_INTER * scale * 1e3)}
    stack = (Weighted if hardened else Balanced)(
        engine,
        home,
        app={"boot_seconds": boot, **graceful},
        proxy={"SERVER_TIMEOUT": f"{round(server_timeout * 1e3)}ms"} if hardened else documented,
        releases=releases or {},
    )
    for name in stack.instances:
        stack.start(name, version)
    for name in stack.instances:
        stack.ready(name)
    stack.start_balancer()
    for name in stack.instances:
        stack.ready(name)
    yield stack


topology = Topology(
    folder=Path(__file__).parent,
    source="000",
    summary="two instances behind an HAProxy that checks them",
    channels={"documented": _CHANNELS, "hardened": _CHANNELS},
    strategies=Weighted.strategies,
    raises=raised,
    engines=("docker", "process"),
    programs=("haproxy",),
)
