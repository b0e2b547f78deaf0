"""Two colours behind one nginx, each a Compose project; a script brings up the one that is idle."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from zdtest.engine import Containers, Engine, Instance, Marker, probe
from zdtest.errors import ConfigError, EngineError
from zdtest.topologies.nginx_compose.script import follow
from zdtest.topology import HOME, Stack, Topology

PORTS = {"blue": 8081, "green": 8082}
"""Where each colour listens on the gateway address of their network."""

SCRIPTS = {"printed": "deploy.sh", "mended": "deploy-mended.sh"}
"""The document's script as it asks for ``CHECK_URL``, and with the ``$`` that it lacks."""

_CHANNELS = "new=2@/api,reused=2@/api,slow=1@/500~500ms,write=3@/orders"

Releases = Mapping[str, Mapping[str, object]]


class Colours:
    """The documented ones: nginx asks both, and what runs in them is whatever was delivered last.

    Everything that is done to them is done by the folder's own files, in a copy of that folder.
    """

    instances: tuple[str, ...] = tuple(PORTS)
    strategies: tuple[str, ...] = ("scripted",)

    def __init__(
        self,
        engine: Engine,
        folder: Path,
        *,
        env: Mapping[str, object],
        releases: Releases,
        script: str = "deploy.sh",
    ) -> None:
        if not isinstance(engine, Containers):
            raise ConfigError("nginx_compose runs in containers: expected --zd-engine docker")
        self.engine: Engine = engine
        self.journal: Path | None = engine.folder.absolute() / "journal.jsonl"
        self.folder = engine.folder.absolute() / "nginx_compose"
        self.script: Instance | None = None
        self._docker: Containers = engine
        self._port = engine.port()
        self._releases = releases
        self._deploys = script
        self._last: dict[str, Instance] = {}
        self.url = f"http://127.0.0.1:{self._port}"
        shutil.copytree(folder, self.folder)
        # For whichever user the app runs as to write to.
        self.journal.touch()
        self.journal.chmod(0o666)
        self._env = {name: str(value) for name, value in {**self._surroundings(), **env}.items()}

    def _surroundings(self) -> Mapping[str, object]:
        """Return what the files have to be told of where they are."""
        network = self._docker.network("studypot")
        self.gateway = network.gateway
        return {
            "PROJECT": re.sub("[^a-z0-9_-]", "-", f"zdtest-{self.engine.run_id}".lower()),
            "NETWORK": f"zdtest-{self.engine.run_id}-{network.name}",
            "GATEWAY": network.gateway,
            "PORT": self._port,
            "APP_IMAGE": self._docker.image("app"),
            "NGINX_IMAGE": self._docker.image("nginx"),
            "NGINX_LOG": HOME / "nginx_log.conf",
            "JOURNAL": self.journal,
            "REPOSITORY": self.folder,
            "DOCKER_REPOSITORY": self.folder,
            "CHECK_URL": f"127.0.0.1:{self._port}/health",
            # No name is asked for outside of this machine, "CHECK_URL" least of all.
            "http_proxy": "http://127.0.0.1:1",
            "no_proxy": "127.0.0.1",
        }

    def instance(self, name: str) -> Instance:
        """Return what runs in the colour, or last ran there; ``proxy`` is nginx."""
        try:
            self._last[name] = self._docker.attach(name)
        except EngineError:
            if name not in self._last:
                raise KeyError(name) from None
        return self._last[name]

    def start(self, name: str, version: str) -> None:
        """Deliver that version and bring up the colour; users may come at once."""
        self.deliver(version)
        self._compose(name, "up", "-d", version=version)

    def stop(self, name: str) -> None:
        """Take it down; nothing of it is left."""
        self._compose(name, "down", version="")

    def wanted(self, name: str) -> bool:
        """Return whether its container is there: whoever takes a colour down removes it."""
        labels = [f"label=zdtest.run={self.engine.run_id}", f"label=zdtest.instance={name}"]
        filters = [word for label in labels for word in ("--filter", label)]
        asked = self.engine.run("containers", ["docker", "ps", "-aq", *filters])
        return bool(self.engine.logs(asked).strip())

    def revive(self, one: Instance) -> bool:
        """Start its container again, unless it has been removed; return whether it was."""
        name = one.name
        if not self.engine.fate(one) or self.instance(name) != one or not self.wanted(name):
            return False
        self.engine.run("revive", ["docker", "start", self._docker.container(one)])
        return True

    def restart(self, name: str) -> None:
        """Restart its container as `docker restart` does; it may not serve yet."""
        container = self._docker.container(self.instance(name))
        self.engine.run("restart", ["docker", "restart", container])

    def ready(self, name: str) -> None:
        """Return once it answers at its own address."""
        port, limit = PORTS[name], float(self._env["BOOT_SECONDS"]) + 15
        probe.serves(
            self.engine, self.instance(name), port, "/ready", host=self.gateway, timeout=limit
        )

    @property
    def balancer(self) -> Instance:
        """The nginx."""
        return self.instance("proxy")

    def start_balancer(self) -> None:
        """Bring up nginx, unless it runs; it has taken a request to a colour on return."""
        self._compose("dev", "up", "-d", version="")
        probe.serves(self.engine, self.balancer, self._port, "/ready")

    def deliver(self, version: str) -> None:
        """The build of that version takes the place of the last one, for both colours."""
        release = self._releases.get(version, {}).get("release", "good")
        self._run("deliver", ["bash", "deliver.sh", version, str(release)])

    def deploy(self, version: str, mark: Marker, *, timeout: float) -> None:
        """Deliver that version and run the script; raises EngineError unless it exits 0."""
        self.deliver(version)
        env = {**self._docker.environment, **self._env, **self._told(version)}
        host = self.engine.host
        self.script = host.start("deploy", self._argv(version), env=env, cwd=self.folder)
        follow(host, self.script, version, mark, timeout=timeout)

    def said(self) -> str:
        """Return what the script has printed, "" before there was one."""
        return self.engine.logs(self.script, 10_000) if self.script else ""

    def _argv(self, version: str) -> list[str]:
        return ["bash", self._deploys]

    def _told(self, version: str) -> Mapping[str, str]:
        """Return the containers' labels; what runs keeps its own, or Compose would make it anew."""
        return {f"{name.upper()}_VERSION": self._running(name) or version for name in PORTS}

    def _running(self, name: str) -> str:
        """Return the version that the colour was brought up at, "" where it does not run."""
        try:
            one = self.instance(name)
        except KeyError:
            return ""
        return "" if self.engine.fate(one) else one.version

    def _compose(self, project: str, *words: str, version: str) -> None:
        command = self._docker.environment["COMPOSE"].split()
        if not command:
            raise EngineError("no Docker Compose: expected docker compose or docker-compose")
        where = ["-p", f"{self._env['PROJECT']}-{project}", "-f", f"docker-compose.{project}.yml"]
        self._run("compose", [*command, *where, *words], self._told(version))

    def _run(self, name: str, argv: list[str], env: Mapping[str, str] | None = None) -> None:
        self.engine.run(name, argv, env={**self._env, **(env or {})}, cwd=self.folder)


