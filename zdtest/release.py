"""A `Release`: what all runs of one version of the system said, in one file to be committed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from zdtest.errors import ConfigError, RecordingError
from zdtest.result import Result, read_all

SCHEMA = 1
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


@dataclass(frozen=True, slots=True)
class Release:
    """The results of one release, oldest first, and what they were measured on."""

    label: str
    results: tuple[Result, ...]
    environment: Mapping[str, str]
    """Machine, software and engine; what differs between runs is listed with all its values."""
    unread: tuple[str, ...] = ()
    """Why each run that is not among them is not."""

    def write(self, history: Path) -> Path:
        """Write ``<label>.json`` in the folder `history`, whole or not at all; return its path.

        Raises RecordingError where it cannot be written.
        """
        path = history / f"{self.label}.json"
        told = {"schema": SCHEMA, "label": self.label, "environment": dict(self.environment)}
        head = json.dumps(told, indent=1)[:-2]
        # One line a run: small, and a difference between two of them can be read.
        runs = ",\n  ".join(json.dumps(one.as_json(), default=str) for one in self.results)
        part = path.with_name(f".{path.name}.part")
        try:
            history.mkdir(parents=True, exist_ok=True)
            part.write_text(f'{head},\n "runs": [\n  {runs}\n ]\n}}\n', "utf-8")
            part.replace(path)
        except OSError as error:
            raise RecordingError(f"cannot write {path}: {error.strerror}") from error
        return path

    @classmethod
    def read(cls, path: Path) -> Release:
        """Return the release in that file, or that of the runs in that folder.

        Raises RecordingError where there is none, or one that is damaged or of another schema.
        """
        if path.is_dir():
            return cls.of(path.resolve().name, runs_in(path))
        try:
            told = json.loads(path.read_text("utf-8"))
        except FileNotFoundError as error:
            raise RecordingError(
                f"no release at {path}: expected a file of `zdtest release`, or a folder of runs"
            ) from error
        except (OSError, ValueError) as error:
            raise RecordingError(f"damaged {path}: {error}") from error
        if not isinstance(told, dict) or told.get("schema") != SCHEMA:
            found = told.get("schema") if isinstance(told, dict) else told
            raise RecordingError(f"{path}: schema {found!r}, expected {SCHEMA}")
        try:
            results = tuple(map(_result, told["runs"]))
            environment = {str(name): str(value) for name, value in told["environment"].items()}
            return cls(str(told["label"]), results, environment)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RecordingError(f"damaged {path}: {error!r}") from error

    @classmethod
    def of(cls, label: str, folders: Sequence[Path]) -> Release:
        """Return the release of the judged runs in these folders.

        Raises ConfigError for a label that is no file's name, RecordingError where no run is left.
        """
        if not _LABEL.fullmatch(label):
            raise ConfigError(
                f"label {label!r}: expected letters, digits and . _ + -, a hundred at the most"
            )
        results, unread = read_all(folders)
        if not results:
            why = "; ".join(unread[:3]) or "no folder of a run"
            raise RecordingError(f"no judged run for release {label}: {why}")
        told = [_environment(one.folder / "manifest.json") for one in results]
        names = sorted({name for one in told for name in one})
        environment = {
            name: ", ".join(sorted({one[name] for one in told if name in one})) for name in names
        }
        return cls(label, tuple(results), environment, tuple(unread))


def runs_in(folder: Path) -> list[Path]:
    """Return the folders below it that hold runs."""
    return sorted(path.parent for path in folder.glob("*/manifest.json"))


def _environment(path: Path) -> dict[str, str]:
    manifest = json.loads(path.read_text("utf-8"))
    host = manifest.get("host")
    told = {f"host {k}": v for k, v in host.items()} if isinstance(host, dict) else {}
    told |= {name: manifest.get(name) for name in ("engine", "tool", "git")}
    for image in manifest.get("images") or ():
        if isinstance(image, dict):
            told[f"image {image.get('name')}"] = image.get("version")
    return {name: str(value) for name, value in told.items() if value not in (None, "")}


def _result(told: Mapping[str, Any]) -> Result:
    """Return the result that `Result.as_json` told of; raises what a damaged one is met with."""
    known = {field.name for field in fields(Result)}
    if set(told) != known:
        raise ValueError(f"fields {sorted(set(told) ^ known)}")
    lists = ("downtime", "p50", "p99", "max", "faults", "expected")
    pairs = {name: tuple(told[name]) for name in lists}
    return Result(**{**told, **pairs, "folder": Path(told["folder"])})
