"""Document 001: two servers in turn behind an nginx that a script reloads."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from account import SEEN_BY_FEW, SEEN_WITHIN, held_up

from zdtest import DeployFailed, Slo, SloViolation
from zdtest.engine import Containers, silent
from zdtest.errors import EngineError
from zdtest.judging.capacity import capacity
from zdtest.judging.interval import lower_rate, upper_rate
from zdtest.records.recording import Recording
from zdtest.records.sample import CHANNELS, Outcome
from zdtest.strategies import canary, rollback, scripted, switch
from zdtest.strategies.step import step

RATE = 200.0
ONCE = "new=4@/api,reused=4@/api,write=2@/orders"
QUICK = {"baseline": "1s", "settle": "500ms"}
# What is promised is no interruption. Latencies and holes in the schedule are measured and shown,
# but a shared machine's host takes both processors away for hundreds of milliseconds at a time. An
# outage shorter than a hole that the report lists is not excluded.
UNINTERRUPTED = Slo(p99_ratio=None, p99_over=None, hole="1s")
# nginx lets old and new workers take connections side by side for a tenth of a second. A busy
# machine adds to it.
AT_ONCE = 0.5
# The document's script gives it a hundred tries, a second apart: a hundredth of that here.
CRASHES = {"scale": 0.01, "releases": {"v2": {"release": "crash"}}}
# nginx closes idle connections when it reloads, and a request that was sent at that very moment is
# reset. That is chance, so those who keep connections are judged apart.
ABORTED = dataclasses.replace(UNINTERRUPTED, deploy="aborted")
FRESH = dataclasses.replace(UNINTERRUPTED, channels=("new", "slow"))


@pytest.mark.claim("1b", source="001", says="down for no longer than it takes to switch a port")
@pytest.mark.parametrize(
    "scale",
    [
        pytest.param(0.3, marks=pytest.mark.topology("nginx_switch", scale=0.3, boot=1.0)),
        pytest.param(
            1, marks=[pytest.mark.topology("nginx_switch", scale=1.0, boot=3.0), pytest.mark.full]
        ),
    ],
)
def test_nobody_notices_the_switch(zd, scale):
    """As mended, and by who opens a connection for each request. The others lose what is in it."""
    with zd.load(rate=RATE, **QUICK):
        zd.deploy("v2", scripted())
    zd.expect(FRESH)
    assert mixed(zd) < AT_ONCE
    _, samples, sent = read(zd)
    outcomes, late = samples.outcome[kept(samples)], sent - samples.due > 0.05
    assert {Outcome(code).name for code in set(outcomes)} <= {"ok", "reset", "closed"}
    lost = kept(samples) & (samples.outcome != Outcome.ok)
    # Where the load was held up just then, it sent at once what fell due meanwhile.
    assert np.count_nonzero(lost & ~late) <= 3
    assert not np.any(lost) or np.ptp(sent[lost]) < AT_ONCE


@pytest.mark.claim("1b", source="001", says="the same, for everybody, those in between as well")
@pytest.mark.topology("nginx_switch", variant="hardened")
def test_nobody_notices_the_switch_hardened(zd):
    with zd.load(rate=RATE, **QUICK):
        zd.deploy("v2", scripted())
    zd.expect(UNINTERRUPTED)
    assert mixed(zd) < AT_ONCE


@pytest.mark.claim("1b", source="001", says="who listens to a stream is switched as well")
@pytest.mark.topology("nginx_switch", variant="documented", scale=0.3)
@pytest.mark.xfail(raises=SloViolation, strict=True, reason="streams stay with the old version")
def test_streams_are_switched(zd):
    with zd.load(rate=RATE, **QUICK):
        zd.deploy("v2", scripted())
    streams = dataclasses.replace(UNINTERRUPTED, channels=("stream",))
    why, *doubts = zd.judge(streams).reasons
    assert "replies not from v2 after the deploy" in why
    assert all(doubt.startswith("inconclusive: only ") for doubt in doubts), "few of them"
    zd.expect(streams)


def as_printed(zd, *argv: str) -> str:
    """What nginx says when it is told to look at the printed files."""
    with pytest.raises(EngineError) as refused:
        zd.stack.proxy.run(*argv)
    return str(refused.value)


@pytest.mark.claim("1b", source="001", says="nginx is started with the printed files")
@pytest.mark.topology("nginx_switch", variant="documented", boot=0.0)
def test_the_printed_files_do_not_start(zd):
    argv = ("nginx", "-t", "-p", "as_printed", "-c")
    assert 'unknown directive "event"' in as_printed(zd, *argv, "nginx.conf")


@pytest.mark.claim("1b", source="001", says="the script is run as it is printed, by Jenkins")
@pytest.mark.topology("nginx_switch", variant="documented", boot=0.0, terminal=True)
def test_docker_exec_without_a_terminal(zd):
    """Nothing is switched, the script goes on, and its exit code says that it went well."""
    if not isinstance(zd.stack.engine, Containers):
        pytest.skip("nginx is no container here: there is no docker exec")
    with zd.load(rate=RATE, **QUICK):
        zd.deploy("v2", scripted())
    assert zd.judge(UNINTERRUPTED).verdict == "inconclusive"
    assert "the input device is not a TTY" in (zd.folder / "logs" / "deploy.sh.log").read_text()
    assert zd.stack.running("was2") == "v2"
    assert "v2" not in Recording.read(zd.folder).samples.versions


@pytest.mark.claim("1c", source="001", says="a version that does not start is no user's trouble")
@pytest.mark.parametrize(
    "variant",
    [
        pytest.param("documented", marks=pytest.mark.topology("nginx_switch", **CRASHES)),
        pytest.param(
            "hardened",
            marks=[
                pytest.mark.full,
                pytest.mark.topology("nginx_switch", variant="hardened", **CRASHES),
            ],
        ),
    ],
)
def test_a_version_that_does_not_start(zd, variant):
    with zd.load(rate=RATE, **QUICK), pytest.raises(DeployFailed):
        zd.deploy("v2", scripted())
    verdict = zd.expect(ABORTED)
    assert verdict.requests > 300
    assert zd.stack.running(zd.stack.instances[0]) == "v1"


PROD = {"include": "prod", "boot": 0.5}
# The script's `sleep 5` after its `kill -9`, at a tenth.
PAUSE = 0.5


@pytest.mark.claim("1c", source="001", says="the server that has the users is never touched")
@pytest.mark.topology("nginx_switch", variant="documented", **PROD)
@pytest.mark.xfail(raises=SloViolation, strict=True, reason="kills the server that has the users")
@pytest.mark.causes("dead", "unready", "died")
def test_another_active_profile(zd):
    """`/profiles` says "prod, was1", which is neither, so was1 has to be the idle one."""
    with zd.load(rate=RATE, **QUICK):
        zd.deploy("v2", scripted())
    assert zd.stack.instances == ("was1",)
    (down,) = (one for one in zd.judge(FRESH).outages if one.channel == "new")
    assert set(down.outcomes) <= {"http_5xx", "truncated"}
    # As sharp as due times are: what fell due meanwhile may have been sent when it was over.
    lateness = held_up(Recording.read(zd.folder), down.earliest, down.latest)
    assert down.max + lateness > PAUSE + PROD["boot"]
    zd.expect(FRESH)


@pytest.mark.claim("1c", source="001", says="the same, by what nginx was told")
@pytest.mark.topology("nginx_switch", variant="hardened", **PROD)
def test_another_active_profile_hardened(zd):
    with zd.load(rate=RATE, **QUICK):
        zd.deploy("v2", scripted())
    zd.expect(UNINTERRUPTED)


def switched_back(stack, version, mark):
    """The document's way back: the port, and a reload."""
    with step(mark, "switch", version):
        mark("deploy.rollback.begin", version=version)
        switch.flip(stack, stack.instances, stack.spares, mark)
        mark("deploy.rollback.end", version=version)


