"""Document 002: what the swarm heals by itself, and what users get of it meanwhile."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from account import UNINTERRUPTED
from in_the_shop import Shop
from shop_faults import (
    Disturbance,
    ManagerKilled,
    Unheard,
    addresses,
    known,
    manages_only,
    node_cut_off,
    node_drained,
    node_killed,
    product_frozen,
    product_killed,
    update_goes_on,
)
from test_swarm_shop import CLIENTS, PAGE, QUICK, READ

from zdtest import DeployFailed, SloViolation
from zdtest.strategies import scripted

HEALED = dataclasses.replace(UNINTERRUPTED, stale=None)
# Where users meet nobody, blame cannot tell: the ingress has no log of requests, and the services
# behind the front, whose journal is their own, pass for servers that never got ready. Those
# scenarios carry no `causes`.
# Each answer takes a while, so that who dies has some in hand.
WORKING = {"v1": {"product": "slow:200"}}
BUSY = {"v1": {"product": "slow:200", "coupon": "slow:200"}}


@pytest.mark.full
@pytest.mark.claim("2d", source="002", says="who dies is replaced, so nobody notices")
@pytest.mark.topology("swarm_shop", variant="documented", releases=WORKING)
@pytest.mark.xfail(raises=SloViolation, strict=True, reason="the front says that there is none")
# Whose call meets an address that is gone waits without a limit.
@pytest.mark.causes("app", "hung")
def test_a_task_dies(zd):
    with (
        zd.load(rate=80, channels=READ, **QUICK),
        zd.fault(Disturbance(product_killed)),
    ):
        zd.wait(2)
    shop = Shop(zd)
    assert shop.statuses(shop.failed) >= {404}
    assert "## ERROR prod.api:3001" in shop.said_by("front.1", "front.2")
    assert_replaced(shop, "product.1")
    zd.expect(HEALED)


@pytest.mark.full
@pytest.mark.claim("2d", source="002", says="the same, asked once more elsewhere")
@pytest.mark.topology("swarm_shop", variant="hardened", releases=WORKING)
def test_a_task_dies_hardened(zd):
    with (
        zd.load(rate=80, channels=CLIENTS, **QUICK),
        zd.fault(Disturbance(product_killed)),
    ):
        zd.wait(2)
    zd.expect(dataclasses.replace(HEALED, masked=0))
    assert_replaced(Shop(zd), "product.1")


@pytest.mark.full
@pytest.mark.claim("2d", source="002", says="who stands still is replaced, so nobody notices")
@pytest.mark.topology("swarm_shop", variant="documented")
@pytest.mark.xfail(raises=SloViolation, strict=True, reason="the front waits for ever")
@pytest.mark.causes("hung")
def test_a_task_stands_still(zd):
    with (
        zd.load(rate=60, channels=READ, timeout="3s", **QUICK),
        zd.fault(Disturbance(product_frozen)),
    ):
        zd.wait(2)
    shop = Shop(zd)
    assert "timeout" in shop.outcomes(shop.failed)
    assert_replaced(shop, "product.1")
    zd.expect(HEALED)


@pytest.mark.full
@pytest.mark.claim("2d", source="002", says="the same, waited for a second")
@pytest.mark.topology("swarm_shop", variant="hardened")
def test_a_task_stands_still_hardened(zd):
    with (
        zd.load(rate=60, channels=CLIENTS, timeout="3s", **QUICK),
        zd.fault(Disturbance(product_frozen)),
    ):
        zd.wait(2)
    zd.expect(HEALED)
    assert_replaced(Shop(zd), "product.1")


@pytest.mark.full
@pytest.mark.claim("2d", source="002", says="a node that ends is replaced, so nobody notices")
@pytest.mark.parametrize("ends", [node_killed, node_cut_off], ids=["killed", "cut off"])
@pytest.mark.topology("swarm_shop", variant="documented")
@pytest.mark.xfail(raises=SloViolation, strict=True, reason="half of the users wait for nobody")
def test_a_node_is_lost(zd, ends):
    with (
        zd.load(rate=60, channels=f"new{PAGE}", timeout="3s", **QUICK),
        zd.fault(Disturbance(ends)),
    ):
        # The manager takes 15 s to notice.
        zd.wait(20)
    shop = Shop(zd)
    assert shop.failed.sum() > 10
    zd.expect(HEALED)


@pytest.mark.full
@pytest.mark.claim("2d", source="002", says="the same, asked once more elsewhere")
@pytest.mark.parametrize("ends", [node_killed, node_cut_off], ids=["killed", "cut off"])
@pytest.mark.topology("swarm_shop", variant="hardened")
def test_a_node_is_lost_hardened(zd, ends):
    with (
        zd.load(rate=60, channels=CLIENTS, timeout="3s", **QUICK),
        zd.fault(Disturbance(ends)),
    ):
        # The manager takes 15 s to notice.
        zd.wait(20)
    zd.judge(HEALED)
    shop = Shop(zd)
    # What was under way on that node waits as long as its user does: nobody tells that it is gone.
    lost = shop.mark("fault.proven")
    assert np.all(shop.samples.due[shop.failed] < lost + 1.5), "edge and front know by then"
    assert shop.failed.sum() <= 10


@pytest.mark.full
@pytest.mark.claim("2d", source="002", says="a node is emptied, and nobody notices")
@pytest.mark.topology("swarm_shop", variant="documented", releases=WORKING)
def test_a_node_is_drained(zd):
    """Each task is killed with what it has, and who asks one that is going is told 404."""
    with (
        zd.load(rate=80, channels=READ, **QUICK),
        zd.fault(Disturbance(node_drained)),
    ):
        zd.wait(2)
    zd.judge(HEALED)
    shop = Shop(zd)
    ends = shop.ends("v1")
    assert ends
    # Whether one of them has something just then is chance.
    assert shop.statuses(shop.failed & ~shop.cut_at(ends.values())) <= {200, 404}


@pytest.mark.full
@pytest.mark.claim("2d", source="002", says="the same, and each is let finish")
@pytest.mark.topology("swarm_shop", variant="hardened", releases=WORKING)
def test_a_node_is_drained_hardened(zd):
    with (
        zd.load(rate=80, channels=CLIENTS, **QUICK),
        zd.fault(Disturbance(node_drained)),
    ):
        zd.wait(2)
    zd.expect(HEALED)


@pytest.mark.full
@pytest.mark.claim("2d", source="002", says="the manager ends in an update, and nobody notices")
@pytest.mark.topology("swarm_shop", variant="documented", entry=2, releases=BUSY)
@pytest.mark.xfail(raises=SloViolation, strict=True, reason="it has tasks as well, like any node")
def test_the_manager_dies(zd):
    """Nobody replaces them, and the update stands still. With the manager both go on.

    Both may bring the front a task in the same place; then it has three, and the swarm is content.
    """
    with zd.load(rate=60, channels=f"new{PAGE}", timeout="3s", **QUICK):
        with zd.fault(ManagerKilled(), at="started"):
            with pytest.raises(DeployFailed, match="of the swarm: "):
                zd.deploy("v2", scripted())
            zd.wait(15)
        update_goes_on(zd.stack)
    shop = Shop(zd)
    assert_stood_still(shop)
    # Which of the three it has is chance, and so is whether users then wait, or are told 404.
    assert shop.failed.sum() > 1
    zd.expect(HEALED)


@pytest.mark.full
@pytest.mark.claim("2d", source="002", says="the same, where the manager has no tasks")
@pytest.mark.topology("swarm_shop", variant="hardened", entry=2)
def test_the_manager_dies_hardened(zd):
    """The update stands still half-way, both versions serve, and the script waits for the end."""
    manages_only(zd.stack)
    with (
        zd.load(rate=60, channels=CLIENTS, **QUICK),
        zd.fault(ManagerKilled(), at="started", heal_after="15s"),
    ):
        zd.deploy("v2", scripted())
    verdict = zd.expect(UNINTERRUPTED)
    assert set(verdict.versions) == {"v1", "v2"}
    assert verdict.writes.ok == verdict.writes.sent
    assert_stood_still(Shop(zd))


@pytest.mark.full
@pytest.mark.claim("2d", source="002", says="two nodes lose touch in an update, and nobody notices")
@pytest.mark.topology("swarm_shop", variant="documented", entry=2)
@pytest.mark.xfail(raises=SloViolation, strict=True, reason="one goes on telling who is gone")
def test_two_nodes_do_not_hear_each_other(zd):
    """The third has no task in that network, so it passes nothing on; the manager sees all well."""
    manages_only(zd.stack)
    with (
        zd.load(rate=60, channels=f"new{PAGE}", timeout="3s", **QUICK),
        zd.fault(Unheard(), most="3m"),
    ):
        zd.deploy("v2", scripted())
        stale = known(zd.stack) - addresses(zd.stack)
        zd.wait(3)
    assert stale
    shop = Shop(zd)
    # Of those that are told one is gone, or all: the swarm may start both elsewhere.
    over = shop.mark("deploy.end")
    asked = (shop.due > over) & (shop.due < over + 3)
    assert np.mean(shop.failed[asked]) > 0.4
    assert shop.outcomes(shop.failed & asked) == {"timeout"}
    zd.expect(UNINTERRUPTED)


@pytest.mark.full
@pytest.mark.claim("2d", source="002", says="the same: the edge asks those whom it is told")
@pytest.mark.topology("swarm_shop", variant="hardened", entry=2)
def test_two_nodes_do_not_hear_each_other_hardened(zd):
    """Three tasks, two on a node at the most: one of them always is where the edge hears of it.

    The other node has not heard of a new one either, and does not reply to its calls: those wait
    for a second, and are asked of whoever is on its own.
    """
    manages_only(zd.stack)
    zd.stack.scale(3)
    with zd.load(rate=60, channels=CLIENTS, **QUICK), zd.fault(Unheard(), most="3m"):
        zd.deploy("v2", scripted())
        stale = known(zd.stack) - addresses(zd.stack)
        zd.wait(3)
    assert stale
    zd.expect(UNINTERRUPTED)


def assert_stood_still(shop: Shop) -> None:
    """Between the manager's end and its start no task was started or told to end."""
    marks = shop.recording.marks
    gone = shop.mark("fault.proven")
    back = next(
        mark.at
        for mark in marks
        if mark.at > gone
        and (mark.name, mark.about.get("instance")) == ("process.started", "node1")
    )
    assert back - gone > 10
    moved = ("app.started", "app.term")
    assert not [mark for mark in marks if mark.name in moved and gone + 1 < mark.at < back]


def assert_replaced(shop: Shop, name: str) -> None:
    """Another task runs in its place, and was well before it was given anything."""
    runs = [line for line in shop.tasks if (line["instance"], line["state"]) == (name, "running")]
    assert len({line["task"] for line in runs}) == 2
    assert shop.early_behind() == 0
