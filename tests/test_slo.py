from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zdtest.errors import ConfigError
from zdtest.judging.slo import Slo, shown


def test_the_default_promises_are_those_of_the_method():
    slo = Slo()
    assert (slo.failed, slo.bad_body, slo.lost, slo.twice, slo.stale) == (0, 0, 0, 0, 0)
    assert (slo.p99_ratio, slo.p99_over, slo.slow) == (3.0, 0.25, 1.0)
    assert (slo.longest_outage, slo.downtime, slo.require_rate) == (None, None, None)
    assert slo.masked is None
    assert (slo.min_requests, slo.merge, slo.stall, slo.converge) == (100, 1.0, 0.1, 0.0)


def test_promises_are_written_as_name_and_value():
    slo = Slo.parse("failed=2, slow=2s,p99_over=100ms,p99_ratio=1.5,channels=new+write")
    assert (slo.failed, slo.slow, slo.p99_over, slo.p99_ratio) == (2, 2.0, 0.1, 1.5)
    assert slo.channels == ("new", "write")


def test_no_text_is_the_default():
    assert Slo.parse("") == Slo()


def test_promises_that_a_comma_is_missing_between_are_told_so():
    with pytest.raises(ConfigError, match=r"^slo 'failed=100 slow=2s': .* separated by commas$"):
        Slo.parse("failed=100 slow=2s")


@pytest.mark.parametrize("name", ["failed", "p99_ratio", "p99_over", "slow", "lost", "stale"])
def test_a_promise_is_switched_off_with_none(name: str):
    assert getattr(Slo.parse(f"{name}=none"), name) is None


@pytest.mark.parametrize("name", ["merge", "stall", "converge", "min_requests"])
def test_a_rule_of_judging_cannot_be_switched_off(name: str):
    with pytest.raises(ConfigError, match=name):
        Slo.parse(f"{name}=none")


def test_an_unknown_promise_is_answered_with_the_nearest_one():
    with pytest.raises(ConfigError, match="did you mean 'failed'"):
        Slo.parse("fialed=0")


def test_an_unknown_channel_is_answered_with_the_nearest_one():
    with pytest.raises(ConfigError, match="did you mean 'write'"):
        Slo.parse("channels=writes")


def test_the_control_channel_can_promise_nothing():
    with pytest.raises(ConfigError, match="control"):
        Slo(channels=("control",))


@pytest.mark.parametrize(
    "text",
    [
        "failed",
        "failed=",
        "failed=-1",
        "failed=1.5",
        "failed=many",
        "masked=-1",
        "slow=-1s",
        "slow=soon",
        "p99_ratio=0",
        "p99_ratio=nan",
        "require_rate=0",
        "require_rate=1",
        "require_rate=x",
    ],
)
def test_a_value_that_cannot_mean_anything_is_refused(text: str):
    with pytest.raises(ConfigError, match="expected"):
        Slo.parse(text)


@pytest.mark.parametrize("value", [True, [1], {}, float("inf")])
def test_a_value_of_another_kind_is_refused(value: object):
    with pytest.raises(ConfigError, match="expected"):
        Slo.from_dict({"failed": value})


def test_what_was_written_to_a_manifest_comes_back_equal():
    told = "failed=3,slow=none,longest_outage=250ms,require_rate=1e-4,masked=0,channels=new+slow"
    slo = Slo.parse(told)
    assert Slo.from_dict(json.loads(json.dumps(slo.as_dict()))) == slo
    assert slo.as_dict()["longest_outage"] == 0.25


def test_without_channels_it_speaks_of_all_that_the_run_had_but_control():
    manifest = {"channels": {"new": {}, "write": {}, "control": {}}}
    assert Slo().spoken(manifest) == ("new", "write")
    assert Slo(channels=("slow",)).spoken(manifest) == ("slow",)


@settings(database=None, deadline=None)
@given(st.floats(0, 1e18))
def test_a_time_that_is_promised_is_told_so_that_it_can_be_promised_again(value: float):
    assert Slo.parse(f"converge={shown('converge', value)}").converge == value


def test_a_promise_of_minutes_is_told_beside_the_default():
    told = Slo.parse("converge=2m,downtime=3m,longest_outage=150s,slow=125.25s").changes()
    assert told == (
        "promised: slow=125.25s (default 1s), converge=2m00s (default 0ms), "
        "longest_outage=2m30s (default none), downtime=3m00s (default none)"
    )


@pytest.mark.parametrize("name", ["gaps", "repeats"])
def test_a_promise_of_streams_that_are_left_out_is_refused(name: str):
    with pytest.raises(ConfigError, match=rf"^slo {name} with channels=new: .* expected stream"):
        Slo.parse(f"channels=new,{name}=0")
    assert getattr(Slo.parse(f"channels=new+stream,{name}=0"), name) == 0
