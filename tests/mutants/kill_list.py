"""The kill list: every mutant, what is broken in it, and what has to catch it.

``python tests/mutants/kill_list.py`` prints it as the table of docs/mutants.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from zdtest.judging.slo import Slo

PROMISES = (
    *("failed", "bad_body", "p99_ratio", "p99_over", "slow", "lost", "twice", "phantom"),
    *("early", "backwards", "stale", "longest_outage", "downtime", "require_rate"),
)

STEADY = Slo(p99_ratio=None, p99_over=None, slow=None, hole=2.0, stall=0.5, min_requests=30)
"""What a healthy twin has to keep while a dozen loads share two processors with it: everything but
the promises about speed."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mutant; its run is found by its name."""

    name: str
    of: str
    """What it is a mutant of: balancer, app or measuring."""
    broken: str
    """What is broken in it."""
    promise: str
    """The promise that has to catch it, all alone; "" where the run has to prove nothing."""
    says: str
    """A pattern of the reason that has to be given."""
    caught: str
    """What catches it, in words."""


def only(promise: str) -> Slo:
    """Return the one promise, and none beside it."""
    assert promise in PROMISES
    none = dict.fromkeys(PROMISES)
    rules = {"hole": STEADY.hole, "stall": STEADY.stall, "min_requests": STEADY.min_requests}
    return Slo(**{**none, **rules, promise: 0})  # type: ignore[arg-type]


def _balancer(name: str, broken: str, promise: str, says: str, caught: str) -> Mutant:
    return Mutant(name, "balancer", broken, promise, says, caught)


def _app(name: str, broken: str, promise: str, says: str, caught: str) -> Mutant:
    return Mutant(name, "app", broken, promise, says, caught)


def _measuring(name: str, broken: str, says: str, caught: str, promise: str = "") -> Mutant:
    return Mutant(name, "measuring", broken, promise, says, caught)


BALANCER = (
    _balancer(
        "pings-rarely",
        "pings less often than a deploy takes, and believes nothing but its pings",
        "failed",
        r"requests failed, allowed 0; first http_5xx on",
        "5xx from the moment a target is gone",
    ),
    _balancer(
        "up-before-ready",
        "takes any reply to a ping for a good one",
        "early",
        r"accepted before the instance was ready .* ms before it was ready",
        "requests accepted before ready (#10)",
    ),
    _balancer(
        "blind-once-a-round",
        "picks one target in five without looking at its health",
        "failed",
        r"requests failed, allowed 0; first http_5xx on",
        "a part of the requests fails",
    ),
    _balancer(
        "shares-a-broken-connection",
        "keeps a target's connection that somebody left in the middle of a reply",
        "bad_body",
        r"cut short or wrong, allowed 0; first bad_body on",
        "replies that carry the id of another request (#19)",
    ),
    _balancer(
        "swaps-replies",
        "gives two requests at two targets each other's reply",
        "bad_body",
        r"cut short or wrong, allowed 0; first bad_body on",
        "replies that carry the id of another request (#19)",
    ),
    _balancer(
        "retries-posts",
        "sends a POST again though the first one may have run",
        "twice",
        r"writes ran more than once, allowed 0; first .* ran 2 times, again",
        "writes run twice (#2)",
    ),
    _balancer(
        "drops-requests",
        "forgets one request in ten without a word",
        "failed",
        r"requests failed, allowed 0; first timeout on",
        "timeouts",
    ),
    _balancer(
        "answers-itself",
        "says 201 to one POST in four and delivers it to nobody",
        "lost",
        r"writes answered ok were lost, allowed 0; first .* answered ok and never ran",
        "writes lost after their ok (#1)",
    ),
    _balancer(
        "drain-cuts",
        "closes a draining target's connections under the requests in flight",
        "failed",
        r"requests failed, allowed 0; first http_5xx on",
        "requests in flight fail as the drain begins (#11)",
    ),
)

