"""`Foreseen`: how much of what failed had a cause that was known before the run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zdtest.percent import share
from zdtest.results.release import scenarios
from zdtest.results.result import Result


@dataclass(frozen=True, slots=True)
class Foreseen:
    """All runs of one configuration that is known to be bad, and of what."""

    scenario: str
    causes: tuple[str, ...]
    """What is to blame there, by what its document and its programs' sources let expect."""
    runs: int
    failed: int
    """What does not stand, because the generator was in trouble, is among them."""
    right: int
    """Those with one of these causes."""
    unknown: int

    @property
    def share(self) -> str:
        """How much of it was as foreseen; 100 only where all was."""
        return share(self.right, self.failed)


def foreseen(results: Iterable[Result]) -> list[Foreseen]:
    """Return the configurations whose causes were told beforehand, in the order of their names."""
    groups: dict[tuple[str, tuple[str, ...]], list[Result]] = {}
    (named,) = scenarios([one for one in results if one.expected])
    for name, runs in named.items():
        for one in runs:
            groups.setdefault((name, one.expected), []).append(one)
    return [
        Foreseen(
            *key,
            runs=len(runs),
            failed=sum(sum(one.causes.values()) for one in runs),
            right=sum(one.as_expected for one in runs),
            unknown=sum(one.causes.get("unknown", 0) for one in runs),
        )
        for key, runs in sorted(groups.items())
    ]


def told(rows: Sequence[Foreseen]) -> str:
    """Return all of them in a line for a terminal, "" where there are none."""
    if not rows:
        return ""
    failed, right, unknown = (
        sum(getattr(one, name) for one in rows) for name in ("failed", "right", "unknown")
    )
    scenarios = "1 scenario" if len(rows) == 1 else f"{len(rows)} scenarios"
    return (
        f"blame: {right:,} of {failed:,} failures had the cause known beforehand "
        f"({share(right, failed)}), {unknown:,} unknown, in {scenarios}"
    )
