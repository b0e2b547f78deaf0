"""A run's `Result`: its manifest and its verdict, condensed to what runs are compared by."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zdtest.errors import RecordingError
from zdtest.judging.verdict import SCHEMA

WORDS = ("broken", "inconclusive", "holds")
"""The verdicts, the one that is worst first."""

FIELDS = (
    *("run", "verdict", "reasons", "scope", "emulated", "requests", "failed", "failed_upper95"),
    *("unsent", "undecided", "offered_rate", "reached_rate", "window", "phases", "channels"),
    *("downtime_min_ms", "downtime_max_ms", "availability_100ms_worst", "outages", "brownouts"),
    *("versions", "mixed_ms", "stale", "writes", "masked", "blame", "price", "faults"),
    *("correctness", "suspect", "slo"),
)
"""What a verdict.json of this schema has at the least: one without any of these is damaged."""

_NAMED = 3
"""How many of them are named where they are missing."""


@dataclass(frozen=True, slots=True)
class Result:
    """One judged run. Times are seconds, latencies milliseconds; None where nothing was told."""

    run: str
    folder: Path
    began: float
    """When the load began, seconds since the epoch; 0 where no clock was kept."""
    verdict: str
    reason: str
    """The first one, "" where it holds."""
    topology: str
    variant: str
    strategy: str
    claim: str
    says: str
    test: str
    mutant: str
    emulated: str
    release: str
    """What is wrong with the new version on purpose, such as ``crash``; "" where nothing is."""
    faults: tuple[str, ...]
    requests: int
    failed: int
    channels: Mapping[str, int]
    """Failed requests by channel."""
    downtime: tuple[float, float]
    """At least and at most, milliseconds."""
    worst: float
    """The longest outage, at most, milliseconds."""
    p50: tuple[float | None, float | None]
    """In the baseline and in the deploy."""
    p99: tuple[float | None, float | None]
    max: tuple[float | None, float | None]
    mixed: float
    """Milliseconds in which both versions answered."""
    masked: int | None
    """Requests that a proxy had to try again, None without its log."""
    causes: Mapping[str, int]
    instances: int
    lowest: int
    """Ready instances at the least during the deploy."""
    peak: int
    deploy: float | None
    rollback: float | None
    rate: float | None
    running: int | None = None
    """Processes of the app before the deploy, of which `peak` are those at the most."""
    memory: float | None = None
    """Bytes that the app's instances held at the most during the deploy."""
    memory_ratio: float | None = None
    """That to what they held before it."""
    p99_after: float | None = None
    """In the quiet time after the deploy."""
    cause: str = ""
    """What the most frequent cause means, in words; of an unknown one what the client saw."""
    open: bool = False
    """Whether an outage had begun before the run, or was not over when it ended: it may have lasted
    longer than at most."""
    place: str = ""
    """The module and class of the test, "" where none was told."""
    expected: tuple[str, ...] = ()
    """The causes that were known beforehand: one of them is to blame for nearly all that failed."""

    @property
    def as_expected(self) -> int:
        """How many requests failed for a cause that was known beforehand."""
        return sum(self.causes.get(name, 0) for name in self.expected)

    @property
    def why(self) -> str:
        """The first reason without requests' ids, which tell nothing beside other runs."""
        said = self.reason.removeprefix(f"{self.verdict}: ")
        return re.sub(rf"{re.escape(self.run)}-[0-9a-f]{{8}} ?", "", said)

    @property
    def most(self) -> str:
        """The most frequent cause of what failed, and what it means; "" where nothing did."""
        name = max(self.causes, key=lambda name: self.causes[name], default="")
        return f"{name}: {self.cause}" if name and self.cause else name

    @property
    def undisturbed(self) -> bool:
        """Whether nothing was broken on purpose, the new version least of all."""
        return not self.faults and not self.mutant and not self.release

    @property
    def proved(self) -> bool:
        """Whether it says anything: holds, or broken."""
        return self.verdict != "inconclusive"

    @property
    def path(self) -> str:
        """The way users went: topology, variant and strategy."""
        return " ".join(word for word in (self.topology, self.variant, self.strategy) if word)

    def as_json(self) -> dict[str, object]:
        """Return all of it, for programs."""
        return {**asdict(self), "folder": self.folder.name}

    @classmethod
    def read(cls, folder: Path) -> Result:
        """Return the result of the judged run in `folder`.

        Raises RecordingError naming what is missing, damaged or of another schema.
        """
        manifest, verdict = _object(folder / "manifest.json"), judgement(folder)
        try:
            return _result(folder, manifest, verdict)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise _damaged(folder, repr(error)) from error


def judgement(folder: Path) -> Mapping[str, Any]:
    """Return the verdict.json of the run in `folder`, with all that its schema has.

    Raises RecordingError naming what is missing, damaged or of another schema.
    """
    verdict = _object(folder / "verdict.json")
    if verdict.get("schema") != SCHEMA:
        raise RecordingError(
            f"{folder}/verdict.json: schema {verdict.get('schema')!r}, expected {SCHEMA}; "
            f"{_again(folder)}"
        )
    if lacking := [name for name in FIELDS if name not in verdict]:
        more = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
        raise _damaged(folder, f"it lacks {', '.join(lacking[:_NAMED])}{more}")
    if verdict["verdict"] not in WORDS:
        raise _damaged(folder, f"verdict {str(verdict['verdict'])[:40]!r}")
    return verdict


