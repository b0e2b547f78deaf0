"""What got worse and what got better from one release to another, and what is only noise.

Scenarios are compared by their names. A broken run where none was broken stands by itself, and so
does a verdict that changed for the better in every run; that more or fewer runs are broken takes
Fisher's exact test (1922) of how many. A scenario of which most runs are inconclusive now and were
not, or all are and were not, is neither better nor worse: it is unproved. A mutant is to be caught,
so its verdict means the opposite.
Failures are counts: Fisher's test on all repeats together, where one side has none. Where both have
some they are the lengths of outages, in which requests fail together, and differ from run to run;
they are told, as latencies are, where the repeats are apart (`chance.apart`), from `REPEATS` on
each side.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from zdtest.judging.interval import at_most
from zdtest.results.chance import CHANCE, apart, fisher
from zdtest.results.overview import SIGNS
from zdtest.results.release import Release, scenarios
from zdtest.results.result import WORDS, Result
from zdtest.results.settings import Pair, differing, otherwise, told

REPEATS = 5
"""Runs on each side below which nothing is said of what differs from run to run anyway."""

LATENCY = "p99"

FELT = 0.2
"""The share by which a latency has to get longer for a session to fail by it."""

_LEAST = 1e-99
"""Chances below this are told as what they are below."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing about a scenario that differs by more than chance."""

    scenario: str
    what: str
    """``verdict``, ``failures`` or `LATENCY`."""
    worse: bool
    says: str
    by: float = 0.0
    """By what share of what it was a latency got longer at the least, 1.0 for twice as long."""


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
    """Scenarios with too few repeats to say anything of latencies, or of failures that both had."""
    unproved: tuple[str, ...]
    """Scenarios of which most runs are inconclusive now and were not, or all are and were not."""
    timed: int
    """Scenarios whose latencies were compared."""
    environment: Mapping[str, Pair]
    """What the releases were measured on, where it differs."""
    configuration: Mapping[str, Mapping[str, Pair]]
    """How scenarios were measured, where that differs: load, parameters, promises."""

    @property
    def worse(self) -> tuple[Change, ...]:
        """What got worse."""
        return tuple(change for change in self.changes if change.worse)

    @property
    def better(self) -> tuple[Change, ...]:
        """What got better."""
        return tuple(change for change in self.changes if not change.worse)

    @property
    def worsened(self) -> tuple[Change, ...]:
        """What got worse and is not to be put down to chance.

        Machines are never quite alike, and of many scenarios the latencies of some differ by chance
        alone. So a slower one counts where it is slower by `FELT` for certain, and more of them are
        than chance would have it; or where it takes twice as long for certain.
        """
        felt = [change for change in self.worse if change.what == LATENCY and change.by >= FELT]
        by_chance = 1 - at_most(len(felt) - 1, self.timed, CHANCE / 2) >= CHANCE
        slower = [change for change in felt if not by_chance or change.by >= 1]
        return tuple(one for one in self.worse if one.what != LATENCY or one in slower)

    @property
    def unheld(self) -> tuple[str, ...]:
        """Why it cannot be said that nothing got worse, a line each."""
        return (
            *(["no scenario is in both: nothing was compared"] if self.nothing else []),
            *(f"gone: {name}" for name in self.only_old),
            *(f"unproved: {name}" for name in self.unproved),
            *(f"not read: {one}" for one in (*self.old.unread, *self.new.unread)),
        )

    @property
    def nothing(self) -> bool:
        """Whether no scenario is in both: then nothing was compared."""
        return not self.same and not self.changes and not self.unproved

    def silence(self) -> str:
        """Return of how many scenarios nothing is said that would take more repeats."""
        return (
            f"latencies, and failures where both had some, of {len(self.untold)} scenarios: fewer "
            f"than {REPEATS} repeats on a side, nothing is said of them "
            f"(pytest --zd-repeat {REPEATS})"
        )

    def otherwise(self) -> dict[tuple[str, str, str], list[str]]:
        """Return what was set otherwise, from what and to what, and in which scenarios."""
        found: dict[tuple[str, str, str], list[str]] = {}
        for scenario, pairs in self.configuration.items():
            for name, pair in pairs.items():
                found.setdefault((name, *pair), []).append(scenario)
        return found

    def text(self, *, brief: bool = False) -> str:
        """Return it for a terminal; in brief how many scenarios only one has, not which."""
        lines = [f"{self.old.label} -> {self.new.label}"]
        for title, changes in (("worse", self.worse), ("better", self.better)):
            lines += [f"{title}: {one.scenario}: {one.what}: {one.says}" for one in changes]
        lines += [f"unproved: {name}: most runs are inconclusive now" for name in self.unproved]
        lines.append(f"{self.same} scenarios without a difference beyond chance")
        for title, names in (("gone", self.only_old), ("new", self.only_new)):
            brief_line = [f"{title}: {len(names)} scenarios"] if names else []
            lines += brief_line if brief else [f"{title}: {name}" for name in names]
        if self.untold:
            lines.append(self.silence())
        for name, (old, new) in self.environment.items():
            lines.append(f"measured on another {name}: {told(name, old)} -> {told(name, new)}")
        for (name, old, new), where in self.otherwise().items():
            pair = f"{name}: {told(name, old)} -> {told(name, new)}"
            lines.append(f"measured otherwise, {pair}: {', '.join(where)}")
        lines += [f"not read: {one}" for one in (*self.old.unread, *self.new.unread)]
        # Names come from files: what could steer a terminal is shown as an escape.
        return "\n".join(line if line.isprintable() else ascii(line)[1:-1] for line in lines)

    def as_json(self) -> dict[str, object]:
        """Return it for programs."""
        return {
            "schema": 1,
            "old": self.old.label,
            "new": self.new.label,
            "worse": [_change(one) for one in self.worse],
            "better": [_change(one) for one in self.better],
            "same": self.same,
            "unproved": list(self.unproved),
            "only_old": list(self.only_old),
            "only_new": list(self.only_new),
            "untold": list(self.untold),
            "environment": {name: list(pair) for name, pair in self.environment.items()},
            "configuration": {
                scenario: {name: list(pair) for name, pair in pairs.items()}
                for scenario, pairs in self.configuration.items()
            },
            "unread": [*self.old.unread, *self.new.unread],
        }


