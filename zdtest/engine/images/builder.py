"""A Docker Engine at work on an image: what it is asked, and what its answers mean."""

from __future__ import annotations

import io
import os
import re
import shutil
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from docker import APIClient
from docker.errors import DockerException, ImageNotFound, NotFound
from requests.exceptions import RequestException

from zdtest.duration import written
from zdtest.engine import remains
from zdtest.engine.private import Tell
from zdtest.errors import EngineError

IMAGE, SOFTWARE = "zdtest.image", "zdtest.software"
"""The labels of our images: which one it is, and what its software calls itself."""

_SILENT_FOR = 300.0
_PULL_SILENT_FOR = 15.0
_TAIL = 15
_LONG = 0.5
_STEP = re.compile(r"Step (\d+/\d+) : (.*)")


class Builder:
    """Asks the engine at `address`; `tell` hears of each step that is done, and how long it took.

    Raises EngineError, beginning with ``image NAME``, when the engine refuses or fails.
    """

    def __init__(self, address: str, tell: Tell) -> None:
        self._address = address
        self._tell = tell

    def look(self, tag: str) -> Mapping[str, Any] | None:
        """Return what the engine tells about the image, None when it has none of that name."""
        with self._asking(tag) as client:
            try:
                return dict(client.inspect_image(tag))
            except ImageNotFound:
                return None

    def build(
        self,
        name: str,
        context: IO[bytes],
        labels: Mapping[str, str],
        arguments: Mapping[str, str] | None = None,
    ) -> str:
        """Return the id of the image that was built of the tar.

        The machine's own network is the one that is sure to reach Debian's mirrors.
        """
        return self._build(
            name,
            fileobj=context,
            custom_context=True,
            labels=dict(labels),
            buildargs=dict(arguments or {}),
            network_mode="host",
        )

    def label(self, name: str, image: str, tag: str, labels: Mapping[str, str]) -> None:
        """Give the image labels and, now that it is whole, its tag."""
        dockerfile = io.BytesIO(f"FROM {image}\n".encode())
        self._build(name, fileobj=dockerfile, tag=tag, labels=dict(labels))

    def _build(self, name: str, **how: object) -> str:
        steps = Steps(f"image {name}", self._tell)
        with self._asking(name) as client:
            events = client.build(rm=True, forcerm=True, decode=True, timeout=_SILENT_FOR, **how)
            built = self._followed(events, steps, f"image {name} cannot be built")
        steps.end()
        return built

    def load(self, name: str, tar: Path) -> str:
        """Return the id of the image whose whole file system is the tar."""
        with self._asking(name) as client, tar.open("rb") as file:
            told = client.import_image_from_data(file, changes=[f"LABEL {IMAGE}={name}"])
        found = re.search(r'"status":"(sha256:[0-9a-f]{64})"', str(told))
        if found is None:
            raise EngineError(self._why(f"image {name} cannot be loaded", str(told).strip()))
        return found[1]

    def pull(self, tag: str) -> str:
        """Return "" once the engine has pulled the image, else why it could not.

        It is given up on when nothing comes for so long that nobody is there.
        """
        began, why = time.monotonic(), ""
        repository, version = _parted(tag)
        try:
            with closing(self._client(_PULL_SILENT_FOR)) as client:
                for event in client.pull(repository, version, stream=True, decode=True):
                    why = event.get("error", why)
        except NotFound as error:
            return str(error.explanation)
        except DockerException as error:  # before the other one, which it may be as well
            return _one_line(error)
        except RequestException:
            return f"no registry answers within {written(_PULL_SILENT_FOR)}"
        if not why:
            self._tell(f"image {tag}: pulled in {written(time.monotonic() - began)}")
        return why

    def output(self, name: str, image: str, argv: Sequence[str]) -> str:
        """Return what the command prints in a container of the image, "" when it fails.

        The container has no network, and is removed.
        """
        labels = {remains.RUN: f"images-{os.getpid()}", remains.OWNER: str(remains.Owner.me())}
        with self._asking(name) as client:
            made = client.create_container(
                image,
                entrypoint=list(argv),
                command=[],
                labels=labels,
                host_config=client.create_host_config(network_mode="none"),
            )
            try:
                client.start(made)
                code = client.wait(made)["StatusCode"]
                printed = client.logs(made).decode("utf-8", "replace").strip()
            finally:
                with suppress(DockerException, RequestException):
                    client.remove_container(made, force=True, v=True)
        return "" if code else str(printed)

    def _followed(self, events: Iterator[Mapping[str, Any]], steps: Steps, what: str) -> str:
        """Return the id that the engine tells at the end, or raise with its last lines."""
        said: deque[str] = deque(maxlen=_TAIL)
        built = why = ""
        for event in events:
            for line in str(event.get("stream", "")).splitlines():
                if match := _STEP.match(line):
                    steps.begin(match[1], match[2])
                elif line.strip():
                    said.append(line)
            why = event.get("error", why)
            built = event.get("aux", {}).get("ID", built)
        if why or not built:
            raise EngineError(self._why(what, why or "the engine ended in the middle", said))
        return built

    def _why(self, what: str, why: str, said: Sequence[str] = ()) -> str:
        """Return the error's words: what to do first, then the last lines."""
        lines = "\n".join(said)
        if "no space left on device" in f"{why}{lines}".lower():
            why = f"the disk is full: free some of {self._room()}, and run it again"
        return f"{what}: {why}\n{lines}".rstrip()

    def _room(self) -> str:
        """Return where the engine keeps its images, and what is free there."""
        root = "the engine's disk"
        with suppress(DockerException, RequestException, OSError):
            with closing(self._client(10.0)) as client:
                root = str(client.info()["DockerRootDir"])
            return f"{root} ({shutil.disk_usage(root).free / 1e6:,.0f} MB free)"
        return root

    @contextmanager
    def _asking(self, name: str) -> Iterator[APIClient]:
        try:
            with closing(self._client(_SILENT_FOR)) as client:
                yield client
        except (DockerException, RequestException) as error:
            raise EngineError(self._why(f"image {name}", _one_line(error))) from error

    def _client(self, timeout: float) -> APIClient:
        return Impatient(base_url=self._address, version="auto", timeout=timeout)


