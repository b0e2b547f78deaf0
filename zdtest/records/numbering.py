"""Requests are numbered without a gap, so a number that is left out is a row that is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from zdtest.records.recording import Samples

TAIL = 0.5
"""Seconds at the load's end of which some requests may not be on file: senders stop one by one."""

_BEYOND, _FEW = 16, 65_536
"""Of so many times as many numbers as samples, and that many more, not all were ever given."""


@dataclass(frozen=True, slots=True)
class Numbering:
    """Of the first `total` numbers `missing` are not on file; `doubled` rows repeat another's."""

    total: int
    missing: int
    doubled: int
    impossible: bool = False
    """Whether `total` is so far beyond what is on file that a number was damaged, not left out."""

    @classmethod
    def of(cls, samples: Samples, *, until: float = 0.0) -> Numbering:
        """Return it for what was due to `until`, or to `TAIL` before the last if that is later."""
        if not len(samples):
            return cls(0, 0, 0)
        last = float(samples.due[-1])
        end = max(last - TAIL, min(until, last))
        total = int(samples.seq[: np.searchsorted(samples.due, end, "right")].max(initial=0)) + 1
        known = samples.seq[samples.seq < total]
        # Damage may have made up any number: no room is made for four thousand million of them.
        distinct, impossible = len(known), total >= _BEYOND * len(samples) + _FEW
        if not impossible:
            seen = np.zeros(total, np.bool_)
            seen[known] = True
            distinct = int(seen.sum())
        return cls(total, total - distinct, len(known) - distinct, impossible)
