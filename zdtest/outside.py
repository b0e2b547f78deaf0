"""A stack that somebody else runs: zdtest knows its url, and starts and ends nothing of it."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from zdtest import channel
from zdtest.command import Command
from zdtest.engine import Engine, Instance
from zdtest.errors import ConfigError, DeployFailed
from zdtest.progress import Progress
from zdtest.topology import Stack, Topology


class Outside:
    """Somebody's own stack, as a test deploys to it: by a command, or by what the test does."""

    instances: tuple[str, ...] = ()
    strategies: tuple[str, ...] = ("command",)
    journal: Path | None = None

    def __init__(self, url: str, engine: Engine) -> None:
        self.url = url
        self.engine = engine

    def command(self, argv: Sequence[str], *, timeout: float) -> None:
        """Return once the command has exited 0; what it leaves running is left running.

        Raises DeployFailed where it does not, DeployTimeout where it had to be ended.
        """
        command = Command(argv, self.engine.folder / "logs" / "command.log", progress=Progress())
        try:
            command.finish(timeout, lambda: None)
        except DeployFailed:
            raise
        except BaseException:
            command.end(signal.SIGTERM)
            raise
        finally:
            command.show(everything=True)

    def _not_ours(self, name: str) -> NoReturn:
        raise ConfigError(f"instance {name!r}: expected none, as {self.url} is not ours to run")

    def instance(self, name: str) -> Instance:
        """Raise ConfigError: none was started."""
        self._not_ours(name)

    def start(self, name: str, version: str) -> None:
        """Raise ConfigError: none is ours to start."""
        self._not_ours(name)

    def stop(self, name: str) -> None:
        """Raise ConfigError: none is ours to stop."""
        self._not_ours(name)

    def ready(self, name: str) -> None:
        """Raise ConfigError: none is known."""
        self._not_ours(name)

    def wanted(self, name: str) -> bool:
        """Return False: none was started."""
        return False

    def revive(self, one: Instance) -> bool:
        """Return False: none was started."""
        return False


def at(url: str) -> Topology:
    """Return the stack that runs at `url` as a topology: without a name, and with one variant."""

    @contextmanager
    def raised(variant: str, version: str, engine: Engine) -> Iterator[Stack]:
        yield Outside(url, engine)

    return Topology(
        folder=Path(),
        source="",
        summary=f"what runs at {url}",
        channels={"": channel.DEFAULT},
        strategies=Outside.strategies,
        raises=raised,
    )
