"""How the page writes what it is given: exact counts, durations, and any text at all, safely."""

from __future__ import annotations

import math
import unicodedata
from html import escape

from zdtest.duration import written
from zdtest.percent import share

NOTHING = "–"
"""What a cell shows when there is nothing to tell."""


def real(value: object) -> float | None:
    """Return a finite number, or None for anything else (a missing field, NaN, text)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def count(value: object) -> str:
    """Return a whole number with thousands separators."""
    number = real(value)
    return NOTHING if number is None else f"{int(number):,}"


def percent(part: int, whole: int) -> str:
    """Return `part` of `whole`, 100 only where nothing is missing; nothing of nothing is a dash."""
    if whole <= 0:
        return NOTHING
    return share(part, whole) if part > 0 else "0 %"


def ms(value: object) -> str:
    """Return milliseconds as a person writes a duration, three significant digits or more."""
    number = real(value)
    return NOTHING if number is None else written(number / 1e3)


def span(least: object, most: object, more: object = False) -> str:
    """Return a length known between two bounds, milliseconds; it may be `more` than the upper one.

    So it may where the run saw no end of what lasted so long.
    """
    low, high = ms(least), ms(most)
    told = low if low == high or high == NOTHING else f"{low} to {high}"
    return f"{told} or more" if more is True else told


def moment(value: object, digits: int = 3) -> str:
    """Return seconds since the run's first due time; a rounded nothing has no sign."""
    number = real(value)
    return NOTHING if number is None else f"{round(number, digits) + 0.0:,.{digits}f}s"


def rate(value: object) -> str:
    """Return requests per second."""
    number = real(value)
    return NOTHING if number is None else f"{number:,.4g}/s" if number < 1e4 else f"{number:,.0f}/s"


def plain(value: object, limit: int = 400) -> str:
    """Return text on one line, every character that could hide or reorder it shown as an escape."""
    text = str(value)
    shown = "".join(
        f"\\u{ord(char):04x}" if unicodedata.category(char)[0] == "C" else char
        for char in text[:limit]
    )
    return shown if len(text) <= limit else f"{shown}… ({len(text):,} characters)"


def html(value: object, limit: int = 400) -> str:
    """Return text that is safe inside HTML, in an element or an attribute."""
    return escape(plain(value, limit), quote=True)
