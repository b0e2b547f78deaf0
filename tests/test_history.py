"""Every check with a good history and a bad one, made by hand."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest

from zdtest.history import (
    Found,
    Message,
    altered,
    backwards,
    cut,
    early,
    gaps,
    key_lost,
    key_twice,
    odd,
    phantom,
    repeated,
    repeats,
    stale,
    writes,
)
from zdtest.records.beside import MESSAGE, RETRY
from zdtest.records.journal import Journal
from zdtest.records.recording import ROW, Samples, request_id
from zdtest.records.sample import CHANNELS, Outcome


def sent(*outcomes: Outcome, channel: str = "write") -> Samples:
    """Return one write for each outcome, numbered from zero."""
    rows = np.zeros(len(outcomes), ROW)
    rows["due"] = rows["seq"] = np.arange(len(outcomes))
    rows["outcome"], rows["channel"] = outcomes, CHANNELS.index(channel)
    return Samples.from_rows(rows)


def orders(*seqs: int, run: str = "r") -> list[dict[str, Any]]:
    return [{"event": "order", "id": request_id(run, seq)} for seq in seqs]


def test_a_write_is_lost_when_it_was_answered_ok_and_never_ran():
    found = writes(sent(Outcome.ok, Outcome.ok), orders(0), "r")
    assert (found.sent, found.ok, found.lost, found.twice) == (2, 2, 1, 0)
    assert found.lost_ids == ("r-00000001",)


def test_a_write_that_ran_more_than_once_counts_once():
    found = writes(sent(Outcome.ok, Outcome.reset), orders(0, 1, 1, 1), "r")
    assert (found.lost, found.twice, found.twice_ids) == (0, 1, ("r-00000001",))


def test_a_write_that_was_cut_off_may_have_run_or_not():
    cut = (Outcome.reset, Outcome.closed, Outcome.timeout, Outcome.truncated)
    found = writes(sent(*cut), orders(0, 1), "r")
    assert (found.sent, found.undecided, found.lost, found.twice) == (4, 4, 0, 0)


def test_a_write_that_was_refused_was_not_sent():
    found = writes(sent(Outcome.refused, Outcome.unsent, Outcome.ok), orders(2), "r")
    assert (found.sent, found.ok, found.undecided, found.phantom) == (1, 1, 0, 0)


def test_an_order_that_nobody_sent_is_a_phantom():
    journal = [*orders(0, 7), {"event": "order", "id": "r-nonsense"}]
    assert writes(sent(Outcome.ok), journal, "r").phantom == 2


def test_a_refused_request_that_ran_all_the_same_is_a_phantom():
    assert writes(sent(Outcome.refused), orders(0), "r").phantom == 1


def test_orders_of_other_runs_and_other_lines_are_left_alone():
    journal = [
        *orders(0),
        *orders(0, run="other"),
        {"event": "request", "id": "r-00000000"},
        {"event": "order", "id": None},
        {"event": "started"},
    ]
    found = writes(sent(Outcome.ok), journal, "r")
    assert (found.lost, found.twice, found.phantom) == (0, 0, 0)


def test_only_the_write_channel_holds_writes():
    assert writes(sent(Outcome.ok, channel="new"), [], "r").sent == 0


def test_without_a_journal_nobody_knows_what_was_lost_or_ran_twice():
    found = writes(sent(Outcome.ok, Outcome.reset), None, "r")
    assert (found.sent, found.ok, found.undecided) == (2, 1, 1)
    assert (found.lost, found.twice, found.phantom) == (None, None, None)


def test_a_journal_without_one_order_means_that_every_ok_was_a_lie():
    assert writes(sent(Outcome.ok, Outcome.ok), [], "r").lost == 2


def test_a_hundred_thousand_writes_are_checked_in_a_second():
    count = 100_000
    samples, journal = sent(*[Outcome.ok] * count), orders(*range(count))
    began = time.process_time()
    assert writes(samples, journal, "r").lost == 0
    assert time.process_time() - began < 1


# What arrived at the app.


def told(event: str, t: float, **about: Any) -> dict[str, Any]:
    return {"t": t, "event": event, "instance": "a", "version": "v1", "pid": 1, **about}


def arrived(seq: int, begin: float, **about: Any) -> dict[str, Any]:
    return told("request", begin + 0.001, begin=begin, id=request_id("r", seq), **about)


LIFE = [told("started", 10.0), told("ready", 12.0), told("stopped", 30.5, closed=30.0)]


def test_requests_between_ready_and_the_listeners_end_are_in_time():
    journal = [*LIFE, arrived(0, 12.0), arrived(1, 29.9), arrived(2, 30.05)]
    assert early(journal, "r") == Found(0)


def test_a_request_before_ready_or_after_the_listener_closed_is_early():
    journal = [*LIFE, arrived(7, 11.75), arrived(8, 20.0), arrived(9, 30.5)]
    found = early(journal, "r")
    assert found.count == 2
    before, after = found.witnesses
    assert (before.id, before.at, before.instance) == ("r-00000007", 11.75, "a")
    assert before.told == "accepted by v1 250.0 ms before it was ready"
    assert after.told == "accepted by v1 500.0 ms after its listener closed"
    assert before.text(10.0).startswith("r-00000007 at +1.750 s on a, accepted")


def test_an_instance_that_was_never_ready_accepts_early_always():
    (witness,) = early([told("started", 10.0), arrived(0, 99.0)], "r").witnesses
    assert "never ready" in witness.told


def test_each_life_of_a_container_is_held_to_its_own_times():
    journal = [
        *LIFE,
        told("started", 40.0),
        told("ready", 42.0),
        arrived(0, 20.0),
        arrived(1, 41.0),
        arrived(2, 43.0),
    ]
    found = early(journal, "r")
    assert [witness.id for witness in found.witnesses] == ["r-00000001"]


def beside(**tokens: str) -> list[dict[str, Any]]:
    """Return a good handover of a place in a swarm, where each process has the same pid."""
    old, new = ({"process": tokens[one]} if tokens else {} for one in ("old", "new"))
    return [
        *(told("started", 1.0, **old), told("ready", 2.0, **old)),
        *(told("started", 10.0, **new), arrived(1, 11.0, **old), told("ready", 12.0, **new)),
        *(told("stopped", 14.0, closed=13.0, **old), arrived(2, 15.0, **new)),
    ]


@pytest.mark.parametrize("tokens", [{}, {"old": "1f", "new": "2e"}], ids=["untold", "told"])
def test_two_lives_of_one_name_that_overlap_are_not_taken_for_one(tokens: dict[str, str]):
    assert early(beside(**tokens), "r") == Found(0)


def test_of_two_that_tell_which_they_are_each_is_held_to_its_own_times():
    handover = beside(old="1f", new="2e")
    late, soon = arrived(3, 14.5, process="1f"), arrived(4, 11.5, process="2e")
    found = early([*handover, late, soon], "r")
    assert [witness.id for witness in found.witnesses] == ["r-00000004", "r-00000003"]


def test_who_cannot_be_told_apart_is_not_accused_of_the_others_early_requests():
    """Where the one that boots ends, as far as anybody tells it may have been either."""
    boots = [told("started", 1.0), told("ready", 2.0), told("started", 10.0)]
    assert early([*boots, told("stopped", 11.0), arrived(0, 12.0)], "r") == Found(0)
    assert early([*boots, arrived(0, 11.0)], "r") == Found(0)
    gone = [told("stopped", 11.0), told("stopped", 12.0), arrived(0, 13.0)]
    assert early([*boots, *gone], "r").count == 1


def test_who_says_again_that_it_is_ready_was_so_all_along():
    again = [told("ready", 20.0), arrived(1, 21.0)]
    assert early([*LIFE[:2], arrived(0, 13.0), *again], "r") == Found(0)
    assert early([told("ready", 12.0), arrived(0, 13.0), *again], "r") == Found(0)


def test_two_ready_of_one_name_are_one_process_where_it_tells_its_start():
    twice = [told("ready", 12.0), told("ready", 20.0), told("stopped", 31.0, closed=30.0)]
    late = arrived(0, 40.0)
    assert early([told("started", 10.0), *twice, late], "r").count == 1
    assert early([*twice, late], "r").count == 0, "it may be another one's, in another container"
    assert early([*twice, told("stopped", 32.0), late], "r").count == 1


@pytest.mark.parametrize("count", [2, 3, 5])
def test_any_number_of_one_name_serve_side_by_side_where_none_tells_its_start(count):
    """Containers all have process id 1: the last one serves on once the others have ended."""
    lives = [told("ready", 12.0 + number) for number in range(count)]
    ends = [told("stopped", 20.0 + number, closed=19.5 + number) for number in range(1, count)]
    assert early([*lives, *ends, arrived(0, 28.0)], "r") == Found(0)
    last = told("stopped", 29.0, closed=28.5)
    assert early([*lives, *ends, last, arrived(0, 30.0)], "r").count == 1


def test_who_is_ready_after_its_end_is_another_life_also_where_no_start_is_told():
    lives = [told("ready", 12.0), told("stopped", 13.0), told("ready", 20.0)]
    assert early([*lives, arrived(0, 12.5), arrived(1, 21.0)], "r") == Found(0)
    found = early([*lives, arrived(0, 15.0)], "r")
    assert found.witnesses[0].told == "accepted by v1 2000.0 ms after its listener closed"


def test_an_id_that_somebody_on_the_way_added_to_is_still_that_requests():
    samples = sent(Outcome.ok, Outcome.ok, channel="new")
    journal = [
        {**arrived(seq, 1.0), "id": f"r-0000000{seq}{more}"} for seq, more in enumerate("-.")
    ]
    assert phantom(samples, journal, "r").count == 0
    longer = [{**arrived(0, 1.0), "id": "r-000000001"}]
    assert phantom(samples, longer, "r").count == 1
    again = [arrived(0, 1.0), {**arrived(0, 1.0), "id": "r-00000000.1"}]
    assert repeated(samples, again, "r").count == 1


def test_a_process_killed_without_a_word_never_closed():
    journal = [*LIFE[:2], arrived(0, 1000.0), arrived(1, 13.0, instance="b")]
    assert early(journal, "r").count == 0


def test_health_checks_and_other_runs_may_come_at_any_time():
    journal = [*LIFE, {**arrived(0, 11.0), "id": None}, {**arrived(0, 11.0), "id": "q-00000000"}]
    assert early(journal, "r").count == 0


def test_where_no_process_tells_of_its_life_nothing_is_known_of_early():
    assert early([arrived(0, 1.0)], "r").count is None


def test_a_request_that_arrives_twice_was_repeated_on_its_way():
    journal = [arrived(0, 12.5), arrived(1, 12.5), arrived(1, 12.75, instance="b")]
    samples = sent(Outcome.ok, Outcome.ok, channel="new")
    found = repeated(samples, journal, "r")
    assert (found.count, found.witnesses[0].id) == (1, "r-00000001")
    assert repeated(samples, journal[:2], "r").count == 0


def test_a_stream_may_ask_again():
    journal = [arrived(0, 12.5), arrived(0, 13.0)]
    assert repeated(sent(Outcome.ok, channel="stream"), journal, "r").count == 0


def test_a_request_that_arrives_though_nobody_sent_it_is_a_phantom():
    samples = sent(Outcome.ok, Outcome.refused, Outcome.timeout, channel="new")
    journal = [arrived(0, 1.0), arrived(2, 1.0)]
    assert phantom(samples, journal, "r").count == 0
    journal += [arrived(1, 2.0), arrived(9, 3.0), *orders(9)]
    found = phantom(samples, journal, "r")
    assert found.count == 2
    assert [witness.id for witness in found.witnesses] == ["r-00000001", "r-00000009"]


def test_a_recording_with_holes_makes_no_phantoms_of_what_it_lost():
    journal = [arrived(0, 1.0), arrived(1, 1.0), *orders(1)]
    samples = sent(Outcome.refused)
    assert phantom(samples, journal, "r", whole=False).count == 1
    assert writes(samples, orders(0, 1), "r", whole=False).phantom == 1


# Exactly once.


def keyed(seq: int, key: str, instance: str = "a", run: str = "r") -> dict[str, Any]:
    about = {"id": request_id(run, seq), "key": key, "instance": instance}
    return told("order", float(seq), **about)


def test_a_key_with_one_effect_keeps_its_word_however_often_it_was_sent():
    journal = [keyed(0, "k"), keyed(1, "l"), told("replayed", 3.0, id="r-00000002", key="k")]
    assert key_twice(journal, "r") == Found(0)
    assert writes(sent(*[Outcome.ok] * 3), journal, "r").lost == 0


def test_a_key_with_two_effects_breaks_it_on_any_two_instances():
    journal = [keyed(0, "k"), keyed(1, "l"), keyed(2, "k", "b")]
    found = key_twice(journal, "r")
    assert found.count == 1
    assert found.witnesses[0].id == "r-00000000"
    assert found.witnesses[0].told == "its key had 2 effects, on a, b"
    assert writes(sent(*[Outcome.ok] * 3), journal, "r").twice == 0


def test_keys_of_other_runs_are_left_alone():
    assert key_twice([keyed(0, "k", run="q"), keyed(1, "k", run="q")], "r").count == 0


def test_a_replay_of_an_order_that_nobody_kept_is_a_lost_write():
    journal = [told("replayed", 3.0, id="r-00000000", key="k")]
    assert writes(sent(Outcome.ok), journal, "r").lost == 1


def retried(*pairs: tuple[int, int]) -> Any:
    """Return which write (first) was asked again under the key of which (second)."""
    return np.array(list(pairs), RETRY)


def test_a_retry_answered_ok_stands_for_the_effect_that_its_key_had_under_another_id():
    samples = sent(Outcome.reset, Outcome.ok, Outcome.reset, Outcome.ok)
    again = retried((3, 2), (1, 0))
    journal = [keyed(0, "k0"), keyed(3, "k2")]
    assert key_lost(samples, journal, "r", again) == Found(0)
    assert writes(samples, journal, "r", retries=again).lost == 0
    assert writes(samples, journal, "r").lost == 1, "the control: without the keys it would be"


def test_a_key_answered_ok_that_never_ran_is_lost_however_often_it_was_asked():
    samples = sent(Outcome.reset, Outcome.http_5xx, Outcome.ok, Outcome.ok, Outcome.ok)
    again = retried((1, 0), (2, 0), (3, 0))
    journal = [keyed(4, "k4"), told("replayed", 3.0, id="r-00000002", key="k0")]
    found = key_lost(samples, journal, "r", again)
    assert found.count == 1
    assert found.witnesses[0].id == "r-00000002"
    assert found.witnesses[0].told == (
        "answered ok under the key of r-00000000, which never had an effect"
    )
    assert writes(samples, journal, "r", retries=again).lost == 2


def test_a_key_that_was_never_answered_ok_is_not_lost():
    samples = sent(Outcome.reset, Outcome.timeout, Outcome.refused)
    assert key_lost(samples, [], "r", retried((1, 0))) == Found(0)


def test_of_the_undecided_it_is_told_how_many_ran():
    found = writes(sent(Outcome.reset, Outcome.timeout, Outcome.ok), orders(1, 2), "r")
    assert (found.undecided, found.undecided_ran) == (2, 1)


def test_lost_and_doubled_writes_have_witnesses():
    journal = [keyed(1, "x"), {**keyed(1, "y", "b"), "t": 1.25}]
    found = writes(sent(Outcome.ok, Outcome.ok), journal, "r")
    assert found.lost_seen[0].text(0.0) == "r-00000000 at +0.000 s, answered ok and never ran"
    (doubled,) = found.twice_seen
    assert (doubled.id, doubled.instance) == ("r-00000001", "a")
    assert doubled.told == "ran 2 times, again 250 ms later on b"


# Versions within a session.


def replies(*told: tuple[float, float, str, int], channel: str = "new") -> Samples:
    """Return one ok reply for each (sent, done, version, session)."""
    rows = np.zeros(len(told), ROW)
    rows["seq"], rows["channel"] = np.arange(len(told)), CHANNELS.index(channel)
    for row, (begin, done, version, session) in zip(rows, told, strict=True):
        row["due"], row["done"], row["session"] = begin * 1e9, (done - begin) * 1e6, session
        row["version"] = ("", "v1", "v2").index(version)
    return Samples.from_rows(rows, ("", "v1", "v2"))


def together(*parts: Samples) -> Samples:
    """Return the samples of all, one after the other."""
    apart = ("versions", "instances")
    columns = {
        name: np.concatenate([getattr(one, name) for one in parts])
        for name in Samples.__slots__
        if name not in apart
    }
    return Samples(**columns, **{name: getattr(parts[0], name) for name in apart})


def test_a_session_that_moves_to_the_new_version_once_never_went_back():
    samples = replies((1, 2, "v1", 0), (2, 3, "v2", 0), (4, 5, "v2", 0), (4, 5, "v1", 1))
    assert backwards(samples, "r", "v2") == Found(0)


def test_a_reply_of_the_old_version_after_one_of_the_new_is_backwards():
    samples = replies((1, 2, "v2", 0), (3, 4, "v1", 0), (5, 6, "", 0))
    found = backwards(samples, "r", "v2")
    assert (found.count, found.witnesses[0].id) == (1, "r-00000001")
    assert found.witnesses[0].told == "after its session had met v2"


def test_requests_that_overlap_are_in_no_order():
    assert backwards(replies((1, 3, "v2", 0), (2, 4, "v1", 0)), "r", "v2").count == 0


def test_what_a_workers_clock_leaves_uncertain_is_no_order_either():
    samples = replies((1, 2, "v2", 0), (2.05, 4, "v1", 0), (2.5, 4, "v1", 0))
    assert backwards(samples, "r", "v2").count == 2
    assert backwards(samples, "r", "v2", slack=0.1).count == 1


def test_sessions_of_two_channels_are_two_clients():
    rows = [replies((1, 2, "v2", 0)), replies((3, 4, "v1", 0), channel="reused")]
    samples = rows[1].where(slice(0, 1))
    assert backwards(samples, "r", "v2").count is None
    assert backwards(together(*rows), "r", "v2").count == 0


@pytest.mark.parametrize("new", [None, "", "v3"])
def test_without_a_new_version_nobody_knows_what_is_backwards(new: str | None):
    assert backwards(replies((1, 2, "v1", 0)), "r", new).count is None


def test_subscribers_of_a_stream_go_back_where_their_sessions_tell_them_apart():
    samples = replies((1, 2, "v2", 7), (3, 4, "v1", 7), (3, 4, "v1", 8), channel="stream")
    assert backwards(samples, "r", "v2", streams=True).count == 1
    assert backwards(samples, "r", "v2").count is None


# Versions after the deploy.


def test_a_reply_of_the_old_version_after_the_deploy_has_settled_is_stale():
    samples = replies((1, 2, "v1", 0), (3, 4, "v2", 0), (5, 6, "v1", 1))
    found = stale(samples, "r", "v2", 4.5)
    assert (found.count, found.witnesses[0].id) == (1, "r-00000002")
    assert found.witnesses[0].told == "answered by v1 500 ms after v2 alone was to answer"
    assert found.last == 5.0
    assert stale(samples, "r", "v2", 2.5).count == 1


def test_where_nothing_was_answered_after_the_deploy_nobody_knows_who_answers():
    samples = replies((1, 2, "v1", 0), (3, 4, "v2", 0), (5, 6, "v1", 1))
    assert stale(samples, "r", "v2", 5.0).count is None
    assert stale(samples, "r", "v2", 4.5, ["reused"]).count is None


def test_who_tells_no_version_where_others_do_may_be_anybody_and_is_stale():
    """A default page answers 200 as well."""
    found = stale(replies((1, 2, "v1", 0), (3, 4, "v2", 0), (5, 6, "", 1)), "r", "v2", 4.5)
    assert found.count == 1
    assert found.witnesses[0].told.startswith("answered by one that tells no version 500 ms after")


def test_a_channel_whose_replies_never_tell_a_version_has_none_that_are_stale():
    both = together(
        replies((1, 2, "v1", 0), (3, 4, "v2", 0)), replies((5, 6, "", 0), channel="reused")
    )
    assert stale(both, "r", "v2", 4.5) == Found(0)


@pytest.mark.parametrize(
    ("new", "settled"), [(None, 1.0), ("", 1.0), ("v3", 1.0), ("v2", None), ("v2", 1.0)]
)
def test_where_nothing_was_deployed_or_settled_nothing_is_known_to_be_stale(
    new: str | None, settled: float | None
):
    assert stale(replies((2, 3, "v1", 0)), "r", new, settled).count is None


def test_the_control_is_of_no_version():
    samples = replies((1, 2, "v2", 0), (3, 4, "v1", 0), channel="control")
    assert stale(samples, "r", "v2", 2.0).count is None


# Bodies.


def test_replies_cut_short_and_wrong_ones_are_told_apart():
    samples = sent(
        Outcome.truncated, Outcome.body_timeout, Outcome.bad_body, Outcome.ok, channel="new"
    )
    assert cut(samples, "r").count == 2
    assert (altered(samples, "r", {}).count, odd(samples, "r", {}).count) == (1, 0)
    assert cut(samples, "r").witnesses[0].id == "r-00000000"


def test_a_download_answered_ok_has_the_length_asked_for():
    samples = sent(Outcome.ok, Outcome.ok, Outcome.truncated, channel="new")
    samples.bytes[:] = [1000, 999, 10]
    asked = {"new": {"path": "/download?bytes=1000"}, "write": {"path": "/orders"}}
    assert odd(samples, "r", asked).count == altered(samples, "r", asked).count == 1
    assert odd(samples, "r", asked).witnesses[0].id == "r-00000001"
    assert odd(samples, "r", {"new": {"path": "/download"}}).count == 0


# Streams.


def stream(*ids: int, number: int = 0) -> list[Message]:
    return [Message(float(t), id, number) for t, id in enumerate(ids)]


def test_a_stream_resumed_where_it_broke_has_neither_gaps_nor_repeats():
    seen = [*stream(5, 6, 7, 8), *stream(1, 2, 3, number=1)]
    assert gaps(seen) == repeats(seen) == Found(0)


def test_a_gap_counts_every_number_left_out():
    found = gaps([*stream(1, 2, 6, 7, 9), *stream(4, number=1)])
    assert found.count == 4
    assert found.witnesses[0].told == "3 left out after 2"
    assert found.witnesses[0].id == "message 6 of stream 0"


def test_a_stream_that_begins_again_repeats_until_it_is_where_it_was():
    seen = stream(4, 5, 4, 5, 6)
    assert (repeats(seen).count, gaps(seen).count) == (2, 0)
    assert repeats(seen).witnesses[0].told == "5 had been reached"


def test_messages_are_in_the_order_in_which_their_subscriber_got_them():
    """As a worker's clock is known better, what it tells moves: later ones may seem earlier."""
    seen = [Message(t, id, 0) for t, id in ((1.0, 1), (1.1, 2), (1.05, 3), (1.06, 4))]
    amid = [seen[0], Message(9.0, 7, 1), *seen[1:], Message(1.0, 8, 1)]
    assert gaps(amid).count == repeats(amid).count == 0
    assert (gaps(seen[::-1]).count, repeats(seen[::-1]).count) == (0, 3)


def test_no_message_has_no_gap():
    assert gaps([]).count == repeats([]).count == 0


def test_messages_are_looked_at_as_they_are_recorded():
    rows = np.array(
        [(10**9, 1, 0, 0), (2 * 10**9, 2, 0, 0), (3 * 10**9, 5, 0, 1), (4 * 10**9, 5, 0, 0)],
        MESSAGE,
    )
    left_out, again = gaps(rows), repeats(rows)
    assert (left_out.count, again.count) == (2, 1)
    assert left_out.witnesses[0].told == "2 left out after 2 as it resumed"
    assert left_out.witnesses[0].at == 3.0
    assert again.witnesses[0].told == "5 had been reached"


def test_three_hundred_thousand_requests_are_checked_in_a_second():
    count = 300_000
    samples = sent(*[Outcome.ok] * count)
    text = "".join(json.dumps(line) + "\n" for line in [*LIFE, arrived(0, 13.0)]).encode()
    journal = Journal(text)
    began = time.process_time()
    assert backwards(samples, "r", "v2").count is None
    assert early(journal, "r").count == cut(samples, "r").count == 0
    assert phantom(samples, journal, "r").count == repeated(samples, journal, "r").count == 0
    assert time.process_time() - began < 1