@pytest.mark.claim("1d", source="001", says="the old version is a switch away")
@pytest.mark.topology("nginx_switch", variant="documented", boot=0.0)
def test_the_way_back(zd):
    scripted()(zd.stack, "v2", silent)
    zd.version = "v2"
    with zd.load(rate=RATE, **QUICK):
        zd.deploy("v1", switched_back)
    # A fifth of a second: few requests fall into it.
    zd.expect(dataclasses.replace(FRESH, min_requests=10))


@pytest.mark.claim("1d", source="001", says="the old version is a switch away")
@pytest.mark.topology("nginx_switch", variant="hardened", boot=0.0)
def test_the_way_back_hardened(zd):
    scripted()(zd.stack, "v2", silent)
    zd.version = "v2"
    with zd.load(rate=RATE, **QUICK):
        zd.deploy("v1", rollback())
    zd.expect(UNINTERRUPTED)


LONG = "new=4@/api,slow=4@/1000~1s,write=1@/orders"


@pytest.mark.claim("1d", source="001", says="the old version runs on for who is with it")
@pytest.mark.topology("nginx_switch", variant="documented", boot=0.0)
@pytest.mark.xfail(raises=SloViolation, strict=True, reason="the next deploy kills who is with it")
@pytest.mark.causes("died")
def test_two_deploys_in_a_row(zd):
    with zd.load(rate=100, channels=LONG, **QUICK):
        zd.deploy("v2", scripted())
        zd.deploy("v3", scripted())
    failed = {one.channel for one in zd.judge(FRESH).outages} & set(FRESH.channels)
    assert failed == {"slow"}, "who came before the first switch"
    zd.expect(FRESH)


