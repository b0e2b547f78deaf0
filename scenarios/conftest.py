"""What scenarios can say of themselves beside what zdtest's plugin knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from zdtest.results.foreseen import foreseen, told
from zdtest.results.result import read_all

RIGHT = 0.95
UNKNOWN = 0.02
_RUNS = pytest.StashKey[list[Path]]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "causes(*names): what is to blame for nearly all that fails, and for what fails"
    )
    config.stash[_RUNS] = []


@pytest.fixture(autouse=True)
def _blamed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where the cause of what fails is known beforehand, it is the one that the verdict names."""
    marker = request.node.get_closest_marker("causes")
    zd = request.getfixturevalue("zd") if marker else None
    if zd is not None:
        zd.about(causes=marker.args)
        request.config.stash[_RUNS].append(zd.folder)
    yield
    if zd is None:
        return
    assert zd.verdict is not None, "causes: expected a scenario that judges"
    counts = zd.verdict.blame.counts
    failed = sum(counts.values())
    assert failed > 0, f"nothing failed: expected {marker.args}"
    assert sum(counts.get(name, 0) for name in marker.args) >= RIGHT * failed, counts
    assert counts.get("unknown", 0) <= UNKNOWN * failed, counts


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say how much of what failed was blamed as foreseen; each scenario fails by its own marker."""
    results, unread = read_all(config.stash[_RUNS])
    if line := told(foreseen(results)):
        left = f"; not judged: {len(unread)}" if unread else ""
        terminalreporter.write_line(f"{line}{left}")
