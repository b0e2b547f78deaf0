"""Document 002: what the swarm heals by itself, and what users get of it meanwhile."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from account import UNINTERRUPTED
from in_the_shop import Shop
from test_swarm_shop import CLIENTS, PAGE, QUICK, READ

from zdtest import SloViolation
from zdtest.engine import probe
from zdtest.faults.proof import Heal

HEALED = dataclasses.replace(UNINTERRUPTED, stale=None)
# Each answer takes a while, so that who dies has some in hand.
WORKING = {"v1": {"product": "slow:200"}}
FIREWALL = ("INPUT", "-i", "eth0"), ("OUTPUT", "-o", "eth0"), ("FORWARD", "-i", "eth0")


@dataclasses.dataclass(frozen=True)
class Disturbance:
    """Something happens to the swarm; it is over once the swarm has healed itself."""

    act: Callable

    @property
    def name(self) -> str:
        return self.act.__name__

    def inject(self, stack):
        """Return once it has happened, which is what `act` does; the heal awaits the swarm's."""
        before = stack.instance("product.1")
        self.act(stack)

        def heal() -> None:
            if stack.engine.fate(before) or stack.engine.frozen(before):
                probe.until(
                    "another product.1",
                    lambda: "not yet" if stack.instance("product.1") == before else "",
                    timeout=60,
                )
            stack.cluster.settle(timeout=90)

        return Heal(heal)


def product_killed(stack) -> None:
    stack.engine.kill(stack.instance("product.1"))


def product_frozen(stack) -> None:
    stack.engine.signal(stack.instance("product.1"), "STOP")


def node_of(stack, name: str):
    """A worker on which a task of that stack runs."""
    service = f"{name}_app"
    on = {one.node for one in stack.cluster.tasks(service) if one.wanted == "running"}
    return next(one for one in stack.cluster.nodes[1:] if one.name in on)


def node_killed(stack) -> None:
    stack.engine.kill(node_of(stack, "front").instance)


def node_cut_off(stack) -> None:
    node = node_of(stack, "front")
    rules = " && ".join(f"iptables -I {' '.join(rule)} -j DROP" for rule in FIREWALL)
    node.execute("sh", "-c", rules)


def node_drained(stack) -> None:
    name = node_of(stack, "front").name
    stack.cluster.docker("node", "update", "--availability", "drain", name)


@pytest.mark.full
@pytest.mark.claim("2d", source="002", says="who dies is replaced, so nobody notices")
@pytest.mark.topology("swarm_shop", variant="documented", releases=WORKING)
@pytest.mark.xfail(raises=SloViolation, strict=True, reason="the front says that there is none")
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


def assert_replaced(shop: Shop, name: str) -> None:
    """Another task runs in its place, and was well before it was given anything."""
    runs = [line for line in shop.tasks if (line["instance"], line["state"]) == (name, "running")]
    assert len({line["task"] for line in runs}) == 2
    assert shop.early_behind() == 0
