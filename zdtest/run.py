"""A `Run` ties it together: a folder, load on a url, marks around what happens, a verdict.

The order is always the same: control server and load on, a quiet baseline, whatever the caller
does, a quiet settling, load off, everything of ours ended, then judged and drawn from the files
alone. What was recorded stays, however it ends.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zdtest import __version__
from zdtest.engine import Marker, probe
from zdtest.engine.sampler import FILE, MemorySampler
from zdtest.errors import (
    CommandError,
    ConfigError,
    DeployFailed,
    DeployTimeout,
    EngineError,
    LoadFailed,
    RecordingError,
    fact,
)
from zdtest.records.eventlog import EventLog
from zdtest.records.host import commit, host
from zdtest.traffic import Load, Traffic

if TYPE_CHECKING:
    from zdtest.engine import Engine
    from zdtest.engine.offer import Docker
    from zdtest.engine.process import ProcessEngine
    from zdtest.judging.slo import Slo
    from zdtest.judging.verdict import Verdict

SCHEMA = 1
_STEP = 0.05
_TWO_READS = 1e-3
"""So far apart two clocks may seem to be that were read one after the other, seconds."""

Watcher = Callable[[str, Mapping[str, Any]], None]
"""Hears a few times a second which phase the run is in and how the load goes."""


class Run:
    """One run in `folder`, on an entered `engine` that ends everything it started.

    The load and the control server are its processes; `system` is what a topology is raised on: the
    same, or containers. `about` is what the manifest tells beside the load: topology, variant,
    versions, command.
    """

    def __init__(
        self,
        folder: Path,
        engine: ProcessEngine,
        mark: EventLog,
        *,
        about: Mapping[str, object],
        system: Engine | None = None,
        watch: Watcher = lambda phase, news: None,
    ) -> None:
        self.folder = folder
        self.engine = engine
        self.system: Engine = system or engine
        self.mark = mark
        self._about = dict(about)
        self._watch = watch
        self.traffic: Traffic | None = None
        self.phase = "starting"
        self.began = 0.0

    @property
    def name(self) -> str:
        """Its folder's name, as it can be part of a request's id."""
        return name_of(self.folder)

    def about(self, **more: object) -> None:
        """Tell more, or better, in the manifest; what has been told stays."""
        self._about |= more
        path = self.folder / "manifest.json"
        path.write_text(json.dumps(self._about, indent=2, default=str) + "\n", "utf-8")

    @contextmanager
    def load(self, url: str, load: Load, *, baseline: float, settle: float) -> Iterator[None]:
        """Keep `load` on `url` while the block runs, and `baseline` and `settle` seconds around it.

        Whatever the block raises, the load is stopped in order and the recording closed; after an
        exception there is no settling. Raises LoadFailed when the load could not be driven, and
        marks why, and that the machine was suspended: ``load.failed``, ``machine.suspended``;
        ConfigError for a second load, which would number its requests as the first one did.
        """
        if self.traffic is not None:
            raise ConfigError("this run has had its load: expected one load a run, around it all")
        asleep = suspended()
        clock = {"monotonic": time.monotonic(), "wall": time.time()}
        self.about(url=url, **load.as_dict(), clock=clock)
        try:
            with self._sending(Traffic(self.engine, load, url, self._control(), run=self.name)):
                self.wait("baseline", self.began + baseline - time.monotonic())
                self.phase = "deploy"
                yield
                self.wait("settle", settle)
        except BaseException as error:
            if not isinstance(error, Exception):
                self.mark("run.interrupted", by=str(error) or type(error).__name__)
            if isinstance(error, LoadFailed):
                self.mark("load.failed", why=fact(error))
            raise
        finally:
            if (slept := suspended() - asleep) > _TWO_READS:
                self.mark("machine.suspended", seconds=round(slept, 3))

    @contextmanager
    def _sending(self, traffic: Traffic) -> Iterator[None]:
        """Keep `traffic` going while the block runs, and close its recording in any case."""
        self.phase = "starting"
        traffic.start(lambda: self._watch(self.phase, {}))
        self.began = traffic.began
        self.traffic = traffic
        try:
            yield
        finally:
            self.phase = "stopping"
            traffic.stop()

    def wait(self, phase: str, seconds: float) -> None:
        """Return after `seconds`, the load going on; raises LoadFailed once it does not."""
        self.phase = phase
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.tick()
            time.sleep(min(left, _STEP))

    def tick(self) -> None:
        """Tell the watcher how it goes; raises LoadFailed when the load has died."""
        if self.traffic is not None:
            self._watch(self.phase, self.traffic.news())
            if not self.traffic.running:
                raise LoadFailed(f"the load died in the {self.phase}\n{self.traffic.output()}")

    def _control(self) -> str:
        """Return the url of an echo server beside the system, which nobody touches."""
        port = self.engine.port()
        argv = [sys.executable, "-m", "zdtest.engine.echo", str(port)]
        try:
            echo = self.engine.start("control", argv)
            probe.serves(self.engine, echo, port, "/")
        except EngineError as error:
            raise LoadFailed(f"the control server did not start: {error}") from error
        return f"http://127.0.0.1:{port}/"

    def judge(self, slo: Slo) -> Verdict:
        """Return the verdict, having written it and the report beside the recording."""
        return judged(self.folder, slo)


@contextmanager
def run(
    folder: Path,
    *,
    about: Mapping[str, object] | None = None,
    keep: bool = False,
    docker: Docker | None = None,
    watch: Watcher = lambda phase, news: None,
) -> Iterator[Run]:
    """Yield a new run in `folder`; when the context ends nothing that it started is left.

    With `docker` its `system` is containers there. With `keep` what the engine runs may be left on
    purpose (`Engine.leave`). Raises RecordingError when the folder holds a run already or can't be
    written.
    """
    from zdtest.engine.process import ProcessEngine

    create(folder)
    with ExitStack() as tidy:
        mark = EventLog(folder / "events.jsonl")
        tidy.callback(mark.close)
        sampled = tidy.enter_context(MemorySampler(folder / FILE, mark))
        tidy.callback(mark.listen(sampled.moment, sampled.now).end)
        # Never another run's: what carries this name ends with it, wherever their folders are.
        name = f"{name_of(folder)}-{secrets.token_hex(2)}"
        engine = ProcessEngine(name, folder, on_event=sampled, kept=keep)
        tidy.enter_context(engine)
        system = tidy.enter_context(_containers(engine, docker, sampled)) if docker else engine
        told = {
            "schema": SCHEMA,
            "run": name_of(folder),
            "tool": f"zdtest {__version__}",
            "engine": str(docker or "process"),
            "channels": {},
            "host": host(),
            "git": commit(Path.cwd()),
        }
        yield Run(folder, engine, mark, about={**told, **(about or {})}, system=system, watch=watch)


def _containers(
    host: ProcessEngine, docker: Docker, mark: Marker
) -> AbstractContextManager[Engine]:
    from zdtest.engine.docker import DockerEngine

    return DockerEngine(host, docker.address, docker.images, on_event=mark)


def failure(error: Exception) -> Mapping[str, object]:
    """Return what ``deploy.end`` tells of it: the fact, and by whom it was not given up."""
    told: dict[str, object] = {"error": fact(error)}
    if not isinstance(error, DeployFailed | CommandError):
        told["broke_off"] = True
    if isinstance(error, DeployTimeout):
        told["timed_out"] = True
    if isinstance(error, CommandError):
        told["never_began"] = True
    return told


def create(folder: Path) -> None:
    """Make `folder`, which must not hold a run yet."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise RecordingError(f"{folder} is not empty: expected a new or an empty folder")
        (folder / "logs").mkdir()
    except OSError as error:
        raise _unwritable(folder, error.strerror) from error


