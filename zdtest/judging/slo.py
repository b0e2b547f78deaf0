"""What is promised: the `Slo` holds one limit a promise, None for a promise not made."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from zdtest.duration import plain, seconds, written
from zdtest.errors import ConfigError, unknown
from zdtest.records.sample import CHANNELS

_COUNTS = (
    "failed",
    "bad_body",
    "lost",
    "twice",
    "phantom",
    "early",
    "backwards",
    "gaps",
    "repeats",
    "stale",
    "masked",
    "min_requests",
)
_DURATIONS = (
    "p99_over",
    "slow",
    "longest_outage",
    "downtime",
    "converge",
    "merge",
    "stall",
    "hole",
)
_DEPLOYS = ("done", "aborted", "again")
_RULES = ("converge", "merge", "stall", "hole", "min_requests", "deploy")
"""These say how to judge rather than what is promised: they cannot be switched off."""


@dataclass(frozen=True, slots=True)
class Slo:
    """The promises a run is judged by; durations in seconds, or as ``250ms`` when written.

    A promise that is None (written ``none``) is not made. Raises ConfigError for a value that
    cannot mean anything.
    """

    failed: int | None = 0
    """How many requests of the whole run may fail."""
    bad_body: int | None = 0
    """How many of those may be truncated, wrong, or from a version that was ruled out."""
    p99_ratio: float | None = 3.0
    """The deploy's p99 over the same run's baseline p99, both beyond think time, at most."""
    p99_over: float | None = 0.25
    """The deploy's p99 less the baseline's, seconds, at most."""
    slow: float | None = 1.0
    """No reply takes longer than this beyond its think time, seconds."""
    lost: int | None = 0
    """How many writes, and how many idempotency keys, may be without effect after their ok."""
    twice: int | None = 0
    """How many writes, and how many idempotency keys, may have more than one effect."""
    phantom: int | None = 0
    """How many requests may arrive that nobody sent, where the app keeps a journal."""
    early: int | None = 0
    """How many requests an instance may accept before it is ready or after it stopped listening."""
    backwards: int | None = None
    """How many replies of another version a session may get after one of the new version."""
    gaps: int | None = None
    """How many numbered messages may be missing in the streams, reconnections included."""
    repeats: int | None = None
    """How many numbered messages may come again in the streams, reconnections included."""
    stale: int | None = 0
    """How many replies may come from another version than the new one after the deploy's end, or
    than the old one where the deploy is to be aborted."""
    deploy: str = "done"
    """What becomes of each deploy: ``done``, or ``aborted`` where a bad release has to be given up,
    or ``again`` where one fails that is made again and done in the end.

    After an aborted one only the old version is to answer.
    """
    masked: int | None = None
    """How many requests may be answered ok though the proxy had to try again."""
    converge: float = 0.0
    """Seconds after the deploy's end before a reply counts as stale."""
    longest_outage: float | None = None
    """Seconds the longest outage may last; broken when it lasted longer even at its least."""
    downtime: float | None = None
    """Seconds of outage in all, overlaps counted once, at their least."""
    require_rate: float | None = None
    """Failure rate in the deploy window that must be proved at 95 %."""
    min_requests: int = 100
    """Requests that must fall inside the deploy window."""
    merge: float = 1.0
    """Seconds of due time that may lie between two failures of one outage."""
    stall: float = 0.1
    """Seconds of send lag, or of a control reply, beyond which the measuring itself is suspect."""
    hole: float = 0.1
    """Seconds that the load may have been held up inside the deploy: what is shorter could hide."""
    channels: tuple[str, ...] | None = None
    """The channels it speaks of; None is all that the run had, but never `control`."""

    def __post_init__(self) -> None:
        for name in _NAMES:
            object.__setattr__(self, name, _value(name, getattr(self, name)))
        for name in ("gaps", "repeats"):
            if self.channels and "stream" not in self.channels and getattr(self, name) is not None:
                raise ConfigError(
                    f"slo {name} with channels={'+'.join(self.channels)}: nobody would look at it, "
                    f"expected stream among them"
                )

    @classmethod
    def parse(cls, text: str) -> Slo:
        """Return the default promises changed as in ``failed=0,p99_ratio=none,slow=2s``.

        Several channels are written ``channels=new+write``.
        """
        changes: dict[str, Any] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, equals, value = (word.strip() for word in part.partition("="))
            if "=" in value:
                raise ConfigError(f"slo {part!r}: expected promises separated by commas")
            if not equals or not value:
                raise ConfigError(f"slo {part!r}: expected name=value, such as failed=0 or slow=2s")
            changes[name] = value
        return cls.from_dict(changes)

    @classmethod
    def from_dict(cls, changes: Mapping[str, Any]) -> Slo:
        """Return the default promises with these changed; what `as_dict` gave comes back equal."""
        for name in changes:
            if name not in _NAMES:
                raise unknown("slo promise", name, _NAMES)
        return cls(**changes)

    def as_dict(self) -> dict[str, Any]:
        """Return every promise as JSON can hold it, durations as seconds."""
        found = dataclasses.asdict(self)
        return found | {"channels": None if self.channels is None else list(self.channels)}

    def written(self) -> str:
        """Return what differs from the default, or ``failed=0``, as `parse` reads it."""
        names = self._others() or ["failed"]
        return ",".join(f"{name}={shown(name, getattr(self, name))}" for name in names)

    def changes(self) -> str:
        """Return how it differs from the default, as ``promised: failed=5 (default 0)``.

        The channels and what becomes of the deploy are left out: a verdict spells them out.
        """
        usual = Slo()
        other = [name for name in self._others() if name not in ("channels", "deploy")]
        made = [
            f"{name}={shown(name, getattr(self, name))} "
            f"(default {shown(name, getattr(usual, name))})"
            for name in other
            if getattr(self, name) is not None
        ]
        taken = [name for name in other if getattr(self, name) is None]
        return "; ".join(
            f"{what}: {', '.join(names)}"
            for what, names in (("promised", made), ("not promised", taken))
            if names
        )

    def _others(self) -> list[str]:
        """Return which promises differ from the default."""
        usual = Slo()
        return [name for name in _NAMES if getattr(self, name) != getattr(usual, name)]

    def p99_limit(self, usual: int) -> float:
        """Return what a p99 may be where the baseline's is `usual`, both microseconds."""
        limits = [math.inf]
        if self.p99_ratio is not None:
            limits.append(self.p99_ratio * max(usual, 0))
        if self.p99_over is not None:
            limits.append(usual + self.p99_over * 1e6)
        return min(limits)

    def spoken(self, manifest: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the channels that the promises speak of in the run with this manifest."""
        had = [name for name in manifest.get("channels", {}) if name != "control"]
        return tuple(had) if self.channels is None else self.channels


_NAMES = tuple(field.name for field in dataclasses.fields(Slo))


def shown(name: str, value: float | str | Iterable[str] | None) -> str:
    """Return a limit as it may be written, nothing of it rounded away."""
    if value is None:
        return "none"
    if not isinstance(value, (int, float)):
        return value if isinstance(value, str) else "+".join(value)
    if name not in _DURATIONS:
        return plain(value)
    short = written(value)
    return short if seconds(short) == value else f"{plain(value)}s"


def _value(name: str, given: Any) -> Any:
    """Return what was given for a promise as the number, or the names, that it means."""
    if given is None or (isinstance(given, str) and given.strip().lower() == "none"):
        if name in _RULES:
            raise ConfigError(f"slo {name}=none: it is no promise; expected a value")
        return None
    if name == "channels":
        return _channels(given)
    if name == "deploy":
        if given not in _DEPLOYS:
            raise unknown("slo deploy", str(given), _DEPLOYS)
        return given
    if isinstance(given, bool) or not isinstance(given, (str, int, float)):
        raise ConfigError(f"slo {name}={given!r}: expected a number, a duration or none")
    if name in _DURATIONS:
        return seconds(given, what=f"slo {name}")
    return _count(name, given) if name in _COUNTS else _ratio(name, given)


def _count(name: str, given: str | float) -> int:
    try:
        count = int(given)
    except (ValueError, OverflowError):
        count = -1
    if count < 0 or (isinstance(given, float) and given != count):
        raise ConfigError(f"slo {name}={given}: expected a whole number of zero or more")
    return count


def _ratio(name: str, given: str | float) -> float:
    try:
        ratio = float(given)
    except ValueError:
        ratio = math.nan
    if name == "require_rate" and not 0 < ratio < 1:
        raise ConfigError(f"slo {name}={given}: expected a rate between 0 and 1, such as 1e-4")
    if not (math.isfinite(ratio) and ratio > 0):
        raise ConfigError(f"slo {name}={given}: expected a number above zero")
    return ratio


def _channels(given: str | Iterable[str]) -> tuple[str, ...]:
    names = given.split("+") if isinstance(given, str) else list(given)
    known = [name for name in CHANNELS if name != "control"]
    for name in names:
        if name not in known:
            raise unknown("slo channel", str(name), known)
    return tuple(names)
