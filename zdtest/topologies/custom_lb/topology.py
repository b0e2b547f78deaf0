"""Two instances behind a hand-written load balancer that pings them.

The hardened variant has two spare slots beside them, and a balancer that takes weights.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from zdtest.engine import Container, Engine, Instance, probe
from zdtest.engine.detour.detour import Detour
from zdtest.engine.roster import Roster
from zdtest.errors import ConfigError, EngineError
from zdtest.topologies import SAMPLE_APP, app
from zdtest.topologies.custom_lb import config
from zdtest.topologies.custom_lb.rotation import Rotation
from zdtest.topology import Counters, Stack, Topology

_CHANNELS = "new=4@/api,reused=4@/api,slow=1@/500~500ms,write=1@/orders"

Releases = Mapping[str, Mapping[str, object]]


class Balanced:
    """The instances, and the balancer that has to find out what becomes of them."""

    variant = "documented"
    slots: tuple[str, ...] = ("a", "b")
    strategies: tuple[str, ...] = ("rolling", "recreate")

    def __init__(
        self,
        engine: Engine,
        *,
        app: Mapping[str, object],
        balancer: Mapping[str, object],
        releases: Releases,
    ) -> None:
        self.engine = engine
        self.journal: Path | None = engine.folder / "journal.jsonl"
        self.instances: tuple[str, ...] = ("a", "b")
        self.ports = {name: engine.port() for name in self.slots}
        self.detours: dict[str, Detour] = {}
        self._front = self._port = engine.port()
        self._app, self._settings, self._releases = app, balancer, releases
        self._roster = Roster(engine, self._started)
        self._rotation: Rotation | None = None
        self._balancer: Instance | None = None

    @property
    def url(self) -> str:
        """Where users come in."""
        return f"http://127.0.0.1:{self._front}"

    def instance(self, name: str) -> Instance:
        """Return the process that last ran under that name."""
        return self._roster.instance(name)

    def start(self, name: str, version: str) -> None:
        """Start it on the port it always has: the balancer cannot learn another."""
        self._roster.start(name, version)

    def stop(self, name: str) -> None:
        """Turn it off; nobody tells the balancer."""
        self._roster.stop(name, lambda one: self.engine.stop(one, grace=40))

    def wanted(self, name: str) -> bool:
        """Return whether it should run."""
        return self._roster.wanted(name)

    def revive(self, one: Instance) -> bool:
        """Start it again, unless it has been stopped or replaced; return whether it was."""
        return self._roster.revive(one)

    def ready(self, name: str) -> None:
        """Return once it answers /ping and the balancer, where one runs, has taken it back."""
        probe.serves(self.engine, self.instance(name), self.ports[name], "/ping", timeout=30)
        if self._rotation:
            self._rotation.takes(name, self.place(name))

    @property
    def balancer(self) -> Instance:
        """The balancer's process; raises EngineError before there is one."""
        if self._balancer is None:
            raise EngineError("no balancer yet: expected a raised topology")
        return self._balancer

    @property
    def rotation(self) -> Rotation:
        """What the balancer says and is told; raises EngineError before there is one."""
        if self._rotation is None:
            raise EngineError("no balancer yet: expected a raised topology")
        return self._rotation

    def start_balancer(self) -> None:
        """Start it over the instances of now: it has no memory of its own. It serves on return."""
        program = topology.folder / self.variant / "balancer.py"
        path = self.engine.folder.absolute() / "targets.yml"
        config.write(
            path,
            program,
            {**self._settings, "port": self._port},
            users=[self.place(name) for name in self.instances],
            spares=[self.place(name) for name in self.slots if name not in self.instances],
        )
        argv = [sys.executable, str(program), "--config", str(path)]
        inside = Container(mounts={str(program.parent): program.parent})
        self._balancer = self.engine.start("balancer", argv, container=inside)
        probe.serves(self.engine, self._balancer, self._port, "/ping")
        if self._rotation is None:
            self._rotation = Rotation(self.engine, self._balancer, self._admin_port)
        else:
            self._rotation.restarted(self._balancer)

    def detour(self, *, targets: bool, front: bool) -> None:
        """Lead what the balancer sends to each slot, and what users send to it, through proxies."""
        if targets:
            self.detours = {
                name: Detour(self.engine, name, self.ports[name]) for name in self.slots
            }
        if front:
            self.detours["front"] = Detour(self.engine, "front", self._port)
            self._front = self.detours["front"].port

    def place(self, name: str) -> int:
        """Return the port that the balancer knows the instance by."""
        return self.detours[name].port if name in self.detours else self.ports[name]

    def when(self, state: str, name: str) -> list[float]:
        """Return each time at which the balancer said that the instance came into that state."""
        return self.rotation.when(state, self.place(name))

    @property
    def _admin_port(self) -> int | None:
        port = self._settings.get("admin_port")
        return port if isinstance(port, int) else None

    def _started(self, name: str, version: str) -> Instance:
        settings = {**self._app, **self._releases.get(version, {})}
        env = app(self.ports[name], name, version, self.journal, **settings)
        return self.engine.start(name, SAMPLE_APP, env=env, version=version)


