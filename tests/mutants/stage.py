"""The stage of the mutants: many stacks side by side, each under a load of its own, one deploy.

A dozen loads at some twenty requests a second cost what one at three hundred does, and starting
them side by side is what makes the suite short. Each records a run of its own, judged alone.
"""

from __future__ import annotations

import secrets
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from zdtest.engine import Instance, probe
from zdtest.engine.process import ProcessEngine
from zdtest.errors import LoadFailed
from zdtest.run import Run, run
from zdtest.topologies import SAMPLE_APP, app
from zdtest.traffic import Load

HERE = Path(__file__).parent
PINGS = {"ping_period": 0.2, "ping_timeout": 2.0, "fall": 10, "connect_timeout": 5.0}
"""Pings that see a drain at once, and a target on a machine that stands still as well: what a slow
machine does to the healthy twin is nobody's mutation."""
DRAIN = 0.7
"""Seconds in which one of three pings has to be answered."""


@dataclass(frozen=True)
class Watched(Load):
    """A load by one of the files of ``loads/``: zdtest's own without Locust, or a mutant of it."""

    file: str = "plain"

    def argv(self, url: str) -> list[str]:
        """Return the command line."""
        python, *options = super().argv(url)
        return [python, str(HERE / "loads" / f"{self.file}.py"), *options]


@dataclass
class Stage:
    """The runs under way by name, and what went wrong with which load."""

    runs: dict[str, Run] = field(default_factory=dict)
    troubles: dict[str, LoadFailed] = field(default_factory=dict)

    def mark(self, name: str, /, **about: object) -> None:
        """Note in every run that it is now."""
        for one in self.runs.values():
            one.mark(name, **about)


@contextmanager
def loads(
    folder: Path,
    seats: Mapping[str, tuple[str, Load]],
    about: Mapping[str, object] | None = None,
    *,
    baseline: float = 0.4,
    settle: float = 0.5,
) -> Iterator[Stage]:
    """Keep each load on its url while the block runs; every one records into ``folder/<name>``.

    They share one control server, as they share the machine.
    """
    with _engine(folder / "control") as engine:
        port = engine.port()
        echo = engine.start("control", [sys.executable, "-m", "zdtest.engine.echo", str(port)])
        probe.serves(engine, echo, port, "/")
        with _loads(folder, seats, about, f"http://127.0.0.1:{port}/", baseline, settle) as stage:
            yield stage


@contextmanager
def _loads(
    folder: Path,
    seats: Mapping[str, tuple[str, Load]],
    about: Mapping[str, object] | None,
    control: str,
    baseline: float,
    settle: float,
) -> Iterator[Stage]:
    stage, over = Stage(), threading.Event()
    begun = {name: threading.Event() for name in seats}
    broken: list[BaseException] = []

    def watch(name: str, url: str, load: Load) -> None:
        try:
            with run(folder / name, about=about) as one:
                one._control = lambda: control  # type: ignore[method-assign]
                with one.load(url, load, baseline=baseline, settle=settle):
                    stage.runs[name] = one
                    begun[name].set()
                    over.wait()
        except LoadFailed as error:
            stage.troubles[name] = error
        except BaseException as error:
            broken.append(error)
        finally:
            begun[name].set()

    threads = [threading.Thread(target=watch, args=(name, *seat)) for name, seat in seats.items()]
    try:
        for thread in threads:
            thread.start()
        for one in begun.values():
            one.wait()
        assert stage.runs.keys() == seats.keys(), (broken, stage.troubles)
        yield stage
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not broken, broken


class Stacks:
    """Apps that share a journal, and balancers before some of them each."""

    def __init__(self, engine: ProcessEngine) -> None:
        self.engine = engine
        self.journal = engine.folder / "journal.jsonl"
        self.ports: dict[str, int] = {}
        self._apps: dict[str, Instance] = {}
        self._balancers: dict[str, tuple[Instance, int, int]] = {}

    def place(self, *names: str) -> None:
        """Give each instance the port it will have."""
        self.ports |= {name: self.engine.port() for name in names}

    def start(self, name: str, version: str, *, change: str = "", **settings: object) -> None:
        """Start an instance: graceful, with a drain, unless `settings` say otherwise."""
        usual = {"shutdown": "graceful", "drain_seconds": DRAIN}
        env = app(self.ports[name], name, version, self.journal, **{**usual, **settings})
        command = (SAMPLE_APP[0], str(HERE / "app.py"), change) if change else SAMPLE_APP
        self._apps[name] = self.engine.start(name, command, env=env, version=version)

    def ready(self, *names: str) -> None:
        """Return once each of them answers /ping."""
        for name in names:
            probe.serves(self.engine, self._apps[name], self.ports[name], "/ping", timeout=30)

    def listening(self, name: str) -> None:
        """Return once it answers at all."""
        port = self.ports[name]
        probe.until(
            f"{name} listening",
            lambda: "" if isinstance(said := probe.ask(port, "/livez"), probe.Reply) else said,
            timeout=30,
        )

    def tell(self, signal: str, *names: str) -> None:
        """Send the signal to each."""
        for name in names:
            self.engine.signal(self._apps[name], signal)

    def gone(self, *names: str) -> None:
        """Return once each has ended."""
        for name in names:
            assert self.engine.wait(self._apps[name], 20), f"{name} did not end"

    def balance(self, name: str, mutant: str, *targets: str) -> None:
        """Put the balancer, or a mutant of it, before these instances."""
        port, admin = self.engine.port(), self.engine.port()
        places = [{"host": "http://127.0.0.1", "port": self.ports[one]} for one in targets]
        config: dict[str, Any] = {"port": port, "admin_port": admin, "targets": places}
        path = self.engine.folder / f"{name}.yml"
        path.write_text(yaml.safe_dump(config | PINGS), "utf-8")
        argv = [SAMPLE_APP[0], str(HERE / "balancer.py"), mutant, "--config", str(path)]
        one = self.engine.start(f"balancer-{name}", argv)
        self._balancers[name] = one, port, admin

    def url(self, name: str) -> str:
        """Return where the users of that balancer come in."""
        one, port, _ = self._balancers[name]
        probe.serves(self.engine, one, port, "/ping")
        return f"http://127.0.0.1:{port}/"

    def takes(self, name: str, *targets: str) -> None:
        """Return once that balancer sends requests to each of these instances."""
        one, _, admin = self._balancers[name]
        wanted = {f"127.0.0.1:{self.ports[target]}" for target in targets}

        def missing() -> str:
            said = probe.ask(admin, "/targets")
            if isinstance(said, str):
                return said
            up = {one["name"] for one in yaml.safe_load(said.body) if one["state"] == "up"}
            return " ".join(wanted - up)

        probe.until(
            f"{name} takes {targets}", missing, timeout=20, evidence=lambda: self.engine.logs(one)
        )


@contextmanager
def stacks(folder: Path) -> Iterator[Stacks]:
    """Yield an empty stage; nothing that is started on it outlives it."""
    with _engine(folder) as engine:
        yield Stacks(engine)


def _engine(folder: Path) -> ProcessEngine:
    folder.mkdir()
    # Never another one's name: what carries it ends with it.
    return ProcessEngine(f"mutants-{secrets.token_hex(4)}", folder)
