"""Mutants of the app, each behind the healthy balancer beside a healthy instance.

Those that fail when they come are v2, those that fail when they go are v1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from mutants.kill_list import APP, STEADY, Mutant, only
from mutants.stage import Watched, loads, stacks
from zdtest.judging.verdict import judge
from zdtest.records.recording import Recording
from zdtest.traffic import Load

pytestmark = pytest.mark.alone

MIXED = "new=2@/download?bytes=100000,reused=3@/api,slow=1@/300~300ms,write=3@/orders"
"""A download of more than a balancer may hold back."""
WRITES = "new=1@/api,write=4@/orders"
KEYED = "new=1@/api,write+key=4@/orders"
HEALTHY, KILLED = "healthy", "keyed-beside-a-kill"

BEFORE: Mapping[str, Mapping[str, object]] = {
    "old": {},
    "ignores-term": {"release": "ignores-term"},
    "late-listener": {"release": "late-listener", "drain_seconds": 0},
    "acks-before-commit": {"release": "acks-before-commit"},
    "slow": {"change": "slow-commit"},
}
"""The instances at v1."""
AFTER: Mapping[str, Mapping[str, object]] = {
    "new": {},
    "forgets-keys": {"release": "forgets-keys"},
    "cuts-body": {"release": "cuts-body"},
    "wrong-body": {"release": "wrong-body"},
    "twice": {"release": "twice"},
    "claims-ready": {"change": "claims-ready", "release": "serves-before-ready"},
}
"""The instances at v2."""
SEATS: Mapping[str, tuple[str, str, str]] = {
    HEALTHY: ("old", "new", MIXED),
    KILLED: ("slow", "new", KEYED),
    "ignores-term": ("ignores-term", "new", MIXED),
    "late-listener": ("late-listener", "new", MIXED),
    "acks-before-commit": ("acks-before-commit", "new", WRITES),
    "forgets-keys": ("slow", "forgets-keys", KEYED),
    "cuts-body": ("old", "cuts-body", MIXED),
    "wrong-body": ("old", "wrong-body", MIXED),
    "twice": ("old", "twice", WRITES),
    "claims-ready": ("old", "claims-ready", MIXED),
}
"""What each balancer sends to, before and after the deploy, and what its users do."""


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    """Start v2 beside v1, then stop v1, or kill it where that is when it fails."""
    folder = tmp_path_factory.mktemp("apps")
    with stacks(folder / "stacks") as stage:
        stage.place(*BEFORE, *AFTER)
        for name, settings in BEFORE.items():
            stage.start(name, "v1", **settings)  # type: ignore[arg-type]
        for name, (old, new, _) in SEATS.items():
            stage.balance(name, "none", old, new)
        stage.ready(*BEFORE)
        for name, (old, _, _) in SEATS.items():
            stage.takes(name, old)
        seats = {
            name: (stage.url(name), load(name, channels))
            for name, (_, _, channels) in SEATS.items()
        }
        versions = {"old_version": "v1", "new_version": "v2"}
        with loads(folder, seats, versions) as audience:
            audience.mark("deploy.begin")
            for name, settings in AFTER.items():
                stage.start(name, "v2", **settings)  # type: ignore[arg-type]
            for name, (_, new, _) in SEATS.items():
                stage.takes(name, new)
            stage.tell("KILL", "acks-before-commit", "slow")
            stage.tell("TERM", "old", "ignores-term", "late-listener")
            stage.gone("old", "late-listener", "acks-before-commit", "slow")
            audience.mark("deploy.end")
        assert audience.troubles == {}
        for name in SEATS:
            (folder / name / "journal.jsonl").symlink_to(stage.journal.resolve())
        return {name: Recording.read(folder / name) for name in SEATS}


def load(name: str, channels: str) -> Load:
    """Return a light load, but for the healthy one, which is driven by Locust as for any user."""
    kind = Load if name == HEALTHY else Watched
    return kind(rate=26.0, channels=channels, seed=1)


@pytest.mark.parametrize("name", [HEALTHY, KILLED])
def test_the_healthy_app_holds(name: str, recordings: dict[str, Recording]) -> None:
    """Killed in the midst of its writes, too: each is asked again under its key, and ran once."""
    verdict = judge(recordings[name], STEADY)
    assert verdict.verdict == "holds", verdict.summary()
    assert verdict.writes.lost == verdict.writes.twice == 0


@pytest.mark.parametrize("mutant", APP, ids=lambda mutant: mutant.name)
def test_a_mutant_of_the_app_is_caught(mutant: Mutant, recordings: dict[str, Recording]) -> None:
    recording = recordings[mutant.name]
    alone = judge(recording, only(mutant.promise))
    assert alone.verdict == "broken", alone.summary()
    assert any(re.search(mutant.says, reason) for reason in alone.reasons), alone.summary()
    assert judge(recording, STEADY).verdict == "broken"
