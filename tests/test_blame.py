"""One cause for each failed request, from hand-made accounts in which it is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import synthetic

from zdtest.blame.attribution import Blame
from zdtest.blame.causes import CAUSES, mend
from zdtest.blame.lives import NEVER, Life, Lives
from zdtest.blame.unexplained import Unexplained, address
from zdtest.records.recording import Recording, request_id
from zdtest.records.sample import CHANNELS, Outcome

RUN = "run"
AT = 2.0
"""When the failed requests are due, seconds after the first."""

BORN = {"t": 0.1, "event": "started"}
FAULT = [(1.0, "fault.begin", {"fault": "kill a"}), (3.0, "fault.end", {"fault": "kill a"})]
OPEN = {"t": 0.5, "event": "ready", "port": 8081}
OTHER = {"t": 1.0, "event": "request", "id": request_id(RUN, 1)}
"""What a journal that tells of requests has beside that: one that it lacks came to nobody."""
LATER = {"t": AT + 1, "event": "request", "id": request_id(RUN, 2)}
"""Who wrote this was alive after the failures."""


@dataclass(frozen=True)
class Told:
    """What came of a trial: the one cause, and the reason given for the first request."""

    cause: str
    why: str
    blame: Blame


@pytest.fixture
def trial(tmp_path: Path) -> Callable[..., Told]:
    """Requests that failed from `AT` on, and what app, engine and proxy wrote down of them.

    Times are seconds after the first request was due; ``ID`` stands for each failed one's id. With
    `arrivals` the journal is one that tells of requests, with `cut` the log's last line is cut.
    """

    def made(
        outcome: str = "reset",
        channel: str = "new",
        *,
        marks: Sequence[tuple[float, str, Mapping[str, object]]] = (),
        journal: Sequence[Mapping[str, Any]] | None = (),
        arrivals: bool = True,
        manifest: Mapping[str, object] = MappingProxyType({}),
        cut: bool = False,
        proxy: Sequence[Mapping[str, Any]] = (),
        balancer: Sequence[Mapping[str, Any]] = (),
        doubtful: bool = False,
        status: int = 0,
        instance: str = "",
        count: int = 1,
    ) -> Told:
        folder = synthetic.run(
            tmp_path / RUN,
            requests=1000,
            channels=synthetic.CHANNEL_SHARES | {channel: 4.0},
            outages=[(AT, AT + 0.1, outcome, [channel])],
            journal=False,
            deploy=None,
            marks=marks,
            manifest=manifest,
        )
        recording = Recording.read(folder)
        failed = np.flatnonzero(recording.samples.outcome == Outcome[outcome])[:count]
        ids = [request_id(RUN, seq) for seq in recording.samples.seq[failed].tolist()]
        for left in ("journal.jsonl", "logs/proxy.log"):
            (folder / left).unlink(missing_ok=True)
        if journal is not None:
            _journal(folder / "journal.jsonl", [*([OTHER] * arrivals), *journal], ids)
        if proxy:
            _log(folder / "logs" / "proxy.log", proxy, ids)
        if cut:
            with (folder / "logs" / "proxy.log").open("a") as log:
                log.write('{"t":')
        (folder / "logs").mkdir(exist_ok=True)
        lines = [
            json.dumps({**line, "id": one if line["id"] == "ID" else line["id"]})
            for line in balancer
            for one in ids
        ]
        (folder / "logs" / "balancer.log").write_text("\n".join(lines))
        recording = Recording.read(folder)
        samples = recording.samples
        if status:
            samples.status[failed] = status
        samples.instance[failed] = 0
        names = list(samples.instances)
        samples.instance[failed] = names.index(instance) if instance in names else names.index("")
        blame = Blame.of(recording, failed, np.full(len(failed), doubtful))
        assert sum(blame.counts.values()) == len(failed) == count
        (cause,) = blame.counts
        return Told(cause, blame.first[0].why, blame)

    return made


def _journal(path: Path, lines: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> None:
    with path.open("w") as file:
        for line in lines:
            for one in ids if line.get("id") == "ID" else [line.get("id")]:
                told = {"instance": "a", "version": "v1", "pid": 1, **line, "id": one}
                told["t"] += synthetic.BEGAN
                for name in ("begin", "closed"):
                    if name in told:
                        told[name] += synthetic.BEGAN
                file.write(json.dumps({k: v for k, v in told.items() if v is not None}) + "\n")


def _log(path: Path, lines: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as file:
        for line in lines:
            for one in ids if line.get("id") == "ID" else [line.get("id", "other")]:
                told = {"method": "GET", "worker": 7, **line, "id": one}
                told["t"] += synthetic.WALL
                file.write(json.dumps(told) + "\n")


def asked(server: str, status: int, at: float = AT + 0.1, **more: Any) -> Mapping[str, Any]:
    """What nginx wrote of the failed requests."""
    told = {"upstream_addr": server, "upstream_status": str(status), "status": str(status)}
    return {"t": at, "id": "ID", **told, **more}


HAD_IT = {"t": AT, "event": "request", "id": "ID", "begin": AT}
ALIVE = asked("127.0.0.1:8081", 200, at=1.0, id=request_id(RUN, 1))


def test_a_server_that_was_told_to_stop_in_between_is_to_blame(trial):
    told = trial(
        journal=[BORN, OPEN, HAD_IT, {"t": AT + 0.01, "event": "term"}, stopped(AT + 0.02)],
    )
    assert told.cause == "stopped"
    assert "was told to stop at +2.010 s" in told.why
    told = trial(
        journal=[BORN, OPEN, HAD_IT],
        marks=[
            engine("app.started", 0.05),
            engine("app.term", AT + 0.01),
            engine("app.stopped", AT + 0.03),
        ],
    )
    assert told.cause == "stopped", "an app that says nothing of it is known by its engine"


def test_a_death_is_heard_of_somewhat_later_by_a_busy_machine(trial):
    """Not before the server's own last line, and not where it had been heard of much later."""
    lived = [engine("app.started", 0.05)]
    dead = [*lived, engine("app.stopped", AT + 0.2)]
    assert trial(journal=[BORN, OPEN, HAD_IT], marks=dead).cause == "died"
    wrote = {"t": AT + 0.19, "event": "request", "id": "other", "begin": AT + 0.19}
    assert trial(journal=[BORN, OPEN, HAD_IT, wrote], marks=dead).cause != "died"
    late = [*lived, engine("app.stopped", AT + 0.6)]
    assert trial(journal=[BORN, OPEN, HAD_IT], marks=late).cause != "died"


