"""Two instances behind a hand-written load balancer that pings them.

The hardened variant has two spare slots beside them, and a balancer that takes weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from zdtest.engine import Engine, Instance, probe
from zdtest.errors import EngineError
from zdtest.topologies import SAMPLE_APP, app
from zdtest.topologies.custom_lb.rotation import Rotation
from zdtest.topology import Counters, Stack, Topology

_CHANNELS = "new=4@/api,reused=4@/api,slow=1@/500~500ms,write=1@/orders"

Releases = Mapping[str, Mapping[str, object]]


class Balanced:
    """The instances, and the balancer that has to find out what becomes of them."""

    variant = "documented"
    slots: tuple[str, ...] = ("a", "b")
    strategies: tuple[str, ...] = ("rolling", "recreate")

    def __init__(self, engine: Engine, settings: Mapping[str, object], releases: Releases) -> None:
        self.engine = engine
        self.journal: Path | None = engine.folder / "journal.jsonl"
        self.instances: tuple[str, ...] = ("a", "b")
        self.ports = {name: engine.port() for name in self.slots}
        self.port = engine.port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.rotation: Rotation | None = None
        self._settings = settings
        self._releases = releases
        self._apps: dict[str, Instance] = {}

    def instance(self, name: str) -> Instance:
        """Return the process that last ran under that name."""
        return self._apps[name]

    def start(self, name: str, version: str) -> None:
        """Start it on the port it always has: the balancer cannot learn another."""
        settings = {**self._settings, **self._releases.get(version, {})}
        env = app(self.ports[name], name, version, self.journal, **settings)
        self._apps[name] = self.engine.start(name, SAMPLE_APP, env=env, version=version)

    def stop(self, name: str) -> None:
        """Turn it off; nobody tells the balancer."""
        self.engine.stop(self._apps[name], grace=40)

    def balance(self, settings: Mapping[str, object]) -> None:
        """Put the balancer before the instances, these `settings` of its targets.yml changed."""
        balancer = topology.folder / self.variant / "balancer.py"
        users = [self.ports[name] for name in self.instances]
        spares = [port for port in self.ports.values() if port not in users]
        self.rotation = Rotation(self.engine, balancer, self.port, users, spares, **settings)

    def ready(self, name: str) -> None:
        """Return once it answers /ping and the balancer, where one runs, has taken it back."""
        probe.serves(self.engine, self._apps[name], self.ports[name], "/ping", timeout=30)
        if self.rotation:
            self.rotation.takes(name, self.ports[name])


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
        last = self._apps.get(name)
        return last.version if last and not self.engine.fate(last) else ""

    def weigh(self, weights: Mapping[str, int]) -> None:
        """Each has its weight, all at once; raises EngineError with the balancer's refusal."""
        self._running.weigh({self.ports[name]: weight for name, weight in weights.items()})

    def told(self, name: str) -> Counters:
        """Return what the balancer counted of that instance."""
        told = self._running.told(self.ports[name])
        return Counters(told["answered"], told["failed"], told["in_flight"])

    @property
    def _running(self) -> Rotation:
        if self.rotation is None:
            raise EngineError("no balancer yet: expected a raised topology")
        return self.rotation


@contextmanager
def raised(
    variant: str,
    version: str,
    engine: Engine,
    *,
    boot: float = 0.5,
    drain: float = 1.5,
    ping_period: float | None = None,
    releases: Releases | None = None,
) -> Iterator[Stack]:
    """Yield both instances behind the balancer; `boot`, `drain` and `ping_period` are seconds.

    On SIGTERM, hardened instances say 503 to /ping for `drain` seconds and then stop gracefully.
    `releases` are further settings of the sample app for the versions it names.
    """
    graceful = {"shutdown": "graceful", "drain_seconds": drain} if variant == "hardened" else {}
    kind = Weighted if variant == "hardened" else Balanced
    stack = kind(engine, {"boot_seconds": boot, **graceful}, releases or {})
    for name in stack.instances:
        stack.start(name, version)
    for name in stack.instances:
        stack.ready(name)
    stack.balance({} if ping_period is None else {"ping_period": ping_period})
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
)
