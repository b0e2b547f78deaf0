"""What many runs say together: each claim as documented and hardened, and each way to deploy.

Both are plain rows, for a page, for a pull request's comment (`markdown`) and for programs.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from zdtest.judging.interval import upper_rate
from zdtest.percent import bound
from zdtest.results.claims import CLAIMS, Claim
from zdtest.results.foreseen import foreseen
from zdtest.results.result import WORDS, Result, worst

STRATEGIES = ("rolling", "recreate", "blue_green", "canary", "rollback", "scripted")
"""The ways that are compared: those of controls, which deploy nothing, are not."""
VARIANTS = ("documented", "hardened")


@dataclass(frozen=True, slots=True)
class Judged:
    """One claim, with the runs that checked it in each variant; those of mutants are none."""

    claim: Claim
    runs: Mapping[str, tuple[Result, ...]]

    def verdict(self, variant: str) -> str:
        """Return the worst verdict of the runs that it is of, "" where there are none."""
        return worst(self.telling(variant))

    def telling(self, variant: str) -> tuple[Result, ...]:
        """Return the runs that the verdict is of.

        Faults on purpose and bad releases are judged beside them, but for a claim about just these.
        """
        runs = self.runs.get(variant, ())
        if self.claim.of_failures:
            return runs
        return tuple(one for one in runs if one.undisturbed) or runs

    def why(self, variant: str) -> str:
        """Return the first reason of the run that has the verdict, and whose fault it was most."""
        word = self.verdict(variant)
        one = next((one for one in self.telling(variant) if one.verdict == word), None)
        if one is None or not one.reason:
            return ""
        return f"{one.why} ({one.most})" if one.most and word == "broken" else one.why

    def as_json(self) -> dict[str, object]:
        """Return the fields of the JSON form."""
        return {
            **asdict(self.claim),
            **{
                variant: {
                    "verdict": self.verdict(variant) or None,
                    "why": self.why(variant),
                    "verdicts": dict(Counter(one.verdict for one in self.runs.get(variant, ()))),
                    "runs": [one.folder.name for one in self.runs.get(variant, ())],
                }
                for variant in VARIANTS
            },
        }


@dataclass(frozen=True, slots=True)
class Way:
    """One way to deploy, over all undisturbed runs of it: the sums, and the worst where one can be.

    Latencies, the load and times are medians of the runs; times are seconds, all else milliseconds.
    """

    topology: str
    variant: str
    strategy: str
    runs: int
    verdict: str
    """The worst."""
    requests: int
    failed: int
    failed_upper95: float
    channels: Mapping[str, int]
    downtime: float
    """The most of any run, with its upper bound."""
    open: bool
    """Whether in one of them it may have been more."""
    outage: float
    p50: float | None
    p99: float | None
    usual: float | None
    """The p99 of the baselines."""
    max: float | None
    mixed: float
    masked: int | None
    lowest: str
    """Instances ready at the least, of how many there were."""
    running: int | None
    """Processes of the app before, and at the most: of the run that had the most of them."""
    peak: int
    memory: float | None
    """Bytes held at the most, of the run that held most; None where none sampled it."""
    memory_ratio: float | None
    """That to what the same run held before its deploy."""
    deploy: float | None
    rollback: float | None
    rate: float | None
    exposed: tuple[int, int] | None
    """Failed requests, and all, in the runs of bad releases; None where none was deployed so."""

    @classmethod
    def of(cls, good: Sequence[Result], bad: Sequence[Result] = ()) -> Way:
        """Return what the runs of `good` releases, all of one way, say together.

        Those of `bad` ones tell what users saw of them, and how long the way back took.
        """
        runs = good or bad
        first = runs[0]
        requests, failed = sum(r.requests for r in runs), sum(r.failed for r in runs)
        channels: Counter[str] = Counter()
        for one in runs:
            channels.update({name: count for name, count in one.channels.items() if count})
        most = max(runs, key=lambda one: one.peak)
        tightest = min(runs, key=lambda one: one.lowest - one.instances)
        masked = [one.masked for one in runs if one.masked is not None]
        largest = max(runs, key=lambda one: one.memory or 0)
        return cls(
            topology=first.topology,
            variant=first.variant,
            strategy=first.strategy,
            runs=len(runs),
            verdict=worst(runs),
            requests=requests,
            failed=failed,
            failed_upper95=upper_rate(failed, requests),
            channels=dict(channels),
            downtime=max(one.downtime[1] for one in runs),
            open=any(one.open for one in runs),
            outage=max(one.worst for one in runs),
            p50=_median(one.p50[1] for one in runs),
            p99=_median(one.p99[1] for one in runs),
            usual=_median(one.p99[0] for one in runs),
            max=max((one.max[1] for one in runs if one.max[1] is not None), default=None),
            mixed=max(one.mixed for one in runs),
            masked=sum(masked) if masked else None,
            lowest=f"{tightest.lowest} of {tightest.instances}",
            running=most.running,
            peak=most.peak,
            memory=largest.memory,
            memory_ratio=largest.memory_ratio,
            deploy=_median(one.deploy for one in runs),
            rollback=_median(one.rollback for one in (*good, *bad)),
            rate=_median(one.rate for one in runs),
            exposed=(sum(r.failed for r in bad), sum(r.requests for r in bad)) if bad else None,
        )


def claims(results: Iterable[Result]) -> list[Judged]:
    """Return every claim that a run checked, in the documents' order, then those of others."""
    checked: dict[str, list[Result]] = {}
    for one in results:
        if one.claim and not one.mutant:
            checked.setdefault(one.claim, []).append(one)
    others = {
        key: Claim(key, "", runs[0].says)
        for key, runs in sorted(checked.items())
        if key not in CLAIMS
    }
    return [
        Judged(
            claim,
            {name: tuple(r for r in checked[key] if r.variant == name) for name in VARIANTS},
        )
        for key, claim in {**CLAIMS, **others}.items()
        if key in checked
    ]


