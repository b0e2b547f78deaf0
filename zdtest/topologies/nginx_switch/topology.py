"""Two slots for the server behind one nginx, and a script that uses them in turn."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from zdtest.engine import Engine, Instance, Marker, silent
from zdtest.engine.connected import connected
from zdtest.engine.roster import Roster
from zdtest.errors import EngineError
from zdtest.topologies.access_log import AccessLog
from zdtest.topologies.nginx_switch import script
from zdtest.topologies.nginx_switch.proxy import Proxy
from zdtest.topologies.nginx_switch.slots import NAMES, Releases, Slots
from zdtest.topology import Counters, Stack, Topology

_RELOAD = ("nginx", "-p", ".", "-c", "nginx.conf", "-s", "reload")
_CHANNELS = "new=4@/api,reused=4@/api,slow=1@/500~500ms,write=1@/orders"


class Switch:
    """One server has the users, by the include that the script writes; the other slot is idle."""

    strategies: tuple[str, ...] = ("scripted", "rollback")
    health = "/healths"
    words: Mapping[str, str] = {"> healthy": "app.ready"}
    """What the script's lines mean."""

    def __init__(self, engine: Engine, proxy: Proxy, slots: Slots, more: Mapping[str, str]) -> None:
        self.engine = engine
        self.proxy, self.slots = proxy, slots
        self.journal: Path | None = slots.journal
        self.instances: tuple[str, ...] = NAMES[:1]
        self._more = more
        self._roster = Roster(engine, slots.started)
        self._log = AccessLog(proxy.log)

    @property
    def url(self) -> str:
        """Where users come in."""
        return f"http://127.0.0.1:{self.proxy.port}"

    def deploy(self, version: str, mark: Marker, *, timeout: float) -> None:
        """Run the script. Raises EngineError with its last lines unless it exits 0 in time."""
        env = {**self.slots.environment(version), **self.proxy.environment, **self._more}
        young: list[str] = []
        told: set[str] = set()

        def watch(one: Instance, said: list[str]) -> None:
            for name in NAMES:
                if self.slots.left(name, one):
                    # One that just begins is not known as ours yet, and one may have ended.
                    with suppress(EngineError):
                        self._roster.start(name, version)
                        young.append(name)
            for words in self.words:
                if young and words in said and words not in told:
                    told.add(words)
                    mark(self.words[words], instance=young[-1], version=version)

        try:
            path = self.proxy.home / "deploy.sh"
            script.run(self.engine, path, env=env, timeout=timeout, watch=watch)
        finally:
            self.take([name for name, weight in self.weights().items() if weight])

    def instance(self, name: str) -> Instance:
        """Return the process that last ran in the slot."""
        return self._roster.instance(name)

    def start(self, name: str, version: str) -> None:
        """Start it in its slot; nginx is not told."""
        self._roster.start(name, version)

    def stop(self, name: str) -> None:
        """End it as the script does: SIGKILL."""
        self._roster.stop(name, self.engine.kill)

    def wanted(self, name: str) -> bool:
        """Return whether it should run."""
        return self._roster.wanted(name)

    def revive(self, one: Instance) -> bool:
        """Start it again, unless it has been stopped or replaced; return whether it was."""
        return self._roster.revive(one)

    def ready(self, name: str) -> None:
        """Return once it answers: nginx asks nobody how they are."""
        self.slots.serves(self.instance(name), self.health, timeout=30)

    @property
    def spares(self) -> tuple[str, ...]:
        """The slot that gets no users."""
        return tuple(name for name in NAMES if name not in self.instances)

    def running(self, name: str) -> str:
        """Return the version that runs in the slot, "" where nothing does."""
        try:
            last = self.instance(name)
        except KeyError:
            return ""
        return "" if self.engine.fate(last) else last.version

    def take(self, names: Sequence[str]) -> None:
        """`names` are the instances now."""
        self.instances = tuple(names)

    def weights(self) -> dict[str, int]:
        """Return the weight of each slot, as the include has it."""
        url = (self.proxy.home / "conf.d" / "service-url.inc").read_text()
        return {name: 100 * (f":{port};" in url) for name, port in self.slots.ports.items()}

    def weigh(self, weights: Mapping[str, int]) -> None:
        """The one of weight 100 has the users; raises EngineError, nothing changed, for others."""
        everyone = self._weighed(weights)
        live = [name for name, weight in everyone.items() if weight]
        if len(live) != 1:
            raise EngineError(f"service-url.inc names one server: cannot have {everyone}")
        self.proxy.replaced(lambda: self._switch(str(self.slots.ports[live[0]])))

    def _switch(self, port: str) -> None:
        self.proxy.run("sh", "scripts/switch-serve.sh", port)
        self.proxy.run(*_RELOAD)

    def _weighed(self, weights: Mapping[str, int]) -> dict[str, int]:
        """Return all weights with these among them; raises EngineError for one that is none."""
        for name, weight in weights.items():
            if name not in NAMES or not 0 <= weight <= 100:
                raise EngineError(f"weight {weight} of {name}: expected 0 to 100 of {NAMES}")
        return {**self.weights(), **weights}

    def told(self, name: str) -> Counters:
        """Return what nginx has written down, and the connections that the server has open now.

        Each is one request: nginx keeps none for the next.
        """
        host, port = self.slots.host, self.slots.ports[name]
        answered, failed = self._log.told(f"{host}:{port}")
        return Counters(answered, failed, connected(host, port))

    @property
    def balancer(self) -> Instance:
        """nginx; raises EngineError before it was started."""
        return self.proxy.instance

    def start_balancer(self) -> None:
        """Start nginx over the files of now; it takes connections on return."""
        self.proxy.start()

    def workers(self) -> Sequence[int]:
        """Return the pids of nginx's workers that take connections."""
        return self.proxy.workers()

    @property
    def config(self) -> Path:
        """nginx's configuration, but for the include that says who has the users."""
        return self.proxy.home / "nginx.conf"

    def test_config(self) -> None:
        """Raise EngineError with what nginx says of a configuration that it would not take."""
        self.proxy.test()


