"""Whether a p99 over its limit is the deploy's: which replies are held together, and chance."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic

from zdtest.judging.interval import as_uneven
from zdtest.judging.slo import Slo
from zdtest.judging.verdict import Verdict, judge
from zdtest.records.recording import Recording


@pytest.fixture
def judged(tmp_path: Path):
    def judged(slo: str = "", **plan: Any) -> Verdict:
        return judge(Recording.read(synthetic.run(tmp_path / "r", **plan)), Slo.parse(slo))

    return judged


def only_reason(verdict: Verdict) -> str:
    (reason,) = verdict.reasons
    return reason


LITTLE = {"deploy": (6.67, 19.51), "switch": 10.0}
"""A release of which 98 replies are seen after the deploy, and two quarters of a second."""


def test_a_slow_release_of_which_little_was_seen_is_inconclusive_and_says_how_much_would_do(judged):
    """Two replies of 96, in two moments of two: by chance, or not."""

    def slow(each: float) -> dict[str, Any]:
        return {"slow": [(at, at + each, 0.1, ["new"]) for at in (19.6, 19.85)], **LITTLE}

    verdict = judged(**slow(0.003))
    assert verdict.verdict == "inconclusive"
    assert "p99 after the deploy 10" in only_reason(verdict)
    assert only_reason(verdict).endswith(
        ": too few requests to be sure, 5 times as many like these would do "
        "(a rate of 1,000/s, or so many times as long)"
    )
    assert judged(**slow(0.0125), requests=20_000, rate=1000).verdict == "broken"


def test_one_pause_is_one_piece_of_evidence_however_many_replies_it_held_up(judged):
    verdict = judged(**{**LITTLE, "slow": [(19.6, 19.72, 0.1, None)]})
    assert verdict.verdict == "inconclusive"
    assert only_reason(verdict).endswith(
        ": too few pauses to be sure, 1 of 2 quarters of a second had slow replies, 0 of 24 in the "
        "baseline. A longer baseline would tell"
    )
    assert judged(**{**LITTLE, "slow": [(19.5, 99.0, 0.1, None)]}).verdict == "broken"


def test_pauses_that_come_all_the_time_are_not_the_deploys(judged):
    """Of 120 ms each, one in five seconds, before the deploy, in it and after it."""
    told = Counter(
        judged(
            requests=2000,
            deploy=(5.0, 7.0),
            switch=6.0,
            channels={"new": 1.0, "reused": 1.0},
            slow=_pauses(random.Random(seed)),
            journal=False,
            seed=seed,
        ).verdict
        for seed in range(40)
    )
    assert told["broken"] <= 1, told


def _pauses(chance: random.Random) -> list[tuple[float, float, float, None]]:
    found, at = [], chance.expovariate(0.2)
    while at < 10:
        found.append((at, at + 0.12, 0.1, None))
        at += 0.12 + chance.expovariate(0.2)
    return found


def test_a_p99_over_the_limit_by_chance_is_inconclusive(judged):
    # One slow reply of a hundred decides over this p99.
    verdict = judged(requests=600, rate=50, slow=[(6.0, 6.06, 0.1, None)])
    assert verdict.verdict == "inconclusive"
    assert "too few pauses to be sure" in only_reason(verdict)


# Which replies are held together.

LONG = {"requests": 20_000, "rate": 1000.0, "channels": {"new": 1.0}, "journal": False}
LONG |= {"deploy": (10.0, 11.0), "switch": 10.5}
"""Twenty seconds, one of them a deploy."""


def altered(folder: Path, change: Any, **plan: Any) -> Verdict:
    """Return the verdict on a made-up run whose samples were changed before it was judged."""
    recording = Recording.read(synthetic.run(folder, **plan))
    change(recording.samples)
    return judge(recording, Slo())


def test_requests_that_are_long_at_all_times_make_no_deploy_slow(tmp_path: Path) -> None:
    """Seven of a thousand take 0.9 s: nearly one in a second's deploy is under way as it begins."""

    def slow(samples: Any) -> None:
        chosen = np.random.default_rng(seed).random(len(samples)) < 0.007
        samples.done_us[chosen & (samples.channel == 0)] = 900_000

    told = Counter()
    for seed in range(20):
        told[altered(tmp_path / f"r{seed}", slow, **LONG).verdict] += 1
    assert told["broken"] == 0, told
    assert told["holds"] >= 12, told


