"""What is recorded beside the samples: each message of a stream, and each write asked again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zdtest.records.arrows import read_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

MESSAGE = np.dtype([("t", "<i8"), ("id", "<i8"), ("stream", "<u4"), ("resumed", "u1")])
"""A numbered message that a subscriber got: nanoseconds on CLOCK_MONOTONIC, its number, which
subscriber, and 1 when it was the first one after the stream was asked to go on."""

RETRY = np.dtype([("seq", "<u4"), ("key", "<u4")])
"""A write asked again under its Idempotency-Key: its own number, and that of the key's first."""


@dataclass(frozen=True, slots=True)
class Beside:
    """All rows of one kind; `whole` when the recorder closed the file and dropped none."""

    rows: NDArray[np.void]
    whole: bool

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def read(cls, path: Path, dtype: np.dtype[np.void]) -> Beside | None:
        """Return what is in that file, as far as it goes; None where there is none.

        Raises RecordingError for a file of somebody else's.
        """
        if not path.exists():
            return None
        rows, trailer = read_rows(path, dtype)
        told = trailer or {}
        return cls(rows, told.get("count") == len(rows) and not told.get("dropped"))
