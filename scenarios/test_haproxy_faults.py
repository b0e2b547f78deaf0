"""What can go wrong around document 000's HAProxy, as documented and hardened."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from account import UNINTERRUPTED
from behind_haproxy import BehindHAProxy

from zdtest import SloViolation, rolling
from zdtest.engine import silent
from zdtest.faults import freeze, kill, kill_balancer
from zdtest.records.sample import Outcome
from zdtest.strategies import blue_green

RATE = 200.0
QUICK = {"baseline": "1s", "settle": "500ms"}
# A POST in flight on a server that dies is lost, whatever a balancer does, and is counted apart.
SAFE = dataclasses.replace(UNINTERRUPTED, channels=("new", "slow", "reused"))
WAITING = "new=2@/api,slow=2@/500~500ms,reused=4@/500~500ms,write=1@/orders"

pytestmark = pytest.mark.full


def disturbed(zd, fault, *, wait: float) -> None:
    """A deploy, and once it is over the fault, healed after so many seconds."""
    with zd.load(rate=RATE, channels=WAITING, timeout="10s", **QUICK):
        zd.deploy("v2", rolling())
        with zd.fault(fault, heal_after=wait):
            zd.wait(wait + 2)


@pytest.mark.claim("0a", source="000", says="one server dies, the other goes on")
@pytest.mark.topology("haproxy", variant="documented")
@pytest.mark.xfail(raises=SloViolation, strict=True, reason="what it had is not asked for again")
@pytest.mark.causes("stopped", "died", "dead")
def test_one_is_killed(zd):
    disturbed(zd, kill("a"), wait=1.0)
    run = BehindHAProxy(zd)
    killed = run.mark("fault.begin", fault="kill a")
    lost = run.failed & (run.samples.done >= killed)
    assert np.any(lost & (run.samples.outcome == Outcome.http_5xx))
    assert np.any(lost & (run.samples.outcome == Outcome.closed))
    assert run.ends(run.logged(run.ids(lost))) == {("SH", "502")}
    zd.expect(SAFE)


@pytest.mark.claim("0a", source="000", says="the same, GETs being asked again elsewhere")
@pytest.mark.topology("haproxy", variant="hardened")
def test_one_is_killed_hardened(zd):
    """Kept connections included: what is asked again is not closed without a word."""
    disturbed(zd, kill("a"), wait=1.0)
    verdict = zd.expect(SAFE)
    assert verdict.masked.requests > 0
    run = BehindHAProxy(zd)
    # A POST was on the server that died, or there was none.
    assert not np.any(run.failed & ~run.write)
    assert not run.ids(run.failed) & run.answered_by_app()


@pytest.mark.claim("0a", source="000", says="one server hangs, HAProxy notices")
@pytest.mark.topology("haproxy", variant="documented")
@pytest.mark.xfail(raises=SloViolation, strict=True, reason="its port still takes connections")
def test_one_freezes(zd):
    """The kernel takes connections for it, and that is all that the check asks for.

    Who waits counts for `leastconn`, so that few more are sent there than were there already.
    """
    disturbed(zd, freeze("a"), wait=3.0)
    run = BehindHAProxy(zd)
    frozen = run.mark("fault.proven", fault="freeze a")
    said = zd.stack.engine.logs(zd.stack.balancer, 10_000).splitlines()
    downs = [line for line in said if line.startswith("Server default_service/a is DOWN")]
    assert len(downs) == 1, "by the deploy: none of the fifteen checks while it stood still failed"
    waited = (run.samples.due > frozen) & (run.samples.done - run.samples.due > 1.6)
    assert np.any(waited)
    zd.expect(dataclasses.replace(UNINTERRUPTED, slow="1s"))


@pytest.mark.claim("0a", source="000", says="the same, by a check that asks whether it answers")
@pytest.mark.topology("haproxy", variant="hardened")
def test_one_freezes_hardened(zd):
    """Two checks of a second each, half a second apart: nobody is sent there from then on."""
    disturbed(zd, freeze("a"), wait=4.0)
    zd.expect(UNINTERRUPTED)
    run = BehindHAProxy(zd)
    frozen = run.mark("fault.begin", fault="freeze a")
    after = (run.samples.due > frozen + 3.0) & (run.samples.due < frozen + 3.9)
    waited = after & (run.samples.done - run.samples.due > 0.9)
    assert np.count_nonzero(after) > 100
    assert not np.any(waited)


@pytest.mark.claim("0a", source="000", says="HAProxy is reloaded, and nobody notices")
@pytest.mark.topology("haproxy", variant="hardened", boot=0.0)
def test_reloads_under_load(zd):
    """Before the switch and after it, when the other set has the users than in the file."""

    def reloading(stack, version, mark):
        stack.reload()
        blue_green()(stack, version, mark)
        for _ in range(3):
            stack.reload()
            zd.wait(0.3)

    with zd.load(rate=RATE, channels=WAITING, **QUICK):
        zd.deploy("v2", reloading)
    zd.expect(UNINTERRUPTED)
    run = BehindHAProxy(zd)
    assert len({line["pid"] for line in run.haproxy.values()}) == 5


@pytest.mark.claim("0a", source="000", says="HAProxy dies")
@pytest.mark.topology("haproxy", variant="hardened", boot=0.0)
@pytest.mark.xfail(raises=SloViolation, strict=True, reason="one HAProxy, one port")
def test_haproxy_is_killed(zd):
    """Nobody gets through until it is back, and then those do whom it had given the users to."""
    blue_green(keep_old=True)(zd.stack, "v2", silent)
    zd.version = "v2"
    disturbed(zd, kill_balancer(), wait=0.5)
    run = BehindHAProxy(zd)
    killed = run.mark("fault.begin", fault="kill balancer")
    assert run.outcomes(run.failed) <= {"refused", "reset", "closed", "truncated"}
    assert np.all(run.samples.done[run.failed] >= killed)
    back = run.mark("fault.end", fault="kill balancer")
    assert not np.any(run.failed & (run.samples.due > back))
    zd.expect(UNINTERRUPTED)