def stopped(at: float) -> Mapping[str, Any]:
    return {"t": at, "event": "stopped", "closed": at}


def engine(name: str, at: float, version: str = "v1", instance: str = "a") -> tuple:
    return (at, name, {"instance": instance, "version": version})


def test_a_server_that_was_killed_is_not_said_to_have_been_told(trial):
    told = trial(
        journal=[BORN, OPEN, HAD_IT],
        marks=[engine("app.started", 0.05), engine("app.stopped", AT + 0.03)],
    )
    assert told.cause == "died"
    assert "told by nobody" in told.why


def test_a_server_that_boots_is_to_blame_for_what_never_came_to_it(trial):
    young = {"instance": "b", "version": "v2", "pid": 2}
    told = trial(
        "http_5xx",
        status=502,
        journal=[
            *(BORN, OPEN),
            *({"t": AT - 0.5, "event": "started", **young},),
            {"t": AT + 1, "event": "ready", "port": 8082, **young},
        ],
        proxy=[ALIVE, asked("127.0.0.1:8082", 502)],
    )
    assert told.cause == "unready"
    assert "b v2 was started at +1.500 s, ready at +3.000 s" in told.why


def test_a_server_that_is_gone_is_to_blame_whatever_else_boots(trial):
    young = {"instance": "b", "version": "v2", "pid": 2}
    told = trial(
        "http_5xx",
        status=502,
        journal=[
            *(BORN, OPEN, stopped(AT - 0.5)),
            *({"t": AT - 0.1, "event": "started", **young},),
            {"t": AT + 1, "event": "ready", "port": 8082, **young},
        ],
        proxy=[ALIVE, asked("127.0.0.1:8081", 502)],
    )
    assert told.cause == "dead"
    assert "a v1 was going or gone from +1.500 s on" in told.why


def test_two_processes_of_one_name_and_pid_are_told_apart_by_their_token(trial):
    """The new task of a swarm's place boots beside the old one, which goes on."""
    old, new = {"process": "1f"}, {"process": "2e"}
    told = trial(
        "http_5xx",
        status=502,
        journal=[
            *({**BORN, **old}, {**OPEN, **old}, {**BORN, **new, "t": AT - 0.2}),
            {**OPEN, **new, "t": AT + 1, "port": 8082},
            {**stopped(AT - 0.1), **old},
        ],
        proxy=[ALIVE, asked("127.0.0.1:8081", 502)],
    )
    assert told.cause == "dead"


