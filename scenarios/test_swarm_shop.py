"""Document 002: a shop on three nodes, updated start-first: its front, products and coupons."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
from account import ABORTED, UNINTERRUPTED
from in_the_shop import Shop, assert_each_left_after_its_successor_was_healthy

from zdtest import DeployFailed, SloViolation
from zdtest.strategies import scripted

QUICK = {"baseline": "1s", "settle": "500ms"}
# A page is right when it has the coupon, and from version 2 on the price with it: 123000 less 3 %.
PAGE = '@/product-detail/1#"value":3}]}|"couponPrice":119310'
READ = f"new=3{PAGE},reused=3{PAGE}"
CLIENTS = f"new=3{PAGE},reused=3{PAGE},slow=1@/500~500ms,write=2@/orders"
# Each answer takes a while, so that who ends has some in hand.
WORKING = {version: {"product": "slow:300"} for version in ("v1", "v2")}
COUPONS = {version: {"coupon": "slow:300"} for version in ("v1", "v2")}
FRONTS = ("front.1", "front.2")


@pytest.mark.claim("2a", source="002", says="a rolling update interrupts nobody, by default")
@pytest.mark.topology("swarm_shop", variant="documented", releases=WORKING)
@pytest.mark.xfail(
    raises=SloViolation, strict=True, reason="kept connections stay with a task until it is killed"
)
def test_a_rolling_update(zd):
    """2b as well: a task is let go only once the next one is well. New connections hold."""
    with zd.load(rate=80, channels=READ, **QUICK):
        zd.deploy("v2", scripted())
    shop = Shop(zd)
    assert_each_left_after_its_successor_was_healthy(shop, FRONTS, old="1", new="2")
    ends = shop.ends("v1")
    assert set(ends) == set(FRONTS)
    for name in FRONTS:
        assert shop.journal("term", instance=name, ignored=True), "it has no ear for SIGTERM"
    cut = shop.cut_at(ends.values())
    assert np.count_nonzero(cut) > 1
    assert not np.any(cut & shop.on("new"))
    # The front may also use a connection that the other side lets go in that moment: both do after
    # five seconds. It says so, with the wrong price or none.
    assert shop.statuses(shop.failed & ~cut) <= {200, 404}
    zd.expect(UNINTERRUPTED)


@pytest.mark.full
@pytest.mark.claim("2a", source="002", says="the same, front and coupons released together")
@pytest.mark.topology(
    "swarm_shop", variant="documented", deploys=("coupon", "front"), releases=COUPONS
)
@pytest.mark.xfail(
    raises=SloViolation, strict=True, reason="who loses its coupons asks the full price, with 200"
)
def test_two_services_at_once(zd):
    with zd.load(rate=80, channels=READ, **QUICK):
        zd.deploy("v2", scripted())
    shop = Shop(zd)
    coupons = shop.ends("v1", "coupon")
    assert set(coupons) == {"coupon.1", "coupon.2"}
    wrong = shop.wrong
    assert np.count_nonzero(wrong) > 1
    assert shop.statuses(wrong) == {200}
    near = np.any([np.abs(shop.done[wrong] - end) < 0.5 for end in coupons.values()], axis=0)
    assert np.count_nonzero(near) > 1, "when a task with coupons was killed"
    assert "## ERROR coupon.api:3002" in shop.said_by(*FRONTS)
    # The services' own accounts agree: no coupons were answered for these.
    told = shop.behind.about("answered")
    answered = {line["id"] for line in told if line["instance"].startswith("coupon.")}
    assert not shop.ids(wrong) & answered
    zd.expect(UNINTERRUPTED)


@pytest.mark.claim("2a", source="002", says="the same, one service after the other")
@pytest.mark.topology("swarm_shop", variant="hardened", deploys=("coupon", "front"))
def test_two_services_hardened(zd):
    """2b as well. Nothing is asked again of the front, and no price is wrong."""
    with zd.load(rate=80, channels=CLIENTS, **QUICK):
        zd.deploy("v2", scripted())
    verdict = zd.expect(dataclasses.replace(UNINTERRUPTED, masked=0))
    shop = Shop(zd)
    assert set(verdict.versions) == {"v1", "v2"}
    for names in (FRONTS, ("coupon.1", "coupon.2")):
        assert_each_left_after_its_successor_was_healthy(shop, names, old="1", new="2")
    assert shop.early_behind() == 0
    last = max(shop.task(name, "running", "2")["t"] for name in ("coupon.1", "coupon.2"))
    assert last < shop.task("front.1", "running", "2")["t"], "coupons first"


MANY = [f"v{number}" for number in range(1, 12)]


@pytest.mark.full
@pytest.mark.claim("2a", source="002", says="the same ten times, there and on")
@pytest.mark.topology("swarm_shop", variant="hardened", versions=MANY[1:])
def test_ten_updates_hardened(zd):
    """Each page tells a right price, and each write is run once."""
    clients = f"new=3{PAGE},reused=3{PAGE},slow=1@/500~500ms,write=2@/orders"
    with zd.load(rate=200, channels=clients):
        for version in MANY[1:]:
            zd.deploy(version, scripted())
    verdict = zd.expect(UNINTERRUPTED)
    assert set(verdict.versions) == set(MANY)
    assert verdict.writes.ok == verdict.writes.sent


NEVER = {"v2": {"front": "never-ready"}}
LATE = {"v2": {"front": "sick-after:6"}}


@pytest.mark.full
@pytest.mark.claim("2c", source="002", says="where the health check fails, it is rolled back")
@pytest.mark.topology("swarm_shop", variant="documented", releases=NEVER)
def test_a_version_that_is_never_well(zd):
    """It holds: what never was well had no users, and nobody was stopped for it."""
    with zd.load(rate=60, channels=READ, **QUICK), pytest.raises(DeployFailed, match="rollback"):
        zd.deploy("v2", scripted())
    assert_still_at(zd, "v1")
    shop = Shop(zd)
    assert not any(mark.about.get("version") == "v1" for mark in terms(shop))


@pytest.mark.full
@pytest.mark.claim("2c", source="002", says="where the health check fails, it is rolled back")
@pytest.mark.topology("swarm_shop", variant="documented", releases=LATE)
@pytest.mark.xfail(
    raises=SloViolation, strict=True, reason="nobody looks any more after five seconds"
)
def test_a_version_that_is_well_at_first(zd):
    """The update is called completed; the tasks turn bad one after the other, for ever."""
    with zd.load(rate=60, channels=READ, **QUICK):
        zd.deploy("v2", scripted())
        zd.wait(8)
    shop = Shop(zd)
    assert shop.failed.sum() > 50
    assert 500 in shop.statuses(shop.failed)
    assert any(
        line["state"] == "failed" and line["image"].endswith(":2") and "unhealthy" in line["error"]
        for line in shop.tasks
    )
    zd.expect(UNINTERRUPTED)


@pytest.mark.full
@pytest.mark.claim("2c", source="002", says="the same, watched for longer than it takes to see it")
@pytest.mark.topology(
    # At a fifth of its times the delay is shorter than health checks that get no shorter than 1 s.
    "swarm_shop",
    variant="hardened",
    scale=0.7,
    releases={"v2": {"front": "sick-after:2s"}},
)
def test_a_version_that_is_well_at_first_hardened(zd):
    """It is rolled back before another task is replaced: who met it met one, and not for long."""
    with (
        zd.load(rate=60, channels=CLIENTS, **QUICK),
        pytest.raises(DeployFailed, match="rollback_completed"),
    ):
        zd.deploy("v2", scripted())
    shop = Shop(zd)
    (first,) = {
        line["instance"] for line in shop.tasks if line["image"].endswith("front-service:2")
    }
    assert np.all(shop.by(first)[shop.failed])
    assert shop.statuses(shop.failed) == {500}
    # The edge asks twice a second, and again at once: half of the users, for a second.
    assert np.ptp(shop.done[shop.failed]) < 1.5
    zd.expect(dataclasses.replace(ABORTED, failed=60))


@pytest.mark.full
@pytest.mark.claim("2c", source="002", says="the same, never well")
@pytest.mark.topology("swarm_shop", variant="hardened", scale=0.1, releases=NEVER)
def test_a_version_that_is_never_well_hardened(zd):
    with (
        zd.load(rate=60, channels=CLIENTS, **QUICK),
        pytest.raises(DeployFailed, match="rollback_completed"),
    ):
        zd.deploy("v2", scripted())
    assert_still_at(zd, "v1")


@pytest.mark.full
@pytest.mark.claim("2b", source="002", says="with one task each, too")
@pytest.mark.topology("swarm_shop", variant="documented", replicas=1, boot=2.0)
def test_a_single_task(zd):
    """New connections hold, whatever the boot takes."""
    with zd.load(rate=60, channels=f"new{PAGE}", **QUICK):
        zd.deploy("v2", scripted())
    verdict = zd.expect(UNINTERRUPTED)
    assert set(verdict.versions) == {"v1", "v2"}


@pytest.mark.full
@pytest.mark.claim("2a", source="002", says="an image that nobody has changes nothing")
@pytest.mark.topology("swarm_shop", variant="hardened", releases={"v2": {"front": "missing"}})
def test_a_missing_image_hardened(zd):
    with (
        zd.load(rate=60, channels=CLIENTS, **QUICK),
        pytest.raises(DeployFailed, match="rollback_completed"),
    ):
        zd.deploy("v2", scripted())
    assert_still_at(zd, "v1")


# More than half of a node for each: where three run there is no place for a fourth.
FULL = {"replicas": 3, "reserved": 0.6}
NO_ROOM = "no suitable node (insufficient resources on 3 nodes)"


@pytest.mark.full
@pytest.mark.claim("2c", source="002", says="one more at first, where there is no room for it")
@pytest.mark.topology("swarm_shop", variant="documented", **FULL)
def test_no_room_for_one_more(zd):
    """Nobody notices, and nothing comes of it: who waits for room has not failed, nor ever will."""
    with (
        zd.load(rate=60, channels=READ, **QUICK),
        pytest.raises(DeployFailed, match=re.escape(NO_ROOM)),
    ):
        zd.deploy("v2", scripted(timeout="20s"))
    verdict = zd.expect(ABORTED)
    assert set(verdict.versions) == {"v1"}
    assert verdict.requests > 1000
    (image,) = waiting(zd)
    assert image.endswith(":2")


@pytest.mark.full
@pytest.mark.claim("2c", source="002", says="the same, taken back in time")
@pytest.mark.topology("swarm_shop", variant="hardened", **FULL)
def test_no_room_for_one_more_hardened(zd):
    with (
        zd.load(rate=60, channels=CLIENTS, **QUICK),
        pytest.raises(
            DeployFailed, match=rf"(?s)not within 20 s.*{re.escape(NO_ROOM)}.*rollback_completed"
        ),
    ):
        zd.deploy("v2", scripted(timeout="40s"))
    assert_still_at(zd, "v1")
    assert not waiting(zd)


def waiting(zd) -> list[str]:
    """The images of the front's tasks that the swarm would run if it could."""
    tasks = zd.stack.cluster.tasks("front_app")
    return [one.image for one in tasks if (one.state, one.wanted) == ("pending", "running")]


