"""A `Topology` is a folder that describes a system; raised by an engine, it is a `Stack`.

Every folder in ``zdtest/topologies`` with a ``topology.py`` is one, and so is any folder named by
its path. The module binds `topology`; its folder's name is its name.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol, runtime_checkable

from zdtest import channel
from zdtest.engine import Containers, Engine, Instance, Marker
from zdtest.errors import EXTRAS, ConfigError, lacking, unknown

HOME = Path(__file__).with_name("topologies")

_PREFIX = "zdtest.topologies."
_NEEDED = ("engine", "url", "instances", "strategies", "journal", "start", "stop", "ready")
_ENGINES = ("docker", "process")


class Stack(Protocol):
    """A raised system: what strategies and faults act on. Instances are called by their names."""

    @property
    def engine(self) -> Engine:
        """What runs it."""

    @property
    def url(self) -> str:
        """Where users come in, such as ``http://127.0.0.1:15080``."""

    @property
    def instances(self) -> tuple[str, ...]:
        """Their names, in the order they are replaced in."""

    @property
    def strategies(self) -> tuple[str, ...]:
        """The strategies that the topology can do."""

    @property
    def journal(self) -> Path | None:
        """Where the app keeps its journal, None where it keeps none."""

    def instance(self, name: str) -> Instance:
        """Return what the engine last started under that name: its version, and for faults."""

    def start(self, name: str, version: str) -> None:
        """Start it; it may not serve yet."""

    def stop(self, name: str) -> None:
        """Stop it the way the topology does; it has ended on return, if it ever ran."""

    def wanted(self, name: str) -> bool:
        """Return whether it was started and not stopped since."""

    def revive(self, one: Instance) -> bool:
        """Start `one`, which something has ended, again at its version; return whether it was.

        Nothing happens where `stop` or `start` came before: who heals a fault never starts what a
        deploy is replacing. A `Roster` (zdtest.engine.roster) does all of this.
        """

    def ready(self, name: str) -> None:
        """Return once it serves its version, with traffic, as far as the topology can tell.

        Raises EngineError with the evidence when it has ended or takes too long.
        """


@runtime_checkable
class Replaces(Protocol):
    """The topology comes with a script of its own that replaces everything at once."""

    def replace(self, version: str) -> None:
        """Run it; the new version may not serve yet. Raises EngineError."""


@runtime_checkable
class Scripted(Protocol):
    """The topology comes with a script of its own that deploys as its document says."""

    def deploy(self, version: str, mark: Marker, *, timeout: float) -> None:
        """Run it; the instances are afterwards what it made them, also where it failed.

        What the script itself tells is marked when it tells it: ``app.ready``, ``deploy.switch``.
        Raises EngineError with its last lines unless it exits 0 within `timeout` seconds.
        """


@runtime_checkable
class Commanded(Protocol):
    """The stack is somebody's own, deployed to by a command that zdtest only watches."""

    def command(self, argv: Sequence[str], *, timeout: float) -> None:
        """Return once the command has exited 0; what it leaves running is left running.

        Raises DeployFailed unless it does within `timeout` seconds.
        """


@dataclass(frozen=True, slots=True)
class Counters:
    """What an instance was given since the balancer started."""

    answered: int
    """Replies that came whole, with a status below 500."""
    failed: int
    """Requests that it refused, lost, cut off, answered too late or with a 5xx."""
    in_flight: int


@runtime_checkable
class Routes(Protocol):
    """The topology says how users are shared out, and what came of it."""

    def weigh(self, weights: Mapping[str, int]) -> None:
        """Each of these has its weight, 0 to 100, from one moment on; the others keep theirs.

        Raises EngineError, with no weight changed, for one that means nothing.
        """

    def told(self, name: str) -> Counters:
        """Return what was counted of that instance until now."""


@runtime_checkable
class Spares(Protocol):
    """The topology has slots beside its instances: `start`, `stop` and `ready` work on them.

    A spare has weight 0. Its `ready` means that it could be given users at once.
    """

    @property
    def spares(self) -> tuple[str, ...]:
        """Their names. They are idle, or what a deploy left running as a way back."""

    def running(self, name: str) -> str:
        """Return the version that runs in the slot, "" where nothing does."""

    def take(self, names: Sequence[str]) -> None:
        """`names` are the instances now, and all other slots the spares."""


@runtime_checkable
class Emulates(Protocol):
    """Something in the stack stands in for what this machine lacks."""

    @property
    def emulated(self) -> str:
        """What a verdict has to say of it, such as ``emulated: no IPVS``; "" where nothing does."""


@runtime_checkable
class Switched(Stack, Routes, Spares, Protocol):
    """A stack with both powers: it does blue/green, rollback and canary."""


Raises = Callable[..., AbstractContextManager[Stack]]


