"""A `Release`: what all runs of one version of the system said, in one file to be committed."""

from __future__ import annotations

import json
import math
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from zdtest.errors import ConfigError, RecordingError
from zdtest.judging.slo import Slo
from zdtest.results.result import WORDS, Result, judgement, read_all

SCHEMA = 2
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_REPEAT = re.compile(r"repeat\d+")
_RECORDED = ("samples.arrows", "verdict.json")

Facts = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Release:
    """The results of one release, oldest first, and how they were measured."""

    label: str
    results: tuple[Result, ...]
    environment: Facts
    """Machine, software and engine; what differs between runs is listed with all its values."""
    configuration: Mapping[str, Facts]
    """Of each scenario: its load, its topology's parameters, promises other than the default."""
    unread: tuple[str, ...] = ()
    """Why each run that is not among them is not."""

    @property
    def measured(self) -> float:
        """When its last run began, seconds since the epoch; 0 where no clock was kept."""
        return max((one.began for one in self.results), default=0.0)

    def settings(self, runs: Iterable[Result]) -> Facts:
        """Return how these runs of it were measured."""
        return _together([self.configuration.get(one, {}) for one in set(map(_placed, runs))])

    def write(self, history: Path) -> Path:
        """Write ``<label>.json`` in the folder `history`, whole or not at all; return its path.

        Raises ConfigError for a label that is no file's name, RecordingError where it cannot be
        written.
        """
        path = history / f"{named(self.label)}.json"
        told = {
            "schema": SCHEMA,
            "label": self.label,
            "environment": dict(self.environment),
            "unread": list(self.unread),
        }
        head = json.dumps(told, indent=1)[:-2]
        # A line a run or a scenario: small, and a difference between two of them can be read.
        settings = ",\n  ".join(
            f"{json.dumps(name)}: {json.dumps(dict(facts))}"
            for name, facts in sorted(self.configuration.items())
        )
        runs = ",\n  ".join(json.dumps(one.as_json(), default=str) for one in self.results)
        text = f'{head},\n "configuration": {{\n  {settings}\n }},\n "runs": [\n  {runs}\n ]\n}}\n'
        part = path.with_name(f".{path.name}.part")
        try:
            history.mkdir(parents=True, exist_ok=True)
            part.write_text(text, "utf-8")
            part.replace(path)
        except OSError as error:
            raise RecordingError(f"cannot write {path}: {error.strerror}") from error
        return path

    @classmethod
    def read(cls, path: Path) -> Release:
        """Return the release in that file, or that of the runs in that folder, or of that run.

        Raises RecordingError where there is none, or one that is damaged or of another schema.
        """
        if (path / "manifest.json").is_file():
            return cls.of(str(path), [path])
        if path.is_dir():
            return cls.of(str(path), runs_in(path))
        try:
            told = json.loads(path.read_text("utf-8"))
        except FileNotFoundError as error:
            raise RecordingError(
                f"no release at {path}: expected a file of `zdtest release`, a folder of runs, or "
                "a run"
            ) from error
        except (OSError, RecursionError, ValueError) as error:
            raise RecordingError(f"damaged {path}: {error}") from error
        if not isinstance(told, dict) or told.get("schema") != SCHEMA:
            found = told.get("schema") if isinstance(told, dict) else told
            raise RecordingError(
                f"{path}: schema {repr(found)[:40]}, expected {SCHEMA}; "
                "keep it again: zdtest release"
            )
        try:
            return cls(
                label=_as(str, told["label"], "label"),
                results=tuple(map(_result, told["runs"])),
                environment=_as(Facts, told["environment"], "environment"),
                configuration=_as(Mapping[str, Facts], told["configuration"], "configuration"),
                unread=_as(tuple[str, ...], told["unread"], "unread"),
            )
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            why = f"it lacks {error}" if isinstance(error, KeyError) else repr(error)
            raise RecordingError(f"damaged {path}: {why}") from error

    @classmethod
    def of(cls, label: str, folders: Iterable[Path]) -> Release:
        """Return the release of the judged runs in these folders.

        Raises RecordingError where no run is left.
        """
        results, unread = read_all(folders)
        if not results:
            why = "; ".join(unread[:3]) or "no folder of a run"
            raise RecordingError(f"no judged run for release {label}: {why}")
        manifests = [
            json.loads((one.folder / "manifest.json").read_text("utf-8")) for one in results
        ]
        settings: dict[str, list[Facts]] = {}
        for one, manifest in zip(results, manifests, strict=True):
            # By what it was judged, which may be anew: what was to be promised is no verdict's.
            told = _settings(manifest | {"slo": judgement(one.folder)["slo"]})
            settings.setdefault(_placed(one), []).append(told)
        return cls(
            label=label,
            results=tuple(results),
            environment=_together(list(map(_environment, manifests))),
            configuration={name: _together(told) for name, told in settings.items()},
            unread=tuple(unread),
        )


def named(label: str, what: str = "label") -> str:
    """Return the label; raises ConfigError for one that is no file's name."""
    if not _LABEL.fullmatch(label):
        raise ConfigError(
            f"{what} {label!r}: expected letters, digits and . _ + -, a hundred at the most"
        )
    return label


