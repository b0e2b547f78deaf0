"""What a check found: how many, and for the first few enough to look them up on both sides."""

from __future__ import annotations

from dataclasses import dataclass

from zdtest.records.shown import shown

SHOWN = 5
"""How many witnesses are kept of each kind."""


@dataclass(frozen=True, slots=True)
class Witness:
    """One request, key or stream that shows it; `at` is monotonic seconds, NaN where unknown."""

    id: str
    at: float
    instance: str = ""
    """Who answered or ran it; empty where that is not told."""
    told: str = ""
    """What happened to it, in a few words."""

    def text(self, began: float) -> str:
        """Return it in one line, its time counted from `began`."""
        when = f" at +{self.at - began:.3f} s" if self.at == self.at else ""
        who = f" on {self.instance}" if self.instance else ""
        return shown(f"{self.id}{when}{who}" + (f", {self.told}" if self.told else ""))

    def as_json(self, began: float) -> dict[str, object]:
        """Return the fields of verdict.json."""
        at = self.at - began if self.at == self.at else None
        return {"id": self.id, "at_s": at, "instance": self.instance, "told": self.told}


@dataclass(frozen=True, slots=True)
class Found:
    """How many of a kind there were, None where that cannot be told, and the first few."""

    count: int | None
    witnesses: tuple[Witness, ...] = ()
    last: float | None = None
    """When the last one fell due, monotonic seconds; None where a check does not tell."""

    def first(self, began: float) -> str:
        """Return where to look first, as the end of a sentence."""
        return f"; first {self.witnesses[0].text(began)}" if self.witnesses else ""


UNKNOWN = Found(None)
"""What a check says that lacks the account it takes."""
