"""A name may move to another address, or cease to be, while the load runs."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

import pytest

from zdtest.sending.resolver import Resolver, answers, lookup
from zdtest.sending.wire import Target


def resolver(found: Callable[[], Sequence[str]], up: Sequence[str] = ()) -> Resolver:
    place = Target("app.test", 80, tls=False)
    return Resolver(place, look_up=lambda *_: found(), answers=lambda address, _: address in up)


def test_the_first_address_that_answers_is_taken_and_kept_for_as_long_as_the_name_has_it() -> None:
    found = ["::1", "127.0.0.1", "127.0.0.2"]
    one = resolver(lambda: found, up=["127.0.0.1", "127.0.0.2"])
    one.resolve()
    assert one.target.address == ("127.0.0.1", 80)
    found.insert(0, "127.0.0.2")
    one.resolve()
    assert one.target.address == ("127.0.0.1", 80)
    found[:] = ["::1"]
    one.resolve()
    assert one.target.address == ("::1", 80)
    assert one.target.family == socket.AF_INET6


def test_where_no_address_answers_the_first_is_taken() -> None:
    one = resolver(lambda: ["10.0.0.1", "10.0.0.2"])
    one.resolve()
    assert one.target.address == ("10.0.0.1", 80)


@pytest.mark.parametrize("error", [socket.gaierror("gone"), UnicodeError("too long")])
def test_a_name_that_fails_has_no_address_until_it_is_back(error: Exception) -> None:
    failing = True

    def found() -> Sequence[str]:
        if failing:
            raise error
        return ["127.0.0.1"]

    one = resolver(found)
    one.target.move("127.0.0.1")
    one.resolve()
    assert one.target.address is None
    failing = False
    one.resolve()
    assert one.target.address == ("127.0.0.1", 80)


@pytest.mark.parametrize(
    ("host", "settled"),
    [("127.0.0.1", True), ("::1", True), ("fe80::1%lo", True), ("localhost", False)],
)
def test_an_address_needs_no_name_server(host: str, settled: bool) -> None:
    assert Resolver(Target(host, 80, tls=False)).settled is settled


def test_the_systems_own_names_are_looked_up_and_tried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert "127.0.0.1" in lookup("localhost", port)
        assert answers("127.0.0.1", port)
    assert not answers("127.0.0.1", port)
