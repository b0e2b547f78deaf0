"""A swarm's service behind a HAProxy that finds its tasks by itself, updated by one command."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from zdtest.engine import Containers, Engine, Instance, Marker, probe
from zdtest.engine.swarm import Cluster
from zdtest.engine.swarmhistory import SwarmHistory
from zdtest.errors import EngineError
from zdtest.topologies.services import Services, swarm
from zdtest.topology import Stack, Topology

IMAGE = "windowforsun/test-web"
STACK = "haproxydocker"
WEBAPP, HAPROXY = f"{STACK}_webapp", f"{STACK}_haproxy"
NAMES = {WEBAPP: "webapp.{slot}", HAPROXY: "proxy"}
REPLICAS = 3

MISSING = "missing"
"""The release that nobody has built: its tag is on no node."""

_CHANNELS = "new=3@/,reused=3@/,slow=1@/500~500ms,write=2@/orders"
_UP_WITHIN = 60.0
_SOCKET = "docker.sock"

Releases = Mapping[str, Mapping[str, object]]


class Webapp(Services):
    """The service's tasks; whoever comes in comes by the HAProxy in the same stack."""

    def __init__(
        self,
        engine: Engine,
        cluster: Cluster,
        history: SwarmHistory,
        *,
        folder: Path,
        boot: float,
        releases: Releases,
    ) -> None:
        super().__init__(engine, cluster, history, WEBAPP)
        self.folder = engine.folder.absolute() / "haproxy_swarm"
        self.url = f"http://127.0.0.1:{cluster.manager.at(80)}"
        self.socket: Instance | None = None
        self._boot = boot
        self._releases = releases
        self._built: set[str] = set()
        shutil.copytree(folder, self.folder)

    @property
    def balancer(self) -> Instance:
        """The HAProxy, as the swarm last started it."""
        return self.instance("proxy")

    def start_balancer(self) -> None:
        """Wait for the one that the swarm starts in its place; it serves on return."""
        self.ready("proxy", _UP_WITHIN)
        self.served()

    def build(self, version: str) -> None:
        """Have the cluster know the image of that version, unless it is one that nobody has.

        All but the first one that is asked for take longer to boot.
        """
        told = self._releases.get(version, {})
        release, boot = told.get("release", "good"), self._boot if self._built else 0
        if release != MISSING and version not in self._built:
            env = {"RELEASE": str(release), "BOOT_SECONDS": str(told.get("boot", boot))}
            self.cluster.release(IMAGE, version, env)
            self._built.add(version)

    def up(self, version: str, *files: str, env: Mapping[str, object]) -> None:
        """Deploy the stack of these files; each of its tasks answers users on return."""
        if self.journal:
            # For whichever user the app runs as to write to.
            self.journal.touch()
            self.journal.chmod(0o666)
        told = {"TAG": version, "HERE": self.folder, "JOURNAL": self.journal, **env}
        services = self.cluster.deploy(
            STACK,
            *(self.folder / file for file in files),
            env={name: str(value) for name, value in told.items()},
        )
        self.cluster.settle(*services, timeout=_UP_WITHIN)
        self.served()

    def served(self) -> None:
        """Return once users get answers of every task; raises EngineError in time."""
        seen: set[str] = set()

        def missing() -> str:
            reply = probe.ask(self.cluster.manager.at(80), "/api")
            if isinstance(reply, str) or reply.status != 200:
                seen.clear()
                return str(reply)
            seen.add(json.loads(reply.body)["instance"])
            return "" if len(seen) == REPLICAS else f"only {', '.join(sorted(seen))}"

        what = f"users get {REPLICAS} tasks"
        probe.until(what, missing, timeout=_UP_WITHIN, evidence=self._evidence)

    def deploy(self, version: str, mark: Marker, *, timeout: float) -> None:
        """Run the document's command; the swarm does what it was told to by then.

        Raises EngineError, with the tasks' errors, where the update did not go through in time.
        """
        self.build(version)
        self.said = self.script(["bash", "deploy.sh", version], cwd=self.folder, timeout=timeout)
        self.cluster.settle(WEBAPP, timeout=timeout)


