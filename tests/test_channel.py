"""What kinds of client, at which share of the rate."""

from __future__ import annotations

import re

import pytest

from zdtest.channel import parse
from zdtest.errors import ConfigError


def test_shares_divide_the_rate() -> None:
    new, slow = parse("new=3, slow=1@/slow?ms=5~1.5s", rate=200, path="/a", timeout=2)
    assert (new.name, new.share, new.path, new.think) == ("new", 0.75, "/a", 0)
    assert (slow.name, slow.share, slow.path, slow.think) == ("slow", 0.25, "/slow?ms=5", 1.5)
    assert new.rate + slow.rate == pytest.approx(200, abs=1e-9)
    assert new.rate == pytest.approx(150, rel=0.03)
    assert slow.rate == pytest.approx(50, rel=0.03)
    assert new.timeout == slow.timeout == 2
    assert new.as_dict()["interval"] == 1 / new.rate


def test_a_single_channel_has_the_whole_rate() -> None:
    assert [one.rate for one in parse("new=7", rate=200)] == [200.0]


@pytest.mark.parametrize("targets", [2, 3, 4])
def test_behind_a_round_robin_every_channel_meets_every_server(targets: int) -> None:
    """Channels of one rate that kept in step would each meet the same servers for ever."""
    lanes = parse("new=4,reused=4,slow=1,write=1", rate=200)
    seconds = 10
    due = sorted(
        (n / lane.rate, lane.name) for lane in lanes for n in range(int(lane.rate * seconds))
    )
    for lane in lanes:
        met = [turn % targets for turn, (_, name) in enumerate(due) if name == lane.name]
        for server in range(targets):
            assert met.count(server) / len(met) == pytest.approx(1 / targets, rel=0.5)


def test_only_what_writes_is_a_post_and_only_what_rests_is_parked() -> None:
    told = {one.name: one.as_dict() for one in parse("new,write,idle", rate=3)}
    assert [told[name]["method"] for name in told] == ["GET", "POST", "GET"]
    assert [told[name]["park"] for name in told] == [None, None, 3.0]


def test_writes_carry_keys_where_they_are_asked_to() -> None:
    (new, write) = parse("new=3,write+key=1@/orders?a=b+c~1s", rate=8)
    assert (new.keyed, write.keyed) == (False, True)
    assert (write.path, write.think, write.share) == ("/orders?a=b+c", 1.0, 0.25)
    assert (write.as_dict()["keyed"], new.as_dict()["keyed"]) == (True, False)
    assert [one.keyed for one in parse("write@/orders+key", rate=8)] == [False]


def test_a_channels_bodies_have_to_hold_one_of_its_texts() -> None:
    new, slow, idle = parse('new=2@/a?b=c~0s#"price":1|~@=%2C %7C#,slow@/b,idle#\u20a9', rate=3)
    assert (new.path, new.think, new.texts) == ("/a?b=c", 0, (b'"price":1', b"~@=, |#"))
    assert new.as_dict()["texts"] == ['"price":1', "~@=, |#"]
    assert (slow.path, slow.texts) == ("/b", ())
    assert (idle.share, idle.texts) == (0.25, ("\u20a9".encode(),))


def test_a_stream_has_a_subscriber_for_each_message_due_within_its_pause() -> None:
    (stream, new) = parse("stream@/events~500ms,new", rate=40)
    assert (stream.stations, new.stations) == (10, 0)
    assert stream.as_dict()["stations"] == 10
    assert parse("stream~1ms", rate=1)[0].stations == 1


def test_a_slow_channel_and_a_stream_think_where_they_are_not_told_for_how_long() -> None:
    assert [one.think for one in parse("slow,stream,new", rate=3)] == [2.0, 0.2, 0.0]


@pytest.mark.parametrize(
    ("text", "rate", "said"),
    [
        ("", 10, "no channel"),
        (" , ", 10, "no channel"),
        ("news", 10, "did you mean 'new'"),
        ("new,new", 10, "named twice"),
        ("new=0", 10, "above 0"),
        ("new=-1", 10, "above 0"),
        ("new=x", 10, "above 0"),
        ("new=nan", 10, "above 0"),
        ("new=inf", 10, "above 0"),
        ("new=", 10, "above 0"),
        ("new@api", 10, "begin with /"),
        ("new@/a b", 10, "no spaces"),
        ("new@/a\r\nX: y", 10, "expected"),
        ("slow~soon", 10, "think time"),
        ("NEW", 10, "name[+key][=share]"),
        ("new+key", 10, "expected no + but that of write+key"),
        ("write+keys", 10, "expected no + but that of write+key"),
        ("write+", 10, "expected no + but that of write+key"),
        ("write,write+key", 10, "named twice"),
        ("stream~60s", 2000, "120000 subscribers; expected at most 60000"),
        ("control", 10, "unknown channel"),
        ("new#", 10, "expected what a body has to hold"),
        ("new#a|", 10, "expected what a body has to hold"),
        ("new#100%", 10, "% as %25"),
        ("stream#x", 10, "its bodies do not end"),
        ("new", 0, "0.1 to 200000"),
        ("new", 1e9, "0.1 to 200000"),
        ("new", float("nan"), "0.1 to 200000"),
    ],
)
def test_what_means_nothing_is_refused_with_what_would(text: str, rate: float, said: str) -> None:
    with pytest.raises(ConfigError, match="(?s)" + re.escape(said)):
        parse(text, rate=rate)
