"""What goes wrong between the balancer and one of two servers, made by a proxy in the path."""

from __future__ import annotations

import numpy as np
import pytest
from account import SAFE, UNINTERRUPTED, Account, named

from zdtest import Slo, SloViolation
from zdtest.engine import probe
from zdtest.faults import failing_health, latency, resets, slow_health

QUICK = {"baseline": "1s", "settle": "500ms"}
CLIENTS = "new=4@/api,reused=4@/api,write=2@/orders"
PINGED = {"boot": 0.0, "ping_period": 0.3, "ping_timeout": 1.0, "proxied": True}
# Late pings have to be given up on.
LATE = {**PINGED, "ping_timeout": 0.3}


def both(documented, hardened):
    """Both variants, each raised with its own parameters."""
    return pytest.mark.parametrize(
        "variant",
        [
            pytest.param(name, marks=pytest.mark.topology("custom_lb", variant=name, **told))
            for name, told in (("documented", documented), ("hardened", hardened))
        ],
    )


@both(LATE, LATE)
@pytest.mark.claim("4b", source="004", says="a server that answers again is registered again")
def test_a_slow_ping_flaps(zd, variant):
    """A server is as good as ever and late with its pings, twice: half the capacity goes twice."""
    with zd.load(rate=150, channels=CLIENTS, **QUICK):
        for time in (1, 2):
            with zd.fault(slow_health("a", by="500ms")):
                becomes(zd, "removed", time)
                zd.wait("200ms")
            becomes(zd, "registered", time + (variant == "hardened"))
    zd.expect(UNINTERRUPTED)
    account = Account(zd)
    outs, backs = zd.stack.when("removed", "a"), zd.stack.when("registered", "a")[-2:]
    assert len(outs) == 2
    for out, back in zip(outs, backs, strict=True):
        alone = account.within(out, back) & (account.due >= out)
        assert np.count_nonzero(alone) > 10
        assert np.all(account.by("b")[alone])


@pytest.mark.claim("4a", source="004", says="a server is as well as its pings")
@both(PINGED, PINGED)
@pytest.mark.xfail(
    raises=SloViolation, strict=True, reason="well to its pings, it keeps its share and fails it"
)
@pytest.mark.causes("fault")
def test_good_pings_and_no_service(zd, variant):
    with (
        zd.load(rate=150, channels="new=1@/api,reused=1@/api", **QUICK),
        zd.fault(failing_health("a", path="/api"), heal_after="1.5s"),
    ):
        zd.wait("1.7s")
    account = Account(zd)
    begun = account.mark("fault.proven")
    during = account.within(begun, begun + 1.5)
    asked, failed = np.count_nonzero(during), np.count_nonzero(during & account.failed)
    assert asked > 100
    # Turns are dealt: every second one, to within those at the edges.
    assert abs(failed - asked / 2) <= 4 + account.under_way(begun, begun + 1.5)
    assert account.statuses(account.failed) == {500}
    assert zd.stack.when("removed", "a") == []
    zd.expect(Slo())


@pytest.mark.claim("4a", source="004", says="a server that only fails is taken out, on demand")
@pytest.mark.topology("custom_lb", variant="hardened", eject_after=3, **PINGED)
def test_good_pings_and_no_service_ejected(zd):
    with (
        zd.load(rate=150, channels="new=1@/api,reused=1@/api", **QUICK),
        zd.fault(failing_health("a", path="/api"), heal_after="1.7s"),
    ):
        zd.wait("1.9s")
    verdict = zd.judge(UNINTERRUPTED)
    account = Account(zd)
    (ejected,) = zd.stack.when("ejected", "a")
    # What was on its way when the third was answered; then nobody.
    assert 3 <= verdict.failed == zd.stack.told("a").failed
    assert np.all(account.sent[account.failed] <= ejected)
    assert np.count_nonzero(account.failed & (account.done < ejected)) <= 3
    later = account.within(ejected, account.mark("fault.end"))
    assert np.count_nonzero(later) > 100
    assert np.all(account.by("b")[later])


@pytest.mark.claim("4a", source="004", says="a server that does not answer is taken out")
@pytest.mark.topology("custom_lb", **PINGED)
@pytest.mark.xfail(raises=SloViolation, strict=True, reason="until the third miss it is asked")
@pytest.mark.causes("fault")
def test_connections_to_one_server_are_reset(zd):
    with (
        zd.load(rate=150, channels=CLIENTS, **QUICK),
        zd.fault(resets("a"), heal_after="1.5s"),
    ):
        zd.wait("1.6s")
    account = Account(zd)
    begun, out = account.mark("fault.proven"), zd.stack.when("removed", "a")[0]
    assert account.statuses(account.failed) == {500}
    assert account.ids(account.failed) == named(account.said("failed"))
    during = account.within(begun, out)
    asked, failed = np.count_nonzero(during), np.count_nonzero(during & account.failed)
    assert abs(failed - asked / 2) <= 4 + account.under_way(begun, out)
    assert np.all(account.sent[account.failed] <= out)
    zd.expect(Slo())


@pytest.mark.claim("4a", source="004", says="a server that does not answer is taken out")
@pytest.mark.topology("custom_lb", variant="hardened", **PINGED)
def test_connections_to_one_server_are_reset_hardened(zd):
    """Whoever finds out is asked again elsewhere, or lost if it is a POST: chance has it who."""
    with (
        zd.load(rate=150, channels=CLIENTS, **QUICK),
        zd.fault(resets("a"), heal_after="1s"),
    ):
        zd.wait("1.2s")
    zd.expect(SAFE)
    account = Account(zd)
    assert account.said("suspect")
    lost = account.ids(account.failed)
    assert not lost & named(account.said("retried"))
    assert not np.any(account.failed & ~account.write)
    assert account.statuses(account.failed) <= {502}
    assert lost == named(account.said("failed"))
    # Nobody is asked any more once one request has found out.
    assert np.all(account.sent[account.failed] <= zd.stack.when("suspect", "a")[0])


@both(PINGED, LATE)
@pytest.mark.claim("4a", source="004", says="slow is not dead")
def test_one_server_is_slow(zd, variant):
    """Pings that wait longer than it is late leave it in; others take it out, before users do."""
    late, lasts = 0.5, 2.5
    with (
        zd.load(rate=150, channels=CLIENTS, **QUICK),
        zd.fault(latency("a", late, jitter="50ms"), heal_after=lasts),
    ):
        zd.wait(lasts + 0.2)
    zd.expect(UNINTERRUPTED)
    account = Account(zd)
    begun = account.mark("fault.proven")
    during = account.within(begun, begun + lasts)
    slow = account.samples.latency >= late - 0.05
    assert np.all(slow[during & account.by("a")])
    if variant == "documented":
        assert zd.stack.when("removed", "a") == []
        # Half of the users wait, less those who still did when the fault ended.
        assert np.count_nonzero(during & account.by("a")) > np.count_nonzero(during) / 4
    else:
        later = account.within(zd.stack.when("removed", "a")[0], begun + lasts)
        assert np.count_nonzero(later) > 50
        assert np.all(account.by("b")[later])


def becomes(zd, state: str, time: int) -> None:
    """Return once the balancer has said so of `a` that many times."""

    def missing() -> str:
        zd.wait("20ms")
        return "" if len(zd.stack.when(state, "a")) >= time else f"not {state} yet"

    probe.until(f"{state} {time}", missing, timeout=10)