def test_without_a_proxys_log_it_is_whoever_did_not_serve_then(trial):
    assert trial("refused", journal=[BORN, OPEN, stopped(AT - 1)]).cause == "dead"


def test_one_whose_successor_serves_is_nobodys_aim(trial):
    """The request was refused though all was well: that is not explained."""
    told = trial(
        "refused",
        journal=[
            *(BORN, OPEN, stopped(AT - 1)),
            *({"t": AT - 0.9, "event": "started", "version": "v2", "pid": 2},),
            {"t": AT - 0.5, "event": "ready", "port": 8081, "version": "v2", "pid": 2},
        ],
    )
    assert (told.cause, told.why) == ("unknown", "refused")


def test_an_address_that_never_answered_is_a_server_that_is_not_there(trial):
    told = trial(
        "http_5xx", status=502, journal=[BORN, OPEN], proxy=[ALIVE, asked("127.0.0.1:9", 502)]
    )
    assert (told.cause, told.why) == ("dead", "nobody ever answered at 127.0.0.1:9")


def test_a_proxy_that_asked_nobody_had_nobody(trial):
    told = trial("http_5xx", status=502, journal=[BORN, OPEN], proxy=[ALIVE, asked("backend", 502)])
    assert told.cause == "nobody"


def test_a_balancer_that_says_that_it_had_nobody_had_nobody(trial):
    """Also where a server is back and the balancer has not noticed: it is none that it knows of."""
    back = {"event": "failed", "target": None, "id": "ID", "reason": "no usable server"}
    told = trial("http_5xx", balancer=[back], journal=[BORN, OPEN], marks=FAULT, status=500)
    assert told.cause == "nobody"
    assert told.why == "the balancer answered 500: it knew of no usable server"
    for other in ({"target": "127.0.0.1:8081"}, {"event": "missed"}, {"id": "another"}, {"id": 3}):
        odd = {**back, **other}
        assert trial("http_5xx", balancer=[odd], journal=[BORN, OPEN], marks=FAULT).cause == "fault"
    hardened = {name: value for name, value in back.items() if name != "target"}
    assert trial("http_5xx", balancer=[hardened], marks=FAULT).cause == "fault"
    cut = trial("reset", balancer=[back], journal=[BORN, OPEN], marks=FAULT)
    assert cut.cause == "fault", "what was said is not what the user got"


@pytest.mark.parametrize("journal", [[BORN, OPEN], [BORN, OPEN, HAD_IT]])
def test_who_waits_in_vain_for_a_server_that_lives_is_not_the_servers_death(trial, journal):
    assert trial("timeout", journal=journal).cause == "hung"


PROXY = [(0.0, "process.started", {"instance": "proxy"})]
GONE = (AT - 0.1, "process.stopped", {"instance": "proxy"})


@pytest.mark.parametrize("journal", [[BORN, OPEN], [BORN, OPEN, HAD_IT]])
@pytest.mark.parametrize("outcome", ["refused", "closed", "reset"])
def test_a_proxy_that_is_down_is_to_blame_itself(trial, journal, outcome):
    assert trial(outcome, marks=[*PROXY, GONE], journal=journal).cause == "proxy"


def test_a_proxy_whose_container_was_told_to_quit_counts_as_down_from_then_on(trial):
    quit_ = (AT - 0.1, "engine.container.kill", {"instance": "proxy", "signal": "3"})
    late = (AT + 1, "process.stopped", {"instance": "proxy"})
    assert trial("closed", marks=[*PROXY, quit_, late], journal=[BORN, OPEN]).cause == "proxy"
    hup = (AT - 0.1, "engine.container.kill", {"instance": "proxy", "signal": "1"})
    assert trial("closed", marks=[*PROXY, hup, late], journal=[BORN, OPEN]).cause == "unknown"


def test_a_connection_that_is_cut_as_other_workers_take_over_is_the_reloads(trial):
    proxy = [ALIVE, asked("127.0.0.1:8081", 200, at=AT + 0.2, id="more", worker=8)]
    told = trial("reset", "reused", journal=[BORN, OPEN], proxy=proxy)
    assert told.cause == "reload"
    far = [ALIVE, asked("127.0.0.1:8081", 200, at=AT + 2, id="more", worker=8)]
    assert trial("reset", "reused", journal=[BORN, OPEN], proxy=far).cause == "reused"
    assert trial("reset", "new", journal=[BORN, OPEN], proxy=far).cause == "unknown"


