"""The engine of containers: Testcontainers starts them, docker-py does the rest.

The load, the control server and a document's scripts are no containers: they are processes of the
run's `ProcessEngine`, which this one stands on, and whose reaper removes what is left of both.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from ipaddress import IPv4Network
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import docker
from docker.errors import DockerException
from docker.types import IPAMConfig, IPAMPool
from requests.exceptions import RequestException
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network as Bridge

from zdtest.engine import (
    Container,
    Instance,
    Marker,
    Network,
    nested,
    nesting,
    reaper,
    remains,
    silent,
)
from zdtest.engine.contained import LATE, Contained
from zdtest.engine.daemon import compose
from zdtest.engine.dockerevents import DockerEvents
from zdtest.engine.images import Image, Images
from zdtest.engine.nested import Nested
from zdtest.engine.process import ProcessEngine
from zdtest.errors import EngineError

_KILLED_WITHIN = 10.0
_CONNECTIONS = 64
"""At a time: one for each container's output, one for the events, a few for questions."""

# Its reaper is a container from a registry that may not be there, and knows no Compose projects:
# ours is a process, and removes whatever carries the run's label.
testcontainers_config.ryuk_disabled = True


class DockerEngine:
    """Starts containers that all end with the context, however this process ends.

    `address` is a Docker Engine's Unix socket on this machine, as ``unix://PATH``. Each container
    has the machine's network unless told otherwise, nothing on stdin, its output in
    ``<folder>/logs/<name>.log``, and the run's labels. `on_event` hears of them as from a
    `ProcessEngine`, and what the Docker Engine itself says, as ``engine.*``.
    """

    def __init__(
        self, host: ProcessEngine, address: str, images: Images, *, on_event: Marker = silent
    ) -> None:
        self.host = host
        self.run_id = host.run_id
        self.folder = host.folder
        self.images = images
        self._address = address
        self.on_event = on_event
        self._how: dict[str, Any] = {
            "environment": {"DOCKER_HOST": address},
            "max_pool_size": _CONNECTIONS,
        }
        self._used: dict[str, Image] = {}
        self._contained: dict[Instance, Contained] = {}
        self._bridges: dict[str, Bridge] = {}
        self._started = 0
        self._known = threading.RLock()
        """Held while a container becomes an instance: a start of ours is heard of as well."""

    def __enter__(self) -> DockerEngine:
        # Whoever the images run as has to find what is mounted from it; who may come here from
        # above is still for the folders above to say.
        self.folder.chmod(self.folder.stat().st_mode | 0o055)
        with asked("the Docker Engine"), ExitStack() as tidy:
            self._client = docker.from_env(**self._how)
            tidy.callback(self._client.close)
            self.host.beside(self._address)
            label = f"{remains.RUN}={self.run_id}"
            tidy.enter_context(DockerEvents(self._client, label, self.on_event, self._heard))
            self._tidy = tidy.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._tidy:
            if not self.host.left:
                remains.remove(self._address, self.run_id, quiet=0)
                for one in self._contained.values():
                    one.join(_KILLED_WITHIN)

    @property
    def environment(self) -> Mapping[str, str]:
        """What scripts need to reach this engine and to label what they make."""
        labels = self._labels
        return {
            "DOCKER_HOST": self._address,
            "COMPOSE": " ".join(compose()),
            "ZD_RUN": labels[remains.RUN],
            "ZD_OWNER": labels[remains.OWNER],
            "ZD_KEPT": labels.get(remains.KEPT, ""),
        }

    @property
    def _labels(self) -> dict[str, str]:
        labels = {remains.RUN: self.run_id, remains.OWNER: str(remains.Owner.me())}
        return {**labels, remains.KEPT: "1"} if self.host.keeps else labels

    def image(self, name: str) -> str:
        """Return the tag of the image of that name, having built it where it is missing."""
        self._used[name] = self.images.get(name)
        return self._used[name].tag

    @property
    def documented(self) -> bool:
        """Whether the documents' own images are to be run where ours stand in."""
        return self.images.documented

    def used(self) -> list[dict[str, object]]:
        """Return the images that were asked for so far, as a run's manifest tells them."""
        return [asdict(image) for image in self._used.values()]

    def save(self, names: Sequence[str], file: IO[bytes]) -> None:
        """Write the images of those names to `file` as one tar, the layers they share once."""
        tags = [self.image(name) for name in names]
        with asked(f"images {', '.join(names)}"):
            api = self._client.api
            reply = api.get(f"{api.base_url}/images/get", params={"names": tags}, stream=True)
            reply.raise_for_status()
            for chunk in reply.iter_content(1 << 20):
                file.write(chunk)

    def network(self, name: str, *, subnet: str = "") -> Network:
        """Return the run's bridge network of that name, made when first asked for.

        It has the addresses of `subnet`, by default those that the Docker Engine chooses.
        """
        with asked(f"network {name}"):
            if name not in self._bridges:
                how: dict[str, Any] = {"labels": self._labels, "driver": "bridge"}
                if subnet:
                    # Told as well, as the engine tells only what it was told.
                    gateway = str(next(IPv4Network(subnet).hosts()))
                    how["ipam"] = IPAMConfig(pool_configs=[IPAMPool(subnet, gateway=gateway)])
                bridge = Bridge(self._how, how)
                bridge.name = f"zdtest-{self.run_id}-{name}"
                self._bridges[name] = bridge.create()
            bridge = self._bridges[name]
            told = self._client.networks.get(bridge.id).attrs
        return Network(name, told["IPAM"]["Config"][0]["Gateway"])

    def port(self) -> int:
        """Return a port of 127.0.0.1 leased until the run ends."""
        return self.host.port()

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        version: str = "",
        container: Container | None = None,
    ) -> Instance:
        """Return the started container; our own interpreter is the image's in it.

        Raises EngineError when it cannot be started.
        """
        what = container or Container()
        own = str(self.folder.absolute())
        with asked(f"container {name}"), self._known:
            self._started += 1
            one = DockerContainer(
                self.image(what.image),
                docker_client_kw=self._how,
                name=f"zdtest-{self.run_id}-{name}-{self._started}",
                command=["python3" if word == sys.executable else word for word in argv],
                env={"PYTHONUNBUFFERED": "1", **(env or {})},
                volumes=[
                    (own, own, "rw"),
                    *((str(seen.absolute()), path, "ro") for path, seen in what.mounts.items()),
                ],
            ).with_kwargs(
                working_dir=str(cwd) if cwd else None,
                labels={**self._labels, remains.INSTANCE: name, remains.VERSION: version},
                **({} if what.network else {"network": "host"}),
                **(nesting.options(name, self._labels) if what.nested else {}),
            )
            # Never on all addresses, which a bare number would mean.
            one.ports = {str(port): ("127.0.0.1", at) for port, at in what.publish.items()}
            if what.network:
                one.with_network(self._bridges[what.network.name]).with_network_aliases(name)
            made = one.start().get_wrapped_container()
            one.get_docker_client().client.close()
            found = self._client.containers.get(made.id)
            return self._watch(found, found.attrs["State"]["Pid"], name, version)

    def adopt(self, name: str, pid: int, *, beside: Instance, version: str = "") -> Instance:
        """Return the process of this machine that a script left running, watched and named."""
        return self.host.adopt(name, pid, beside=beside, version=version)

    def attach(self, name: str) -> Instance:
        """Return the running container that a script labelled with that name, watched."""
        label = [f"{remains.RUN}={self.run_id}", f"{remains.INSTANCE}={name}"]
        with asked(f"container {name}"), self._known:
            found = self._client.containers.list(filters={"label": label, "status": "running"})
            if not found:
                raise EngineError(f"no container runs as {name}: expected one of this run")
            return self._taken(found[0])

    def take(self, container: Any, name: str, version: str, began: float) -> Instance:
        """Return what runs in a container of a node of ours, watched and named from now on.

        It was started at `began`, seconds on CLOCK_MONOTONIC.
        """
        with asked(name), self._known:
            pid = nested.pid(container.id)
            return self._watch(container, pid, name, version, Nested, happened=began)

    def told_to_end(self, instance: Instance, happened: float) -> None:
        """Note that somebody sent it SIGTERM then, seconds on CLOCK_MONOTONIC; it may be gone."""
        ended = self._contained[instance].ended
        if happened < ended + LATE:
            self._event("term", instance, happened=min(happened, ended))

    def container(self, instance: Instance) -> str:
        """Return the name by which ``docker`` knows the instance's container."""
        return str(self._contained[instance].container.name)

    def execute(self, instance: Instance, argv: Sequence[str], *, timeout: float = 30.0) -> str:
        """Return what the command printed inside the container; raises EngineError unless it did.

        It is given up on after `timeout` seconds, and ends with the container then.
        """
        if instance not in self._contained:
            return self.host.execute(instance, argv, timeout=timeout)
        if fate := self.fate(instance):
            raise EngineError(f"{instance.name} {fate}: cannot run {argv[0]} in it")
        what = f"{argv[0]} in {instance.name}"
        with asked(what), self._another(timeout) as client:
            inside = client.containers.get(self._contained[instance].container.id)
            code, output = inside.exec_run(list(argv))
        text = str(output.decode("utf-8", errors="replace"))
        if code != 0:
            raise EngineError(f"{what} exited {code}\n{text}")
        return text

    def run(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 60.0,
    ) -> Instance:
        """Return the command once it has exited 0 on this machine, told how to reach the engine."""
        return self.host.run(
            name, argv, env={**self.environment, **(env or {})}, cwd=cwd, timeout=timeout
        )

    def stop(self, instance: Instance, grace: float = 10.0) -> None:
        """SIGTERM its main process; SIGKILL after `grace` seconds. It has ended on return."""
        self.signal(instance, "TERM")
        if not self.wait(instance, grace):
            self.kill(instance)

    def kill(self, instance: Instance) -> None:
        """SIGKILL all of it; it has ended on return."""
        self.signal(instance, "KILL")
        if not self.wait(instance, _KILLED_WITHIN):
            raise EngineError(f"{instance.name} outlives SIGKILL: pid {instance.pid}")

    def signal(self, instance: Instance, name: str) -> None:
        """Send the signal to its main process; "STOP" and "CONT" act on all of it."""
        if instance not in self._contained:
            return self.host.signal(instance, name)
        with asked(f"SIG{name} to {instance.name}"):
            self._contained[instance].signal(name)

    def frozen(self, instance: Instance) -> bool:
        """Return whether it is paused."""
        if instance not in self._contained:
            return self.host.frozen(instance)
        with asked(instance.name):
            return self._contained[instance].frozen

    def wait(self, instance: Instance, timeout: float) -> bool:
        """Return whether it has ended within `timeout` seconds."""
        if instance not in self._contained:
            return self.host.wait(instance, timeout)
        return self._contained[instance].wait(timeout)

    def fate(self, instance: Instance) -> str:
        """Return how it ended, "" while it runs."""
        if instance not in self._contained:
            return self.host.fate(instance)
        return self._contained[instance].fate

    def logs(self, instance: Instance, tail: int = 20) -> str:
        """Return the last `tail` lines it printed."""
        return self.host.logs(instance, tail)

    def _heard(self, container: str, what: str, labels: Mapping[str, str], at: float) -> None:
        """A container was started, by whomever, or is being told to end."""
        if remains.INSTANCE not in labels:
            return
        with self._known, asked(container):
            if what == "start":
                self._taken(self._client.containers.get(container))
            elif what == "kill" and labels.get("signal") == "15":
                for instance, seen in self._contained.items():
                    if seen.container.id == container:
                        self.told_to_end(instance, at)

    def _taken(self, container: Any) -> Instance:
        """Return what was last started in the container, watched from now on at the latest."""
        started = container.attrs["State"]["StartedAt"]
        for instance, seen in self._contained.items():
            if (seen.container.id, seen.started) == (container.id, started):
                return instance
        labels, pid = container.labels, container.attrs["State"]["Pid"]
        name, version = labels[remains.INSTANCE], labels.get(remains.VERSION, "")
        return self._watch(container, pid, name, version)

    def _watch(
        self,
        container: Any,
        pid: int,
        name: str,
        version: str,
        kind: type[Contained] = Contained,
        **about: object,
    ) -> Instance:
        path = self.folder / "logs" / f"{name}.log"
        path.touch()
        # One that has ended by now has no pid to tell it apart.
        began = _began(pid) or -1 - len(self._contained)
        instance = Instance(name, pid, began, version, path, path.stat().st_size)
        self._event("started", instance, pid=pid, **about)
        self._contained[instance] = kind(
            container,
            pid,
            path,
            lambda fate, at: self._event("stopped", instance, exit=fate, happened=at),
        )
        return instance

    def _event(self, what: str, instance: Instance, **about: object) -> None:
        if instance.version:
            name, about = "app", {"version": instance.version, **about}
        else:
            name = "process"
        self.on_event(f"{name}.{what}", instance=instance.name, **about)

    @contextmanager
    def _another(self, timeout: float) -> Iterator[Any]:
        """Yield a client of its own, which waits no longer than `timeout` seconds."""
        client = docker.DockerClient(base_url=self._address, timeout=timeout)
        try:
            yield client
        finally:
            client.close()


def _began(pid: int) -> int:
    """Return when the process started, in clock ticks; 0 for one that has ended."""
    try:
        return reaper.began(pid)
    except OSError:
        return 0


@contextmanager
def asked(what: str) -> Iterator[None]:
    """What the Docker Engine refuses, or does not answer, is an EngineError of one line."""
    try:
        yield
    except (DockerException, RequestException) as error:
        said = getattr(error, "explanation", None) or error
        raise EngineError(f"{what}: {str(said).strip().splitlines()[0]}") from error
