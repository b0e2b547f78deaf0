"""Document 003: blue and green by Docker Compose, both in nginx's upstream, and a deploy script."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from account import ABORTED, UNINTERRUPTED
from behind_nginx import Behind

from zdtest import DeployFailed, SloViolation
from zdtest.engine import probe
from zdtest.strategies import scripted

QUICK = {"baseline": "1s", "settle": "500ms"}
# Each request takes a while, so that a colour which is taken down has some in flight.
WORKING = {version: {"release": "slow:300"} for version in ("v1", "v2")}
BUSY = {version: {"release": "slow:50"} for version in ("v1", "v2", "v3")}
CLIENTS = "new=2@/api,reused=2@/api,slow=1@/500~500ms,write=4@/orders"
READ = dataclasses.replace(UNINTERRUPTED, channels=("new", "reused", "slow"))
GIVEN_UP = "it did not start"


def timed(boot: float, **settings: object) -> pytest.MarkDecorator:
    """The documented variant at a tenth of the document's times, and at its own with --zd-full."""
    own = {"boot": boot, "scale": 1.0, **settings}
    tenth = {**own, "boot": boot / 10, "scale": 0.1}
    return pytest.mark.parametrize(
        "scale",
        [
            pytest.param(0.1, marks=pytest.mark.topology("nginx_compose", **tenth)),
            pytest.param(1, marks=[pytest.mark.topology("nginx_compose", **own), pytest.mark.full]),
        ],
    )


@pytest.mark.claim("3a", source="003", says="nginx sees both, and leaves out the one that is down")
@timed(boot=20, releases=WORKING)
@pytest.mark.xfail(
    raises=SloViolation, strict=True, reason="who writes to the old colour is told 502"
)
@pytest.mark.causes("stopped", "unready")
def test_a_deploy(zd, scale):
    """GETs hold, because nginx asks the other colour again: without a word, they run twice."""
    with zd.load(rate=150, channels=CLIENTS, **QUICK):
        zd.deploy("v2", scripted())
    # One check of 32 finds the old colour five times and takes the new one down, which costs the
    # same. Who reads is promised an answer, whatever became of the deploy.
    masked = zd.expect(dataclasses.replace(READ, stale=None)).masked
    assert masked.twice > 0
    seen = Behind(zd)
    writes, lost = seen.ids(seen.write), seen.ids(seen.failed)
    twice = seen.twice()
    assert len(twice) == masked.twice
    assert twice & writes == set(), "a write that was sent is not repeated"
    assert all(len(seen.tries(request)) == 2 for request in twice)
    assert lost <= writes
    assert seen.statuses(seen.failed) == {502}
    assert all(len(seen.tries(request)) == 1 for request in lost)
    zd.expect(UNINTERRUPTED)


@pytest.mark.claim("3a", source="003", says="the same, there and back, one colour at a time")
@pytest.mark.topology("nginx_compose", variant="hardened", boot=0.0, releases=BUSY)
def test_a_deploy_hardened(zd):
    """Blue to green and green to blue: nothing is asked of the one that starts or stops."""
    clients = f"{CLIENTS},stream=1@/events?every=200ms&for=1s~200ms"
    with zd.load(rate=150, channels=clients, **QUICK):
        zd.deploy("v2", scripted())
        zd.deploy("v3", scripted())
    verdict = zd.expect(dataclasses.replace(UNINTERRUPTED, masked=0))
    assert set(verdict.versions) == {"v1", "v2", "v3"}
    assert verdict.history.repeated.count == 0


MANY = [f"v{number}" for number in range(1, 14)]


@pytest.mark.full
@pytest.mark.claim("3a", source="003", says="the same a dozen times, for every kind of client")
@pytest.mark.topology(
    "nginx_compose",
    variant="hardened",
    boot=0.0,
    releases={version: {"release": "slow:50"} for version in MANY},
)
def test_a_dozen_deploys_hardened(zd):
    clients = f"{CLIENTS},idle=1@/api,stream=1@/events?every=200ms&for=1s~200ms"
    with zd.load(rate=250, channels=clients, **QUICK):
        for version in MANY[1:]:
            zd.deploy(version, scripted())
    verdict = zd.expect(dataclasses.replace(UNINTERRUPTED, masked=0))
    assert set(verdict.versions) == set(MANY)
    assert verdict.writes.ok == verdict.writes.sent