class Weighted(Switch):
    """Hardened: nginx shares the users out by weights, and the other one can be a fallback."""

    strategies = ("scripted", "blue_green", "canary", "rollback")
    health = "/ready"
    words: Mapping[str, str] = {
        **{f"> {name} is ready": "app.ready" for name in NAMES},
        **{f"> {name} has the users": "deploy.switch" for name in NAMES},
    }

    def stop(self, name: str) -> None:
        """SIGTERM it, and let it answer what it has."""
        self._roster.stop(name, lambda one: self.engine.stop(one, grace=40))

    def weights(self) -> dict[str, int]:
        """Return the weight of each slot, 0 for the fallback."""
        live = (self.proxy.home / "switch" / "live.inc").read_text()
        found = {int(port): int(weight) for port, weight in _SERVER.findall(live)}
        return {name: found.get(port, 0) for name, port in self.slots.ports.items()}

    def weigh(self, weights: Mapping[str, int]) -> None:
        """Each has its weight, nobody is a fallback; raises EngineError with nginx's refusal."""
        everyone = self._weighed(weights)
        if not any(everyone.values()):
            raise EngineError("no weight above 0: expected somebody who gets the users")
        listed = [f"{self.slots.ports[name]}={each}" for name, each in everyone.items() if each]
        self.proxy.run("sh", "scripts/switch-serve.sh", *listed)


_SERVER = re.compile(r"^server \S+:(\d+) .*\bweight=(\d+);$", re.MULTILINE)


@contextmanager
def raised(
    variant: str,
    version: str,
    engine: Engine,
    *,
    boot: float = 0.5,
    scale: float = 0.1,
    read_timeout: float = 30.0,
    include: str = "",
    terminal: bool = False,
    single_file: bool = False,
    releases: Releases | None = None,
) -> Iterator[Stack]:
    """Yield nginx with the server at `version`, which the topology's script has put there.

    Servers take `boot` seconds longer to start than they have to. `scale` is how long a second
    takes that the script sleeps. The hardened nginx waits `read_timeout` seconds for an answer.
    `include` is one more active profile of each server, told before its slot's. `releases` are
    further settings of the sample app for the versions it names. In a container, `terminal` has the
    script's ``docker exec`` ask for one, as the document prints it, and with `single_file` the
    documented include is mounted by itself.
    """
    hardened = variant == "hardened"
    home = engine.folder / "proxy"
    shutil.copytree(topology.folder / variant, home)
    alone = "conf.d/service-url.inc" if single_file else ""
    proxy = Proxy(engine, home, terminal=terminal, alone=alone)
    settings = {"boot_seconds": boot, "shutdown": "graceful" if hardened else "immediate"}
    slots = Slots(engine, home, proxy.host, settings=settings, releases=releases or {})
    more = {"SECOND": str(scale), "SPRING_PROFILES_INCLUDE": include}
    stack = (Weighted if hardened else Switch)(engine, proxy, slots, more)
    if hardened:
        (home / "timeout.inc").write_text(f"proxy_read_timeout {round(read_timeout * 1e3)}ms;\n")
    else:
        argv = ["sh", "scripts/switch-serve.sh", str(slots.ports[NAMES[0]])]
        engine.run("first-url", argv, env={"WAS_HOST": proxy.host}, cwd=home)
    proxy.start()
    first = partial(stack.deploy, version, silent, timeout=60)
    # The document's script ends while nginx still reloads, unless nginx never heard of it.
    first() if terminal else proxy.replaced(first)
    yield stack


topology = Topology(
    folder=Path(__file__).parent,
    source="001",
    summary="one of two servers behind an nginx that a script reloads",
    channels={
        "documented": f"{_CHANNELS},stream=1@/events?every=200ms~200ms",
        "hardened": f"{_CHANNELS},stream=1@/events?every=200ms&for=1s~200ms",
    },
    strategies=Weighted.strategies,
    raises=raised,
    engines=("docker", "process"),
    programs=("nginx",),
)
