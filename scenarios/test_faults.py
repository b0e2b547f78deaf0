"""What goes wrong with a server, or with the balancer itself, without a deploy.

Document 004 says that a server which does not answer is taken out. A promise that the documented
balancer breaks is pinned, with the shape of what breaks; the hardened one has to keep it.
"""

from __future__ import annotations

import http.client

import numpy as np
import pytest
from account import SAFE, UNINTERRUPTED, Account, assert_only_writes_in_flight_were_lost, named

from zdtest import Slo, SloViolation
from zdtest.faults import freeze, kill, kill_balancer, restart

QUICK = {"baseline": "1s", "settle": "500ms"}
CLIENTS = "new=4@/api,reused=4@/api,write=2@/orders"
# Each request takes a while, so that a server which dies has some in flight.
WORKING = {"v1": {"release": "slow:200"}}
# Who is dead refuses pings at once. Who is frozen does not, so that one has to be given up on.
PINGED = {"boot": 0.0, "ping_period": 0.2, "ping_timeout": 1.0}
FROZEN = {**PINGED, "ping_timeout": 0.2}
BOTH = pytest.mark.parametrize(
    "variant",
    [
        pytest.param(name, marks=pytest.mark.topology("custom_lb", variant=name, **PINGED))
        for name in ("documented", "hardened")
    ],
)


@pytest.mark.claim("4a", source="004", says="a server that does not answer is taken out")
@pytest.mark.topology("custom_lb", variant="documented", boot=0.5)
@pytest.mark.xfail(
    raises=SloViolation, strict=True, reason="back before the third miss: half of it all fails"
)
@pytest.mark.causes("unready", "dead")
def test_a_restart_that_pings_do_not_notice(zd):
    """One of two servers is killed and started again, faster than three missed pings take."""
    with zd.load(rate=200, channels="new@/api", baseline="2s"):
        with zd.fault(restart("a", within="2s")):
            zd.wait("1s")
        zd.wait("1s")
    assert zd.stack.when("removed", "a") == []
    zd.expect(Slo())


@pytest.mark.claim("4a", source="004", says="a dead server costs what was in flight and is unsafe")
@pytest.mark.topology("custom_lb", variant="hardened", **{**PINGED, "releases": WORKING})
@pytest.mark.parametrize("fault", [kill("a"), restart("a", within="2s")], ids=["kill", "restart"])
@pytest.mark.causes("died", "dead", "unready")
def test_a_server_that_dies_hardened(zd, fault):
    """A GET is asked again elsewhere, also one that had begun; a POST that had begun is lost."""
    clients = "new=4@/api,reused=4@/api,write=3@/orders"
    with zd.load(rate=150, channels=clients, **QUICK), zd.fault(fault, heal_after="1s"):
        zd.wait("1.1s")
    verdict = zd.expect(SAFE)
    account = Account(zd)
    begun, dead = account.mark("fault.begin"), account.mark("app.stopped", instance="a")
    lost = assert_only_writes_in_flight_were_lost(account, begun, dead)
    assert lost > 0, "rate x share of a x time in flight: 41 x 1/2 x 0.2"
    assert verdict.writes.undecided == 0, "each was told 502: nobody was left without a word"
    retried = named(account.said("retried"))
    assert retried
    assert retried & account.ids(account.failed) == set()
    assert account.said("suspect")


@pytest.mark.claim("4a", source="004", says="a server that does not answer is taken out")
@pytest.mark.topology("custom_lb", **FROZEN)
@pytest.mark.xfail(raises=SloViolation, strict=True, reason="who was sent there waits for the thaw")
@pytest.mark.causes("hung")
def test_a_frozen_server(zd):
    """It accepts and says nothing. Pings give up on it after a time, requests never do."""
    with (
        zd.load(rate=100, channels=CLIENTS, timeout="1s", **QUICK),
        # For longer than until it is out, and a user more than that waits.
        zd.fault(freeze("a"), heal_after="3s"),
    ):
        zd.wait("3.2s")
    frozen, out = Account(zd), zd.stack.when("removed", "a")[0]
    hung = frozen.ids(frozen.failed)
    assert frozen.outcomes(frozen.failed) == {"timeout"}
    assert np.all(frozen.sent[frozen.failed] <= out)
    # Users gave up, the balancer did not: all of it ran after the thaw, for nobody.
    still = frozen.mark("fault.proven")
    thawed = still + 3
    ran = [line for line in frozen.journal("request", instance="a") if line["t"] >= thawed]
    assert hung <= named(ran)
    # Every second one, to within those that were being answered when it froze, and those that were
    # sent just as it was taken out: many, where the machine stood still until then.
    sure, some = (
        np.count_nonzero((frozen.sent >= still) & (frozen.sent <= end)) for end in (out - 0.1, out)
    )
    assert sure / 2 - 5 <= len(hung) <= some / 2 + 5
    # Nobody's time runs out while the load stands still, so that a timeout is one all the same.
    zd.expect(Slo(stall="1s", hole="1s"))


