"""Times are written ``250ms``, ``1.5s``, ``2m`` or ``2m05s``, and held as float seconds."""

from __future__ import annotations

import math
import re
from decimal import Decimal

from zdtest.errors import ConfigError

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h)")
_MINUTES = re.compile(r"(\d+)m([0-5]?\d(?:\.\d+)?)s")


def seconds(written: str | float, *, what: str = "duration") -> float:
    """Return `written` in seconds; a number, unlike a text of digits alone, already is seconds.

    Raises ConfigError naming `what` when it is not a finite duration of zero or more.
    """
    value = _read(written.strip()) if isinstance(written, str) else float(written)
    if not (math.isfinite(value) and value >= 0):
        raise ConfigError(
            f"{what} {written!r}: expected a time with its unit, such as 250ms, 1.5s or 2m"
        )
    return value


def _read(text: str) -> float:
    """Return the text in seconds, NaN where it is no time."""
    if match := _MINUTES.fullmatch(text):
        return float(match[1]) * _UNITS["m"] + float(match[2])
    match = _WRITTEN.fullmatch(text)
    return float(match[1]) * _UNITS[match[2]] if match else math.nan


def some(written: str | float, *, what: str = "duration") -> float:
    """Return `written` in seconds; raises ConfigError when it is not more than zero."""
    if time := seconds(written, what=what):
        return time
    raise ConfigError(f"{what} {written!r}: expected more than 0")


def written(value: float) -> str:
    """Return seconds as a person writes them, three significant digits or more.

    Whatever it is, `seconds` reads it.
    """
    if value < 0.9995:
        told = f"{value * 1e3:.3g}" if value < 0.0995 else f"{value * 1e3:.0f}"
        return f"{plain(told)}ms"
    if value < 119.95:
        return f"{value:.3g}s" if value < 9.995 else f"{value:.1f}s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes}m{rest:02d}s"


def plain(number: float | str) -> str:
    """Return every digit of the number, and no power of ten."""
    return f"{Decimal(str(number)):f}".removesuffix(".0")
