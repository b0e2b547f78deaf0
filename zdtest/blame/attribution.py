"""Whose fault each failed request was: one cause each, from what everybody wrote down of it.

A request is known by its id in the client's recording, the proxy's log and the app's journal, and
by the run's clock in what the engine tells of the processes. The causes are those of `CAUSES`, and
each is claimed only where the account is there that it takes; what none of them explains is
``unknown``, and is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zdtest.blame.causes import CAUSES, mend
from zdtest.blame.failure import Blamed, Failure
from zdtest.blame.lives import NEVER, Life, Lives
from zdtest.blame.unexplained import Unexplained
from zdtest.records.proxylog import Passage
from zdtest.records.recording import Recording, request_id
from zdtest.records.sample import CHANNELS, Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.intp]
    Bools = NDArray[np.bool_]

SHOWN = 3
"""How many requests are told one by one for each cause."""

_NEAR = 1.0
"""Seconds around a reload, and before a start, in which that may be what a request met."""

CLOSE = 0.05
"""Seconds by which the ends of a process and of its connections may be told apart."""

_OWN = (Outcome.http_5xx, Outcome.http_4xx, Outcome.http_3xx, Outcome.bad_body)
_OWN_WORDS = (*_OWN, Outcome.wrong_version)
_LATE = (Outcome.timeout, Outcome.connect_timeout, Outcome.body_timeout)
_CUT = (Outcome.reset, Outcome.closed, Outcome.truncated)
_PROXYS = (0, 502, 504)
"""What a proxy notes of a server that did not answer, and may make up itself."""
_STREAM = CHANNELS.index("stream")
_KEPT = (CHANNELS.index("reused"), CHANNELS.index("idle"))

_Line = tuple[Life, float, float, int]
"""Of a line of the journal who wrote it, when the request was begun, when this was, its status."""


@dataclass(frozen=True, slots=True)
class Blame:
    """How many of a run's failed requests each cause has, and the first of each."""

    counts: Mapping[str, int]
    """By cause, the most frequent first; every failed request is counted once."""
    first: tuple[Blamed, ...]
    proxy: str
    """``nginx``, ``haproxy`` or "": whose configuration it is that mends."""
    unexplained: Unexplained
    """What the client saw of those whose cause is unknown."""

    @classmethod
    def of(cls, recording: Recording, failed: Rows, doubtful: Bools) -> Blame:
        """Return the causes of the `failed` rows; which of them are doubtful is the generator's."""
        court = _Court(recording)
        counts: Counter[str] = Counter()
        seen: Counter[tuple[Outcome, int, int]] = Counter()
        first: list[Blamed] = []
        for failure, doubt in zip(court.failures(failed), doubtful.tolist(), strict=True):
            cause, why = ("generator", "") if doubt else court.cause(failure)
            counts[cause] += 1
            if cause == "unknown":
                seen[failure.outcome, failure.status, failure.channel] += 1
            if counts[cause] <= SHOWN:
                first.append(Blamed(failure, cause, why))
        rest = Unexplained.of(recording, seen)
        return cls(dict(counts.most_common()), tuple(first), court.kind, rest)

    @property
    def unknown(self) -> int:
        """How many failures nothing explains."""
        return self.counts.get("unknown", 0)

    def mend(self, cause: str) -> str:
        """Return what would mend that cause, in the words of the proxy's configuration."""
        return mend(cause, self.proxy)

    def says(self, cause: str) -> str:
        """Return what that cause means; of the unknown one all that the client saw."""
        seen = self.unexplained.text() if cause == "unknown" else ""
        return f"{CAUSES[cause]}: {seen}" if seen else CAUSES[cause]

    def as_json(self, began: float) -> dict[str, object]:
        """Return the fields of verdict.json."""
        return {
            cause: {
                "failed": count,
                "says": self.says(cause),
                "mend": self.mend(cause),
                "witnesses": [one.as_json(began) for one in self.first if one.cause == cause],
            }
            for cause, count in self.counts.items()
        }

    def lines(self) -> list[str]:
        """Return a line a cause for a terminal, and what would mend it; none where none failed."""
        told = []
        for cause, count in self.counts.items():
            told.append(f"{count} failed: {self.says(cause)}")
            told += [f"  mend: {mend}"] if (mend := self.mend(cause)) else []
        return told