def unchecked(results: Iterable[Result]) -> list[Claim]:
    """Return the documents' claims of which no run says anything; none where no run is of theirs.

    A run of somebody's own stack has nothing to do with them.
    """
    checked = {one.claim.id for one in claims(results)}
    left = [one for one in CLAIMS.values() if one.id not in checked]
    return left if len(left) < len(CLAIMS) else []


def ways(results: Iterable[Result]) -> list[Way]:
    """Return each way that good releases were deployed on, undisturbed: the best verdicts first."""
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for one in results:
        if one.strategy in STRATEGIES and not one.faults and not one.mutant:
            groups.setdefault((one.topology, one.variant, one.strategy), []).append(one)
    parted = (
        ([one for one in runs if not one.release], [one for one in runs if one.release])
        for runs in groups.values()
    )
    found = [Way.of(good, bad) for good, bad in parted if good]
    return sorted(
        found, key=lambda way: (-WORDS.index(way.verdict), way.failed_upper95, way.topology)
    )


def as_json(results: Sequence[Result], unread: Sequence[str] = ()) -> dict[str, object]:
    """Return claims, ways and runs for programs, and why some folders are not among them."""
    return {
        "schema": 1,
        "claims": [one.as_json() for one in claims(results)],
        "unchecked": [one.id for one in unchecked(results)],
        "ways": [asdict(one) for one in ways(results)],
        "foreseen": [asdict(one) for one in foreseen(results)],
        "runs": [one.as_json() for one in results],
        "unread": list(unread),
    }


def markdown(results: Sequence[Result], unread: Sequence[str] = ()) -> str:
    """Return claims, ways and runs of nobody's topology as tables of GitHub's Markdown.

    A table of nothing is left out.
    """
    judged = [
        (
            one.claim.id,
            one.claim.words,
            _sign(one.verdict("documented")),
            _sign(one.verdict("hardened")),
            one.why("documented") or one.why("hardened"),
        )
        for one in claims(results)
    ]
    heads = ("claim", "what it says", "as documented", "hardened", "why")
    lines = _titled("Claims", heads, judged)
    if left := unchecked(results):
        lines += [f"{UNCHECKED}: {', '.join(one.id for one in left)}", ""]
    heads, shows = zip(*COLUMNS, strict=True)
    deployed = [tuple(show(way) for show in shows) for way in ways(results)]
    lines += _titled("Ways to deploy", heads, deployed)
    own = [_run(one) for one in results if not one.topology]
    lines += _titled("Runs", RUN, own)
    lines += [f"- not read: {_cell(one)}" for one in unread]
    return "\n".join(lines or ["No run was judged."]).rstrip() + "\n"


