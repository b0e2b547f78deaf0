"""What got worse and what got better from one release to another, and what is only noise.

Scenarios are compared by their names. Failures are counts: whether they differ is told by Fisher's
exact test (1922) on all repeats together. Latencies are medians of repeats: whether they differ by
the bootstrap (Efron 1979), from `REPEATS` repeats on each side. A verdict that changed in every run
is told as what it is.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from zdtest.overview import SIGNS
from zdtest.release import Release
from zdtest.result import WORDS, Result

REPEATS = 5
"""Runs on each side below which nothing is said of latencies: fewer can be apart by chance."""

CHANCE = 0.01
"""How often chance alone may look like a difference of one scenario's failures."""

_DRAWS = 4000
_REPEAT = re.compile(r"\[?-?repeat\d+-?\]?")


@dataclass(frozen=True, slots=True)
class Change:
    """One thing about a scenario that differs by more than chance."""

    scenario: str
    what: str
    """``verdict``, ``failures`` or ``p99``."""
    worse: bool
    says: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs from `old` to `new`."""

    old: Release
    new: Release
    changes: tuple[Change, ...]
    same: int
    """Scenarios of both without a change."""
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    untold: tuple[str, ...]
    """Scenarios with too few repeats to say anything of their latencies."""
    environment: Mapping[str, tuple[str, str]]
    """What the releases were measured on, where it differs: old, new."""

    @property
    def worse(self) -> tuple[Change, ...]:
        """What got worse."""
        return tuple(change for change in self.changes if change.worse)

    @property
    def better(self) -> tuple[Change, ...]:
        """What got better."""
        return tuple(change for change in self.changes if not change.worse)

    def text(self) -> str:
        """Return it for a terminal."""
        lines = [f"{self.old.label} -> {self.new.label}"]
        for title, changes in (("worse", self.worse), ("better", self.better)):
            lines += [f"{title}: {one.scenario}: {one.what}: {one.says}" for one in changes]
        lines.append(f"{self.same} scenarios without a difference beyond chance")
        for title, names in (("gone", self.only_old), ("new", self.only_new)):
            lines += [f"{title}: {name}" for name in names]
        if self.untold:
            lines.append(
                f"latencies of {len(self.untold)} scenarios: fewer than {REPEATS} repeats on a "
                f"side, nothing is said of them (pytest --zd-repeat {REPEATS})"
            )
        for name, (old, new) in self.environment.items():
            lines.append(f"measured on another {name}: {old or 'none'} -> {new or 'none'}")
        lines += [f"not read: {one}" for one in (*self.old.unread, *self.new.unread)]
        return "\n".join(lines)

    def as_json(self) -> dict[str, object]:
        """Return it for programs."""
        return {
            "schema": 1,
            "old": self.old.label,
            "new": self.new.label,
            "worse": [_change(one) for one in self.worse],
            "better": [_change(one) for one in self.better],
            "same": self.same,
            "only_old": list(self.only_old),
            "only_new": list(self.only_new),
            "untold": list(self.untold),
            "environment": {name: list(pair) for name, pair in self.environment.items()},
            "unread": [*self.old.unread, *self.new.unread],
        }


def compare(old: Release, new: Release) -> Comparison:
    """Return what differs between them, scenario by scenario."""
    before, after = _scenarios(old.results), _scenarios(new.results)
    both = [name for name in before if name in after]
    changes: list[Change] = []
    untold, same = [], 0
    for name in both:
        found = list(_changes(name, before[name], after[name]))
        changes += found
        same += not found
        if min(len(before[name]), len(after[name])) < REPEATS:
            untold.append(name)
    names = sorted({*old.environment, *new.environment})
    pairs = {name: (old.environment.get(name, ""), new.environment.get(name, "")) for name in names}
    return Comparison(
        old=old,
        new=new,
        changes=tuple(changes),
        same=same,
        only_old=tuple(name for name in before if name not in after),
        only_new=tuple(name for name in after if name not in before),
        untold=tuple(untold),
        environment={name: pair for name, pair in pairs.items() if pair[0] != pair[1]},
    )


def _change(one: Change) -> dict[str, object]:
    return {"scenario": one.scenario, "what": one.what, "says": one.says}


def _scenarios(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Return the runs of each scenario, by its name without which repeat it was."""
    found: dict[str, list[Result]] = {}
    for one in results:
        test = _REPEAT.sub("", one.test) or one.path or "runs"
        name = " ".join(filter(None, (one.topology, one.variant, one.mutant, test)))
        found.setdefault(name, []).append(one)
    return found


