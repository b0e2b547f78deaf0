"""Times are written ``250ms``, ``1.5s`` or ``2m``, with their unit, and held as float seconds."""

from __future__ import annotations

import math
import re

from zdtest.errors import ConfigError

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h)")


def seconds(written: str | float, *, what: str = "duration") -> float:
    """Return `written` in seconds; a number, unlike a text of digits alone, already is seconds.

    Raises ConfigError naming `what` when it is not a finite duration of zero or more.
    """
    if isinstance(written, (int, float)):
        if math.isfinite(written) and written >= 0:
            return float(written)
    elif match := _WRITTEN.fullmatch(written.strip()):
        return float(match[1]) * _UNITS[match[2]]
    raise ConfigError(
        f"{what} {written!r}: expected a time with its unit, such as 250ms, 1.5s or 2m"
    )


def some(written: str | float, *, what: str = "duration") -> float:
    """Return `written` in seconds; raises ConfigError when it is not more than zero."""
    if time := seconds(written, what=what):
        return time
    raise ConfigError(f"{what} {written!r}: expected more than 0")


def written(value: float) -> str:
    """Return seconds as a person writes them, three significant digits or more."""
    if value < 0.9995:
        return f"{value * 1e3:.3g}ms" if value < 0.0995 else f"{value * 1e3:.0f}ms"
    if value < 120:
        return f"{value:.3g}s" if value < 9.995 else f"{value:.1f}s"
    return f"{int(value // 60)}m{value % 60:02.0f}s"
