"""A name may move to other addresses, or cease to be, while the load runs."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

import pytest

from zdtest.sending.resolver import Resolver, account, answers, lookup
from zdtest.sending.wire import Target


def resolver(found: Callable[[], Sequence[str]], up: Sequence[str] = ()) -> Resolver:
    place = Target("app.test", 80, tls=False)
    return Resolver(place, look_up=lambda *_: found(), answers=lambda address, _: address in up)


def places(one: Resolver) -> list[str]:
    return [place.address[0] for place in one.target.places]


def test_all_addresses_of_a_name_are_used_whether_they_answer_or_not() -> None:
    found = ["10.0.0.1", "10.0.0.2"]
    one = resolver(lambda: found, up=["10.0.0.1"])
    one.resolve()
    assert places(one) == ["10.0.0.1", "10.0.0.2"]
    found[:] = ["10.0.0.3", "10.0.0.2"]
    one.resolve()
    assert places(one) == ["10.0.0.3", "10.0.0.2"]


def test_each_channel_goes_to_all_places_in_turn() -> None:
    place = Target("app.test", 80, tls=False)
    assert place.next("new") is None
    place.move(["10.0.0.1", "10.0.0.2", "::1"])
    turns = [place.next(of) for of in ("new", "new", "idle", "new", "new", "idle")]
    assert [one and one.address[0] for one in turns] == [
        *("10.0.0.1", "10.0.0.2", "10.0.0.1", "::1", "10.0.0.1", "10.0.0.2")
    ]
    families = [one.family for one in place.places]
    assert families == [socket.AF_INET, socket.AF_INET, socket.AF_INET6]


def test_an_ip_version_nobody_answers_by_at_first_is_left_out_and_that_is_told() -> None:
    found = ["::1", "127.0.0.1"]
    one = resolver(lambda: found, up=["127.0.0.1"])
    one.resolve()
    assert places(one) == ["127.0.0.1"]
    assert one.moves[0].left_out == ("::1",)
    found.append("127.0.0.2")
    one.resolve()
    assert places(one) == ["127.0.0.1", "127.0.0.2"]
    found[:] = ["::1"]
    one.resolve()
    assert places(one) == ["::1"], "there is no other"


def test_both_ip_versions_are_used_where_servers_answer_by_both() -> None:
    one = resolver(lambda: ["::1", "127.0.0.1"], up=["::1", "127.0.0.1"])
    one.resolve()
    assert places(one) == ["::1", "127.0.0.1"]


def test_where_nobody_answers_the_systems_first_ip_version_is_used() -> None:
    one = resolver(lambda: ["10.0.0.1", "fd00::1", "10.0.0.2"])
    one.resolve()
    assert places(one) == ["10.0.0.1", "10.0.0.2"]


@pytest.mark.parametrize("error", [socket.gaierror("gone"), UnicodeError("too long")])
def test_a_name_that_fails_has_no_address_until_it_is_back(error: Exception) -> None:
    failing = True

    def found() -> Sequence[str]:
        if failing:
            raise error
        return ["127.0.0.1"]

    one = resolver(found)
    one.target.move(["127.0.0.1"])
    one.resolve()
    assert places(one) == []
    failing = False
    one.resolve()
    assert places(one) == ["127.0.0.1"]


def test_every_move_is_told_with_when_it_was_found_and_since_when_it_can_have_been() -> None:
    found = ["10.0.0.1"]
    one = resolver(lambda: found)
    for addresses in (["10.0.0.1"], ["10.0.0.1"], [], [], ["10.0.0.2", "10.0.0.1"]):
        found[:] = addresses
        one.resolve()
    found.reverse()
    one.resolve()
    told = [move.addresses for move in one.moves]
    assert told == [("10.0.0.1",), (), ("10.0.0.2", "10.0.0.1")], "another order is no move"
    first, gone, back = one.moves
    assert first.since <= first.at <= gone.since <= gone.at <= back.since <= back.at
    assert one.unsure == max(gone.at - gone.since, back.at - back.since)


def test_no_more_than_a_hundred_moves_are_kept_and_the_others_counted() -> None:
    numbers = iter(range(256))
    one = resolver(lambda: [f"10.0.0.{next(numbers)}"])
    for _ in range(130):
        one.resolve()
    assert (len(one.moves), one.more) == (100, 30)
    names = account([one])["names"]
    assert isinstance(names, list)
    assert len(names) == 100
    assert names[-1]["more"] == 30
    assert names[0]["addresses"] == ["10.0.0.0"]


@pytest.mark.parametrize(
    ("host", "settled"),
    [("127.0.0.1", True), ("::1", True), ("fe80::1%lo", True), ("localhost", False)],
)
def test_an_address_needs_no_name_server(host: str, settled: bool) -> None:
    one = Resolver(Target(host, 80, tls=False))
    assert one.settled is settled
    one.resolve()
    assert bool(account([one])["names"]) is not settled


def test_the_systems_own_names_are_looked_up_and_tried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert "127.0.0.1" in lookup("localhost", port)
        assert answers("127.0.0.1", port)
    assert not answers("127.0.0.1", port)
