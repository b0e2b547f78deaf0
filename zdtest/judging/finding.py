"""What was found against a promise."""

from __future__ import annotations

from dataclasses import dataclass

SUSPECT = "but only while the host or the generator was in trouble: suspect"
"""What is said of a finding that rests on such a time."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A promise that was not kept (`stands`), or of which that cannot be told."""

    promise: str
    text: str
    stands: bool