class Impatient(APIClient):  # type: ignore[misc]
    """A client whose patience holds for pulls and streams too, which have none of their own."""

    def request(self, *what: Any, **how: Any) -> Any:
        """Ask; raises RequestException when nothing comes for as long as the client waits."""
        return super().request(*what, **{**how, "timeout": how.get("timeout") or self.timeout})


class Steps:
    """Tells of each step of a Dockerfile that took a while, once it is done, how long that was."""

    def __init__(self, what: str, tell: Tell) -> None:
        self._what = what
        self._tell = tell
        self._step = ""
        self._began = 0.0

    def begin(self, number: str, instruction: str) -> None:
        """The step begins, and so the one before has ended."""
        self.end()
        self._step, self._began = f"{number} {' '.join(instruction.split())[:60]}", time.monotonic()

    def end(self) -> None:
        """The last step has ended."""
        took = time.monotonic() - self._began
        if self._step and took >= _LONG:
            self._tell(f"{self._what}: {self._step}  {written(took)}")
        self._step = ""


def _parted(tag: str) -> tuple[str, str]:
    """Return repository and version, or digest; a colon before a slash is a registry's port."""
    if "@" in tag:
        repository, _, digest = tag.partition("@")
        return repository, digest
    head, slash, last = tag.rpartition("/")
    name, _, version = last.partition(":")
    return f"{head}{slash}{name}", version or "latest"


def _one_line(error: Exception) -> str:
    said = getattr(error, "explanation", None) or error
    return str(said).strip().splitlines()[0]