def test_what_the_proxy_let_go_of_is_not_the_servers_fault(trial):
    told = trial("closed", journal=[BORN, OPEN, HAD_IT, LATER], proxy=[ALIVE])
    assert told.cause == "dropped"
    assert "went on living" in told.why


def test_what_the_app_answers_itself_is_the_apps(trial):
    assert trial("http_5xx", status=500, instance="a", journal=[BORN, OPEN]).cause != "proxy"
    done = {"t": AT + 0.1, "event": "answered", "id": "ID"}
    told = trial("http_5xx", status=500, journal=[BORN, OPEN, HAD_IT, done])
    assert told.cause == "app"
    told = trial("http_5xx", status=502, journal=[BORN, OPEN, HAD_IT, LATER])
    assert told.cause == "dropped"


def test_a_doubtful_failure_is_the_generators_whatever_else_is_told(trial):
    journal = [BORN, OPEN, HAD_IT, {"t": AT + 0.01, "event": "term"}, stopped(AT + 0.02)]
    assert trial(journal=journal, doubtful=True).cause == "generator"


def test_a_fault_made_on_purpose_explains_only_what_nothing_else_does(trial):
    fault = [
        (AT - 1, "fault.begin", {"fault": "resets a"}),
        (AT + 1, "fault.end", {"fault": "resets a"}),
    ]
    told = trial(marks=fault, journal=[BORN, OPEN])
    assert told.cause == "fault"
    assert told.why.startswith("resets a from +1.000 s")
    dead = trial("refused", marks=fault, journal=[BORN, OPEN, stopped(AT - 1)])
    assert dead.cause == "dead"


def test_what_nothing_explains_is_unknown_and_counted(trial):
    told = trial("reset", journal=[BORN, OPEN])
    assert told.cause == "unknown"
    assert told.blame.unknown == sum(told.blame.counts.values())


def test_a_run_of_which_nobody_else_keeps_an_account_is_blamed_on_nobody(trial):
    assert trial("refused").cause == "unknown"


@pytest.mark.parametrize("outcome", [one.name for one in Outcome if one != Outcome.ok])
@pytest.mark.parametrize("channel", ["new", "reused", "idle", "write", "stream"])
def test_where_neither_app_nor_proxy_keeps_an_account_no_cause_is_claimed(trial, outcome, channel):
    """Whether a connection was closed as it idled, or its server died, the client cannot tell."""
    status = {"http_5xx": 501, "http_4xx": 404, "http_3xx": 302}.get(outcome, 0)
    told = trial(outcome, channel, journal=None, status=status)
    assert told.cause == "unknown"
    assert told.blame.as_json(0)["unknown"]["says"].endswith(
        "neither a proxy's log nor the app's journal was there to tell why"
    )


def test_a_kept_connection_is_said_to_have_been_closed_only_where_both_know_nothing(trial):
    full = {"journal": [BORN, OPEN], "proxy": [ALIVE]}
    assert trial("closed", "reused", **full).cause == "reused"
    assert trial("closed", "reused", journal=None, proxy=[ALIVE]).cause == "unknown"
    assert trial("closed", "reused", journal=[BORN, OPEN]).cause == "unknown", "no log"
    assert trial("closed", "reused", **full, arrivals=False).cause == "unknown", "no arrivals"
    others = asked("127.0.0.1:8081", 200, at=1.0, id="of another run")
    alien = {**full, "proxy": [others]}
    assert trial("closed", "reused", **alien).cause == "unknown", "a log of something else"
    cut = trial("closed", "reused", **full, cut=True)
    assert cut.cause == "unknown", "the line that is damaged may be about it"


@pytest.mark.parametrize("outcome", ["refused", "timeout"])
def test_a_journal_without_requests_does_not_tell_that_one_came_to_nobody(trial, outcome):
    journal = [BORN, OPEN, stopped(AT - 1)]
    assert trial(outcome, journal=journal, arrivals=False).cause == "unknown"


def test_who_is_not_watched_and_wrote_nothing_more_is_not_said_to_have_lived_on(trial):
    """A server that was killed says nothing of it: only an engine does, or its next line."""
    assert trial("closed", journal=[BORN, OPEN, HAD_IT]).cause == "unknown"
    assert trial("closed", journal=[BORN, OPEN, HAD_IT, LATER]).cause == "dropped"
    watched = trial("closed", marks=[engine("app.started", 0.05)], journal=[BORN, OPEN, HAD_IT])
    assert watched.cause == "dropped"
    successor = {**LATER, "pid": 2}
    born = {"t": AT + 0.5, "event": "started", "pid": 2}
    told = trial("closed", journal=[BORN, OPEN, HAD_IT, born, successor])
    assert told.cause == "unknown", "the line is its successor's"


