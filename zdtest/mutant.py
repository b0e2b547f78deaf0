"""A `Mutant` is a hardened variant with one fault put into it, which a verdict has to catch.

Each is a patch in its topology's ``mutants/`` folder: some lines of ``Name: value``, an empty line,
and a unified diff against the topology's folder::

    Broken: stops and starts nginx where it should reload it
    Deploy: scripted
    Promise: failed=0
    Says: requests failed, allowed 0; first refused
    Runs: always

    --- a/hardened/deploy.sh
    +++ b/hardened/deploy.sh
    ...
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from zdtest import topology as folders
from zdtest.errors import ConfigError, unknown
from zdtest.slo import Slo

_NEEDED = ("Broken", "Promise", "Says")
_KNOWN = (*_NEEDED, "Deploy", "Rate", "Channels", "Runs")
_RUNS = ("always", "full")
_PATIENT = {"hole": "1s", "stall": "500ms"}
"""Mutants break promises, and a busy machine is none of their doing."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One patch, and what has to come of it."""

    patch: Path
    broken: str
    """What is broken in it."""
    promise: str
    """The one that has to catch it, all alone, written as for `Slo.parse`."""
    says: str
    """A pattern of the reason that has to be given."""
    deploy: str
    """The name of the strategy under which it shows."""
    rate: float
    """Requests/s."""
    channels: str
    """The clients to whom it shows, "" for all that the hardened variant carries."""
    always: bool
    """Whether it takes part in every run of the suite, or only in a full one."""

    @property
    def topology(self) -> str:
        """The topology's name."""
        return self.patch.parent.parent.name

    @property
    def name(self) -> str:
        """Its patch's name."""
        return self.patch.stem

    @classmethod
    def read(cls, patch: Path) -> Mutant:
        """Return the mutant in that file; raises ConfigError where it does not say what it is."""
        told = _head(patch)
        for name in _NEEDED:
            if not told.get(name):
                raise ConfigError(f"{patch}: no {name}: expected {', '.join(_NEEDED)}")
        if (runs := told.get("Runs", "full")) not in _RUNS:
            raise unknown(f"word for Runs in {patch.name}", runs, _RUNS)
        return cls(
            patch=patch,
            broken=told["Broken"],
            promise=told["Promise"],
            says=told["Says"],
            deploy=told.get("Deploy", "scripted"),
            rate=float(told.get("Rate", "200")),
            channels=told.get("Channels", ""),
            always=runs == "always",
        )

    @property
    def slo(self) -> Slo:
        """That promise, and none beside it."""
        # What may be None is a promise; the rest says how to judge.
        none = {one.name: None for one in fields(Slo) if "None" in str(one.type)}
        kept = {part.partition("=")[0]: part.partition("=")[2] for part in self.promise.split(",")}
        return Slo.from_dict({**none, **_PATIENT, **kept})

    def made(self, folder: Path) -> folders.Topology:
        """Return the topology, copied into `folder` with the patch applied.

        Raises ConfigError, with what git says, where the patch does not fit the topology any more.
        """
        copy = folder / self.topology
        ignored = shutil.ignore_patterns("__pycache__", "mutants")
        shutil.copytree(self.patch.parent.parent, copy, ignore=ignored)
        # In no repository: inside one, git would take the paths for paths of that.
        outside = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.absolute())}
        argv = ["git", "apply", "--whitespace=nowarn", str(self.patch.absolute())]
        try:
            applied = subprocess.run(argv, cwd=copy, env=outside, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise ConfigError("no git: expected it for the mutants' patches") from error
        if applied.returncode:
            raise ConfigError(f"{self.patch} does not fit: {applied.stderr.strip()}")
        return folders.find(str(copy))


def _head(patch: Path) -> Mapping[str, str]:
    """Return the lines before the diff; raises ConfigError for a word that means nothing."""
    told: dict[str, str] = {}
    for line in patch.read_text("utf-8").partition("\n\n")[0].splitlines():
        name, colon, value = line.partition(":")
        if not colon or name not in _KNOWN:
            raise unknown(f"line of {patch.name}", name, _KNOWN)
        told[name] = value.strip()
    return told


def mutants() -> list[Mutant]:
    """Return the mutants of all topologies that come with zdtest, by topology and name."""
    return [Mutant.read(patch) for patch in sorted(folders.HOME.glob("*/mutants/*.patch"))]


def find(name: str, of: str) -> Mutant:
    """Return the topology's mutant of that name; raises ConfigError naming the nearest one."""
    own = {one.name: one for one in mutants() if one.topology == of}
    if name not in own:
        raise unknown(f"mutant of {of}", name, own)
    return own[name]
