"""Three services of a shop on a swarm of three nodes, updated start-first."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from zdtest.engine import Engine, Instance, Marker, probe
from zdtest.errors import ConfigError, EngineError, unknown
from zdtest.topologies.services import Services, swarm
from zdtest.topology import Stack, Topology

if TYPE_CHECKING:
    from zdtest.engine.swarm import Cluster
    from zdtest.engine.swarmhistory import SwarmHistory
    from zdtest.engine.swarmnode import Node

SERVICES = {"prod": "product", "coupon": "coupon", "front": "front"}
"""The document's stacks, in the order in which they depend on each other, and what their tasks are
called; the service of each stack is ``app``."""

EDGES = {"documented": "ingress", "hardened": "haproxy"}
"""The service that users come in by, in a stack of its own."""

NAMES = {
    **{f"{stack}_app": f"{name}.{{slot}}" for stack, name in SERVICES.items()},
    "edge_ingress": "edge",
    "edge_haproxy": "proxy",
}
NODES = 3
MISSING = "missing"
"""The release that nobody has built: its tag is on no node."""

_DETAIL = '@/product-detail/1#"value":3}]}|"couponPrice":119310'
_IMAGE = "voyagerwoo/demo-shoppingmall-{}-service"
_INGRESS = '    ports:\n      - "80:8080"\n'
_UP_WITHIN = 90.0

Releases = Mapping[str, Mapping[str, str]]


class Shop(Services):
    """The front's tasks, and those of the two services behind it; users come in by one port.

    `deploys` are the stacks that a deploy is about. Everything that is done to them is done by the
    folder's own files, in a copy of that folder.
    """

    backends = "backends.jsonl"
    """The journal of the two services behind the front, in the run's folder."""

    def __init__(
        self,
        engine: Engine,
        cluster: Cluster,
        history: SwarmHistory,
        *,
        variant: str,
        env: Mapping[str, object],
        boot: float,
        releases: Releases,
        deploys: Sequence[str],
        entry: Node,
    ) -> None:
        super().__init__(engine, cluster, history, "front_app")
        self.folder = engine.folder.absolute() / "swarm_shop"
        self.url = f"http://127.0.0.1:{entry.at(80)}"
        self.said = ""
        self._entry = entry
        self._edge = EDGES[variant] if variant == "hardened" or not cluster.ipvs else ""
        self._boot, self._releases, self._deploys = boot, releases, deploys
        self._version = ""
        shutil.copytree(topology.folder / variant, self.folder)
        if not cluster.ipvs:
            _without_ingress(self.folder / "front_service" / "docker-stack.yml")
        files = ["tasks.yml", "../timings.yml", *([] if cluster.ipvs else ["../no-ipvs.yml"])]
        told = {
            "HERE": self.folder,
            "JOURNAL": self.journal,
            "BACKENDS": engine.folder.absolute() / self.backends,
            "MORE": " ".join(f"-c={file}" for file in files),
            **env,
        }
        self._env = {name: str(value) for name, value in told.items()}
        for journal in (self._env["JOURNAL"], self._env["BACKENDS"]):
            # For whichever user the app runs as to write to.
            Path(journal).touch()
            os.chmod(journal, 0o666)

    @property
    def balancer(self) -> Instance:
        """What users come in by, where it is no part of Docker."""
        return self.instance("proxy" if self._edge == EDGES["hardened"] else "edge")

    def build(self, *versions: str) -> None:
        """Have every node know the three images of these versions, but for those nobody has."""
        for number, version in enumerate(versions):
            for stack, name in SERVICES.items():
                release = self._releases.get(version, {}).get(name, "good")
                if release != MISSING:
                    env = {
                        "APP_VERSION": version,
                        "RELEASE": release,
                        "BOOT_SECONDS": str(self._boot if number else 0),
                        "COUPON_PRICE": "1" if number else "0",
                    }
                    command = ["python3", "-m", "sample_app.shop", name]
                    self.cluster.release(_IMAGE.format(stack), _tag(version), env, command=command)

    def up(self, version: str) -> None:
        """Bring up everything as the document does; users are answered on return."""
        self._version = version
        self._run(["sh", "networks.sh"], timeout=_UP_WITHIN)
        self._deploy(*SERVICES, timeout=_UP_WITHIN)
        if self._edge:
            file = self.folder / "edge" / "docker-stack.yml"
            there = f"node.hostname == {self._entry.name}"
            self.cluster.deploy("edge", file, env={"HERE": str(self.folder), "ENTRY": there})
        self.cluster.settle(timeout=_UP_WITHIN)
        self.served()

    def served(self) -> None:
        """Return once users get the page of each of the front's tasks; raises EngineError."""
        seen: set[str] = set()

        def missing() -> str:
            if not (who := self._asked("/api")):
                seen.clear()
                return "no answer"
            seen.add(json.loads(who)["instance"])
            if lacking := set(self.instances) - seen:
                return f"nothing of {', '.join(sorted(lacking))}"
            page = self._asked("/product-detail/1")
            return "" if '"value":3' in page else f"the page is {page!r}"

        probe.until("users get every task", missing, timeout=30, evidence=self._evidence)

    def _asked(self, path: str) -> str:
        """Return what users get there, "" where it is not answered with 200."""
        reply = probe.ask(self._entry.at(80), path)
        return "" if isinstance(reply, str) or reply.status != 200 else reply.body

    def deploy(self, version: str, mark: Marker, *, timeout: float) -> None:
        """Run the document's commands for the stacks; the swarm does what it was told to by then.

        Raises EngineError, with the tasks' errors, where an update did not go through in time.
        """
        self._version = version
        self._deploy(*self._deploys, timeout=timeout)
        self._converge(*self._deploys, timeout=timeout)

    def scale(self, replicas: int, *, timeout: float = 60.0) -> None:
        """Have so many tasks of the front, as the document does: REPLICAS of this one deploy."""
        self._deploy("front", timeout=timeout, replicas=replicas)
        self._converge("front", timeout=timeout)

    def _converge(self, *stacks: str, timeout: float) -> None:
        names = [f"{stack}_app" for stack in stacks]
        for service, state in self.cluster.settle(*names, timeout=timeout).items():
            if state not in ("", "completed"):
                raise EngineError(f"{service}: {state}\n{self._evidence()}")

    def _deploy(self, *stacks: str, timeout: float, replicas: int | None = None) -> None:
        # The way back has to fit in as well.
        env = {"WITHIN": str(int(timeout / 2))}
        env |= {} if replicas is None else {"REPLICAS": str(replicas)}
        self.said = self._run(
            ["bash", "deploy.sh", _tag(self._version), *stacks], env, timeout=timeout
        )

    def _run(
        self, argv: Sequence[str], env: Mapping[str, str] | None = None, *, timeout: float
    ) -> str:
        told = {**self._env, **(env or {})}
        return self.script(argv, cwd=self.folder, env=told, timeout=timeout)


