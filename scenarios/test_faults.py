"""What goes wrong without a deploy."""

from __future__ import annotations

import pytest

from zdtest import Slo, SloViolation
from zdtest.faults import restart


@pytest.mark.claim("4a", source="004", says="a server that does not answer is taken out")
@pytest.mark.topology("custom_lb", variant="documented", boot=0.5)
@pytest.mark.xfail(
    raises=SloViolation, strict=True, reason="back before the third miss: half of it all fails"
)
def test_a_restart_that_pings_do_not_notice(zd):
    """One of two servers is killed and started again, faster than three missed pings take."""
    with zd.load(rate=200, channels="new@/api", baseline="2s"):
        with zd.fault(restart("a", within="2s")):
            zd.wait("1s")
        zd.wait("1s")
    assert zd.stack.rotation.when("removed", zd.stack.ports["a"]) == []
    zd.expect(Slo())
