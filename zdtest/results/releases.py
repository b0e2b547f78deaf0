"""The `Releases` that a folder keeps, in the order in which they were measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from zdtest.errors import RecordingError
from zdtest.results.compare import Comparison, compare
from zdtest.results.release import Release, scenarios
from zdtest.results.result import Result

HISTORY = "history"
"""The folder of releases in one of reports."""

INDEX = "index.html"
"""Its page."""

LAST = 20
"""So many are looked at where nothing else is asked for."""


@dataclass(frozen=True, slots=True)
class Releases:
    """The releases that could be read, oldest first, and in words why each other file could not."""

    kept: tuple[Release, ...]
    unread: tuple[str, ...]
    older: int = 0
    """How many more there are, which were not asked for."""

    @classmethod
    def read(cls, history: Path, last: int = LAST) -> Releases:
        """Return the `last` releases kept in that folder; none where there is no such folder."""
        kept, unread = [], []
        for path in sorted(history.glob("*.json")):
            try:
                kept.append(Release.read(path))
            except RecordingError as error:
                unread.append(str(error))
        kept.sort(key=lambda one: (one.measured, one.label))
        return cls(tuple(kept[-last:]), tuple(unread), len(kept[:-last]))

    def steps(self) -> list[Comparison]:
        """Return what differs from each release to the next, the newest step first."""
        return [compare(old, new) for old, new in pairwise(self.kept)][::-1]

    def scenarios(self) -> Mapping[str, list[list[Result]]]:
        """Return of each scenario its runs in each release, none where it was not run."""
        found = scenarios(*(one.results for one in self.kept))
        names = sorted({name for each in found for name in each})
        return {name: [each.get(name, []) for each in found] for name in names}

    def since(self, results: list[Result]) -> Comparison | None:
        """Return what differs from the newest release that was measured before some of these runs.

        Only the runs that came after it are compared; None where there is no such release.
        """
        for old in reversed(self.kept):
            later = [one for one in results if one.began > old.measured]
            if later:
                return compare(old, Release.of("these runs", [one.folder for one in later]))
        return None
