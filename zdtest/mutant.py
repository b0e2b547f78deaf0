"""A `Mutant` is a hardened variant with one fault put into it, which a verdict has to catch.

Each is a patch in its topology's ``mutants/`` folder: some lines of ``Name: value``, an empty line,
and a unified diff against the topology's folder::

    Broken: kills the old version as soon as the new one has the users
    Promise: failed=0
    Says: requests failed, allowed 0; first http_5xx on slow
    With: {"boot": 0, "releases": {"v1": {"release": "slow:300"}}}
    Runs: always

    --- a/hardened/deploy.sh
    +++ b/hardened/deploy.sh
    ...

The first three lines are needed. Where it takes a disturbance to see it, there is one more, such as
``Fault: freeze c for 2s``: once the deploy is over, the load going on.

``python -m zdtest.mutant`` prints them all, as the tables of docs/mutants.md.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path

from zdtest import topology as folders
from zdtest.duration import seconds
from zdtest.errors import ConfigError, unknown
from zdtest.judging.slo import Slo

_NEEDED = ("Broken", "Promise", "Says")
_KNOWN = (*_NEEDED, "Deploy", "With", "Rate", "Channels", "Fault", "Runs")
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
    given: str
    """The topology's parameters with which it shows, as written."""
    rate: float
    """Requests/s."""
    channels: str
    """The clients to whom it shows, "" for all that the hardened variant carries."""
    disturbed: str
    """The fault after the deploy without which it does not show, "" for none."""
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
        try:
            rate = float(told.get("Rate", "200"))
        except ValueError as error:
            raise ConfigError(
                f"Rate of {patch.name} {told['Rate']!r}: expected requests/s"
            ) from error
        return cls(
            patch=patch,
            broken=told["Broken"],
            promise=told["Promise"],
            says=told["Says"],
            deploy=told.get("Deploy", "scripted"),
            given=told.get("With", "{}"),
            disturbed=told.get("Fault", ""),
            rate=rate,
            channels=told.get("Channels", ""),
            always=runs == "always",
        )

    @property
    def parameters(self) -> Mapping[str, object]:
        """The topology's parameters; raises ConfigError for what is no JSON object."""
        try:
            told = json.loads(self.given)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            expected = 'expected an object such as {"boot": 0}'
            raise ConfigError(f"With of {self.patch.name} {self.given!r}: {expected}")
        return told

    @property
    def fault(self) -> Sequence[tuple[str, str, float]]:
        """What happens to which instance for how many seconds, if anything does.

        Raises ConfigError for what does not say so.
        """
        if not self.disturbed:
            return ()
        match self.disturbed.split():
            case [what, instance, "for", time]:
                return ((what, instance, seconds(time, what=f"Fault of {self.patch.name}")),)
        expected = "expected such as freeze a for 2s"
        raise ConfigError(f"Fault of {self.patch.name} {self.disturbed!r}: {expected}")

    @property
    def slo(self) -> Slo:
        """That promise, and none beside it."""
        return promised([self])

    @property
    def setting(self) -> tuple[str | float, ...]:
        """What it has in common with its twin: all but the patch, and what comes of it."""
        return self.topology, self.deploy, self.given, self.rate, self.channels, self.disturbed

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


def promised(of: Iterable[Mutant]) -> Slo:
    """Return what each of these promises, and nothing else."""
    # What may be None is a promise; the rest says how to judge.
    none = {one.name: None for one in fields(Slo) if "None" in str(one.type)}
    kept = dict(part.split("=", 1) for one in of for part in one.promise.split(","))
    return Slo.from_dict({**none, **_PATIENT, **kept})


def twins(of: Iterable[Mutant]) -> Iterator[Sequence[Mutant]]:
    """Yield the mutants that share a setting: without their faults they are one and the same."""
    alike = sorted(of, key=lambda one: one.setting)
    for _, group in groupby(alike, key=lambda one: one.setting):
        yield list(group)


def table(of: Iterable[Mutant]) -> str:
    """Return the mutants as docs/mutants.md has them."""
    lines: list[str] = []
    for name, group in groupby(of, key=lambda one: one.topology):
        lines += ["", f"### {name}", "", "| mutant | what is broken | caught by |"]
        lines.append("| --- | --- | --- |")
        for one in group:
            says = one.says.replace("|", "\\|")
            always = " (always run)" if one.always else ""
            lines.append(f"| `{one.name}`{always} | {one.broken} | `{one.promise}`: `{says}` |")
    return "\n".join(lines).strip() + "\n"


if __name__ == "__main__":
    print(table(mutants()), end="")