RUN = (
    *("verdict", "run", "of", "failed", "downtime ms"),
    *("p99 ms, before → in the deploy → after", "why"),
)
"""What the columns of the runs are called."""


UNCHECKED = "Not checked by any of these runs"
"""What the claims are called of which none says anything."""


def _run(one: Result) -> tuple[str, ...]:
    """Return the run as a line of them."""
    counts = ", ".join(f"{count} {name}" for name, count in one.causes.items())
    whys = (one.why, one.most if len(one.causes) < 2 else f"{counts}; most {one.most}")
    return (
        _sign(one.verdict),
        one.run,
        one.test or one.strategy,
        f"{one.failed:,} of {one.requests:,}",
        _at_most(one.downtime[1], one.open) if one.failed else "none",
        " → ".join(map(_ms, (*one.p99, one.p99_after))),
        "; ".join(filter(None, whys)),
    )


def _titled(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"## {title}", "", *_table(heads, rows), ""] if rows else []


SIGNS = {"holds": "✓ holds", "broken": "✕ broken", "inconclusive": "? inconclusive"}


def _sign(verdict: str) -> str:
    return SIGNS.get(verdict, "–")


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(map(_cell, line))} |" for line in lines]


def _cell(text: str) -> str:
    """Return what stands for itself in a cell, whatever is in it."""
    plain = "".join(f"\\{letter}" if letter in r"\`*_{}[]<>|#" else letter for letter in text)
    return " ".join(plain.split())


def _median(values: Iterable[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return statistics.median(told) if told else None


def _count(value: int | None) -> str:
    return "–" if value is None else str(value)


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}"


def _at_most(value: float, more: bool) -> str:
    return f"{_ms(value)} or more" if more else _ms(value)


def _s(value: float | None) -> str:
    return "–" if value is None else f"{value:,.2f}"


def megabytes(peak: float | None, ratio: float | None) -> str:
    """Return bytes as millions, with how many times as much that is as before; a dash for None."""
    if peak is None:
        return "–"
    return f"{peak / 1e6:,.0f}" + ("" if ratio is None else f" (× {ratio:.2f})")


def _exposed(told: tuple[int, int] | None) -> str:
    return "–" if told is None else f"{told[0]:,} of {told[1]:,}"


COLUMNS: tuple[tuple[str, Callable[[Way], str]], ...] = (
    ("verdict", lambda way: _sign(way.verdict)),
    ("topology", lambda way: f"{way.topology} {way.variant}"),
    ("strategy", lambda way: way.strategy),
    ("runs", lambda way: str(way.runs)),
    ("failed", lambda way: f"{way.failed:,} of {way.requests:,}"),
    ("below, at 95 %", lambda way: bound(way.failed_upper95)),
    ("downtime ms", lambda way: _at_most(way.downtime, way.open)),
    ("p99 ms, before → in the deploy", lambda way: f"{_ms(way.usual)} → {_ms(way.p99)}"),
    ("mixed ms", lambda way: _ms(way.mixed)),
    ("ready at the least", lambda way: way.lowest),
    ("processes, before → at most", lambda way: f"{_count(way.running)} → {way.peak}"),
    ("peak memory MB (× before)", lambda way: megabytes(way.memory, way.memory_ratio)),
    ("masked", lambda way: "–" if way.masked is None else str(way.masked)),
    ("deploy s", lambda way: _s(way.deploy)),
    ("back s", lambda way: _s(way.rollback)),
    ("of a bad release", lambda way: _exposed(way.exposed)),
)
"""What each column of the ways is called, and shows."""