class _Court:
    """Everybody's account of one run."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._lives = Lives.of(recording)
        self._log = recording.proxy
        self.kind = self._log.kind if self._log else ""
        self._passed = self._log.passed(recording.run) if self._log else None
        self._reloads = self._log.reloads() if self._log else np.empty(0)
        self._faults = recording.spans("fault")
        due = recording.samples.due
        self._began = float(due[0]) if len(due) else 0.0
        passages = self._passed.passages if self._passed else ()
        tries = (attempt for passage in passages for attempt in passage.attempts)
        self._alive = {one.server for one in tries if one.status not in _PROXYS}
        # An account that does not know this run, or not who came, cannot say that nobody did.
        self._arrivals_told = _arrivals_told(recording)
        self._ours = bool(recording.manifest.get("topology"))
        # What is known by nobody's having written it down takes accounts without a damaged line.
        whole = not recording.damage
        self._nobody_knew = bool(passages) and self._arrivals_told and whole

    def failures(self, rows: Rows) -> Iterator[Failure]:
        """Yield what is known of these rows, in their order."""
        samples = self._recording.samples
        seqs = samples.seq[rows].astype(np.int64)
        arrivals, passages = self._arrivals(seqs), self._passages(seqs)
        self._streamed(rows, arrivals)
        answers = self._told(seqs, "answered")
        sent = np.nan_to_num(samples.lag[rows], nan=0.0) + samples.due[rows]
        done = samples.done[rows]
        for place, row in enumerate(rows.tolist()):
            seq = int(seqs[place])
            had = arrivals.get(seq, [])
            answered, answer = _answered(had, answers.get(seq, []))
            yield Failure(
                id=request_id(self._recording.run, seq),
                channel=int(samples.channel[row]),
                sent=float(sent[place]),
                done=float(done[place]),
                outcome=Outcome(int(samples.outcome[row])),
                status=int(samples.status[row]),
                instance=samples.instances[samples.instance[row]],
                arrivals=tuple(had),
                answered=answered,
                answer=answer,
                passage=passages.get(seq),
            )

    def _arrivals(self, seqs: NDArray[np.int64]) -> dict[int, list[tuple[Life, float]]]:
        told = self._told(seqs, "request").items()
        return {seq: [(life, begun) for life, begun, _, _ in lines] for seq, lines in told}

    def _told(self, seqs: NDArray[np.int64], event: str) -> dict[int, list[_Line]]:
        """Return what the app's journal tells of these requests, in the file's order."""
        found: dict[int, list[_Line]] = {}
        journal = self._recording.journal
        if journal is None:
            return found
        lines = journal.lines(self._recording.run, event)
        lines = lines.where(np.isin(lines.seq, seqs))
        begun = np.where(np.isnan(lines.begin), lines.at, lines.begin)
        columns = (lines.seq, begun, lines.at, lines.status, lines.process)
        for seq, begin, at, status, process in zip(*(c.tolist() for c in columns), strict=True):
            who = journal.processes[process]
            if (life := self._lives.owner(who.instance, who.version, begin)) is not None:
                found.setdefault(seq, []).append((life, begin, at, status))
        return found

    def _streamed(self, rows: Rows, arrivals: dict[int, list[tuple[Life, float]]]) -> None:
        """Add who had the streams: only the first message of one is asked for, under its id."""
        samples = self._recording.samples
        for row in rows[samples.channel[rows] == _STREAM].tolist():
            name = samples.instances[samples.instance[row]]
            version = samples.versions[samples.version[row]]
            life = self._lives.owner(name, version, float(samples.due[row])) if name else None
            if life is not None:
                at = max(life.started, float(samples.due[row]))
                arrivals.setdefault(int(samples.seq[row]), [(life, at)])

    def _passages(self, seqs: NDArray[np.int64]) -> dict[int, Passage]:
        if self._passed is None:
            return {}
        mine = self._passed.where(np.isin(self._passed.seq, seqs)).once
        codes = mine.passage.tolist()
        return {
            seq: mine.passages[code] for seq, code in zip(mine.seq.tolist(), codes, strict=True)
        }

    def cause(self, one: Failure) -> tuple[str, str]:
        """Return the cause of the failure, and why, in words."""
        if one.instance and one.outcome in _OWN_WORDS:
            return "app", f"{one.instance} answered {one.status}"
        found = self._in_flight(one) if one.arrivals else self._on_the_way(one)
        return found or self._between(one) or self._on_purpose(one) or ("unknown", self._seen(one))

    def _in_flight(self, one: Failure) -> tuple[str, str] | None:
        """Return what became of the server that worked on it."""
        life, at = one.arrivals[-1]
        had, over = f"{life} had it at {self._when(at)}", one.done + CLOSE
        # What befell it once it had answered was not what the reply was lost by.
        busy = one.answered + CLOSE
        if life.gone <= over and life.told <= min(over, busy):
            return "stopped", f"{had}, was told to stop at {self._when(life.told)}"
        if life.silent <= min(over, busy):
            return "died", f"{had} and died at {self._when(life.ended)}, told by nobody"
        if (one.outcome in _LATE or one.status == 504) and busy > one.done:
            given_up = self._when(one.done)
            if at > one.done:
                return "hung", f"{life} came to read it at {self._when(at)}, given up at {given_up}"
            return "hung", f"{had} and had not answered at {given_up}"
        own = one.outcome in _OWN and one.answered < NEVER
        if own and one.answer in (0, one.status):
            return "app", f"{had} and answered it, and the user got {one.status}"
        return self._proxy_down(one)

    def _on_the_way(self, one: Failure) -> tuple[str, str] | None:
        """Return why it came to nobody."""
        if down := self._proxy_down(one):
            return down
        # With 503 nginx turns away what is too much; where no server is left it says 502.
        none_left = (502,) if self.kind == "nginx" else (502, 503)
        if one.passage is not None and not one.passage.attempts and one.status in none_left:
            return "nobody", f"the proxy answered {one.status} by itself"
        if one.id in self._recording.unasked and one.outcome == Outcome.http_5xx:
            return "nobody", f"the balancer answered {one.status}: it knew of no usable server"
        # Who was ready, and whom it came to, only the app's journal tells.
        asked = self._asked(one) if self._arrivals_told else []
        for life in asked:
            if life.started <= one.done and life.ready > one.sent and life.gone > one.sent:
                ready = (
                    f"ready at {self._when(life.ready)}" if life.ready < NEVER else "never ready"
                )
                return "unready", f"{life} was started at {self._when(life.started)}, {ready}"
        for life in asked:
            if (last := min(life.gone, life.told)) <= one.done + CLOSE:
                return "dead", f"{life} was going or gone from {self._when(last)} on"
        strange = self._strange(one)
        for life in self._lives if strange and self._arrivals_told else ():
            if one.done < life.started < one.done + _NEAR:
                return "unready", f"{life} was started only at {self._when(life.started)}"
        if waited := self._waited(one):
            return waited
        if strange:
            return "dead", f"nobody ever answered at {strange}"
        return self._answered_ill(one)

    def _waited(self, one: Failure) -> tuple[str, str] | None:
        """Return whose answer was waited for until the time was up."""
        if one.outcome not in _LATE and one.status != 504:
            return None
        attempts = one.passage.attempts if one.passage else ()
        if self._arrivals_told and (attempts or self._ours):
            return "hung", f"it waited until {self._when(one.done)} for a server that never read it"
        if attempts and attempts[-1].status in (0, 504):
            server = attempts[-1].server or "its server"
            return "hung", f"the proxy had no answer of {server} until {self._when(one.done)}"
        return None

    @staticmethod
    def _answered_ill(one: Failure) -> tuple[str, str] | None:
        """Return who answered so, where the proxy's log has that answer as the server's own."""
        attempts = one.passage.attempts if one.passage else ()
        if one.outcome in _OWN and attempts and attempts[-1].status == one.status not in _PROXYS:
            return "app", f"the proxy had {one.status} of {attempts[-1].server}"
        return None

    def _strange(self, one: Failure) -> str:
        """Return the server asked last, where the proxy's log has no answer of it at all."""
        attempts = one.passage.attempts if one.passage else ()
        return attempts[-1].server if attempts and attempts[-1].server not in self._alive else ""

    def _asked(self, one: Failure) -> list[Life]:
        """Return who may have been meant: by the proxy's log, else whoever did not serve then.

        The one whose state changed last comes first; a life that another one of its name has
        succeeded by then is nobody's aim. What is before the app of somebody else's stack is not
        known: without a log it may have been stopped there, unless nobody at all served.
        """
        attempts = one.passage.attempts if one.passage else ()
        port = attempts[-1].server.rpartition(":")[2] if attempts else ""
        there = self._lives.at(int(port)) if port.isdigit() else []
        lives = [life for life in there or self._lives if life.started <= one.done]
        replaced = {
            id(old)
            for old in lives
            for new in lives
            if new.instance == old.instance
            and new.started > old.started
            and new.ready <= one.sent
            and old.gone <= one.sent
        }
        amiss = [
            life
            for life in lives
            if id(life) not in replaced
            and not (life.state(one.sent) == "serving" == life.state(one.done + CLOSE))
        ]
        if not (there or self._ours) and len(amiss) + len(replaced) < len(lives):
            return []
        return sorted(amiss, key=lambda life: -_changed(life, one.done + CLOSE))

    def _proxy_down(self, one: Failure) -> tuple[str, str] | None:
        """Return when the proxy was down, where it was."""
        lives = self._lives.proxy
        if one.status and one.outcome not in _CUT:
            return None
        ends = [min(life.told, life.ended) for life in lives]
        ended = [end for end in ends if end <= one.done + CLOSE]
        spans = zip((life.started for life in lives), ends, strict=True)
        through = any(begin <= one.sent and one.done < end - CLOSE for begin, end in spans)
        if ended and not through:
            return "proxy", f"the proxy ended, or was told to, at {self._when(max(ended))}"
        if one.outcome == Outcome.refused and (lives or self._log):
            return "proxy", "nobody listened where users come in"
        return None

    def _between(self, one: Failure) -> tuple[str, str] | None:
        """Return what cut its connection where nothing became of the servers."""
        near = self._reloads[np.abs(self._reloads - one.done) < _NEAR]
        # A server that the proxy did ask may have been what cut it: only the app could tell.
        asked = one.passage is not None and one.passage.attempts
        if one.outcome in _CUT and len(near) and (self._arrivals_told or not asked):
            return "reload", f"other workers took over at about {self._when(float(near[0]))}"
        lost = one.outcome in _CUT or one.status == 502
        if lost and one.arrivals and one.arrivals[-1][0].outlived(one.done):
            return "dropped", f"{self._had(one)}, and went on living"
        unheard_of = self._nobody_knew and not one.arrivals and one.passage is None
        if unheard_of and one.outcome in _CUT and one.channel in _KEPT:
            return "reused", f"closed at {self._when(one.done)}; proxy and app know nothing of it"
        return None

    def _had(self, one: Failure) -> str:
        """Return who had it, and what that one says that it answered."""
        life, at = one.arrivals[-1]
        told = f"{life} had it at {self._when(at)}"
        if one.answered == NEVER:
            return told
        return f"{told} and answered {one.answer or 'it'} at {self._when(one.answered)}"

    def _seen(self, one: Failure) -> str:
        """Return what is known of one that nothing explains."""
        attempts = one.passage.attempts if one.passage else ()
        servers = ", ".join(f"{a.server} {a.status}" for a in attempts)
        told = [f"{one.outcome.name} {one.status or ''}".strip()]
        told += [f"the proxy asked {servers}"] if servers else []
        told += [self._had(one)] if one.answered < NEVER else []
        return "; ".join(told)

    def _when(self, at: float) -> str:
        """Return the moment as seconds after the first request was due."""
        return f"{at - self._began:+.3f} s"

    def _on_purpose(self, one: Failure) -> tuple[str, str] | None:
        """Return the fault that was on then."""
        for begin, end, about in self._faults:
            if begin <= one.done and one.sent <= end:
                when = f"from {self._when(begin)} to {self._when(end)}"
                return "fault", f"{about.get('fault', 'a fault')} {when}"
        return None


def _arrivals_told(recording: Recording) -> bool:
    """Whether a journal is there that tells which requests came to the app: a topology's does."""
    journal, told = recording.journal, recording.manifest
    if journal is None or (told.get("journal") and told.get("topology")):
        return journal is not None
    return bool(len(journal.lines(recording.run, "request").ours))


def _changed(life: Life, until: float) -> float:
    """Return when the life's state last changed, before `until`."""
    times = (life.started, life.ready, life.told, life.gone)
    return max((at for at in times if at <= until), default=life.started)


def _answered(had: Sequence[tuple[Life, float]], told: Sequence[_Line]) -> tuple[float, int]:
    """Return when the last one that had it says that it answered, `NEVER` if not, and what."""
    for life, _, at, status in reversed(told):
        if had and life is had[-1][0] and at >= had[-1][1]:
            return at, status
    return NEVER, 0
