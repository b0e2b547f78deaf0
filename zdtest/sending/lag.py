"""`Lag` counts how late requests were sent: the generator's own account, not the system's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zdtest.records.recording import NEVER

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Lag:
    """A histogram of microseconds, exact below a millisecond, to three digits above."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.most = 0

    def add(self, sent: NDArray[np.uint32]) -> int:
        """Count the offsets `sent`, and return the largest, in microseconds."""
        late = sent[sent != NEVER]
        if not len(late):
            return 0
        step = 10 ** np.maximum(np.log10(np.maximum(late, 1)).astype(np.int64) - 2, 0)
        bins, counts = np.unique(late - late % step, return_counts=True)
        for one, count in zip(bins.tolist(), counts.tolist(), strict=True):
            self._counts[one] = self._counts.get(one, 0) + count
        most = int(late.max())
        self.most = max(self.most, most)
        return most

    def percentile(self, percent: int) -> int:
        """Return the lag, in microseconds, that `percent` of the requests do not exceed."""
        needed = -(-percent * sum(self._counts.values()) // 100)
        passed = 0
        for late, count in sorted(self._counts.items()):
            passed += count
            if passed >= needed:
                return late
        return 0

    def as_dict(self) -> dict[str, float]:
        """Return it as the recording's trailer tells it."""
        return {
            "lag_p50_ms": self.percentile(50) / 1000,
            "lag_p99_ms": self.percentile(99) / 1000,
            "lag_max_ms": self.most / 1000,
        }