def test_a_reload_explains_nothing_of_a_request_that_the_proxy_had_given_to_a_server(trial):
    more = asked("127.0.0.1:8081", 200, at=AT + 0.2, id="more", worker=8)
    proxy = [ALIVE, asked("127.0.0.1:8081", 200), more]
    assert trial("truncated", journal=None, proxy=proxy).cause == "unknown"
    assert trial("truncated", journal=None, proxy=[ALIVE, more]).cause == "reload"


def test_a_server_that_answers_with_an_error_is_not_one_that_never_answered(trial):
    proxy = [asked("127.0.0.1:8081", 500)]
    told = trial("http_5xx", status=500, journal=None, proxy=proxy)
    assert (told.cause, told.why) == ("app", "the proxy had 500 of 127.0.0.1:8081")
    gone = trial("http_5xx", status=502, journal=None, proxy=[asked("127.0.0.1:8081", 502)])
    assert (gone.cause, gone.why) == ("dead", "nobody ever answered at 127.0.0.1:8081")


def test_a_server_that_is_waited_for_hangs_whether_it_ever_answered_or_not(trial):
    """Only the proxy's log tells: it was connected to, or nothing came back from there either."""
    gave_up = [asked("127.0.0.1:8082", 504)]
    told = trial("http_5xx", status=504, journal=None, proxy=gave_up)
    assert told.cause == "hung"
    assert told.why == "the proxy had no answer of 127.0.0.1:8082 until +2.002 s"
    left = {**asked("127.0.0.1:8082", 499, at=AT + 5), "upstream_status": "-"}
    assert trial("timeout", journal=None, proxy=[left]).cause == "hung"
    answered = [asked("127.0.0.1:8082", 200, at=AT + 5)]
    assert trial("body_timeout", journal=None, proxy=answered).cause == "unknown"


OWN = {"topology": None, "strategy": "command", "journal": True}
"""What the manifest of somebody's own stack tells."""


def test_of_ones_own_stack_a_dead_server_is_told_where_it_was_asked_or_all_were_gone(trial):
    """What is before it is not known: it may have been stopped there, whoever was gone."""
    other = {"instance": "b", "pid": 2}
    serving = [{**BORN, **other}, {**OPEN, **other, "port": 8082}]
    gone = [BORN, OPEN, stopped(AT - 1)]
    assert trial("reset", journal=gone, manifest=OWN).cause == "dead"
    assert trial("reset", journal=[*gone, *serving], manifest=OWN).cause == "unknown"
    asked_it = [asked("127.0.0.1:8082", 200, at=1.0, id=request_id(RUN, 1))]
    asked_it.append(asked("127.0.0.1:8081", 502))
    told = trial("http_5xx", status=502, journal=[*gone, *serving], proxy=asked_it, manifest=OWN)
    assert told.cause == "dead"
    untold = [{**line, "port": None} for line in (*gone, *serving)]
    told = trial("http_5xx", status=502, journal=untold, proxy=asked_it, manifest=OWN)
    assert told.why == "nobody ever answered at 127.0.0.1:8081", "whose port that is nobody tells"


def test_of_ones_own_stack_a_server_is_said_to_hang_where_it_was_asked(trial):
    assert trial("timeout", journal=[BORN, OPEN], manifest=OWN).cause == "unknown"
    assert trial("timeout", journal=[BORN, OPEN, HAD_IT], manifest=OWN).cause == "hung"
    late = asked("127.0.0.1:8081", 504)
    told = trial("http_5xx", status=504, journal=[BORN, OPEN], proxy=[ALIVE, late], manifest=OWN)
    assert told.cause == "hung"


def test_a_journal_of_ones_own_that_tells_no_request_does_not_tell_who_came(trial):
    gone = [BORN, OPEN, stopped(AT - 1)]
    assert trial("reset", journal=gone, arrivals=False, manifest=OWN).cause == "unknown"
    theirs = {**OWN, "topology": "custom_lb"}
    assert trial("reset", journal=gone, arrivals=False, manifest=theirs).cause == "dead"