@pytest.mark.claim("3b", source="003", says="the new colour is confirmed before the old one goes")
@timed(boot=10, check_url="printed")
@pytest.mark.xfail(
    raises=SloViolation, strict=True, reason="`curl -s CHECK_URL` asks nobody: never deploys"
)
def test_the_script_as_printed(zd, scale):
    with zd.load(rate=100, **QUICK):
        zd.deploy("v2", scripted())
    seen = Behind(zd)
    assert GIVEN_UP in zd.stack.said()
    assert np.any(seen.by("green")), "it was well, and had users"
    assert not zd.stack.wanted("green")
    assert zd.stack.wanted("blue")
    zd.expect(UNINTERRUPTED)


SICK = {"v2": {"release": "sick-at-once"}}


@pytest.mark.full
@pytest.mark.claim("3b", source="003", says="the new colour is confirmed before the old one goes")
@pytest.mark.topology("nginx_compose", variant="documented", boot=0.5, releases=SICK)
@pytest.mark.xfail(
    raises=SloViolation, strict=True, reason="/health is well, and had users before it was asked"
)
@pytest.mark.causes("app")
def test_a_sick_version(zd):
    with zd.load(rate=100, channels="new=2@/api,write=1@/orders", **QUICK):
        zd.deploy("v2", scripted())
    seen = Behind(zd)
    ready = seen.journal("ready", version="v2")[0]["t"]
    both = (seen.samples.due > ready + 2) & (seen.samples.due < seen.mark("app.term"))
    assert np.count_nonzero(both) > 30
    assert 0.4 < np.mean(seen.failed[both]) < 0.6, "every other request, until somebody looks"
    assert 500 in seen.statuses(seen.failed)
    zd.expect(UNINTERRUPTED)


@pytest.mark.claim("3b", source="003", says="the same, asked itself, for what users ask, ten times")
@pytest.mark.topology("nginx_compose", variant="hardened", boot=0.0, releases=SICK)
def test_a_sick_version_hardened(zd):
    with zd.load(rate=100, **QUICK), pytest.raises(DeployFailed, match="green is not well"):
        zd.deploy("v2", scripted())
    assert_still_at(zd, "v1")


CRASH = {"v2": {"release": "crash"}}


@pytest.mark.claim("3c", source="003", says="where the new one fails, the old one stays")
@pytest.mark.topology("nginx_compose", variant="documented", boot=0.5, releases=CRASH)
def test_a_version_that_does_not_start(zd):
    """It stays for who reads, and cannot be started any more: its jar is the new one's by now."""
    with zd.load(rate=100, channels="new=2@/api,slow=1@/500~500ms", **QUICK):
        zd.deploy("v2", scripted())
    assert GIVEN_UP in zd.stack.said()
    verdict = zd.judge(dataclasses.replace(UNINTERRUPTED, stale=None))
    assert (verdict.failed, set(verdict.versions)) == (0, {"v1"})
    zd.stack.restart("blue")
    assert zd.stack.engine.wait(zd.stack.instance("blue"), 10)
    assert Behind(zd).journal("stopped", instance="blue")[-1]["version"] == "v2"


@pytest.mark.full
@pytest.mark.claim("3c", source="003", says="the same, and it stays what it is")
@pytest.mark.topology("nginx_compose", variant="hardened", boot=0.5, releases=CRASH)
def test_a_version_that_does_not_start_hardened(zd):
    with zd.load(rate=100, **QUICK), pytest.raises(DeployFailed, match="green is not healthy"):
        zd.deploy("v2", scripted())
    assert_still_at(zd, "v1")
    zd.stack.restart("blue")
    zd.stack.ready("blue")
    assert version(zd) == "v1"


def assert_still_at(zd, old: str) -> None:
    """Nobody noticed the deploy, and nothing of it is left."""
    verdict = zd.expect(ABORTED)
    assert set(verdict.versions) == {old}
    assert verdict.requests > 300
    assert verdict.writes.ok == verdict.writes.sent > 0
    assert not zd.stack.wanted("green")
    assert version(zd) == old


def version(zd) -> str:
    """The version that answers users now."""
    reply = probe.ask(int(zd.url.rpartition(":")[2]), "/api")
    return reply.version if isinstance(reply, probe.Reply) else reply
