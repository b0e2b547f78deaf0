"""What is asked of a test session's runs at its `Ending`: a release kept, and nothing got worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from zdtest.errors import ConfigError, RecordingError, ZdError
from zdtest.results.compare import compare
from zdtest.results.release import Release, loaded, named
from zdtest.results.releases import HISTORY, INDEX, Releases

_WHOLE = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)


@dataclass(slots=True, eq=False)
class Ending:
    """A plugin of pytest: it fails a session in which what was asked for did not come true."""

    runs: Sequence[Path]
    """Those of this session, filled while it goes on."""
    reports: Path
    label: str | None
    """What to keep them as."""
    before: Release | None
    """What to hold them against."""
    lines: list[str] = field(default_factory=list)
    """What is to be said."""

    @classmethod
    def asked(cls, config: pytest.Config, runs: Sequence[Path]) -> Ending:
        """Return the ending that the options ask for; raises UsageError where they cannot be."""
        label, before = config.getoption("--zd-release"), config.getoption("--zd-never-worse")
        try:
            kept_as = None if label is None else named(label)
        except ConfigError as error:
            raise pytest.UsageError(f"--zd-release: {error}") from error
        try:
            old = None if before is None else Release.read(before)
        except (OSError, RecordingError) as error:
            raise pytest.UsageError(f"--zd-never-worse: {error}") from error
        return cls(runs, config.getoption("--zd-report-dir"), kept_as, old)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Compare and keep; a session that went well so far fails where one of them did not."""
        # A worker of xdist has a part of the runs: whoever started it has them all.
        if session.config.option.collectonly or hasattr(session.config, "workerinput"):
            return
        well = self.before is None or self._held(self.before)
        if self.label is not None:
            cut = session.shouldfail or session.shouldstop
            well &= self._kept(self.label, whole=exitstatus in _WHOLE and not cut)
        if not well and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what came of it, below the table."""
        for line in self.lines:
            terminalreporter.write_line(line)

    def _held(self, old: Release) -> bool:
        """Whether nothing got worse; where no scenario is in both nothing was held to anything."""
        try:
            found = compare(old, Release.of("this session", filter(_judged, self.runs)))
        except ZdError as error:
            self.lines.append(f"FAILED nothing compared with {old.label!r}: {error}")
            return False
        self.lines += found.text(brief=True).splitlines()
        if found.nothing:
            self.lines.append("FAILED nothing compared: no scenario is in both")
        if found.worsened:
            self.lines.append(f"FAILED {len(found.worsened)} worse than in {old.label!r}")
        if found.unproved:
            self.lines.append(f"FAILED {len(found.unproved)} no longer proved")
        if unread := found.new.unread:
            self.lines.append(f"FAILED {len(unread)} not read")
        return not (found.worsened or found.unproved or found.nothing or unread)

    def _kept(self, label: str, *, whole: bool) -> bool:
        """Keep this session's runs, no others of the folder, and draw the history anew."""
        from zdtest.report import write_history

        history = self.reports / HISTORY
        if not whole:
            self.lines.append("FAILED no release kept: the session ended early")
            return False
        try:
            one = Release.of(label, filter(loaded, self.runs))
            self.lines += [f"not in the release: {why}" for why in one.unread]
            before = (history / f"{label}.json").exists()
            told = ", in the place of the one that was there" if before else ""
            self.lines.append(f"release  {one.write(history)}{told}")
            drawn = write_history(Releases.read(history), history / INDEX)
            self.lines.append(f"history  {drawn}")
        except ZdError as error:
            self.lines.append(f"FAILED no release kept: {error}")
            return False
        return True


def _judged(run: Path) -> bool:
    """Whether there is a verdict: a test that asked for none has nothing to be held to."""
    return (run / "verdict.json").exists()
