"""Document 001's old way: end the server with kill -9, start the new one in its place."""

from __future__ import annotations

import numpy as np
import pytest

from zdtest import Slo, SloViolation, recreate
from zdtest.records.recording import Recording
from zdtest.records.sample import Outcome

pytestmark = pytest.mark.topology("in_place", boot=2.0)

# kill -9, `sleep 1`, and then the boot: the port is refused from the kill until it listens again.
# Python starts in a few tenths of a second on top of the boot that the app is told to take.
SLEEP, BOOT, START = 1.0, 2.0, 1.0


@pytest.mark.claim("1a", source="001", says="the old way is down for about ten seconds")
@pytest.mark.xfail(raises=SloViolation, strict=True, reason="down from kill to boot, every time")
@pytest.mark.causes("dead", "unready", "died")
def test_restart_in_place_loses_requests(zd):
    with zd.load(rate=200):
        zd.deploy("v2", recreate)
    zd.expect(Slo())


@pytest.mark.claim("1a", source="001", says="the gap is as long as the new process takes to start")
@pytest.mark.causes("dead", "unready", "died")
def test_restart_in_place_is_down_for_boot_plus_one_second(zd):
    with zd.load(rate=200):
        zd.deploy("v2", recreate)
    verdict = zd.judge()
    assert verdict.verdict == "broken"
    gaps = [outage for outage in verdict.outages if outage.channel == "new"]
    assert len(gaps) == 1
    # What kill -9 finds under way is cut off, in the middle of a reply if it comes to that.
    assert set(gaps[0].outcomes) <= {"refused", "reset", "closed", "truncated"}
    assert gaps[0].outcomes["refused"] > 100
    recording = Recording.read(zd.folder)
    samples = recording.samples.of("new")
    cut = (samples.outcome != Outcome.ok) & (samples.outcome != Outcome.refused)
    assert np.all((samples.due + samples.lag)[cut] <= recording.mark("app.stopped"))
    assert gaps[0].max >= SLEEP + BOOT
    assert gaps[0].min <= SLEEP + BOOT + START
