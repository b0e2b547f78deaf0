"""What goes wrong in the middle of a deploy, on one of its phases or at a random moment."""

from __future__ import annotations

import pytest
from account import SAFE, Account, assert_only_writes_in_flight_were_lost, named

from zdtest import rolling
from zdtest.faults import at, kill
from zdtest.strategies import blue_green

QUICK = {"baseline": "1s", "settle": "500ms"}
CLIENTS = "new=4@/api,reused=4@/api,write=2@/orders"
WINDOW = 0.8
# Each request takes a while, so that a server which dies has some in flight.
WORKING = {version: {"release": "slow:100"} for version in ("v1", "v2")}
HARDENED = {"variant": "hardened", "ping_period": 0.2, "ping_timeout": 1.0, "releases": WORKING}


@pytest.mark.claim("4a", source="004", says="rolling, and the one that is left dies")
@pytest.mark.topology("custom_lb", boot=0.5, drain=0.4, **HARDENED)
def test_the_next_one_dies_at_first_ready_hardened(zd):
    """Its heal starts it again while the deploy stops and replaces it: there is never a second."""
    with (
        zd.load(rate=100, channels=CLIENTS, **QUICK),
        zd.fault(kill("b"), at="first_ready", heal_after="300ms"),
    ):
        zd.deploy("v2", rolling(pause="600ms"))
    zd.expect(SAFE)
    account = Account(zd)
    assert_fired(account, "kill b", account.mark("app.ready", instance="a", version="v2"))
    assert_no_second_process(zd, account)
    begun, dead = account.mark("fault.begin"), account.mark("app.stopped", instance="b")
    assert_only_writes_in_flight_were_lost(account, begun, dead)
    assert named(account.said("retried"))
    assert [zd.stack.running(name) for name in "abcd"] == ["v2", "v2", "", ""]


@pytest.mark.claim("4c", source="004", says="a whole new set, and one of the old dies any time")
@pytest.mark.topology("custom_lb", boot=1.0, drain=0.3, **HARDENED)
def test_one_of_the_old_dies_at_a_random_moment_of_blue_green(zd, zd_seed):
    """Before the new set has booted. The seed draws when; another run draws another moment."""
    moment = at("before_start", window=WINDOW)
    with (
        zd.load(rate=100, channels=CLIENTS, **QUICK),
        zd.fault(kill("a"), at=moment),
    ):
        zd.deploy("v2", blue_green())
    zd.expect(SAFE)
    account = Account(zd)
    drawn = moment.delay(f"{zd_seed}:0:kill a")
    assert 0 <= drawn <= WINDOW
    assert_fired(account, "kill a", account.mark("deploy.begin") + drawn)
    assert_no_second_process(zd, account)
    begun, dead = account.mark("fault.begin"), account.mark("app.stopped", instance="a")
    assert_only_writes_in_flight_were_lost(account, begun, dead)
    # The deploy has stopped the old set, so the heal, which comes after it, starts nothing again.
    assert [zd.stack.running(name) for name in "abcd"] == ["", "", "v2", "v2"]


def assert_fired(account: Account, fault: str, moment: float) -> None:
    """It was injected at that moment, not before, and while the deploy went on."""
    begun = account.mark("fault.begin", fault=fault)
    assert moment <= begun <= account.mark("deploy.end")


def assert_no_second_process(zd, account: Account) -> None:
    """No name had two processes at once: the later one would have found the port taken."""
    for name in "ab":
        marks = [one for one in account.recording.marks if one.about.get("instance") == name]
        started = [one for one in marks if one.name == "app.started"]
        exits = [one.about["exit"] for one in marks if one.name == "app.stopped"]
        assert "exited 1" not in exits
        assert len(started) - len(exits) == bool(zd.stack.running(name))