@pytest.mark.claim("4a", source="004", says="a server that does not answer is taken out")
@pytest.mark.topology("custom_lb", variant="hardened", **FROZEN)
def test_a_frozen_server_hardened(zd):
    """As soon as pings say so, what can be asked again is; what cannot waits for the thaw."""
    with (
        zd.load(rate=100, channels=CLIENTS, **{**QUICK, "baseline": "1.5s"}),
        zd.fault(freeze("a"), heal_after="2s"),
    ):
        zd.wait("2.2s")
    zd.expect(UNINTERRUPTED)
    frozen, out = Account(zd), zd.stack.when("removed", "a")[0]
    begun, thawed = frozen.mark("fault.begin"), frozen.mark("fault.proven") + 2
    moved = named(frozen.said("retried", reason="its pings are not answered"))
    assert moved
    assert moved & frozen.ids(frozen.write) == set()
    under_way = ~frozen.write & (frozen.sent <= out) & (frozen.done >= begun)
    assert moved <= frozen.ids(under_way)
    assert np.all(frozen.done[under_way] < thawed)
    held = frozen.write & (frozen.sent <= out) & (frozen.done >= thawed)
    assert np.all(frozen.by("a")[held])


@BOTH
@pytest.mark.claim("4a", source="004", says="no server left: an error for all, and back by itself")
# Also back again and not registered yet: then the document's balancer says that it has nobody.
@pytest.mark.causes("dead", "unready", "nobody")
def test_both_servers_down(zd, variant):
    """Nothing holds here. What differs is what users are told, and what they may do about it."""
    with (
        zd.load(rate=100, channels=CLIENTS, **QUICK),
        zd.fault(kill("a"), heal_after="2s"),
        zd.fault(kill("b"), heal_after="2s"),
    ):
        told = asked(zd)
        zd.wait("2.3s")
    with pytest.raises(SloViolation):
        zd.expect(Slo())
    account = Account(zd)
    dead = account.mark("fault.proven", fault="kill b")
    up = [max(line["t"] for line in account.journal("ready", instance=name)) for name in ("a", "b")]
    down = account.within(dead, min(up))
    assert np.count_nonzero(down) > 100
    assert np.all(account.failed[down])
    assert account.statuses(down) == {500 if variant == "documented" else 503}
    assert account.ids(down) & named(account.app) == set(), "none of it ran"
    back = account.failed & (account.sent > dead)
    if variant == "documented":
        assert told == (500, None)
        assert "no usable server" in {line["reason"] for line in account.said("failed")}
        # In again by the first good ping of either.
        registered = min(t for name in "ab" for t in zd.stack.when("registered", name))
        assert 0 <= registered - min(up) <= PINGED["ping_period"] + 0.8
        assert np.all(account.sent[back] <= registered)
    else:
        assert told == (503, "1")
        # With nobody left the last known are tried: who listens is found by the next request.
        assert np.all(account.sent[back] <= max(up))


@BOTH
@pytest.mark.claim("4a", source="004", says="one balancer: without it there is nothing")
@pytest.mark.causes("proxy")
def test_the_balancer_dies(zd, variant):
    """Total outage in every variant, from its death until another one listens."""
    with (
        zd.load(rate=100, channels=CLIENTS, **QUICK),
        zd.fault(kill_balancer(), heal_after="700ms"),
    ):
        zd.wait("1s")
    with pytest.raises(SloViolation):
        zd.expect(Slo())
    account = Account(zd)
    begun = account.mark("fault.begin")
    dead = account.mark("process.stopped", instance="balancer")
    _, again = (line["t"] for line in account.said("listening"))
    down = account.within(dead, again)
    assert np.count_nonzero(down) > 50
    assert np.all(account.failed[down])
    assert account.outcomes(down) == {"refused"}
    assert account.ids(down) & named(account.app) == set(), "none of it ran"
    # Before and after it nothing fails, but for what was under way when it died.
    lost = account.failed & ~down
    assert np.all((account.sent[lost] <= again) & (account.done[lost] >= begun))
    assert account.outcomes(account.failed) <= {"refused", "reset", "closed", "truncated"}
    channels = {outage.channel: outage for outage in zd.verdict.outages}
    assert set(channels) == {"new", "reused", "write"}
    # As sharp as due times are: what fell due meanwhile may have been sent when it was over.
    down_for = again - dead - account.lateness
    assert all(outage.max >= down_for for outage in channels.values())


def asked(zd) -> tuple[int, str | None]:
    """The status that a user gets now, and for how long one shall wait."""
    way = http.client.HTTPConnection(zd.url.removeprefix("http://"), timeout=5)
    way.request("GET", "/api")
    reply = way.getresponse()
    way.close()
    return reply.status, reply.getheader("Retry-After")