@contextmanager
def raised(
    variant: str,
    version: str,
    engine: Engine,
    *,
    boot: float = 0.0,
    poll: float | None = None,
    scale: float = 0.1,
    releases: Releases | None = None,
) -> Iterator[Stack]:
    """Yield three tasks at `version`; those of later ones take `boot` seconds longer to start.

    `scale` is how long each of the document's seconds takes: the delay between two tasks, and the
    image's times between two questions to the engine (five, unless `poll` says how long in
    seconds), before a reload and between two checks; and those of the hardened stack, as far as
    they can be so short. The swarm's own are what they are. `releases` are the sample app's
    releases by version, as ``{"v2": {"release": "crash"}}``, with a ``boot`` of their own or not;
    ``missing`` is one that nobody has built.
    """
    original = variant == "documented" and isinstance(engine, Containers) and engine.documented
    images = ("app", "dockercloud" if original else "haproxy")
    with swarm(engine, 1, NAMES, images=images, publish=[80]) as (cluster, history):
        stack = Webapp(
            engine,
            cluster,
            history,
            folder=topology.folder / variant,
            boot=boot,
            releases=releases or {},
        )
        stack.build(version)
        if variant == "hardened":
            cluster.tag("haproxy", "haproxy:2.6")
            stack.up(version, "docker-compose.yml", env=_hardened(scale, boot))
        else:
            cluster.tag(images[-1], "dockercloud/haproxy:latest")
            files = ["docker-compose.yml", "webapp.yml"]
            files += [] if original else ["haproxy.yml"]
            files += [] if cluster.ipvs else ["no-ipvs.yml"]
            stack.up(version, *files, env={**_documented(scale, poll), **_socket(stack)})
        yield stack


def _documented(scale: float, poll: float | None) -> Mapping[str, object]:
    return {
        "DELAY": _written(10 * scale),
        "POLL": 5 * scale if poll is None else poll,
        "WAIT": 1 * scale,
        "INTER": 2 * scale,
    }


def _hardened(scale: float, boot: float) -> Mapping[str, object]:
    return {
        "DELAY": _written(3 * scale),
        "MONITOR": _written(30 * scale),
        # A container's health is asked by starting a program in it, and HAProxy asks every half of
        # a second: neither gets shorter.
        "HEALTH_INTERVAL": _written(max(2 * scale, 1)),
        "DRAIN": _written(max(3 * scale, 1.5)),
        "START_PERIOD": _written(60 * scale + boot),
    }


def _written(seconds: float) -> str:
    """Return the time as a stack file has it."""
    return f"{round(seconds * 1000)}ms"


def _socket(stack: Webapp) -> Mapping[str, object]:
    """Start who answers for the manager's engine, as `socket` of the stack; return where."""
    host, folder = stack.engine.host, stack.engine.folder.absolute()
    argv = [sys.executable, str(stack.folder / "dockercloud" / "read_only.py")]
    # Told where they are from here: a socket's path has a hundred letters at the most.
    argv += [f"{stack.cluster.manager.name}.sock", _SOCKET]
    stack.socket = one = host.start("socket", argv, cwd=folder)

    def missing() -> str:
        if fate := host.fate(one):
            raise EngineError(f"the socket's proxy {fate}\n{host.logs(one)}")
        return "" if (folder / _SOCKET).exists() else "no socket"

    probe.until("the socket's proxy", missing, timeout=10)
    return {"DOCKER_SOCK": folder / _SOCKET}


topology = Topology(
    folder=Path(__file__).parent,
    source="000",
    summary="three tasks of a Docker swarm behind a HAProxy, by a rolling update",
    channels={
        "documented": _CHANNELS,
        "hardened": f"{_CHANNELS},stream=1@/events?every=200ms&for=1s~200ms",
    },
    strategies=Webapp.strategies,
    raises=raised,
    engines=("docker",),
)