class Pinned(Shop):
    """The hardened one, whose number of tasks is in a file."""

    def scale(self, replicas: int, *, timeout: float = 60.0) -> None:
        """Have so many tasks of the front, now and after each deploy to come."""
        _pin(self.folder, replicas)
        super().scale(replicas, timeout=timeout)


@contextmanager
def raised(
    variant: str,
    version: str,
    engine: Engine,
    *,
    replicas: int = 2,
    scale: float = 0.2,
    boot: float = 0.0,
    deploys: Sequence[str] = ("front",),
    versions: Sequence[str] = ("v2",),
    releases: Releases | None = None,
    entry: int = 1,
    reserved: float = 0.0,
) -> Iterator[Stack]:
    """Yield the shop at `version`, each service with so many `replicas`.

    `scale` is how long each of the document's seconds takes, and of those that it leaves to Docker:
    health checks, the grace to stop in, the watch over an update, the delay of a restart. The
    images of `versions` are there to be deployed, to the stacks `deploys`; their tasks take `boot`
    seconds longer to start than they have to. `releases` are the sample app's releases by version
    and service, as ``{"v2": {"front": "crash", "product": "slow:50"}}``; ``missing`` is one that
    nobody has built. Users come in by the node number `entry`; the first one is the manager. Each
    task of the front reserves that share of a node's memory, the document's 100 MB where it is 0.
    """
    _expect(deploys, replicas, entry, reserved)
    images = ("app", "haproxy")
    with swarm(engine, NODES, NAMES, images=images, publish=[80]) as (cluster, history):
        cluster.tag("haproxy", "haproxy:2.6")
        kind: type[Shop] = Pinned
        env = _hardened(scale, boot)
        if variant == "documented":
            kind, env = Shop, {"REPLICAS": replicas, **_documented(scale)}
        env = {**env, **_reserved(cluster, reserved)}
        shop = kind(
            engine,
            cluster,
            history,
            variant=variant,
            env=env,
            boot=boot,
            releases=releases or {},
            deploys=deploys,
            entry=cluster.nodes[entry - 1],
        )
        if variant == "hardened":
            _pin(shop.folder, replicas)
        shop.build(version, *(one for one in versions if one != version))
        shop.up(version)
        yield shop


