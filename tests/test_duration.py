from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zdtest.duration import seconds, some, written
from zdtest.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("250ms", 0.25),
        ("1.5s", 1.5),
        ("2m", 120.0),
        ("2m05s", 125.0),
        ("1h", 3600.0),
        ("50us", 5e-5),
        (" 3 s ", 3.0),
    ],
)
def test_a_written_duration_is_read(text: str, value: float):
    assert seconds(text) == pytest.approx(value)


def test_a_number_is_seconds_and_a_text_needs_its_unit():
    assert seconds("3s") == seconds(3) == seconds(3.0) == 3.0
    for text in ("3", "0", "100", "1.5"):
        with pytest.raises(ConfigError, match=rf"^duration '{text}': expected a time with"):
            seconds(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s",
        "-1s",
        "1 day",
        "1e3s",
        "2m5ms",
        "2m60s",
        "2m5",
        "1.5m5s",
        "9" * 400 + "s",
        "nan",
        "inf",
        -1,
        float("nan"),
        float("inf"),
    ],
)
def test_what_is_no_duration_is_refused_by_name(text: str | float):
    with pytest.raises(ConfigError, match=r"^drain .*expected a time with its unit, such as 250ms"):
        seconds(text, what="drain")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0ms"),
        (0.00123, "1.23ms"),
        (0.25, "250ms"),
        (0.9999, "1s"),
        (1.5, "1.5s"),
        (12.34, "12.3s"),
        (119.96, "2m00s"),
        (125.0, "2m05s"),
        (179.7, "3m00s"),
        (1e-8, "0.00001ms"),
    ],
)
def test_a_duration_is_written_as_a_person_would(value: float, text: str):
    assert written(value) == text


@settings(database=None, deadline=None)
@given(st.floats(1e-9, 1e9))
def test_what_is_written_is_read_back_within_a_percent(value: float):
    assert seconds(written(value)) == pytest.approx(value, rel=0.01)


def test_some_time_is_more_than_none():
    assert some("1ms") == 0.001
    with pytest.raises(ConfigError, match=r"^within '0s': expected more than 0$"):
        some("0s", what="within")
