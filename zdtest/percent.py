"""Percentages that never look better than they are."""

from __future__ import annotations

import math


def share(part: int, whole: int) -> str:
    """Return `part` of `whole` as ``99.69 %``, rounded down: 100 only where nothing is missing.

    Two digits or more are printed, as many as show how far from 100 it is.
    """
    if not whole:
        return "none"
    if part >= whole:
        return "100 %"
    missing = (whole - part) / whole
    digits = max(2, math.ceil(-math.log10(missing)) - 2)
    scale = 10**digits
    units = part * 100 * scale // whole
    return f"{units // scale}.{units % scale:0{digits}d} %"


def failing(part: int, whole: int) -> str:
    """Return `part` of `whole` that failed as ``23.42 %``, rounded up: 100 only where all did."""
    if not whole or not part:
        return "0 %"
    missing, rate = (whole - part) / whole, part / whole
    digits = max(2, 1 - math.floor(math.log10(rate * 100)))
    if missing:
        digits = max(digits, math.ceil(-math.log10(missing)) - 2)
    scale = 10**digits
    units = -(-part * 100 * scale // whole)
    return f"{units // scale}.{units % scale:0{digits}d} %" if missing else "100 %"


def bound(rate: float) -> str:
    """Return an upper bound as ``0.025 %``, two digits, rounded up."""
    if rate <= 0:
        return "0 %"
    digits = max(0, 1 - math.floor(math.log10(rate * 100)))
    scale = 10**digits
    return f"{min(math.ceil(rate * 100 * scale - 1e-9) / scale, 100):.{digits}f} %"


def between(least: float, most: float) -> str:
    """Return an interval as ``0.19 to 0.43 %``, rounded outwards."""
    if least <= 0:
        return f"0 to {bound(most)}"
    digits = max(0, 1 - math.floor(math.log10(least * 100)))
    low = math.floor(least * 100 * 10**digits + 1e-9) / 10**digits
    return f"{low:.{digits}f} to {bound(most)}"