@pytest.mark.full
@pytest.mark.claim("2d", source="002", says="it scales, two to four and back")
@pytest.mark.topology("swarm_shop", variant="documented", releases=WORKING)
def test_scaling(zd):
    """New connections hold. Kept ones are cut with a task that had some, which is chance."""
    scale_there_and_back(zd, f"new{PAGE},reused=3{PAGE}")
    zd.expect(dataclasses.replace(UNINTERRUPTED, channels=("new",), stale=None))
    shop = Shop(zd)
    ends = shop.ends("v1")
    assert len(ends) == 2
    cut = shop.cut_at(ends.values())
    assert not np.any(cut & shop.on("new"))
    assert shop.statuses(shop.failed & ~cut) <= {200, 404}


@pytest.mark.full
@pytest.mark.claim("2d", source="002", says="the same, and each is let finish")
@pytest.mark.topology("swarm_shop", variant="hardened", releases=WORKING)
def test_scaling_hardened(zd):
    scale_there_and_back(zd, CLIENTS)
    zd.expect(dataclasses.replace(UNINTERRUPTED, masked=0, stale=None))


@pytest.mark.full
@pytest.mark.claim("2d", source="002", says="REPLICAS once, then IMG_TAG from a fresh shell")
@pytest.mark.parametrize(
    ("variant", "left"),
    [
        pytest.param(
            variant, left, marks=pytest.mark.topology("swarm_shop", variant=variant), id=variant
        )
        for variant, left in (("documented", 2), ("hardened", 4))
    ],
)
def test_a_deploy_after_scaling(zd, variant, left):
    """As documented it takes half of them away, without a word; pinned, it does not."""
    zd.stack.scale(4)
    with zd.load(rate=60, channels=f"new{PAGE}", **QUICK):
        zd.deploy("v2", scripted())
    assert len(zd.stack.instances) == left
    zd.expect(UNINTERRUPTED)


def scale_there_and_back(zd, clients: str) -> None:
    """Two, four, two: nothing is deployed, so there is no other version to be seen."""
    with zd.load(rate=80, channels=clients, **QUICK):
        zd.mark("deploy.begin", strategy="scaling")
        for replicas in (4, 2):
            zd.stack.scale(replicas)
            assert len(zd.stack.instances) == replicas
            zd.wait(1)
        zd.mark("deploy.end")
    served = set(Shop(zd).samples.instances)
    assert {f"front.{slot}" for slot in (1, 2, 3, 4)} <= served


def terms(shop: Shop) -> list:
    return [mark for mark in shop.recording.marks if mark.name == "app.term"]


def assert_still_at(zd, old: str) -> None:
    """Nobody noticed the deploy, and nothing of it is left."""
    verdict = zd.expect(ABORTED)
    assert set(verdict.versions) == {old}
    assert verdict.requests > 300
    assert verdict.writes.ok == verdict.writes.sent
    told = zd.stack.cluster.docker("service", "inspect", "front_app")
    image = json.loads(told)[0]["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
    assert image.endswith(f":{old[1:]}")