def scenario(one: Result) -> str:
    """Return what was run, without which of its repeats this is."""
    test, bracket, ids = one.test.partition("[")
    kept = [each for each in ids.removesuffix("]").split("-") if not _REPEAT.fullmatch(each)]
    test += f"[{'-'.join(kept)}]" if bracket and kept else ""
    return " ".join(filter(None, (one.topology, one.variant, one.mutant, test or one.strategy)))


def scenarios(*sides: Sequence[Result]) -> list[dict[str, list[Result]]]:
    """Return the runs of each side by the name of their scenario, which is the same on all sides.

    Tests of one name that stand in several modules or classes are several scenarios: only then
    these are in the name. A run that tells none, as before they were kept, is of the only one that
    there is; where there are several it is of none of them.
    """
    places: dict[str, set[str]] = {}
    for one in chain.from_iterable(sides):
        places.setdefault(scenario(one), set()).update({one.place} - {""})
    found = []
    for runs in sides:
        named: dict[str, list[Result]] = {}
        for one in runs:
            several = len(places[scenario(one)]) > 1
            named.setdefault(_placed(one) if several else scenario(one), []).append(one)
        found.append(named)
    return found


def _placed(one: Result) -> str:
    """Return the scenario with where its test stands, where that was told."""
    return f"{scenario(one)} ({one.place})" if one.place else scenario(one)


def runs_in(folder: Path) -> list[Path]:
    """Return the folders below it that hold runs which were under load."""
    return sorted(path.parent for path in folder.glob("*/manifest.json") if loaded(path.parent))


def loaded(folder: Path) -> bool:
    """Whether the run was ever under load: one that was not has nothing to be judged by."""
    return any((folder / name).exists() for name in _RECORDED)


def _environment(manifest: Mapping[str, Any]) -> Facts:
    told = {f"host {name}": value for name, value in _items(manifest.get("host"))}
    told |= {name: manifest.get(name) for name in ("engine", "tool", "git")}
    images = manifest.get("images")
    for image in images if isinstance(images, list) else ():
        if isinstance(image, dict):
            told[f"image {image.get('name')}"] = image.get("version")
    return {name: str(value) for name, value in told.items() if value not in (None, "")}


def _settings(manifest: Mapping[str, Any]) -> Facts:
    """Return what the run was set to: what was drawn, such as its seed, is none of it."""
    told: dict[str, object] = {"rate": manifest.get("rate")}
    for name, channel in _items(manifest.get("channels")):
        about = {key: value for key, value in _items(channel) if key in _CHANNEL and value}
        told |= {f"channel {name} {key}": _short(about[key]) for key in sorted(about)}
    for name, value in _items(manifest.get("parameters")):
        told[f"parameter {name}"] = json.dumps(value, sort_keys=True)
    usual = Slo().as_dict()
    for name, value in _items(manifest.get("slo")):
        if value != usual.get(name):
            told[f"promise {name}"] = "none" if value is None else value
    return {name: str(value) for name, value in told.items() if value not in (None, "")}


_CHANNEL = ("path", "share", "think", "timeout", "keyed", "texts")


def _items(told: object) -> Iterable[tuple[str, Any]]:
    return told.items() if isinstance(told, dict) else ()


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _together(told: Sequence[Facts]) -> Facts:
    """Return what all of them tell, each with all the values that it has."""
    names = sorted({name for one in told for name in one})
    return {name: " or ".join(sorted({one[name] for one in told if name in one})) for name in names}


_KINDS = get_type_hints(Result)
_NEEDED = {one.name for one in fields(Result) if MISSING is one.default is one.default_factory}


def _result(told: Mapping[str, Any]) -> Result:
    """Return the result that `Result.as_json` told of; raises what a damaged one is met with.

    A field that has a default may be missing: it came later than the file, and tells nothing.
    """
    if wrong := _NEEDED - set(told) | set(told) - set(_KINDS):
        raise ValueError(f"fields {sorted(wrong)}")
    found = Result(**{name: _as(_KINDS[name], value, name) for name, value in told.items()})
    if found.verdict not in WORDS or not 0 <= found.failed <= found.requests:
        raise ValueError(f"{found.verdict[:40]}, {found.failed} of {found.requests} failed")
    return found


def _as(kind: Any, told: Any, what: str) -> Any:
    """Return what was told as that type has it; raises ValueError where it is none such."""
    args = get_args(kind)
    if isinstance(told, dict) and get_origin(kind) is Mapping:
        return {_as(args[0], k, what): _as(args[1], v, what) for k, v in told.items()}
    if isinstance(told, list) and get_origin(kind) is tuple:
        each = args[:1] * len(told) if args[1] is Ellipsis else args
        return tuple(_as(one, value, what) for one, value in zip(each, told, strict=True))
    if isinstance(kind, types.UnionType):
        return None if told is None else _as(args[0], told, what)
    if isinstance(told, bool) and kind is bool:
        return told
    if isinstance(told, str) and kind in (str, Path):
        return kind(told)
    number = isinstance(told, (int, float)) and not isinstance(told, bool) and math.isfinite(told)
    if number and kind in (int, float) and kind(told) == told:
        return kind(told)
    raise ValueError(f"{what}: {str(told)[:40]!r}")
