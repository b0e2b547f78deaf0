"""Which engine a topology gets, by what it can run on, what is wanted, and what is there."""

from __future__ import annotations

import pytest

from zdtest.engine.offer import Docker, Offer
from zdtest.errors import EngineMissing

BOTH = ("docker", "process")


@pytest.fixture
def none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which nothing answers and nothing can be started."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")


def test_plain_processes_are_always_there(none: None) -> None:
    with Offer() as offer:
        assert offer.choose(("process", "docker")) is None
        assert offer.choose(BOTH) is None


def test_what_is_not_wanted_is_not_given() -> None:
    with Offer("process") as offer:
        assert offer.choose(BOTH) is None
        with pytest.raises(EngineMissing, match=r"^runs on docker, not on process$"):
            offer.choose(("docker",))


def test_without_docker_what_needs_it_is_told_why_each_time(none: None) -> None:
    with Offer() as offer:
        for _ in range(2):
            with pytest.raises(EngineMissing, match=r"/nonexistent/docker\.sock: nothing answers"):
                offer.choose(("docker",))


def test_asking_for_docker_alone_never_gives_processes(none: None) -> None:
    with Offer("docker") as offer, pytest.raises(EngineMissing, match="nothing answers"):
        offer.choose(BOTH)


def test_processes_need_their_programs(none: None) -> None:
    with Offer() as offer:
        assert offer.choose(BOTH, ["sh"]) is None
        with pytest.raises(EngineMissing, match=r"nothing answers.*; .*no such-proxy on the path"):
            offer.choose(BOTH, ["sh", "such-proxy"])


@pytest.mark.docker
def test_docker_is_looked_for_once_and_lent_to_all() -> None:
    with Offer() as offer:
        try:
            first = offer.choose(("docker",))
        except EngineMissing as error:
            pytest.skip(str(error))
        assert isinstance(first, Docker)
        assert offer.choose(BOTH) is first
        assert str(first).startswith(f"docker {first.version}")