def _damaged(folder: Path, why: str) -> RecordingError:
    return RecordingError(f"damaged {folder}/verdict.json: {why}; {_again(folder)}")


def _again(folder: Path) -> str:
    return f"judge it again: zdtest judge {folder}"


def read_all(folders: Iterable[Path]) -> tuple[list[Result], list[str]]:
    """Return the results in the folders, oldest first, and in words why each other one has none."""
    results, unread = [], []
    for folder in folders:
        try:
            results.append(Result.read(folder))
        except RecordingError as error:
            unread.append(str(error))
    return sorted(results, key=lambda one: (one.began, one.run)), unread


def worst(results: Iterable[Result]) -> str:
    """Return the worst verdict among them, "" where there are none."""
    found = {one.verdict for one in results}
    return next((word for word in WORDS if word in found), "")


def _object(path: Path) -> Mapping[str, Any]:
    try:
        told = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise RecordingError(f"{path.parent}: no {path.name}, expected a judged run") from error
    except (OSError, ValueError) as error:
        raise RecordingError(f"damaged {path}: {error}") from error
    if not isinstance(told, dict):
        raise RecordingError(f"damaged {path}: expected an object")
    return told


def _result(folder: Path, manifest: Mapping[str, Any], verdict: Mapping[str, Any]) -> Result:
    claim, clock = manifest.get("claim") or {}, manifest.get("clock") or {}
    phases, price = verdict["phases"], verdict["price"]
    reasons, masked = verdict["reasons"], verdict.get("masked")
    memory = price.get("memory") or {}
    both = {
        name: tuple(_number(phases[phase][f"{name}_ms"]) for phase in ("baseline", "deploy"))
        for name in ("p50", "p99", "max")
    }
    return Result(
        run=str(verdict["run"]),
        folder=folder,
        began=_number(clock.get("wall")) or 0.0,
        verdict=verdict["verdict"],
        reason=str(reasons[0]) if reasons else "",
        **{name: str(manifest.get(name) or "") for name in _TOLD},
        claim=str(claim.get("id") or ""),
        says=str(claim.get("says") or ""),
        emulated=str(verdict.get("emulated") or ""),
        release=_release(manifest),
        faults=tuple(map(str, verdict["faults"])),
        requests=int(verdict["requests"]),
        failed=int(verdict["failed"]),
        channels={name: int(one["failed"]) for name, one in verdict["channels"].items()},
        downtime=(float(verdict["downtime_min_ms"]), float(verdict["downtime_max_ms"])),
        worst=max((float(one["max_ms"]) for one in verdict["outages"]), default=0.0),
        p50=_pair(both["p50"]),
        p99=_pair(both["p99"]),
        max=_pair(both["max"]),
        mixed=float(verdict["mixed_ms"]),
        masked=None if masked is None else int(masked["requests"]),
        causes={name: int(one["failed"]) for name, one in verdict["blame"].items()},
        instances=int(price.get("instances") or 0),
        lowest=int(price.get("lowest") or 0),
        peak=int(price.get("peak") or 0),
        running=int(price["running"]) if "running" in price else None,
        deploy=_number(price.get("deploy_s")),
        rollback=_number(price.get("rollback_s")),
        rate=_number(manifest.get("rate")),
        memory=_number(memory.get("peak_bytes")),
        memory_ratio=_number(memory.get("ratio")),
        p99_after=_number((phases.get("settle") or {}).get("p99_ms")),
        cause=_meaning(verdict["blame"]),
        open=verdict.get("downtime_open") is True,
        expected=tuple(map(str, manifest.get("causes") or ())),
    )


_TOLD = ("topology", "variant", "strategy", "test", "place", "mutant")


def _meaning(blame: Mapping[str, Any]) -> str:
    """Return what the most frequent cause of failures means, "" where there is none."""
    most: Mapping[str, Any]
    most = max(blame.values(), key=lambda one: int(one["failed"]), default={})
    return str(most.get("says") or "")


def _release(manifest: Mapping[str, Any]) -> str:
    """Return what the release of the new version is called where it is a bad one."""
    releases = (manifest.get("parameters") or {}).get("releases") or {}
    told = releases.get(manifest.get("new_version")) or {}
    # Where there are several services each has a release of its own; what is no word is a setting.
    names = [told["release"]] if "release" in told else told.values()
    words = [name for name in names if isinstance(name, str)]
    # One that takes its time over each reply is no worse than the one before it, which does too.
    bad = (name for name in words if name.partition(":")[0] not in ("", "good", "slow"))
    return next(bad, "")


def _pair(values: tuple[float | None, ...]) -> tuple[float | None, float | None]:
    first, second = values
    return first, second


def _number(value: object) -> float | None:
    """Return a finite number, None for what is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)
