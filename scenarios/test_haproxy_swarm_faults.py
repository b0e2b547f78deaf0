"""Document 000 when something goes wrong, in an update or between two."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from account import ABORTED, UNINTERRUPTED, Account

from zdtest import DeployFailed, SloViolation
from zdtest.faults import freeze, kill, kill_balancer
from zdtest.records.sample import CHANNELS
from zdtest.strategies import scripted

QUICK = {"baseline": "1s", "settle": "500ms"}
CLIENTS = "new=4@/,reused=4@/,write=2@/orders,slow=1@/1000~1s"
NO_SLOW = "new=3@/,reused=3@/,write=2@/orders"
MISSING = {"v2": {"release": "missing"}}
CRASH = {"v2": {"release": "crash"}}
# Whoever only reads is asked again of another one; a write that was under way may have run.
READ = dataclasses.replace(UNINTERRUPTED, channels=("new", "reused", "slow"), stale=None)
SWARM = ("webapp.1", "webapp.2", "webapp.3")


@dataclass(frozen=True, slots=True)
class Deaf:
    """Who answers for the engine's socket stands still, as an engine does that is too busy."""

    name: str = "freeze docker.sock"

    def inject(self, stack) -> Callable[[], None]:
        host, one = stack.engine.host, stack.socket
        host.signal(one, "STOP")
        return lambda: host.signal(one, "CONT")


@pytest.mark.full
@pytest.mark.claim("0a", source="000", says="one that dies is left out")
@pytest.mark.topology("haproxy_swarm", variant="documented", scale=0.4, poll=5)
@pytest.mark.xfail(raises=SloViolation, strict=True, reason="what it had is lost: 502, or no word")
@pytest.mark.causes("died", "dead")
def test_a_task_dies(zd):
    with zd.load(rate=110, channels=CLIENTS, timeout="20s", **QUICK), zd.fault(kill("webapp.1")):
        zd.wait("8s")
    account = Account(zd)
    begun, dead = account.mark("fault.begin"), account.mark("app.stopped", instance="webapp.1")
    slow = account.failed & (account.samples.channel == CHANNELS.index("slow"))
    assert np.any(slow), "reads as well"
    assert np.all((account.sent[slow] <= dead) & (account.done[slow] >= begun))
    zd.expect(UNINTERRUPTED)


@pytest.mark.full
@pytest.mark.claim("0a", source="000", says="one that dies is left out, and what it had is asked")
@pytest.mark.topology("haproxy_swarm", variant="hardened")
def test_a_task_dies_hardened(zd):
    with zd.load(rate=110, channels=CLIENTS, **QUICK), zd.fault(kill("webapp.1")):
        zd.wait("2s")
    zd.expect(READ)
    account = Account(zd)
    begun, dead = account.mark("fault.begin"), account.mark("app.stopped", instance="webapp.1")
    assert np.all((account.sent[account.failed] <= dead) & (account.done[account.failed] >= begun))
    assert set(SWARM) == {line["instance"] for line in account.journal("ready")}


@pytest.mark.full
@pytest.mark.claim("0a", source="000", says="one that stands still is left out")
@pytest.mark.topology("haproxy_swarm", variant="documented")
@pytest.mark.causes("hung")
def test_a_task_stands_still(zd):
    """Its kernel accepts: a check is content. leastconn counts who waits, and sends few there."""
    with (
        zd.load(rate=110, channels=NO_SLOW, timeout="2s", **QUICK),
        zd.fault(freeze("webapp.1"), heal_after="6s"),
    ):
        zd.wait("6.5s")
    zd.judge(UNINTERRUPTED)
    account = Account(zd)
    waited = account.failed & (account.done > account.mark("fault.proven"))
    assert 0 < np.count_nonzero(waited) < 50
    assert account.outcomes(waited) <= {"timeout", "body_timeout"}


@pytest.mark.full
@pytest.mark.claim("0a", source="000", says="the same: asked over HTTP, it does not answer")
@pytest.mark.topology("haproxy_swarm", variant="hardened")
def test_a_task_stands_still_hardened(zd):
    """For three seconds at the most; what was sent there by then waits, and is not asked again."""
    with (
        zd.load(rate=110, channels=NO_SLOW, timeout="2s", **QUICK),
        zd.fault(freeze("webapp.1"), heal_after="6s"),
    ):
        zd.wait("6.5s")
    zd.judge(UNINTERRUPTED)
    account = Account(zd)
    still = account.mark("fault.proven")
    assert account.outcomes(account.failed) <= {"timeout", "body_timeout"}
    assert np.all(account.sent[account.failed] < still + 3)


