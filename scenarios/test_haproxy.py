"""Document 000's HAProxy, without the swarm: two instances, rolling, blue/green and canary."""

from __future__ import annotations

import numpy as np
import pytest
from account import SEEN_BY_FEW, SEEN_WITHIN, UNINTERRUPTED
from behind_haproxy import BehindHAProxy

from zdtest import DeployFailed, SloViolation, rolling
from zdtest.engine import silent
from zdtest.judging.capacity import capacity
from zdtest.judging.interval import lower_rate, upper_rate
from zdtest.records.recording import Recording
from zdtest.records.sample import CHANNELS, Outcome
from zdtest.strategies import blue_green, canary, rollback

RATE = 200.0
QUICK = {"baseline": "1s", "settle": "500ms"}
# Some are on connections of their own, some on kept ones, and both have to wait.
WAITING = "new=2@/api,slow=2@/500~500ms,reused=4@/500~500ms,write=1@/orders"


@pytest.mark.claim("0a", source="000", says="HAProxy notices who leaves: no interruption")
@pytest.mark.topology("haproxy", variant="documented")
@pytest.mark.xfail(raises=SloViolation, strict=True, reason="what a server has, it takes with it")
@pytest.mark.causes("stopped", "dead")
def test_rolling(zd):
    """Two ways to be lost, and neither is what HAProxy could notice in time."""
    with zd.load(rate=RATE, channels=WAITING, **QUICK):
        zd.deploy("v2", rolling(pause="1s"))
    verdict = zd.judge(UNINTERRUPTED)
    run = BehindHAProxy(zd)
    told = run.failed & (run.samples.outcome == Outcome.http_5xx)
    hushed = run.failed & (run.samples.outcome == Outcome.closed)
    assert np.array_equal(run.failed, told | hushed)
    # The first request on its connection is told 502 ...
    assert run.statuses(told) == {502}
    assert run.ends(run.ids(told)) == {("SH", "502")}
    # ... and a later one nothing at all, nor is it written down; a write may be such a one.
    kept = [CHANNELS.index(name) for name in ("reused", "write")]
    assert np.all(np.isin(run.samples.channel[hushed], kept))
    assert not run.logged(run.ids(hushed))
    lost = run.ids(run.failed)
    assert np.count_nonzero(told) >= 2
    assert np.count_nonzero(hushed) >= 2
    # The server that was stopped had each of them, or did not read it any more as it stopped.
    assert run.ids(run.failed & ~stopping(run, run.sent)) <= run.arrived.keys()
    # What it answered as it stopped may have been cut with the connection.
    answered = run.journal("answered")
    late = stopping(run, np.array([line["t"] for line in answered]))
    assert not lost & {line["id"] for line, was in zip(answered, late, strict=True) if not was}
    # Whom it refused from then on had to be asked for elsewhere.
    assert verdict.masked.requests > 0
    assert {run.haproxy[one.id]["retries"] for one in verdict.masked.first} == {"+1"}
    zd.expect(UNINTERRUPTED)


def stopping(run, at):
    """Which of these moments fell into the end of a server of v1, or into the 50 ms before."""
    found = np.zeros(len(at), np.bool_)
    for name in ("a", "b"):
        about = {"instance": name, "version": "v1"}
        begin, end = run.mark("app.term", **about), run.mark("app.stopped", **about)
        found |= (at >= begin - 0.05) & (at <= end)
    return found


@pytest.mark.claim("0a", source="000", says="the same, HAProxy being told before")
@pytest.mark.topology("haproxy", variant="hardened")
def test_rolling_hardened(zd):
    with zd.load(rate=RATE, channels=WAITING, **QUICK):
        zd.deploy("v2", rolling())
    verdict = zd.expect(UNINTERRUPTED)
    assert verdict.masked.requests == 0, "nobody was sent to a server that was leaving"


def assert_not_mixed(verdict, recording):
    """One switch, so no version after the other's first reply, by when the requests were due.

    As sharp as due times are: a request sent late reaches HAProxy after one due later.
    """
    assert verdict.mixed * 1e3 <= recording.trailer["lag_max_ms"] + 10


