"""What scenarios can say of themselves beside what zdtest's plugin knows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

RIGHT = 0.95
UNKNOWN = 0.02


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "causes(*names): what is to blame for nearly all that fails, and for what fails"
    )


@pytest.fixture(autouse=True)
def _blamed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where the cause of what fails is known beforehand, it is the one that the verdict names."""
    marker = request.node.get_closest_marker("causes")
    zd = request.getfixturevalue("zd") if marker else None
    yield
    if zd is None:
        return
    assert zd.verdict is not None, "causes: expected a scenario that judges"
    counts = zd.verdict.blame.counts
    failed = sum(counts.values())
    assert failed > 0, f"nothing failed: expected {marker.args}"
    assert sum(counts.get(name, 0) for name in marker.args) >= RIGHT * failed, counts
    assert counts.get("unknown", 0) <= UNKNOWN * failed, counts