def test_of_ones_own_stack_it_is_told_which_options_would_tell_more(trial):
    said = trial("reset", journal=None, manifest=OWN).blame.lines()[0]
    assert said.endswith(
        "neither a proxy's log (--proxy-log) nor the app's journal (--journal) was there to tell "
        "why"
    )
    said = trial("reset", journal=[BORN, OPEN], manifest=OWN).blame.lines()[0]
    assert said.endswith("no proxy's log (--proxy-log) was there to tell why")
    said = trial("reset", journal=None, proxy=[ALIVE], manifest=OWN).blame.lines()[0]
    assert said.endswith("no journal of the app's (--journal) was there to tell why")


def test_what_nginx_turns_away_is_not_said_to_be_for_want_of_a_server(trial):
    limited = asked("-", 503)
    assert trial("http_5xx", status=503, journal=None, proxy=[limited]).cause == "unknown"


def test_of_what_is_unknown_all_is_told_that_the_client_saw(trial):
    told = trial("refused", journal=None).blame.lines()
    assert told == [
        "1 failed: nothing that was written down explains it: 1 refused (nobody took connections "
        "at 127.0.0.1:8080); neither a proxy's log nor the app's journal was there to tell why"
    ]
    assert "1 answered 501; " in trial("http_5xx", journal=None, status=501).blame.lines()[0]
    closed = trial("closed", "reused", journal=None).blame.lines()
    assert "1 closed before a status line on reused; " in closed[0]
    assert len(closed) == 1, "nothing is said to mend what is not known"


def test_what_is_seen_of_many_is_told_the_most_frequent_first(tmp_path):
    seen = {(Outcome.http_5xx, status, 0): status for status in range(500, 510)}
    seen |= {(Outcome.reset, 0, 0): 2, (Outcome.reset, 0, 1): 3, (Outcome.http_5xx, 0, 0): 600}
    text = Unexplained(seen, "a:80", "nobody says why").text()
    assert text.startswith("600 answered by what is not HTTP, 509 answered 509, 508 answered 508")
    assert text.endswith("1508 in other ways; nobody says why")
    few = Unexplained({(Outcome.reset, 0, 0): 2, (Outcome.reset, 0, 1): 3}, "", "no")
    assert few.text() == "5 reset before a status line on new and reused; no"
    assert Unexplained({}, "", "no").text() == ""


def test_whose_account_is_missing_is_told_apart(trial):
    log_alone = trial("reset", journal=None, proxy=[ALIVE]).blame.lines()[0]
    assert log_alone.endswith("; no journal of the app's was there to tell why")
    journal_alone = trial("reset", journal=[BORN, OPEN]).blame.lines()[0]
    assert journal_alone.endswith("; no proxy's log was there to tell why")
    both = trial("reset", journal=[BORN, OPEN], proxy=[ALIVE]).blame.lines()[0]
    assert both.endswith("; the proxy's log and the app's journal do not tell why")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://127.0.0.1:18080/a?b", "127.0.0.1:18080"),
        ("https://somebody:secret@example.test/", "example.test:443"),
        ("http://[::1]/", "[::1]:80"),
        ("http://a:99999/", ""),
        ("nothing", ""),
    ],
)
def test_an_address_is_a_host_and_a_port_and_no_more(url, told):
    assert address(url) == told


@pytest.mark.parametrize("outcome", ["timeout", "closed"])
def test_where_the_app_keeps_no_journal_nobody_is_said_to_have_been_unready(trial, outcome):
    """When a process is ready only it can say: by the engine's account it never is."""
    marks = [(0.1, "app.started", {"instance": "a", "version": "v1"})]
    assert trial(outcome, marks=marks, journal=None).cause == "unknown"


def test_what_is_left_of_a_stream_is_with_whoever_had_the_stream(trial):
    """A stream is asked for once; its later messages have ids that nobody wrote down."""
    marks = [
        (0.1, "app.started", {"instance": "v1-1", "version": "v1"}),
        (AT, "app.stopped", {"instance": "v1-1", "version": "v1"}),
    ]
    ready = {"t": 0.5, "event": "ready", "instance": "v1-1", "port": 8082}
    for channel, cause in (("reused", "dead"), ("stream", "died")):
        told = trial("truncated", channel, marks=marks, journal=[ready], instance="v1-1")
        assert told.cause == cause