@pytest.mark.claim("4c", source="004", says="no versions mixed, for twice the resources")
@pytest.mark.topology("haproxy", variant="hardened")
def test_blue_green(zd):
    with zd.load(rate=RATE, **QUICK):
        zd.deploy("v2", blue_green())
    verdict = zd.expect(UNINTERRUPTED)
    recording = Recording.read(zd.folder)
    assert_not_mixed(verdict, recording)
    price = capacity(recording)
    assert (price.instances, price.lowest, price.peak) == (2, 2, 4)
    assert verdict.masked.requests == 0


@pytest.mark.claim("4c", source="004", says="back to the set that was kept, at once")
@pytest.mark.topology("haproxy", variant="hardened", boot=0.0)
def test_blue_green_rolled_back(zd):
    blue_green(keep_old=True)(zd.stack, "v2", silent)
    zd.version = "v2"
    with zd.load(rate=RATE, **QUICK):
        zd.deploy("v1", rollback())
    verdict = zd.expect(UNINTERRUPTED)
    recording = Recording.read(zd.folder)
    assert_not_mixed(verdict, recording)
    assert capacity(recording).rollback < SEEN_WITHIN


@pytest.mark.claim("4d", source="004", says="only the canary's share sees the new version")
@pytest.mark.topology("haproxy", variant="hardened", boot=0.0)
@pytest.mark.full
def test_a_canary_gets_exactly_its_share(zd):
    with zd.load(rate=RATE, **QUICK):
        zd.deploy("v2", canary((5, 25, 100), watch="1.8s"))
    zd.expect(UNINTERRUPTED)
    run = BehindHAProxy(zd)
    recording, samples = run.recording, run.samples
    new = samples.version == samples.versions.index("v2")
    told = samples.version != samples.versions.index("")
    steps = {about["step"]: (begin, end) for begin, end, about in recording.spans("deploy.step")}
    for share in (5, 25, 100):
        # What it was told by then is in force: what falls due before may be sent after, and late.
        _, end = steps[f"{share}%"]
        during = told & (run.sent >= end - 1.8) & (samples.done <= end)
        asked, hits = np.count_nonzero(during), np.count_nonzero(during & new)
        assert asked > 200
        if share < 100:
            assert lower_rate(hits, asked) <= share / 100 <= upper_rate(hits, asked)
        assert abs(hits - asked * share / 100) <= 5
    price = capacity(recording)
    assert (price.instances, price.lowest, price.peak) == (2, 2, 3)


@pytest.mark.claim("4d", source="004", says="a bad version is rolled back fast, seen by few")
@pytest.mark.topology(
    "haproxy", variant="hardened", boot=0.0, releases={"v2": {"release": "sick-at-once"}}
)
def test_a_bad_canary_is_taken_back(zd):
    aborted = pytest.raises(DeployFailed, match="canary aborted: ")
    with zd.load(rate=RATE, **QUICK), aborted:
        zd.deploy("v2", canary((5, 25, 100)))
    verdict = zd.expect(SEEN_BY_FEW)
    run = BehindHAProxy(zd)
    recording, samples = run.recording, run.samples
    exposed = next(m.about["exposed"] for m in recording.marks if m.name == "deploy.abort")
    # Three accounts of who met it: HAProxy's, the users' and the app's own.
    bad = samples.version == samples.versions.index("v2")
    assert exposed == verdict.failed == np.count_nonzero(bad)
    assert set(samples.outcome[bad]) == {Outcome.http_5xx}
    assert exposed == sum(
        line["event"] == "request" and line["version"] == "v2" and line["path"] != "/ready"
        for line in recording.journal
    )
    begin = next(b for b, _, about in recording.spans("deploy.step") if about["step"] == "5%")
    end = recording.mark("deploy.rollback.end")
    asked = np.count_nonzero((run.sent <= end) & (samples.done >= begin))
    assert 1 <= exposed <= 0.05 * asked + 2
    assert end - samples.done[bad].min() < SEEN_WITHIN
    assert zd.stack.running("c") == ""