def _changes(name: str, old: Sequence[Result], new: Sequence[Result]) -> Iterable[Change]:
    words = {one.verdict for one in old}, {one.verdict for one in new}
    if words[0] != words[1]:
        if words[0].isdisjoint(words[1]):
            worse = _rank(words[1]) < _rank(words[0])
            says = f"{_verdicts(old)} -> {_verdicts(new)}"
            yield Change(name, "verdict", worse, says)
        else:
            says = f"{_verdicts(old)} -> {_verdicts(new)}: not the same in every run"
            yield Change(name, "verdict", _rank(words[1]) < _rank(words[0]), says)
    yield from _failures(name, old, new)
    if min(len(old), len(new)) >= REPEATS:
        yield from _latency(name, old, new)


def _rank(words: set[str]) -> int:
    """Return the place of the worst of these verdicts, 0 for broken."""
    return min(map(WORDS.index, words))


def _verdicts(runs: Sequence[Result]) -> str:
    counts = {word: sum(one.verdict == word for one in runs) for word in WORDS}
    return ", ".join(f"{SIGNS[word]} {n} of {len(runs)}" for word, n in counts.items() if n)


def _failures(name: str, old: Sequence[Result], new: Sequence[Result]) -> Iterable[Change]:
    sides = [(sum(r.failed for r in runs), sum(r.requests for r in runs)) for runs in (old, new)]
    chance = fisher(*sides[0], *sides[1])
    if chance < CHANCE:
        (a, n), (b, m) = sides
        says = f"{a:,} of {n:,} -> {b:,} of {m:,} (by chance in {chance:.2g} of such pairs)"
        yield Change(name, "failures", b * n > a * m, says)


def _latency(name: str, old: Sequence[Result], new: Sequence[Result]) -> Iterable[Change]:
    sides = [[r.p99[1] for r in runs if r.p99[1] is not None] for runs in (old, new)]
    if min(map(len, sides)) < REPEATS:
        return
    least, most = bootstrap(*sides)
    if least > 0 or most < 0:
        before, after = map(statistics.median, sides)
        says = f"{before:.1f} ms -> {after:.1f} ms in the deploy ({least:+.1f} to {most:+.1f} ms)"
        yield Change(name, "p99", least > 0, says)


def fisher(failed: int, requests: int, other_failed: int, other_requests: int) -> float:
    """Return how often chance alone parts these failures so unevenly: two-sided, exact.

    Of all ways in which as many failures could fall on the two sides, those no likelier than this
    one (R. A. Fisher, 1922). 1.0 where nothing or everything failed.
    """
    total, all_failed = requests + other_requests, failed + other_failed
    if not 0 < all_failed < total or not requests or not other_requests:
        return 1.0

    def chance(k: int) -> float:
        return (
            _choose(requests, k)
            + _choose(other_requests, all_failed - k)
            - _choose(total, all_failed)
        )

    least, most = max(0, all_failed - other_requests), min(requests, all_failed)
    here = chance(failed)
    ways = (chance(k) for k in range(least, most + 1))
    return min(1.0, math.fsum(math.exp(way) for way in ways if way <= here + 1e-9))


def _choose(n: int, k: int) -> float:
    """Return the logarithm of the number of ways to choose `k` of `n`."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def bootstrap(old: Sequence[float], new: Sequence[float]) -> tuple[float, float]:
    """Return between what bounds the difference of the medians lies, 99 times of a hundred.

    By drawing anew from each side (B. Efron, 1979); the same values give the same bounds.
    """
    draw = np.random.default_rng(0)
    medians = [
        np.median(draw.choice(np.asarray(side), (_DRAWS, len(side))), axis=1) for side in (old, new)
    ]
    least, most = np.percentile(medians[1] - medians[0], [0.5, 99.5])
    return float(least), float(most)