def compare(old: Release, new: Release) -> Comparison:
    """Return what differs between them, scenario by scenario."""
    before, after = scenarios(old.results, new.results)
    both = [name for name in before if name in after]
    changes: list[Change] = []
    untold, same = [], 0
    settings: dict[str, Mapping[str, Pair]] = {}
    for name in both:
        found = list(_changes(name, before[name], after[name]))
        changes += found
        same += not found and not _unproved(before[name], after[name])
        if min(len(before[name]), len(after[name])) < REPEATS:
            untold.append(name)
        pairs = otherwise(old.settings(before[name]), new.settings(after[name]))
        settings |= {name: pairs} if pairs else {}
    return Comparison(
        old=old,
        new=new,
        changes=tuple(changes),
        same=same,
        only_old=tuple(name for name in before if name not in after),
        only_new=tuple(name for name in after if name not in before),
        untold=tuple(untold),
        unproved=tuple(name for name in both if _unproved(before[name], after[name])),
        timed=sum(_timed(before[name], after[name]) for name in both),
        environment=differing(old.environment, new.environment),
        configuration=settings,
    )


def _change(one: Change) -> dict[str, object]:
    return {"scenario": one.scenario, "what": one.what, "says": one.says}


def _changes(name: str, old: Sequence[Result], new: Sequence[Result]) -> Iterable[Change]:
    if old[0].mutant:
        yield from _caught(name, old, new)
        return
    yield from _verdict(name, old, new)
    yield from _failures(name, old, new)
    if _timed(old, new):
        yield from _latency(name, old, new)


def _verdict(name: str, old: Sequence[Result], new: Sequence[Result]) -> Iterable[Change]:
    a, b = _broken(old), _broken(new)
    says = f"{_verdicts(old)} -> {_verdicts(new)}"
    if b and not a:
        some = "" if b == len(new) else ": not the same in every run"
        yield Change(name, "verdict", True, says + some)
    elif _unproved(old, new):
        return
    elif _held(new) == len(new) and not _held(old):
        yield Change(name, "verdict", False, says)
    elif (chance := fisher(a, len(old), b, len(new))) < CHANCE:
        yield Change(name, "verdict", b * len(old) > a * len(new), f"{says} ({_by(chance)})")


def _caught(name: str, old: Sequence[Result], new: Sequence[Result]) -> Iterable[Change]:
    a, b = _broken(old) == len(old), _broken(new) == len(new)
    if a != b:
        yield Change(name, "mutant", a, f"{_verdicts(old)} -> {_verdicts(new)}, to be caught")


def _unproved(old: Sequence[Result], new: Sequence[Result]) -> bool:
    before, now = (sum(one.proved for one in runs) / len(runs) for runs in (old, new))
    return now < 0.5 <= before or now == 0 < before


def _broken(runs: Sequence[Result]) -> int:
    return sum(one.verdict == "broken" for one in runs)


def _held(runs: Sequence[Result]) -> int:
    return sum(one.verdict == "holds" for one in runs)


def _timed(old: Sequence[Result], new: Sequence[Result]) -> bool:
    """Whether there are enough latencies of both to be compared."""
    return not old[0].mutant and all(
        sum(one.p99[1] is not None for one in runs) >= REPEATS for runs in (old, new)
    )


def _verdicts(runs: Sequence[Result]) -> str:
    counts = {word: sum(one.verdict == word for one in runs) for word in WORDS}
    return ", ".join(f"{SIGNS[word]} {n} of {len(runs)}" for word, n in counts.items() if n)


def _failures(name: str, old: Sequence[Result], new: Sequence[Result]) -> Iterable[Change]:
    (a, n), (b, m) = (_failed(old), _failed(new))
    chance = fisher(a, n, b, m)
    says = f"{a:,} of {n:,} -> {b:,} of {m:,} ({_by(chance)})"
    if chance >= CHANCE:
        return
    if not (a and b):
        yield Change(name, "failures", b > 0, says)
    elif min(len(old), len(new)) >= REPEATS and (
        bounds := apart(list(map(_share, old)), list(map(_share, new)))
    ):
        says += f", of a run {100 * bounds[0]:+.2g} to {100 * bounds[1]:+.2g} %"
        yield Change(name, "failures", bounds[0] > 0, says)


def _by(chance: float) -> str:
    told = f"{chance:.2g}" if chance > _LEAST else f"less than {_LEAST:g}"
    return f"by chance in {told} of such pairs"


def _failed(runs: Sequence[Result]) -> tuple[int, int]:
    return sum(one.failed for one in runs), sum(one.requests for one in runs)


def _share(one: Result) -> float:
    return one.failed / one.requests if one.requests else 0.0


def _latency(name: str, old: Sequence[Result], new: Sequence[Result]) -> Iterable[Change]:
    sides = [[r.p99[1] for r in runs if r.p99[1] is not None] for runs in (old, new)]
    if bounds := apart(*sides):
        least, most = bounds
        before, after = map(statistics.median, sides)
        says = f"{before:.1f} ms -> {after:.1f} ms in the deploy ({least:+.1f} to {most:+.1f} ms)"
        yield Change(name, LATENCY, least > 0, says, by=least / before if before > 0 else 0.0)