def _expect(deploys: Sequence[str], replicas: int, entry: int, reserved: float) -> None:
    """Raise ConfigError where one of these means nothing here."""
    for stack in deploys:
        if stack not in SERVICES:
            raise unknown("stack", stack, SERVICES)
    if not 1 <= replicas <= 6:
        raise ConfigError(f"replicas {replicas}: expected 1 to 6, two on a node")
    if entry not in range(1, NODES + 1):
        raise ConfigError(f"entry {entry}: expected a node, 1 to {NODES}")
    if not 0 <= reserved <= 1:
        raise ConfigError(f"reserved {reserved}: expected a share of a node's memory, 0 to 1")


def _documented(scale: float) -> Mapping[str, object]:
    return {
        "INTERVAL": _written(10 * scale),
        "TIMEOUT": _written(5 * scale),
        "START_PERIOD": _written(10 * scale),
        "STOP_GRACE_PERIOD": _written(10 * scale),
        "MONITOR": _written(5 * scale),
        "RESTART_DELAY": _written(5 * scale),
    }


def _hardened(scale: float, boot: float) -> Mapping[str, object]:
    return {
        "DELAY": _written(18 * scale),
        # Longer than it takes to find one ill and to end it: only then is it a failed update's.
        "MONITOR": _written(max(20 * scale, 8)),
        # A container's health is asked by starting a program in it, and HAProxy asks every half of
        # a second: neither gets shorter.
        "INTERVAL": _written(max(2 * scale, 1)),
        "DRAIN": _written(max(3 * scale, 1.5)),
        "START_PERIOD": _written(30 * scale + boot),
    }


def _reserved(cluster: Cluster, share: float) -> Mapping[str, object]:
    """Return what the front's stack file is told for its tasks to reserve so much of a node."""
    if not share:
        return {}
    told = cluster.docker("node", "inspect", "self", "-f", "{{.Description.Resources.MemoryBytes}}")
    amount = f"{int(int(told) * share)}b"
    return {"RESERVED": amount, "LIMIT": amount}


def _tag(version: str) -> str:
    """Return the image's tag of that version, as the document writes it: v2 is 2."""
    return version.removeprefix("v")


def _written(seconds: float) -> str:
    """Return the time as a stack file has it."""
    return f"{round(seconds * 1000)}ms"


def _pin(folder: Path, replicas: int) -> None:
    """Write down how many tasks each service has."""
    path = folder / "shop.env"
    lines = path.read_text().splitlines()
    kept = [line for line in lines if not line.startswith("REPLICAS=")]
    path.write_text("\n".join([*kept, f"REPLICAS={replicas}"]) + "\n")


def _without_ingress(stack: Path) -> None:
    """Take the ingress's port out: the edge has it."""
    stack.write_text(stack.read_text().replace(_INGRESS, ""))


topology = Topology(
    folder=Path(__file__).parent,
    source="002",
    summary="a shop of three services on a Docker swarm of three nodes, updated start-first",
    channels={
        "documented": f"new=3{_DETAIL},reused=3{_DETAIL}",
        "hardened": f"new=3{_DETAIL},reused=3{_DETAIL},slow=1@/500~500ms,write=1@/orders",
    },
    strategies=Shop.strategies,
    raises=raised,
    engines=("docker",),
)
