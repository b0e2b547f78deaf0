"""Document 001: what becomes of the switch when something goes wrong with it."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from account import ABORTED, UNINTERRUPTED, Account

from zdtest import DeployFailed, SloViolation
from zdtest.engine import Containers, silent
from zdtest.errors import EngineError
from zdtest.faults import broken_config, freeze, kill, kill_balancer, kill_worker
from zdtest.strategies import scripted

QUICK = {"baseline": "1s", "settle": "500ms"}
CLIENTS = "new=4@/api,reused=4@/api,write=2@/orders"
WAS = ("was1", "was2")
RELOAD = ("nginx", "-p", ".", "-c", "nginx.conf", "-s", "reload")
FAST = {"boot": 0.0, "scale": 0.1}
# The version before answers again where the new one is gone: that is what it was kept for. A POST
# in flight on a server that dies is lost, whatever a proxy does, and is counted apart. So is one
# GET at the most whose head nginx had passed on and whose body did not come any more.
KEPT = dataclasses.replace(
    UNINTERRUPTED, stale=None, failed=1, bad_body=1, channels=("new", "reused")
)


def switched(zd):
    """The new version has the users, and the old one runs on."""
    scripted()(zd.stack, "v2", silent)
    zd.version = "v2"


@pytest.mark.claim("1c", source="001", says="a new version in trouble is no user's trouble")
@pytest.mark.topology("nginx_switch", variant="documented", **FAST)
@pytest.mark.xfail(raises=SloViolation, strict=True, reason="502 until somebody switches back")
@pytest.mark.causes("dead", "unready")
def test_the_new_version_dies(zd):
    switched(zd)
    with zd.load(rate=120, channels=CLIENTS, **QUICK), zd.fault(kill("was2"), heal_after="1s"):
        zd.wait("1.2s")
    account = Account(zd)
    down = account.within(account.mark("fault.proven"), account.mark("fault.proven") + 1)
    assert np.count_nonzero(down) > 50
    assert account.statuses(down) == {502}
    zd.expect(UNINTERRUPTED)


@pytest.mark.claim("1c", source="001", says="the old version is the fallback")
@pytest.mark.topology("nginx_switch", variant="hardened", **FAST)
def test_the_new_version_dies_hardened(zd):
    switched(zd)
    with zd.load(rate=120, channels=CLIENTS, **QUICK), zd.fault(kill("was2"), heal_after="1s"):
        zd.wait("1.2s")
    zd.expect(KEPT)
    account = Account(zd)
    begun, dead = account.mark("fault.begin"), account.mark("app.stopped", instance="was2")
    assert_only_what_was_under_way_failed(account, begun, dead)
    down = account.within(dead, dead + 1)
    assert np.count_nonzero(down) > 50
    assert np.all(account.by("was1")[down])


def assert_only_what_was_under_way_failed(account: Account, begun: float, gone: float) -> None:
    """Writes, and replies that had begun, sent before the server was gone and not over then."""
    failed = account.failed
    assert account.outcomes(failed & ~account.write) <= {"truncated"}
    assert np.all((account.sent[failed] <= gone) & (account.done[failed] >= begun))


@pytest.mark.full
@pytest.mark.claim("1c", source="001", says="a new version in trouble is no user's trouble")
@pytest.mark.topology("nginx_switch", variant="documented", **FAST)
@pytest.mark.xfail(raises=SloViolation, strict=True, reason="users wait until they give up")
def test_the_new_version_freezes(zd):
    switched(zd)
    with (
        zd.load(rate=120, channels=CLIENTS, timeout="1s", **QUICK),
        zd.fault(freeze("was2"), heal_after="1.5s"),
    ):
        zd.wait("1.6s")
    # Who had the head of a reply waits for the rest.
    assert Account(zd).outcomes(Account(zd).failed) <= {"timeout", "body_timeout"}
    zd.expect(UNINTERRUPTED)


@pytest.mark.claim("1c", source="001", says="the old version is the fallback")
@pytest.mark.topology("nginx_switch", variant="hardened", read_timeout=0.5, **FAST)
@pytest.mark.causes("hung")
def test_the_new_version_freezes_hardened(zd):
    switched(zd)
    with (
        zd.load(rate=120, channels=CLIENTS, timeout="2s", **QUICK),
        zd.fault(freeze("was2"), heal_after="1.5s"),
    ):
        zd.wait("1.6s")
    zd.expect(KEPT)
    account = Account(zd)
    assert account.outcomes(account.failed & ~account.write) <= {"truncated"}
    assert account.outcomes(account.failed) <= {"http_5xx", "truncated"}
    assert np.all(account.sent[account.failed] <= account.mark("fault.proven") + 1.5)
    # The first to wait in vain sends the others to the fallback.
    assert np.count_nonzero(account.by("was1")) > 100


@pytest.mark.full
@pytest.mark.claim("1c", source="001", says="a reload that does not work is no user's trouble")
@pytest.mark.topology("nginx_switch", variant="documented", **FAST)
@pytest.mark.xfail(raises=SloViolation, strict=True, reason="a success that nobody got, then down")
def test_a_broken_config(zd):
    with zd.load(rate=120, channels=CLIENTS, **QUICK):
        with zd.fault(broken_config()):
            zd.deploy("v2", scripted())
            zd.wait("300ms")
            rebooted = reboot(zd)
            zd.wait("300ms")
        zd.stack.start_balancer()
    account = Account(zd)
    assert set(account.samples.version[account.done < rebooted]) == {
        account.samples.versions.index("v1")
    }
    zd.expect(UNINTERRUPTED)


def reboot(zd) -> float:
    """When nginx was ended, to be started again in vain."""
    now = time.monotonic()
    zd.stack.engine.kill(zd.stack.balancer)
    with pytest.raises(EngineError, match="unknown directive"):
        zd.stack.start_balancer()
    return now


@pytest.mark.claim("1c", source="001", says="what would not start again is not deployed on")
@pytest.mark.topology("nginx_switch", variant="hardened", **FAST)
def test_a_broken_config_hardened(zd):
    with (
        zd.load(rate=400, channels=CLIENTS, **QUICK),
        zd.fault(broken_config()),
        pytest.raises(DeployFailed, match=r"nginx\.conf is broken"),
    ):
        zd.deploy("v2", scripted())
    # It looks before it does anything: that is over in a tenth of a second.
    zd.expect(dataclasses.replace(ABORTED, min_requests=10))
    assert zd.stack.running("was2") == ""


@pytest.mark.full
@pytest.mark.claim("1b", source="001", says="one nginx: what is in its worker is gone with it")
@pytest.mark.topology(
    "nginx_switch", variant="hardened", releases={"v1": {"release": "slow:100"}}, **FAST
)
def test_a_worker_of_nginx_dies(zd):
    with zd.load(rate=120, channels=CLIENTS, **QUICK), zd.fault(kill_worker()):
        zd.wait("1.2s")
    zd.judge(UNINTERRUPTED)
    account = Account(zd)
    begun, back = account.mark("fault.begin"), account.mark("fault.proven")
    failed = account.failed
    assert np.count_nonzero(failed) > 0
    assert np.all((account.sent[failed] <= back) & (account.done[failed] >= begun))
    assert account.outcomes(failed) <= {"reset", "closed", "truncated"}


@pytest.mark.full
@pytest.mark.claim("1b", source="001", says="one nginx: without it there is nothing")
@pytest.mark.topology("nginx_switch", variant="hardened", **FAST)
def test_nginx_is_started_again(zd):
    switched(zd)
    with (
        zd.load(rate=120, channels=CLIENTS, **QUICK),
        zd.fault(kill_balancer(), heal_after="500ms"),
    ):
        zd.wait("1s")
    with pytest.raises(SloViolation):
        zd.expect(UNINTERRUPTED)
    account = Account(zd)
    dead, healed = account.mark("process.stopped", instance="proxy"), account.mark("fault.end")
    down = account.within(dead, dead + 0.5)
    assert np.count_nonzero(down) > 25
    # Docker's own proxy, where there is one, goes on accepting for a moment.
    assert account.outcomes(down) <= {"refused", "reset", "closed"}
    begun = account.mark("fault.begin")
    failed = account.failed
    assert np.all((account.done[failed] >= begun) & (account.sent[failed] <= healed))
    assert {name for name in account.samples.versions if name} == {"v2"}, "who had the users"


@pytest.mark.full
@pytest.mark.claim("1b", source="001", says="the include is replaced on the host, as one does")
@pytest.mark.topology("nginx_switch", variant="documented", single_file=True, **FAST)
def test_an_include_that_is_mounted_by_itself(zd):
    """`mv` puts another file in its place, and the mount goes on showing the one that was there."""
    if not isinstance(zd.stack.engine, Containers):
        pytest.skip("nginx is no container here: nothing is mounted")
    with zd.load(rate=120, channels="new@/api", **QUICK):
        zd.deploy("v2", moved)
        zd.wait("1s")
    verdict = zd.judge(UNINTERRUPTED)
    assert (verdict.verdict, verdict.failed) == ("inconclusive", 0)
    assert "v2" not in Account(zd).samples.versions


def moved(stack, version, mark):
    """The switch by hand, on the host: a new file, `mv`, a reload."""
    stack.start("was2", version)
    stack.ready("was2")
    include = stack.proxy.home / "conf.d" / "service-url.inc"
    new = include.with_suffix(".new")
    new.write_text(include.read_text().replace(*(str(stack.slots.ports[w]) for w in WAS)))
    new.replace(include)
    stack.proxy.replaced(lambda: stack.proxy.run(*RELOAD))