@dataclass(frozen=True, slots=True)
class Topology:
    """What a folder says of its system. `raises` takes (variant, version, engine, **parameters)."""

    folder: Path
    source: str
    """The document it comes from."""
    summary: str
    channels: Mapping[str, str]
    """What clients each variant can carry, as a load spec: its keys are the variants."""
    strategies: tuple[str, ...]
    raises: Raises
    engines: tuple[str, ...] = ("process",)
    """What can run it, what the document itself uses first: ``process``, ``docker``."""
    programs: tuple[str, ...] = ()
    """What has to be on the path where it runs as plain processes."""

    def __post_init__(self) -> None:
        if not isinstance(self.channels, Mapping) or not self.channels:
            expected = "a load spec for each variant, such as {'documented': 'new,reused'}"
            raise ConfigError(f"channels {self.channels!r}: expected {expected}")
        for spec in self.channels.values():
            channel.parse(spec, rate=100.0)
        for name, words in (("strategies", self.strategies), ("engines", self.engines)):
            if isinstance(words, str) or not isinstance(words, Sequence):
                raise ConfigError(f"{name} {words!r}: expected a tuple, such as ({words!r},)")
        for engine in self.engines:
            if engine not in _ENGINES:
                raise unknown("engine", engine, _ENGINES)
        try:
            inspect.signature(self.raises).bind("documented", "v1", None)
        except TypeError as error:
            raise ConfigError(
                f"raises: {error}; expected a function of (variant, version, engine)"
            ) from error

    @property
    def name(self) -> str:
        """Its folder's name."""
        return self.folder.name

    @property
    def variants(self) -> tuple[str, ...]:
        """``documented``, and ``hardened`` where the promise can be made true."""
        return tuple(self.channels)

    @property
    def parameters(self) -> Mapping[str, object]:
        """What may be set when it is raised, with the defaults."""
        signature = inspect.signature(self.raises).parameters.values()
        return {p.name: p.default for p in signature if p.kind is p.KEYWORD_ONLY}

    def raised(
        self, variant: str, version: str, engine: Engine, **parameters: object
    ) -> AbstractContextManager[Stack]:
        """Return the context of the stack with every instance ready at `version`.

        Raises ConfigError for an unknown variant or parameter; entering it raises EngineError
        when the stack does not come up. What the engine started ends with the engine.
        """
        if variant not in self.variants:
            raise unknown(f"variant of {self.name}", variant, self.variants)
        for name in parameters:
            if name not in self.parameters:
                raise unknown(f"parameter of {self.name}", name, self.parameters)
        _expect_app(self, engine)
        context = self.raises(variant, version, engine, **parameters)
        if not isinstance(context, AbstractContextManager):
            raise ConfigError(
                f"topology {self.name}: raises gave a {type(context).__name__}, no context; "
                "expected @contextmanager above it"
            )
        return context


def _expect_app(topology: Topology, engine: Engine) -> None:
    """Return where the sample app of our own topologies could run; in an image it always can."""
    if topology.folder.parent == HOME.resolve() and not isinstance(engine, Containers):
        for package in ("starlette", "uvicorn"):
            if importlib.util.find_spec(package) is None:
                raise ConfigError(f"topology {topology.name}: {lacking(package)}")


def names() -> list[str]:
    """Return the names of the topologies that come with zdtest."""
    return sorted(path.parent.name for path in HOME.glob("*/topology.py"))


def find(name: str) -> Topology:
    """Return the topology of that name, or of the folder at that path.

    Raises ConfigError naming the nearest one when there is none.
    """
    folder = HOME / name if name in names() else Path(name)
    if not (folder / "topology.py").is_file():
        raise unknown("topology", name, names())
    topology = getattr(_module(folder.resolve() / "topology.py"), "topology", None)
    if not isinstance(topology, Topology):
        raise ConfigError(f"{folder}/topology.py binds no topology: expected a zdtest Topology")
    return topology


def _module(path: Path) -> ModuleType:
    """Return the module at `path`, imported once under a name of its own."""
    name = f"{_PREFIX}{path.parent.name}@{abs(hash(path)):x}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ConfigError(f"cannot import {path}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[name]
            if isinstance(error, Exception):
                raise _mistaken(path, error) from error
            raise
    return sys.modules[name]


def _mistaken(path: Path, error: Exception) -> ConfigError:
    """Return what is wrong with the module at `path` in one line, with its own line's number."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        if package in EXTRAS:
            return ConfigError(f"topology {path.parent.name}: {lacking(package)}")
    if isinstance(error, SyntaxError):
        where, what = f"{error.filename}:{error.lineno}", error.msg
    else:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [one.lineno for one in frames if one.filename == str(path)]
        where, what = f"{path}:{lines[-1] if lines else 1}", " ".join(str(error).split())
    kind = "" if isinstance(error, ConfigError) else f"{type(error).__name__}: "
    return ConfigError(f"{where}: {kind}{what}")


def expect_stack(stack: object, name: str) -> None:
    """Return where the topology `name` yielded what a run needs; raises ConfigError."""
    if absent := [one for one in _NEEDED if not hasattr(stack, one)]:
        raise ConfigError(
            f"topology {name} yielded {type(stack).__name__} without {', '.join(absent)}: "
            "expected a zdtest.topology.Stack"
        )