def fresh(parent: Path, label: str) -> Path:
    """Return a new folder below `parent`, named by now and `label`; nobody else gets the same."""
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{label}"
    for n in range(1, 1000):
        folder = parent / (stem if n == 1 else f"{stem}-{n}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise _unwritable(folder, error.strerror) from error
        return folder
    raise RecordingError(f"too many runs named {stem} in {parent}: expected fewer than 1000")


def _unwritable(folder: Path, why: str | None) -> RecordingError:
    return RecordingError(f"cannot write {folder}: {why}; expected a writable folder")


def name_of(folder: Path) -> str:
    """Return the folder's name with what a header or a file's name cannot carry replaced by -."""
    words = re.sub(r"[^A-Za-z0-9._]+", "-", folder.resolve().name).strip("-")
    return words[:80] or "run"


def manifest_of(folder: Path) -> Mapping[str, Any]:
    """Return what the run tells of itself; raises RecordingError where judge and report can't."""
    from zdtest.records.recording import manifest

    told = manifest(folder)
    if not isinstance(run := told["run"], str) or not run:
        raise RecordingError(f"damaged {folder}/manifest.json: run {run!r}, expected its name")
    for name, optional in (("channels", False), ("slo", True)):
        given = told.get(name)
        if not isinstance(given, dict) and not (optional and given is None):
            raise RecordingError(
                f"damaged {folder}/manifest.json: {name} {given!r}, expected an object"
            )
    return told


def judged(folder: Path, slo: Slo) -> Verdict:
    """Return the verdict on the run in `folder`; ``verdict.json`` and ``report.html`` are new."""
    found = verdict(folder, slo)
    keep(found, folder)
    return found


def verdict(folder: Path, slo: Slo) -> Verdict:
    """Return the verdict on the run in `folder`, which is left as it is.

    Raises RecordingError where there is no run, or one that cannot be judged.
    """
    from zdtest.judging.verdict import judge
    from zdtest.records.recording import Recording

    manifest_of(folder)
    with _readable(folder):
        return judge(Recording.read(folder), slo)


def keep(verdict: Verdict, folder: Path) -> None:
    """Write ``verdict.json`` and ``report.html``; raises RecordingError where they cannot be.

    The verdict is there as a whole, or is the one from before.
    """
    path, new = folder / "verdict.json", folder / ".verdict.json"
    try:
        with _readable(folder):
            text = json.dumps(verdict.as_json(), indent=2) + "\n"
        try:
            new.write_text(text, "utf-8")
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
        draw(folder)
    except OSError as error:
        raise _unwritable(folder, error.strerror) from error


def draw(folder: Path) -> Path:
    """Write ``report.html`` of a judged run and return its path; raises RecordingError."""
    from zdtest.report import write_report

    with _readable(folder):
        return write_report(folder)


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Raise RecordingError for what files that say something else than expected lead to."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        what = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise RecordingError(
            f"damaged {folder}: {what}; expected a run's files as they were recorded"
        ) from error


def suspended() -> float:
    """Return for how many seconds the machine has been suspended since it was booted."""
    asked = range(5)  # the nearest pair of all: whoever reads them may be held up in between
    return min(-time.monotonic() + time.clock_gettime(time.CLOCK_BOOTTIME) for _ in asked)
