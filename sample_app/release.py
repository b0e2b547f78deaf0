"""The releases: the good one, and each way a release can be broken. Said by ``RELEASE``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

RELEASES: Mapping[str, str] = {
    "good": "",
    "never-ready": "",
    "crash": "",
    "sick-at-once": "",
    "sick-after": "SECONDS",
    "slow": "MS",
    "wrong-body": "",
    "leak": "MB_PER_REQUEST",
    "acks-before-commit": "",
    "twice": "",
    "forgets-keys": "",
    "notes-keys-first": "",
    "cuts-body": "",
    "loses-messages": "",
    "repeats-messages": "",
    "late-listener": "",
    "ignores-term": "",
    "serves-before-ready": "",
}
"""Every release, and what stands after its colon; README.md says what each one does."""

LATE = 1.0
"""Seconds for which `late-listener` accepts on though it said that it had closed."""

UNCOMMITTED = 0.5
"""Seconds between an answer of `acks-before-commit` and its line in the journal."""

LIMIT_MB = 512
"""What `leak` may keep in all; the request that would go beyond is its last."""


@dataclass(frozen=True, slots=True)
class Release:
    """One of `RELEASES`, and its amount: seconds, or megabytes a request for `leak`."""

    name: str = "good"
    amount: float = 0.0

    def does(self, name: str) -> bool:
        """Whether it is the release of that name."""
        return self.name == name
