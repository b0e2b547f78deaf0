"""Measure anybody's own stack while a command deploys to it, or for a fixed time."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zdtest.appended import Asked, Beside
from zdtest.command import Command
from zdtest.errors import (
    CommandError,
    DeployFailed,
    LoadFailed,
    RecordingError,
    ZdError,
)
from zdtest.interrupt import Interrupt, Stopped
from zdtest.judging.slo import Slo
from zdtest.judging.verdict import Verdict
from zdtest.progress import Progress
from zdtest.run import Run, failure, keep, run, verdict
from zdtest.traffic import Load


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure. Exactly one of `command` and `duration` (seconds) says for how long."""

    url: str
    load: Load
    slo: Slo
    folder: Path
    command: Sequence[str]
    duration: float | None
    limit: float
    baseline: float
    settle: float
    old_version: str | None
    new_version: str | None
    name: str = ""
    """What releases know the run by, "" for what it was of: ``command`` or ``duration``."""
    again: Sequence[str] = ()
    """The options that measure the same again, for people: without seed, and values of headers."""
    logs: Asked = field(default_factory=Asked)
    """What proxy and app write down elsewhere, for the run's folder."""

    def as_dict(self) -> dict[str, object]:
        """Return what the manifest tells of it."""
        return {
            "strategy": "command" if self.command else "duration",
            "command": list(self.command) or None,
            "test": self.name or None,
            "old_version": self.old_version,
            "new_version": self.new_version,
            "slo": self.slo.as_dict(),
            **({"again": list(self.again)} if self.again else {}),
            **({"journal": True} if self.logs.journal else {}),
        }


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of it: the verdict, what went wrong beside it, and the signal that ended it."""

    verdict: Verdict
    troubles: Sequence[ZdError]
    signal: signal.Signals | None


def during(plan: Plan) -> Finding:
    """Return the verdict on the system at the plan's url while its command ran.

    The run's folder is complete whatever happens: when the command fails, when the load dies, and
    when we are told to stop (SIGHUP, SIGINT, SIGTERM), which the command is told too. Where it
    cannot be written, as on a full disk, that is among the troubles.
    """
    progress = Progress()
    with Interrupt() as interrupt:

        def watch(phase: str, news: Mapping[str, Any]) -> None:
            interrupt.check()
            progress(phase, news)

        troubles: list[ZdError] = []
        with (
            run(plan.folder, about=plan.as_dict(), watch=watch) as one,
            Beside(plan.logs, one.folder) as beside,
        ):
            try:
                _measure(one, plan, progress, troubles)
            except LoadFailed as error:
                troubles.append(error)
            except OSError as error:  # as where a disk is so full that nothing can be marked
                troubles.append(RecordingError(f"the run broke off: {error}"))
            except Stopped:
                pass  # the interrupt keeps it, and the events have it
            finally:
                progress.clear()
            beside.keep(one.name, lambda why: troubles.append(ZdError(why)))
        found = verdict(plan.folder, plan.slo)
        try:
            keep(found, plan.folder)
        except RecordingError as error:
            troubles.append(error)
        return Finding(found, troubles, interrupt.number)


def _measure(one: Run, plan: Plan, progress: Progress, troubles: list[ZdError]) -> None:
    with one.load(plan.url, plan.load, baseline=plan.baseline, settle=plan.settle):
        one.mark("deploy.begin")
        about: Mapping[str, object] = {}
        try:
            _deploy(one, plan, progress)
        except (DeployFailed, CommandError) as error:
            troubles.append(error)
            about = failure(error)
        one.mark("deploy.end", **about)


def _deploy(one: Run, plan: Plan, progress: Progress) -> None:
    """Run the command, or let the time pass in which somebody deploys elsewhere."""
    if plan.duration is not None:
        one.wait("deploy", plan.duration)
        return

    def tick() -> None:
        # Half a deploy is worse than one without load: the settling will say that the load died.
        with contextlib.suppress(LoadFailed):
            one.tick()

    log = one.folder / "logs" / "command.log"
    command = Command(plan.command, log, progress=progress)
    try:
        command.finish(plan.limit, tick)
    except Stopped as stopped:
        command.end(stopped.number)
        raise
    finally:
        command.show(everything=True)
