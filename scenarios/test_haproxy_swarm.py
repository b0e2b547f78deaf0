"""Document 000: a swarm's rolling update behind a HAProxy that finds the tasks by itself."""

from __future__ import annotations

import numpy as np
import pytest
from account import UNINTERRUPTED, Account

from zdtest import SloViolation
from zdtest.strategies import scripted

QUICK = {"baseline": "1s", "settle": "500ms"}
# Each request takes a while, so that a task that is told to end has some.
WORKING = {version: {"release": "slow:300"} for version in ("v1", "v2")}


@pytest.mark.claim("0a", source="000", says="HAProxy finds who leaves, so nobody notices")
@pytest.mark.topology("haproxy_swarm", variant="documented", scale=0.4, poll=5, releases=WORKING)
@pytest.mark.xfail(raises=SloViolation, strict=True, reason="asked each 5 s, told to end after 2")
def test_an_update(zd):
    with zd.load(rate=100, channels="new=3@/,reused=3@/,slow=1@/3000~3s,write=3@/orders", **QUICK):
        zd.deploy("v2", scripted())
    zd.expect(UNINTERRUPTED)


# Of the boots that leave nobody, the shortest by some: two tasks are gone, and the third is told to
# end, while the first one boots.
BOOT = 7.0


@pytest.mark.claim("0b", source="000", says="one at a time, ten seconds apart: two always serve")
@pytest.mark.topology("haproxy_swarm", variant="documented", scale=0.02, boot=BOOT)
@pytest.mark.xfail(raises=SloViolation, strict=True, reason="the delay counts from a start: all boot")
def test_an_update_to_what_boots_for_long(zd):
    with zd.load(rate=100, channels="new=3@/,reused=3@/,write=2@/orders", **QUICK):
        zd.deploy("v2", scripted())
        zd.wait(BOOT)
    zd.expect(UNINTERRUPTED)


@pytest.mark.claim("0b", source="000", says="the same: a task is there once it is healthy")
@pytest.mark.topology("haproxy_swarm", variant="hardened", scale=0.02, boot=BOOT)
def test_an_update_to_what_boots_for_long_hardened(zd):
    with zd.load(rate=100, **QUICK):
        zd.deploy("v2", scripted())
    zd.expect(UNINTERRUPTED)