APP = (
    _app(
        "ignores-term",
        "goes on serving when it is told to stop",
        "stale",
        r"replies not from v2 after the deploy",
        "the old version still answers (#9)",
    ),
    _app(
        "late-listener",
        "accepts for a second after it said that its listener was closed",
        "early",
        r"after it stopped listening.* ms after its listener closed",
        "requests accepted after stop (#10)",
    ),
    _app(
        "acks-before-commit",
        "answers a write half a second before it is kept",
        "lost",
        r"writes answered ok were lost, allowed 0; first .* answered ok and never ran",
        "writes lost after their ok (#1)",
    ),
    _app(
        "forgets-keys",
        "keeps idempotency keys in the memory of one process",
        "twice",
        r"idempotency keys had more than one effect, allowed 0; first .* its key had 2 effects",
        "keys with two effects (#3)",
    ),
    _app(
        "cuts-body",
        "says 200 and closes in the middle of the body",
        "bad_body",
        r"cut short or wrong, allowed 0; first truncated on",
        "bodies cut short (#13)",
    ),
    _app(
        "wrong-body",
        "answers with another body of the right length",
        "bad_body",
        r"cut short or wrong, allowed 0; first bad_body on",
        "another body than the one asked for (#13)",
    ),
    _app(
        "twice",
        "runs every order two times",
        "twice",
        r"writes ran more than once, allowed 0; first .* ran 2 times, again",
        "writes run twice (#2)",
    ),
    _app(
        "claims-ready",
        "says that it is ready as soon as it listens, long before its boot is over",
        "early",
        r"accepted before the instance was ready .* ms before it was ready",
        "requests accepted before ready (#10)",
    ),
)

MEASURING = (
    _measuring(
        "resends",
        "a load that sends a request again when its connection broke",
        r"requests came more than once",
        "the self-test: the ground truth saw requests twice, and hits that nobody reported",
    ),
    _measuring(
        "urllib3-retries",
        "a prober on urllib3 with the usual three retries",
        r"of \d+ requests that were hit were reported",
        "the self-test: the ground truth hit requests of which none was reported",
    ),
    _measuring(
        "closed-loop",
        "a load that waits for each reply before it sends the next request",
        r"nothing fell due for \d+ms at",
        "inconclusive: holes in the schedule; beside it the open loop sizes the hang",
    ),
    _measuring(
        "drops-failures",
        "a recorder that keeps no request that failed, and does not mention it",
        r"\d+ of the first \d+ requests are not on file",
        "inconclusive: the requests' numbers have gaps",
    ),
    _measuring(
        "killed",
        "the load is killed in the midst of the deploy",
        r"the recorder did not close its file",
        "inconclusive: no trailer",
    ),
    _measuring(
        "starved-of-time",
        "the load gets no processor for 600 ms of the deploy",
        r"the load generator stalled for \d+ ms at .* inside the deploy window",
        "inconclusive: the stall is told",
    ),
    _measuring(
        "starved-of-sockets",
        "the load may open fewer connections than it needs",
        r"the load generator could not send \d+ of \d+ requests",
        "inconclusive: what was unsent is told, and is no failure of the system",
    ),
    _measuring(
        "clock-stepped-in-the-samples",
        "the clock jumps an hour ahead in the midst of the load",
        r"nothing fell due for 60m00s at",
        "inconclusive: an hour without a request due",
    ),
    _measuring(
        "clock-stepped-before-the-marks",
        "the deploy is marked by a clock that is an hour behind",
        r"the deploy began 59m\d\ds before the load did",
        "inconclusive: the deploy lies outside the load",
    ),
    _measuring(
        "clock-stepped-between-the-marks",
        "the marks' clock jumps an hour ahead during the deploy",
        r"the deploy ended 59m\d\ds after the load did",
        "inconclusive: the deploy lies outside the load",
    ),
    _measuring(
        "journal-line-missing",
        "one line of the app's journal is missing",
        r"1 of \d+ writes answered ok were lost, allowed 0; first",
        "a write lost after its ok: what cannot be shown to have run has not",
        promise="lost",
    ),
)

ALL = (*BALANCER, *APP, *MEASURING)


def table(mutants: Iterable[Mutant] = ALL) -> str:
    """Return the list as docs/mutants.md has it."""
    lines = []
    for of, group in groupby(mutants, lambda mutant: mutant.of):
        lines += [
            "",
            f"### {of}",
            "",
            "| mutant | what is broken | caught by |",
            "| --- | --- | --- |",
        ]
        for one in group:
            by = f"`{one.promise}=0`: " if one.promise else ""
            lines.append(f"| `{one.name}` | {one.broken} | {by}{one.caught} |")
    return "\n".join(lines).strip() + "\n"


if __name__ == "__main__":
    print(table(), end="")
