"""What once held though it proved nothing or was broken, each as somebody found it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import synthetic

from zdtest.judging.slo import Slo
from zdtest.judging.verdict import Verdict, judge
from zdtest.records.recording import Recording

UNTIMED = "p99_ratio=none,p99_over=none"
STREAMS = {"new": 1.0, "stream": 1.0}


@pytest.fixture
def judged(tmp_path: Path) -> Callable[..., Verdict]:
    """Return how a run of that plan is judged, by promises as they are written."""

    def judged(slo: str = "", **plan: Any) -> Verdict:
        return judge(Recording.read(synthetic.run(tmp_path / "run", **plan)), Slo.parse(slo))

    return judged


# Streams.


def test_a_stream_that_falls_silent_is_slow(judged):
    """Whatever message ends the silence, each slot that waited for it waited so long."""
    silence = {"think": {"stream": 0.2}, "channels": STREAMS, "journal": False}
    verdict = judged(slow=[(8.0, 8.1, 3.0, ["stream"])], **silence)
    assert verdict.verdict == "broken"
    (reason,) = verdict.reasons
    assert reason.startswith("10 replies took longer than 1s beyond think time, the slowest 3.0")
    assert "first on stream at +8.0" in reason
    (brownout,) = verdict.brownouts
    assert (brownout.channel, brownout.failed) == ("stream", 10)
    assert judged("slow=4s", slow=[(8.0, 8.1, 3.0, ["stream"])], **silence).verdict == "holds"
    assert judged(**silence).verdict == "holds"


def test_a_stream_that_always_pauses_for_longer_is_told_how_to_say_so(judged):
    verdict = judged(channels=STREAMS, slow=[(0, 99, 3.0, ["stream"])], journal=False)
    (reason,) = verdict.reasons
    assert verdict.verdict == "broken"
    silent = "; stream was silent for 3.01s before the deploy too: where that is by design, "
    assert reason.endswith(f"{silent}stream~3.01s tells so, or promise slow=4s")
