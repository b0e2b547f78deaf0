"""What a connection through the proxy has to go through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from zdtest.errors import ConfigError, unknown


@dataclass(frozen=True, slots=True)
class Conditions:
    """All of it at once; the default is a clean path. Seconds and bytes."""

    latency: float = 0.0
    """How much later the target's bytes arrive; they still arrive in order."""
    jitter: float = 0.0
    """Each piece is delayed by `latency` plus or minus up to this."""
    rate: float = 0.0
    """Bytes a second in each direction of a connection, 0 for no limit."""
    held: bool = False
    """Nothing passes in either direction; all of it arrives when this ends, as TCP sees to."""
    half_open: bool = False
    """New connections are accepted and never answered; they are reset when this ends."""
    reset_after: int | None = None
    """A connection is reset once so many bytes of the target's have passed.

    With 0 an open connection is reset at once, a new one when the client sends its first bytes:
    not before, as a client would take that for one that was never made.
    """
    answer: int = 0
    """Requests are answered with this status here; the target never sees them."""
    only: str = ""
    """All but `half_open` holds only from a segment on that begins so, such as ``GET /ping``.

    A segment that begins otherwise ends it, so this is for requests that fit in one.
    """

    def __post_init__(self) -> None:
        for name in ("latency", "jitter", "rate", "answer"):
            if not _number(value := getattr(self, name)) or not 0 <= value < float("inf"):
                raise ConfigError(f"{name} {value!r}: expected a number of 0 or more")
        if self.reset_after is not None and not (
            _number(self.reset_after) and self.reset_after >= 0
        ):
            raise ConfigError(f"reset_after {self.reset_after!r}: expected 0 bytes or more")
        if self.jitter > self.latency:
            raise ConfigError(f"jitter {self.jitter}: expected at most the latency {self.latency}")
        if self.answer and not 200 <= self.answer <= 599:
            raise ConfigError(f"answer {self.answer}: expected a final HTTP status")

    @classmethod
    def of(cls, told: Mapping[str, object]) -> Conditions:
        """Return what `told` says by the names of the fields; raises ConfigError."""
        known = {field.name: type(field.default) for field in fields(cls)}
        for name, value in told.items():
            if name not in known:
                raise unknown("condition", name, known)
            number, kind = _number(value), known[name]
            fits = number if kind in (int, float) else isinstance(value, kind)
            if not fits and not (name == "reset_after" and (value is None or number)):
                raise ConfigError(f"{name} {value!r}: expected a value like {getattr(CLEAN, name)}")
        return cls(**told)  # type: ignore[arg-type]


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


CLEAN = Conditions()