def test_what_fails_at_all_times_fails_as_often_in_a_deploy(tmp_path: Path) -> None:
    """One in a hundred waits for five seconds in vain, before the deploy, in it and after it."""

    def hang(samples: Any) -> None:
        chosen = (samples.seq % 100 == 0) & (samples.channel == 0)
        samples.done_us[chosen] = 5_000_000
        samples.outcome[chosen] = synthetic.Outcome.timeout

    verdict = altered(tmp_path / "r", hang, **LONG)
    deploy, under_way = verdict.phases["deploy"], verdict.phases["under_way"]
    assert deploy.failed / deploy.requests == pytest.approx(0.01, abs=0.002)
    assert under_way.failed == pytest.approx(50, abs=1)
    assert "100 of 10000 failed that fell due before the deploy, 50 of them after it had begun" in (
        verdict.summary().splitlines()
    )


def test_what_the_deploy_did_to_those_under_way_is_no_part_of_the_baseline(
    tmp_path: Path,
) -> None:
    """Replies of 400 ms take six seconds where the deploy meets them, longer than the baseline."""

    def slow(samples: Any) -> None:
        mine = samples.channel == 0
        samples.done_us[mine] = 400_000
        since = samples.due - samples.due[0]
        samples.done_us[mine & (since > 4.6) & (since < 6.0)] = 6_000_000

    verdict = altered(tmp_path / "r", slow, **{**LONG, "deploy": (5.0, 6.0), "switch": 5.5})
    assert verdict.phases["baseline"].p99 == pytest.approx(0.4)
    assert verdict.verdict == "broken"
    assert "p99 in the deploy window 6s" in verdict.reasons[0]


def slowed(share: float, seconds: float, since: float = 0.0, seed: int = 1):
    """Return what makes that share of the replies take so long, of what falls due since then."""

    def slow(samples: Any) -> None:
        chosen = np.random.default_rng(seed).random(len(samples)) < share
        late = samples.due - samples.due[0] >= since
        samples.done_us[chosen & late & (samples.channel == 0)] = round(seconds * 1e6)

    return slow


@pytest.mark.parametrize(("before", "after"), [(0.008, 0.95), (0.008, 0.1), (0.003, 0.03)])
def test_a_slow_release_is_found_where_each_moment_had_a_slow_reply_before(
    tmp_path: Path, before: float, after: float
) -> None:
    """Two thousand replies a second: of a quarter of a second's some are slow at all times."""

    def both(samples: Any) -> None:
        slowed(before, 0.2)(samples)
        slowed(after, 0.2, since=10.0, seed=2)(samples)

    plan = {**LONG, "requests": 40_000, "rate": 2000.0}
    verdict = altered(tmp_path / "r", both, **plan)
    assert verdict.verdict == "broken"
    assert "p99 in the deploy window" in verdict.reasons[0]


def test_a_baseline_is_made_of_those_that_had_time_to_be_slow(tmp_path: Path) -> None:
    """Three of a hundred take four seconds at all times, of a baseline of five."""
    plan = {**LONG, "requests": 40_000, "rate": 2000.0, "deploy": (5.0, 15.0), "switch": 10.0}
    for seed in range(4):
        folder = synthetic.run(tmp_path / f"r{seed}", **plan)
        recording = Recording.read(folder)
        slowed(0.03, 4.0, seed=seed)(recording.samples)
        verdict = judge(recording, Slo.parse("slow=none"))
        assert verdict.verdict != "broken", verdict.reasons
        assert verdict.phases["baseline"].p99 == pytest.approx(4.0)


def test_a_slow_channel_has_the_share_of_the_baseline_that_it_has_of_the_deploy(judged) -> None:
    """Two of a hundred replies are slow ones, always 50 ms beyond their two seconds."""
    for seed in range(4):
        verdict = judged(
            requests=28_000,
            rate=1000.0,
            deploy=(3.0, 23.0),
            channels={"new": 98.0, "slow": 2.0},
            think={"slow": 2.0},
            slow=[(0, 99, 0.05, ["slow"])],
            journal=False,
            seed=seed,
        )
        assert verdict.verdict == "holds", verdict.reasons


def test_a_baseline_shorter_than_replies_take_is_told_how_long_it_has_to_be(judged) -> None:
    verdict = judged(deploy=(2.0, 12.0), think={"slow": 2.0}, journal=False)
    assert verdict.reasons == (
        "inconclusive: no ok reply in the baseline to compare p99 with: it has to be longer than "
        "2.25s, as long as replies may take",
    )


def test_streams_alone_have_no_p99_to_keep(judged) -> None:
    verdict = judged(channels={"stream": 1.0}, think={"stream": 0.2}, journal=False)
    assert (verdict.verdict, verdict.reasons) == ("holds", ())


@pytest.mark.parametrize(
    ("sides", "chance"),
    [((8, 8, 0, 20), 1 / 3_108_105), ((1, 8, 0, 20), 8 / 28), ((0, 8, 3, 20), 1.0)],
)
def test_the_chance_of_so_many_on_one_side_is_fishers(sides, chance) -> None:
    assert as_uneven(*sides) == pytest.approx(chance)
