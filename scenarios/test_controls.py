"""Controls: what must not be missed, and what must not be believed."""

from __future__ import annotations

import pytest

from zdtest import Inconclusive, Slo, SloViolation, rolling


@pytest.mark.topology("in_place", boot=0.0)
@pytest.mark.causes("dead", "died", "unready")
def test_an_unannounced_outage_is_seen(zd):
    """Nobody marks it and no deploy runs: the server is killed and started again."""
    with zd.load(rate=200):
        zd.stack.stop("app")
        zd.stack.start("app", "v1")
        zd.stack.ready("app")
    with pytest.raises(SloViolation, match="requests failed"):
        zd.expect(Slo())
    assert {outage.channel for outage in zd.verdict.outages} >= {"new", "reused", "write"}


@pytest.mark.topology("custom_lb", variant="hardened", boot=0.0)
def test_a_deploy_that_does_nothing_proves_nothing(zd):
    def idle(stack, version, mark):
        zd.wait("2s")

    with zd.load(rate=200):
        zd.deploy("v2", idle)
    with pytest.raises(Inconclusive, match="v2 was never observed"):
        zd.expect(Slo(slow=None, p99_ratio=None, p99_over=None))


@pytest.mark.topology("custom_lb", variant="hardened", boot=0.0)
def test_a_stalled_generator_proves_nothing(zd):
    """An outage shorter than the stall could hide in it."""

    def stalled(stack, version, mark):
        rolling()(stack, version, mark)
        stack.engine.signal(zd.generator, "STOP")
        zd.wait("400ms")
        stack.engine.signal(zd.generator, "CONT")
        zd.wait("500ms")

    with zd.load(rate=200):
        zd.deploy("v2", stalled)
    with pytest.raises(Inconclusive, match="stalled for"):
        zd.expect(Slo(slow=None, p99_ratio=None, p99_over=None))