class Weighted(Balanced):
    """The hardened ones: two spare slots, and a balancer that is told who gets how much."""

    variant = "hardened"
    slots = ("a", "b", "c", "d")
    strategies = ("rolling", "recreate", "blue_green", "canary", "rollback")

    @property
    def spares(self) -> tuple[str, ...]:
        """The slots that get no users."""
        return tuple(name for name in self.slots if name not in self.instances)

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
        """Each has its weight, all at once; raises EngineError with the balancer's refusal."""
        self.rotation.weigh({self.place(name): weight for name, weight in weights.items()})

    def told(self, name: str) -> Counters:
        """Return what the balancer counted of that instance."""
        told = self.rotation.told(self.place(name))
        return Counters(told["answered"], told["failed"], told["in_flight"])


@contextmanager
def raised(
    variant: str,
    version: str,
    engine: Engine,
    *,
    boot: float = 0.5,
    drain: float = 1.5,
    ping_period: float | None = None,
    ping_timeout: float | None = None,
    eject_after: int | None = None,
    proxied: bool = False,
    front: bool = False,
    releases: Releases | None = None,
) -> Iterator[Stack]:
    """Yield both instances behind the balancer; `boot`, `drain` and `ping_...` are seconds.

    On SIGTERM, hardened instances say 503 to /ping for `drain` seconds and then stop gracefully.
    `eject_after` is how many 5xx in a row eject a target of the hardened balancer. With `proxied`
    there is a proxy before each slot, with `front` one before the balancer: ``stack.detours``.
    `releases` are further settings of the sample app for the versions it names.
    """
    hardened = variant == "hardened"
    if eject_after is not None and not hardened:
        raise ConfigError("eject_after: the documented balancer ejects nobody; expected hardened")
    graceful = {"shutdown": "graceful", "drain_seconds": drain} if hardened else {}
    pings = {"ping_period": ping_period, "ping_timeout": ping_timeout}
    more = {"eject_after": eject_after, "admin_port": engine.port()} if hardened else {}
    stack = (Weighted if hardened else Balanced)(
        engine,
        app={"boot_seconds": boot, **graceful},
        balancer={**pings, **more},
        releases=releases or {},
    )
    for name in stack.instances:
        stack.start(name, version)
    stack.detour(targets=proxied, front=front)
    for name in stack.instances:
        stack.ready(name)
    stack.start_balancer()
    for name in stack.instances:
        stack.ready(name)
    yield stack


topology = Topology(
    folder=Path(__file__).parent,
    source="004",
    summary="two instances behind a hand-written load balancer that pings them",
    channels={"documented": _CHANNELS, "hardened": _CHANNELS},
    strategies=Weighted.strategies,
    raises=raised,
    engines=("process", "docker"),
)
