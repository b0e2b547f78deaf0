"""Which statuses are asked for."""

from __future__ import annotations

import pytest

from zdtest.errors import ConfigError
from zdtest.status import statuses


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("200", {200}),
        ("200, 204", {200, 204}),
        ("2xx", set(range(200, 300))),
        ("3XX,404", {*range(300, 400), 404}),
    ],
)
def test_statuses_are_read(text: str, found: set[int]) -> None:
    assert statuses(text) == found


@pytest.mark.parametrize(
    "text", ["", "100", "1xx", "6xx", "600", "20", "2x", "ok", "200;204", "²00"]
)
def test_what_is_no_status_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected such as 200"):
        statuses(text)