def test_the_first_of_each_cause_are_told_with_what_would_mend_it(trial):
    blame = trial(
        journal=[BORN, OPEN, HAD_IT, {"t": AT + 0.01, "event": "term"}, stopped(AT + 0.02)],
        count=5,
    ).blame
    told = blame.as_json(synthetic.BEGAN)["stopped"]
    assert isinstance(told, dict)
    assert told["failed"] == blame.counts["stopped"] == 5
    assert len(told["witnesses"]) == 3
    assert told["witnesses"][0]["channel"] == "new"
    assert "grace period" in told["mend"]
    first, second = blame.lines()
    assert first == f"{told['failed']} failed: {CAUSES['stopped']}"
    assert second.startswith("  mend: ")


def test_what_mends_is_in_the_words_of_the_proxy_that_is_there():
    assert "proxy_next_upstream" in mend("dead", "nginx")
    assert "redispatch" in mend("dead", "haproxy")
    assert mend("dead", "") not in (mend("dead", "nginx"), "")
    assert mend("unknown", "nginx") == ""
    assert all(
        mend(cause, "") for cause in CAUSES if cause not in ("generator", "fault", "unknown")
    )


def test_a_life_goes_through_its_states():
    life = Life("a", "v1", started=1, ready=2, told=5, closed=6, ended=7)
    assert [life.state(at) for at in (0, 1, 2, 5, 6, 7)] == [
        *("unborn", "booting", "serving", "stopping", "gone", "gone"),
    ]


def test_two_lives_of_one_name_are_told_apart_by_time_and_version():
    lives = Lives(
        [Life("a", "v1", 1, 2, ended=5), Life("a", "v1", 6, 7), Life("a", "v2", 4, 5)], []
    )
    assert lives.owner("a", "v1", 3).started == 1
    assert lives.owner("a", "v1", 8).started == 6
    assert lives.owner("a", "v2", 8).started == 4
    assert lives.owner("b", "v1", 8) is None


def test_what_is_told_to_a_successor_is_not_told_to_the_one_that_died(tmp_path):
    about = {"instance": "a", "version": "v1"}
    marks = [
        *((1.0, "app.started", about), (5.0, "app.stopped", about)),
        *((6.0, "app.started", about), (10.0, "app.term", about)),
    ]
    folder = synthetic.run(tmp_path / "r", deploy=None, marks=marks, journal=False)
    first, second = Lives.of(Recording.read(folder))
    assert (first.told, first.ended) == (NEVER, synthetic.BEGAN + 5)
    assert (second.told, second.ended) == (synthetic.BEGAN + 10, NEVER)


def test_an_engine_that_says_later_that_it_started_means_the_same_life(tmp_path):
    marks = [
        (0.2, "app.started", {"instance": "a", "version": "v1"}),
        (1.0, "app.stopped", {"instance": "a", "version": "v1"}),
        (2.0, "app.started", {"instance": "a", "version": "v1"}),
    ]
    folder = synthetic.run(tmp_path / RUN, requests=1000, journal=False, deploy=None, marks=marks)
    again = [{**BORN, "t": 2.1, "pid": 2}, {**OPEN, "t": 2.5, "pid": 2}]
    _journal(folder / "journal.jsonl", [BORN, OPEN, *again], [])
    lives = Lives.of(Recording.read(folder))
    told = [(life.started, life.ready, life.ended) for life in lives]
    first, second = [tuple(at - synthetic.BEGAN for at in one) for one in told]
    assert first == pytest.approx((0.2, 0.5, 1.0))
    assert second[:2] == pytest.approx((2.0, 2.5))
    assert second[2] == float("inf")


def test_a_reply_that_came_after_its_user_had_been_told_504_is_not_the_apps_answer(trial):
    done = {"t": AT + 2, "event": "answered", "id": "ID"}
    assert trial("http_5xx", status=504, journal=[BORN, OPEN, HAD_IT, done]).cause == "hung"


ANSWERED = {"t": AT + 0.01, "event": "answered", "id": "ID", "status": 200}
"""All of the reply was handed over, long before anything befell its server or its user gave up."""


def test_who_answered_in_time_is_not_said_to_have_hung(trial):
    """What became of the reply afterwards, none of these accounts tells."""
    told = trial("timeout", journal=[BORN, OPEN, HAD_IT, ANSWERED])
    assert told.cause == "unknown"
    assert told.why == "timeout; a v1 had it at +2.000 s and answered 200 at +2.010 s"
    soon = [{**HAD_IT, "begin": AT - 0.2}, {**ANSWERED, "t": AT - 0.1}]
    told = trial("http_5xx", status=504, journal=[BORN, OPEN, *soon, LATER])
    assert told.cause == "unknown", "what the user got it did not say"
    soon[1]["status"] = 504
    assert trial("http_5xx", status=504, journal=[BORN, OPEN, *soon, LATER]).cause == "app"
    assert trial("timeout", journal=[BORN, OPEN, HAD_IT, ANSWERED], marks=FAULT).cause == "fault"


