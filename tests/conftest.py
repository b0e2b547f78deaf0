"""Says at the end how many of how many mutants were caught, and fails when one was not."""

from __future__ import annotations

import signal

import pytest

NAMED = "mutant"


def pytest_configure() -> None:
    """Let signals reach what the tests start, also behind a shell's ``&`` and under ``nohup``.

    A shell has its background jobs ignore SIGINT, and nohup a hangup; all their children inherit
    that. A handler, which they don't inherit, keeps a hangup from ending the tests themselves.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda number, frame: None)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Name each test's mutant in its reports, which reach the end from any worker."""
    for item in items:
        spec = getattr(item, "callspec", None)
        mutant = spec and spec.params.get(NAMED)
        if mutant is not None:
            item.user_properties.append((NAMED, mutant.name))


def _told(terminalreporter: pytest.TerminalReporter) -> dict[str, bool]:
    """Return for each mutant of which there was a test whether it was caught, by all its tests."""
    found: dict[str, bool] = {}
    for category, reports in terminalreporter.stats.items():
        for report in reports:
            name = dict(getattr(report, "user_properties", ())).get(NAMED)
            if name is not None and (category or report.failed):
                found[name] = found.get(name, True) and category == "passed"
    return found


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A mutant that was skipped or xfailed was not caught either."""
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and not all(_told(terminal).values()) and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line."""
    told = _told(terminalreporter)
    if told:
        missed = [name for name, caught in told.items() if not caught]
        more = f"; not caught: {', '.join(missed)}" if missed else ""
        terminalreporter.write_line(
            f"mutants: {len(told) - len(missed)} of {len(told)} caught{more}"
        )
