"""Document 004: blue/green and canary, which it compares with its rolling and does not build."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from account import SEEN_BY_FEW, SEEN_WITHIN, Account

from zdtest import DeployFailed, Slo, rolling
from zdtest.engine import silent
from zdtest.judging.capacity import capacity
from zdtest.judging.interval import lower_rate, upper_rate
from zdtest.records.recording import Recording
from zdtest.records.sample import Outcome
from zdtest.strategies import blue_green, canary, rollback

RATE = 200.0
# The balancer gives nothing more to whom it takes the weight: nobody has to wait for its pings.
WEIGHED = {"variant": "hardened", "boot": 0.0, "drain": 0.2, "ping_period": 0.2}

# What the document promises is no interruption. Latencies and holes in the schedule are measured
# and shown, but a shared machine's host takes both processors away for hundreds of milliseconds at
# a time, which says nothing about a balancer. An outage shorter than a hole that the report lists
# is not excluded.
PROMISED = Slo(p99_ratio=None, p99_over=None, hole="1s")


def assert_not_mixed(verdict, recording):
    """One switch, so no version after the other's first reply, by when the requests were due.

    As sharp as due times are: a request sent late reaches the balancer after one due later.
    """
    assert verdict.mixed * 1e3 <= recording.trailer["lag_max_ms"] + 10


@pytest.mark.claim("4c", source="004", says="no versions mixed, for twice the resources")
@pytest.mark.topology("custom_lb", **{**WEIGHED, "boot": 0.8, "drain": 0.6})
def test_blue_green(zd):
    with zd.load(rate=RATE, baseline="2s"):
        zd.deploy("v2", blue_green())
    verdict = zd.expect(PROMISED)
    recording = Recording.read(zd.folder)
    assert_not_mixed(verdict, recording)
    price = capacity(recording)
    assert (price.instances, price.lowest, price.peak) == (2, 2, 4)
    assert price.load < 1.15, "nobody has to do another one's work"
    assert 1.5 < price.memory.ratio < 2.3, "twice, but for what all of them share"


@pytest.mark.claim("4c", source="004", says="back to the set that was kept, at once")
@pytest.mark.topology("custom_lb", **WEIGHED)
def test_blue_green_rolled_back(zd):
    blue_green(keep_old=True)(zd.stack, "v2", silent)
    zd.version = "v2"
    with zd.load(rate=RATE, baseline="2s"):
        zd.deploy("v1", rollback())
    verdict = zd.expect(PROMISED)
    recording = Recording.read(zd.folder)
    assert_not_mixed(verdict, recording)
    assert capacity(recording).rollback < SEEN_WITHIN


@pytest.mark.claim("4a", source="004", says="rolling: fewer servers meanwhile, versions mixed")
@pytest.mark.topology("custom_lb", variant="hardened", boot=0.0, drain=1.0, ping_period=0.2)
def test_the_price_of_rolling(zd):
    with zd.load(rate=RATE, baseline="2s"):
        zd.deploy("v2", rolling(pause="0.5s"))
    verdict = zd.expect(PROMISED)
    price = capacity(Recording.read(zd.folder))
    assert (price.instances, price.lowest, price.peak) == (2, 1, 2)
    assert price.memory.ratio < 1.3, "one takes the place of the other"
    assert 1.7 < price.load < 2.3, "the one that is left does all the work"
    assert 0.4 < verdict.mixed < price.deploy, "both answer from one's return to the other's end"


@pytest.mark.claim("4d", source="004", says="only the canary's share sees the new version")
@pytest.mark.topology("custom_lb", **WEIGHED)
def test_a_canary_gets_exactly_its_share(zd):
    with zd.load(rate=RATE, baseline="2s"):
        zd.deploy("v2", canary((5, 25, 100), watch="1.8s"))
    zd.expect(PROMISED)
    account = Account(zd)
    recording, samples = account.recording, account.samples
    new = samples.version == samples.versions.index("v2")
    told = samples.version != samples.versions.index("")
    weighed = [line["t"] for line in account.said("weights")]
    steps = {about["step"]: (begin, end) for begin, end, about in recording.spans("deploy.step")}
    for share in (5, 25, 100):
        begin, end = steps[f"{share}%"]
        # From when the balancer was told: what falls due before may be sent after, and late.
        during = told & account.within(min(at for at in weighed if at > begin), end)
        asked, hits = np.count_nonzero(during), np.count_nonzero(during & new)
        assert asked > 200
        if share < 100:  # Of all or nothing chance has no bounds.
            assert lower_rate(hits, asked) <= share / 100 <= upper_rate(hits, asked)
        # Far tighter than chance: turns are dealt, and only those under way at its end differ.
        assert abs(hits - asked * share / 100) <= 5
    price = capacity(recording)
    assert (price.instances, price.lowest, price.peak) == (2, 2, 3)


@pytest.mark.claim("4d", source="004", says="a bad version is rolled back fast, seen by few")
@pytest.mark.topology("custom_lb", releases={"v2": {"release": "sick-at-once"}}, **WEIGHED)
@pytest.mark.causes("app")
def test_a_bad_canary_is_taken_back(zd):
    aborted = pytest.raises(DeployFailed, match="canary aborted: ")
    with zd.load(rate=RATE, baseline="2s"), aborted:
        zd.deploy("v2", canary((5, 25, 100)))
    few = {"deploy": "aborted", "failed": SEEN_BY_FEW.failed, "min_requests": 50}
    verdict = zd.expect(dataclasses.replace(PROMISED, **few))
    account = Account(zd)
    recording, samples = account.recording, account.samples
    exposed = next(m.about["exposed"] for m in recording.marks if m.name == "deploy.abort")
    # Three accounts of who met it: the balancer's, the users' and the app's own.
    bad = samples.version == samples.versions.index("v2")
    assert exposed == verdict.failed == np.count_nonzero(bad)
    assert set(samples.outcome[bad]) == {Outcome.http_5xx}
    assert exposed == sum(
        line["event"] == "request" and line["version"] == "v2" and line["path"] != "/ping"
        for line in recording.journal
    )
    begin = next(b for b, _, about in recording.spans("deploy.step") if about["step"] == "5%")
    end = recording.mark("deploy.rollback.end")
    asked = np.count_nonzero((account.sent <= end) & (account.done >= begin))
    assert 1 <= exposed <= 0.05 * asked + 2
    assert end - samples.done[bad].min() < SEEN_WITHIN
    assert zd.stack.running("c") == ""