@pytest.mark.parametrize(
    "end",
    [
        [{"t": AT + 0.5, "event": "term"}, stopped(AT + 1)],
        [stopped(AT + 1)],
        [{"t": AT + 0.5, "event": "term"}],
    ],
)
def test_who_answered_before_it_was_told_to_stop_or_ended_is_not_to_blame(trial, end):
    told = trial("timeout", journal=[BORN, OPEN, HAD_IT, ANSWERED, *end])
    assert told.cause == "unknown"
    killed = [engine("app.started", 0.05), engine("app.stopped", AT + 1)]
    assert trial("timeout", journal=[BORN, OPEN, HAD_IT, ANSWERED], marks=killed).cause == "unknown"


@pytest.mark.parametrize("end", [{"event": "term"}, {"event": "stopped"}])
def test_who_ended_as_it_answered_is_to_blame_all_the_same(trial, end):
    """What was handed over has not arrived: a kernel drops it where the process leaves too soon."""
    gone = [{"t": AT + 0.02, **end}, stopped(AT + 0.03)]
    told = trial("timeout", journal=[BORN, OPEN, HAD_IT, ANSWERED, *gone])
    assert told.cause == ("stopped" if end["event"] == "term" else "died")


def test_a_reply_that_was_lost_on_its_way_back_was_let_go_of_there(trial):
    told = trial("closed", journal=[BORN, OPEN, HAD_IT, {**ANSWERED, "t": AT + 0.001}, LATER])
    assert told.cause == "dropped"
    assert told.why == ("a v1 had it at +2.000 s and answered 200 at +2.001 s, and went on living")


def test_another_answer_than_the_user_got_is_not_the_apps(trial):
    told = trial("http_5xx", status=502, journal=[BORN, OPEN, HAD_IT, ANSWERED, LATER])
    assert told.cause == "dropped"
    told = trial("http_5xx", status=502, journal=[BORN, OPEN, HAD_IT, {**ANSWERED, "status": 502}])
    assert told.cause == "app"


def test_an_answer_of_another_server_that_was_asked_before_is_not_the_last_ones(trial):
    other = {"instance": "b", "pid": 2}
    first = [{**line, **other} for line in (BORN, OPEN, {**HAD_IT, "begin": AT - 1}, ANSWERED)]
    assert trial("timeout", journal=[BORN, OPEN, *first, HAD_IT]).cause == "hung"


def test_who_says_again_that_it_is_ready_was_so_before(tmp_path: Path):
    folder = synthetic.run(tmp_path / RUN, requests=1000, journal=False, deploy=None)
    restarted = [{**stopped(2.0), "closed": 1.9}, {**OPEN, "t": 3.0}]
    _journal(folder / "journal.jsonl", [BORN, OPEN, {**OPEN, "t": 1.5}, *restarted], [])
    lives = Lives.of(Recording.read(folder))
    ready = [life.ready - synthetic.BEGAN for life in lives]
    assert ready == pytest.approx([0.5, 3.0])


def test_workers_that_get_their_first_request_late_take_over_nothing(trial):
    """nginx has several, and a quiet machine does not need them all."""
    first = [asked("127.0.0.1:8081", 200, at=AT + 0.2, id="more", worker=8)]
    goes_on = asked("127.0.0.1:8081", 200, at=AT + 1.5, id="more", worker=7)
    beside = [ALIVE, *first, goes_on]
    assert trial("reset", "reused", journal=[BORN, OPEN], proxy=beside).cause == "reused"
    late = [ALIVE, *first, {**goes_on, "time": 1.0}]
    told = trial("reset", "reused", journal=[BORN, OPEN], proxy=late)
    assert told.cause == "reload", "what it had begun by then it ends"


def test_a_port_that_several_instances_have_tells_none_apart():
    lives = Lives([Life("a", "v1", 1, port=80), Life("b", "v1", 1, port=80)], [])
    assert lives.at(80) == []
    assert [one.instance for one in Lives([Life("a", "v1", 1, port=81)], []).at(81)] == ["a"]


def test_every_channel_that_keeps_connections_is_known():
    assert {"reused", "idle"} < set(CHANNELS)