@pytest.mark.claim("1d", source="001", says="the old version runs on for who is with it")
@pytest.mark.topology("nginx_switch", variant="hardened", boot=0.0)
def test_two_deploys_in_a_row_hardened(zd):
    with zd.load(rate=100, channels=LONG, **QUICK):
        zd.deploy("v2", scripted())
        zd.deploy("v3", scripted())
    zd.expect(UNINTERRUPTED)


def read(zd) -> tuple:
    """The recording, what users asked in it, and when each of that was sent, which may be late."""
    recording = Recording.read(zd.folder)
    samples = recording.samples.where(recording.samples.channel != CHANNELS.index("control"))
    # Who was refused has sent nothing.
    return recording, samples, samples.due + np.nan_to_num(samples.lag)


def mixed(zd) -> float:
    """The seconds in which both versions took requests: old and new workers, side by side."""
    _, samples, sent = read(zd)
    once = samples.channel != CHANNELS.index("stream")
    old, new = (
        sent[once & (samples.version == samples.versions.index(version))]
        for version in ("v1", "v2")
    )
    return max(0.0, old.max() - new.min())


def kept(samples):
    """Which samples went over connections that are kept."""
    return np.isin(samples.channel, [CHANNELS.index(name) for name in ("reused", "write", "idle")])


@pytest.mark.claim("4d", source="004", says="only the canary's share sees the new version")
@pytest.mark.topology("nginx_switch", variant="hardened", boot=0.0)
def test_a_canary_gets_its_share_of_nginx(zd):
    with zd.load(rate=RATE, channels=ONCE, **QUICK):
        zd.deploy("v2", canary((5, 25, 100), watch="1.8s"))
    zd.expect(UNINTERRUPTED)
    recording, samples, sent = read(zd)
    new = samples.version == samples.versions.index("v2")
    told = samples.version != samples.versions.index("")
    steps = {about["step"]: (begin, end) for begin, end, about in recording.spans("deploy.step")}
    for share in (5, 25, 100):
        _, end = steps[f"{share}%"]
        # From when nginx has reloaded until the step is over: what was weighed is in force.
        during = told & (sent >= end - 1.8) & (samples.done <= end)
        asked, hits = np.count_nonzero(during), np.count_nonzero(during & new)
        assert asked > 150
        if share < 100:
            assert lower_rate(hits, asked) <= share / 100 <= upper_rate(hits, asked)
        assert abs(hits - asked * share / 100) <= 5
    price = capacity(recording)
    assert (price.instances, price.lowest, price.peak) == (1, 1, 2)


@pytest.mark.claim("4d", source="004", says="a bad version is rolled back fast, seen by few")
@pytest.mark.topology(
    "nginx_switch", variant="hardened", boot=0.0, releases={"v2": {"release": "sick-at-once"}}
)
@pytest.mark.causes("app")
def test_a_bad_canary_is_taken_back_from_nginx(zd):
    aborted = pytest.raises(DeployFailed, match="canary aborted: ")
    with zd.load(rate=RATE, channels=ONCE, **QUICK), aborted:
        zd.deploy("v2", canary((5, 25, 100)))
    few = {"failed": SEEN_BY_FEW.failed, "min_requests": 50}
    verdict = zd.expect(dataclasses.replace(ABORTED, **few))
    recording, samples, sent = read(zd)
    exposed = next(m.about["exposed"] for m in recording.marks if m.name == "deploy.abort")
    bad = samples.version == samples.versions.index("v2")
    assert exposed == verdict.failed == np.count_nonzero(bad)
    assert set(samples.outcome[bad]) == {Outcome.http_5xx}
    begin = next(b for b, _, about in recording.spans("deploy.step") if about["step"] == "5%")
    end = recording.mark("deploy.rollback.end")
    asked = np.count_nonzero((sent <= end) & (samples.done >= begin))
    assert 1 <= exposed <= 0.05 * asked + 2
    assert end - samples.done[bad].min() < SEEN_WITHIN + 0.2, "a reload takes some of it"
    assert zd.stack.running("was2") == ""
