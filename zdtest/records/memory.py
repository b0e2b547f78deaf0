"""`Memory`: what the app's instances held while a run went on, read back from ``memory.jsonl``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from zdtest.records.jsonlines import objects

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Held:
    """What all instances together held before a deploy (the median) and at the most in it."""

    before: float
    """Bytes."""
    peak: float

    @property
    def ratio(self) -> float | None:
        """How many times as much that was; None where nothing was held before."""
        return self.peak / self.before if self.before else None

    def as_json(self) -> dict[str, object]:
        """Return the fields of verdict.json."""
        return {"before_bytes": self.before, "peak_bytes": self.peak, "ratio": self.ratio}


@dataclass(frozen=True, slots=True)
class Memory:
    """Samples in their order: seconds on the run's clock, and the bytes of all instances together.

    The bytes are NaN where one of the instances was not to be asked.
    """

    at: Floats
    bytes: Floats

    @classmethod
    def read(cls, path: Path) -> Memory | None:
        """Return the samples in that file, lines that are none left out; None without a file."""
        try:
            lines = path.read_bytes().splitlines()
        except FileNotFoundError:
            return None
        told = [
            (float(line["t"]), sum(map(_size, line["bytes"].values())))
            for line in objects(lines)
            if _is_number(line.get("t")) and isinstance(line.get("bytes"), dict)
        ]
        columns = np.array(sorted(told), np.float64).reshape(-1, 2)
        return cls(columns[:, 0], columns[:, 1])

    def between(self, begin: float, end: float) -> Floats:
        """Return the bytes of the samples from `begin` until before `end`."""
        first, last = np.searchsorted(self.at, (begin, end))
        return self.bytes[first:last]

    def held(self, began: float, deploy: tuple[float, float]) -> Held | None:
        """Return what was held from `began` to the deploy, and in it.

        None where either has no sample, or one in which not every instance could be asked.
        """
        before, within = self.between(began, deploy[0]), self.between(*deploy)
        if not len(before) or not len(within) or np.isnan([*before, *within]).any():
            return None
        return Held(float(np.median(before)), float(within.max()))


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _size(value: object) -> float:
    return float(value) if _is_number(value) else math.nan
