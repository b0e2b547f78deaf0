"""How the deploys of a run ended: done, or failed and by what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zdtest.records.recording import Recording


@dataclass(frozen=True, slots=True)
class Ends:
    """What each ``deploy.end`` told, in order; where several were made, one says nothing of all."""

    told: tuple[Mapping[str, object], ...]

    @classmethod
    def of(cls, recording: Recording) -> Ends:
        """Return the ends of that run's deploys."""
        return cls(tuple(mark.about for mark in recording.marks if mark.name == "deploy.end"))

    @property
    def failure(self) -> str:
        """What the first deploy that failed, failed by; "" where none did."""
        return next((str(about["error"]) for about in self.told if about.get("error")), "")

    @property
    def last_failure(self) -> str:
        """What the last deploy failed by; "" where it did not."""
        return str((self.told[-1] if self.told else {}).get("error", ""))

    @property
    def given_up(self) -> bool:
        """Whether there were deploys, and none was done."""
        return bool(self.told) and all(about.get("error") for about in self.told)

    @property
    def timed_out(self) -> bool:
        """Whether one ran out of time, and was ended by whoever measured."""
        return any(about.get("timed_out") for about in self.told)

    @property
    def never_began(self) -> str:
        """Why the command of one could not be executed; "" where each could."""
        return next(
            (str(about.get("error")) for about in self.told if about.get("never_began")), ""
        )

    @property
    def broke_off(self) -> str:
        """What ended one that was neither done nor given up; "" where each was."""
        return next((str(about.get("error")) for about in self.told if about.get("broke_off")), "")