class Switching(Colours):
    """The hardened ones: one has the users, and a version is what its container was made with."""

    def deliver(self, version: str) -> None:
        """Nothing: no build takes another one's place."""

    def _argv(self, version: str) -> list[str]:
        return ["bash", "deploy.sh", version]

    def _told(self, version: str) -> Mapping[str, str]:
        release = self._releases.get(version, {}).get("release", "good")
        return {"TAG": version, "RELEASE": str(release)}


@contextmanager
def raised(
    variant: str,
    version: str,
    engine: Engine,
    *,
    live: str = "blue",
    boot: float = 2.0,
    scale: float = 0.1,
    check_url: str = "mended",
    fail_timeout: int | None = None,
    drain: float = 0.5,
    start_limit: int = 20,
    releases: Releases | None = None,
) -> Iterator[Stack]:
    """Yield the `live` colour behind nginx; it takes `boot` seconds longer to start than it has to.

    `scale` is how long each of the document's seconds takes: those of its script, and those of
    nginx's ``fail_timeout``, a whole number and at least 1, unless that is given. `check_url` says
    which script deploys: the document's as ``printed``, or ``mended``. Hardened instances serve
    for `drain` seconds after SIGTERM, and get `start_limit` seconds to become healthy. `releases`
    are the sample app's releases by version, as ``{"v2": {"release": "crash"}}``.
    """
    for what, given, known in (("live", live, PORTS), ("check_url", check_url, SCRIPTS)):
        if given not in known:
            raise ConfigError(f"{what} {given!r}: expected {' or '.join(known)}")
    env: dict[str, object] = {"BOOT_SECONDS": boot}
    folder, releases = topology.folder / variant, releases or {}
    if variant == "hardened":
        env |= {"DRAIN_SECONDS": drain, "SHUTDOWN_TIMEOUT": 3, "START_LIMIT": start_limit}
        stack: Colours = Switching(engine, folder, env=env, releases=releases)
        _give(stack, live)
    else:
        env |= {"BOOT_WAIT": 30 * scale, "RETRY_WAIT": 5 * scale}
        stack = Colours(engine, folder, env=env, releases=releases, script=SCRIPTS[check_url])
        _scale(stack, fail_timeout or max(1, round(10 * scale)))
    stack.start(live, version)
    stack.ready(live)
    stack.start_balancer()
    yield stack


def _scale(stack: Colours, fail_timeout: int) -> None:
    """The document's ten seconds for which nginx leaves out a server take as long as that."""
    path = stack.folder / "nginx.conf"
    path.write_text(path.read_text().replace("fail_timeout=10s", f"fail_timeout={fail_timeout}s"))


def _give(stack: Colours, live: str) -> None:
    """nginx will give the users to that colour, and to the other one those whom it fails."""
    if live == "blue":
        return  # as the file has it
    backup = next(name for name in PORTS if name != live)
    servers = f"server docker-network-ip:{PORTS[live]} max_fails=0;\n"
    servers += f"server docker-network-ip:{PORTS[backup]} max_fails=0 backup;\n"
    (stack.folder / "nginx" / "live.inc").write_text(servers)


topology = Topology(
    folder=Path(__file__).parent,
    source="003",
    summary="blue and green by Docker Compose, behind one nginx that knows both",
    channels={
        "documented": f"{_CHANNELS},stream=1@/events?every=200ms~200ms",
        "hardened": f"{_CHANNELS},stream=1@/events?every=200ms&for=1s~200ms",
    },
    strategies=Colours.strategies,
    raises=raised,
    engines=("docker",),
)