@pytest.mark.full
@pytest.mark.claim("0a", source="000", says="a tag that does not exist harms nobody")
@pytest.mark.topology("haproxy_swarm", variant="documented", releases=MISSING)
def test_a_tag_that_is_missing(zd):
    """Before anybody looks for the image the old task is stopped: two are left, for good."""
    # It is over in a quarter of a second.
    with zd.load(rate=500, channels=NO_SLOW, **QUICK):
        with pytest.raises(DeployFailed, match="update paused due to failure"):
            zd.deploy("v2", scripted())
        # The old one is gone by then.
        zd.wait("3s")
    assert_still_at(zd, "v1")
    ended = [one.error for one in zd.stack.cluster.tasks() if one.state == "rejected"]
    assert any("No such image: windowforsun/test-web:v2" in error for error in ended)
    assert running(zd) == 2


@pytest.mark.full
@pytest.mark.claim("0a", source="000", says="what cannot run leaves all as it was")
@pytest.mark.parametrize(
    "release",
    [
        pytest.param(name, marks=pytest.mark.topology("haproxy_swarm", variant="hardened", **told))
        for name, told in {"missing": {"releases": MISSING}, "crash": {"releases": CRASH}}.items()
    ],
)
def test_a_version_that_cannot_run_hardened(zd, release):
    with (
        zd.load(rate=110, **QUICK),
        pytest.raises(
            DeployFailed, match=r"(?s)rollback_completed: .*(No such image|non-zero exit)"
        ),
    ):
        zd.deploy("v2", scripted())
    assert_still_at(zd, "v1")
    assert running(zd) == 3


def assert_still_at(zd, old: str) -> None:
    """Nobody noticed the deploy."""
    verdict = zd.expect(ABORTED)
    assert set(verdict.versions) == {old}
    assert verdict.requests > 300
    assert verdict.writes.ok == verdict.writes.sent > 0


def running(zd) -> int:
    """How many tasks run, of those that are wanted."""
    tasks = zd.stack.cluster.tasks(zd.stack.service)
    return sum((one.state, one.wanted) == ("running", "running") for one in tasks)


@pytest.mark.full
@pytest.mark.claim("0a", source="000", says="by the engine's socket HAProxy knows who is there")
@pytest.mark.topology("haproxy_swarm", variant="documented")
@pytest.mark.xfail(raises=SloViolation, strict=True, reason="what it knows are three that are gone")
# No `causes`: tasks share a port, and blame takes who is gone for the next one, which still boots.
def test_the_engine_does_not_answer(zd):
    with zd.load(rate=60, channels="new=3@/", timeout="2s", **QUICK):
        with zd.fault(Deaf()):
            zd.deploy("v2", scripted())
        zd.wait("2s")
    account = Account(zd)
    last = max(line["t"] for line in account.journal("stopped", version="v1", code=143))
    gone = account.within(last, account.mark("fault.end"))
    assert np.count_nonzero(gone) > 60
    assert np.all(account.failed[gone])
    assert np.any(account.samples.outcome[account.due > account.mark("fault.end") + 1] == 0)
    zd.expect(UNINTERRUPTED)


@pytest.mark.full
@pytest.mark.claim("0a", source="000", says="one HAProxy: without it there is nothing")
@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(name, marks=pytest.mark.topology("haproxy_swarm", variant=name))
        for name in ("documented", "hardened")
    ],
)
@pytest.mark.causes("proxy")
def test_haproxy_dies(zd, variant):
    """The swarm waits for five seconds before it starts another one."""
    with zd.load(rate=60, channels="new=3@/,write=1@/orders", **QUICK), zd.fault(kill_balancer()):
        zd.wait("8s")
    verdict = zd.judge(dataclasses.replace(UNINTERRUPTED, stale=None))
    assert verdict.verdict == "broken"
    assert 4 < verdict.downtime[1] < 20
    account = Account(zd)
    assert account.outcomes(account.failed) <= {"refused", "reset", "closed"}
