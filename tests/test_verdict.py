from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic

from zdtest.history import Found
from zdtest.judging.evidence import Evidence
from zdtest.judging.promise import findings
from zdtest.judging.slo import Slo
from zdtest.judging.verdict import Verdict, judge
from zdtest.records.beside import MESSAGE, RETRY
from zdtest.records.recording import Recording
from zdtest.records.sample import CHANNELS
from zdtest.sending.recorder import Side

CONTROL = CHANNELS.index("control")

# A made-up run of 20 s at 200/s: the deploy runs from 6.67 s to 13.33 s and switches at 10 s.


@pytest.fixture
def judged(tmp_path: Path):
    def judged(slo: str = "", **plan: Any) -> Verdict:
        return judge(Recording.read(synthetic.run(tmp_path / "r", **plan)), Slo.parse(slo))

    return judged


def only_reason(verdict: Verdict) -> str:
    (reason,) = verdict.reasons
    return reason


def test_a_clean_deploy_holds_and_gives_no_reason(judged):
    verdict = judged()
    assert (verdict.verdict, verdict.reasons) == ("holds", ())
    assert (verdict.requests, verdict.failed, verdict.outages) == (4000, 0, ())
    assert verdict.versions == {"v1": 2000, "v2": 2000}
    assert verdict.mixed == 0.0
    assert verdict.worst == 1.0


# What breaks a promise.


def test_one_failed_request_breaks_the_promise_of_none(judged):
    verdict = judged(outages=[(8.0, 8.005, "http_5xx", ["new"])])
    assert verdict.verdict == "broken"
    assert only_reason(verdict).startswith(
        "1 of 4000 requests failed, allowed 0; first http_5xx on new at +8.000 s"
    )
    assert verdict.failed == 1


def test_as_many_failures_as_promised_are_no_breach(judged):
    outage = (8.0, 8.05, "refused", None)
    assert judged("failed=10", outages=[outage]).verdict == "holds"
    assert judged("failed=9", outages=[outage]).verdict == "broken"


def test_failures_before_and_after_the_deploy_count_as_well(judged):
    assert judged(outages=[(1.0, 1.1, "refused", None)]).verdict == "broken"
    assert judged(outages=[(18.0, 18.1, "refused", None)]).verdict == "broken"


def test_wrong_and_cut_bodies_break_a_promise_of_their_own(judged):
    verdict = judged("failed=none", outages=[(8.0, 8.1, "truncated", ["new"])])
    assert verdict.verdict == "broken"
    assert only_reason(verdict).startswith(
        "8 replies were cut short or wrong, allowed 0; first truncated"
    )
    assert judged("failed=none", outages=[(8.0, 8.1, "refused", ["new"])]).verdict == "holds"


def test_a_channel_that_the_promises_do_not_speak_of_cannot_break_them(judged):
    verdict = judged("channels=new+reused", outages=[(8.0, 8.5, "refused", ["write"])])
    assert verdict.verdict == "holds"
    assert verdict.failed == 10
    silent = [one for name, one in verdict.channels.items() if name not in ("new", "reused")]
    assert verdict.scope.startswith("promised for new and reused alone: on ")
    assert verdict.scope.endswith(f"write 10 of {sum(one.requests for one in silent)} failed")
    assert verdict.scope in verdict.summary()
    assert verdict.as_json()["scope"] == verdict.scope


def test_a_verdict_says_what_stood_in_for_something(judged):
    verdict = judged(manifest={"emulated": "emulated: no IPVS"})
    assert verdict.verdict == "holds"
    assert "emulated: no IPVS" in verdict.summary()
    assert verdict.as_json()["emulated"] == "emulated: no IPVS"
    assert judged().as_json()["emulated"] == ""


def test_the_control_channel_is_in_no_figure(judged):
    verdict = judged(outages=[(2.0, 3.0, "refused", ["control"])])
    assert (verdict.verdict, verdict.requests, verdict.failed) == ("holds", 4000, 0)
    assert verdict.outages == ()
    assert "control" not in verdict.as_json()["channels"]


def test_a_reply_slower_than_promised_beyond_its_think_time_breaks(judged):
    verdict = judged("p99_ratio=none,p99_over=none", slow=[(8.0, 8.02, 1.1, ["slow", "new"])])
    assert verdict.verdict == "broken"
    assert "took longer than 1s beyond think time" in only_reason(verdict)
    (brownout, *_) = verdict.brownouts
    assert brownout.outcomes == {"ok": brownout.failed}


def test_a_page_as_slow_before_the_deploy_says_how_to_tell_that_this_is_by_design(judged):
    always = {"slow": [(0.0, 99.0, 1.5, ["new"])]}
    verdict = judged(**always)
    assert verdict.verdict == "broken"
    assert re.search(
        r"; first on new at \+0\.0\d+ s; half of the replies on new took 1\.5s or more before the "
        r"deploy too: where that is by design, new~1\.5s tells so, or promise slow=2s$",
        only_reason(verdict),
    )
    assert judged("slow=2s", **always).verdict == "holds"
    assert judged(think={"new": 1.5, "slow": 0.5}).verdict == "holds"
    once = judged("p99_ratio=none,p99_over=none", slow=[(8.0, 9.0, 1.5, ["new"])])
    assert "by design" not in only_reason(once)


def test_think_time_is_not_slowness(judged):
    assert judged(think={"slow": 3.0}).verdict == "holds"


def test_the_limit_of_slowness_is_kept_to_the_microsecond(judged, tmp_path: Path):
    folder = synthetic.run(tmp_path / "exact", requests=4000, think={})
    recording = Recording.read(folder)
    recording.samples.done_us[100] = 1_000_000
    assert judge(recording, Slo()).verdict == "holds"
    recording.samples.done_us[100] = 1_000_001
    assert judge(recording, Slo()).verdict == "broken"


def test_a_p99_over_three_times_the_baseline_breaks(judged):
    verdict = judged(slow=[(6.7, 13.3, 0.05, None)])
    assert verdict.verdict == "broken"
    assert only_reason(verdict).startswith("p99 in the deploy window ")


# The deploy ends at 13.33 s.
SLOW_AFTERWARDS = {"slow": [(13.4, 99.0, 0.4, None)]}


def test_a_release_that_is_slow_only_once_the_command_has_returned_breaks(judged):
    verdict = judged(**SLOW_AFTERWARDS)
    assert verdict.verdict == "broken"
    assert verdict.phases["deploy"].p99 < 0.01, "the deploy itself was quick"
    assert re.match(
        r"p99 after the deploy 40\dms \(of 13\d\d replies\), allowed 19\.\dms: "
        r"baseline p99 6\.\d+ms \(of 1\d+\)$",
        only_reason(verdict),
    )
    assert judged("p99_over=none,p99_ratio=100", **SLOW_AFTERWARDS).verdict == "holds"
    assert judged("p99_ratio=none,p99_over=none", **SLOW_AFTERWARDS).verdict == "holds"


def test_both_a_slow_deploy_and_a_slow_release_are_told(judged):
    verdict = judged(slow=[(6.7, 99.0, 0.05, None)])
    assert [reason.partition(" 5")[0] for reason in verdict.reasons] == [
        "p99 in the deploy window",
        "p99 after the deploy",
    ]


def test_who_ends_the_load_with_the_deploy_has_not_seen_how_fast_the_release_is(judged):
    verdict = judged("stale=none", deploy=(6.0, 19.9999), switch=10.0)
    assert verdict.verdict == "inconclusive"
    assert only_reason(verdict) == "inconclusive: no ok reply after the deploy to compare p99 with"
    without = "stale=none,p99_ratio=none,p99_over=none"
    assert judged(without, deploy=(6.0, 19.9999), switch=10.0).verdict == "holds"


def test_a_p99_must_keep_both_limits(judged):
    slow = {"slow": [(6.7, 13.3, 0.3, None)], "latency": 0.2, "spread": 0.01}
    assert judged("p99_over=none", **slow).verdict == "holds"
    assert judged("p99_ratio=none", **slow).verdict == "broken"
    assert judged("p99_ratio=none,p99_over=none", **slow).verdict == "holds"


def test_a_p99_without_a_baseline_is_inconclusive(judged):
    verdict = judged(deploy=(0.0, 10.0))
    assert verdict.verdict == "inconclusive"
    assert "no ok reply in the baseline" in only_reason(verdict)


def test_a_write_lost_after_its_ok_breaks(judged):
    verdict = judged(lost=2)
    assert verdict.verdict == "broken"
    assert only_reason(verdict).startswith(
        "2 of 400 writes answered ok were lost, allowed 0; first r-0000"
    )
    assert judged("lost=none", lost=2).verdict == "holds"


def test_a_write_that_ran_twice_breaks(judged):
    verdict = judged(twice=3)
    assert verdict.verdict == "broken"
    assert only_reason(verdict).startswith(
        "3 of 400 writes ran more than once, allowed 0; first r-0000"
    )


MASKED = {"proxy": True, "masked": {"new": 9, "write": 2}}


def test_a_request_tried_again_by_the_proxy_breaks_only_a_promise_of_none(judged):
    verdict = judged(**MASKED)
    assert verdict.verdict == "holds"
    assert verdict.as_json()["masked"]["requests"] == 11
    assert "the proxy tried 11 requests again (11 attempts failed)" in verdict.summary()
    verdict = judged("masked=10", **MASKED)
    assert verdict.verdict == "broken"
    assert only_reason(verdict) == (
        "11 requests were answered ok only after the proxy had tried again, allowed 10; "
        "first r-00000898 on new at +10.000 s"
    )
    assert judged("masked=11", **MASKED).verdict == "holds"


def test_what_the_proxy_tried_again_counts_on_the_channels_promised_for(judged):
    assert judged("masked=0,channels=reused", **MASKED).verdict == "holds"
    assert judged("masked=1,channels=write", **MASKED).verdict == "broken"


def test_what_the_proxy_tried_again_while_the_host_was_in_trouble_is_inconclusive(judged):
    control = {"outages": [(9.9, 10.6, "refused", ["control"])]}
    assert judged(**control).verdict == "holds"
    verdict = judged("masked=0", **MASKED, **control)
    assert verdict.verdict == "inconclusive"
    assert "suspect" in only_reason(verdict)


def test_a_promise_about_tries_again_proves_nothing_without_a_proxys_log(judged):
    verdict = judged("masked=0")
    assert verdict.verdict == "inconclusive"
    assert "there is no proxy's log" in only_reason(verdict)
    assert verdict.as_json()["masked"] is None
    assert judged().verdict == "holds"


@pytest.mark.parametrize(
    ("keep", "lacking"),
    [(lambda line: b"00000abc" not in line, 1), (lambda line: b"write" in line, 4000)],
    ids=["one line is missing", "all lines are missing"],
)
def test_a_promise_about_tries_again_proves_nothing_by_a_log_that_lacks_requests(
    tmp_path: Path, keep: Callable[[bytes], bool], lacking: int
):
    folder = synthetic.run(tmp_path / "r", proxy=True)
    log = folder / "logs" / "proxy.log"
    assert judge(Recording.read(folder), Slo(masked=0)).verdict == "holds"
    one = log.read_bytes().replace(b'"r-00000000"', b'"write-00000000"', lacking == 4000)
    log.write_bytes(b"".join(filter(keep, one.splitlines(keepends=True))))
    assert judge(Recording.read(folder), Slo()).verdict == "holds"
    verdict = judge(Recording.read(folder), Slo(masked=0))
    assert verdict.verdict == "inconclusive"
    assert f"the proxy's log lacks {lacking} of 4000 requests answered ok" in only_reason(verdict)


def test_what_a_log_with_holes_does_tell_still_breaks_the_promise(tmp_path: Path):
    folder = synthetic.run(tmp_path / "r", **MASKED)
    log = folder / "logs" / "proxy.log"
    *lines, _ = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines))
    verdict = judge(Recording.read(folder), Slo(masked=0))
    assert verdict.verdict == "broken"
    assert "the proxy's log lacks 1 of 4000" in verdict.reasons[-1]


def test_a_stream_that_the_log_does_not_know_proves_nothing_about_tries_again(tmp_path: Path):
    folder = synthetic.run(tmp_path / "r", channels={"stream": 1.0}, proxy=True)
    slo = Slo.parse("masked=0,p99_ratio=none,p99_over=none")
    assert judge(Recording.read(folder), slo).verdict == "holds"
    log = folder / "logs" / "proxy.log"
    log.write_bytes(log.read_bytes().replace(b'"r-', b'"q-'))
    verdict = judge(Recording.read(folder), slo)
    assert verdict.verdict == "inconclusive"
    assert "the proxy's log has no request answered ok" in only_reason(verdict)


def test_without_a_journal_writes_are_unknown_and_not_wrong(judged):
    verdict = judged(journal=False)
    assert verdict.verdict == "holds"
    assert verdict.as_json()["writes"]["lost"] is None
    assert "no journal" in verdict.summary()


@pytest.fixture
def told(tmp_path: Path):
    """Judge a clean run with these lines added to the app's journal."""

    def told(*lines: dict[str, Any], slo: str = "", **plan: Any) -> Verdict:
        folder = synthetic.run(tmp_path / "r", **plan)
        who = {"instance": "v2-1", "version": "v2", "pid": 7}
        with (folder / "journal.jsonl").open("a") as journal:
            journal.writelines(json.dumps({**who, **line}) + "\n" for line in lines)
        return judge(Recording.read(folder), Slo.parse(slo))

    return told


EARLY = (
    {"t": 1009.5, "event": "started"},
    {"t": 1010.0, "event": "ready"},
    {"t": 1009.9, "event": "request", "begin": 1009.75, "id": "r-00000001"},
)


def test_a_request_accepted_before_its_instance_was_ready_breaks(told):
    verdict = told(*EARLY)
    assert verdict.verdict == "broken"
    assert only_reason(verdict) == (
        "1 requests were accepted before the instance was ready or after it stopped listening, "
        "allowed 0; first r-00000001 at +9.750 s on v2-1, accepted by v2 250.0 ms before it was "
        "ready"
    )
    assert told(*EARLY, slo="early=1").verdict == "holds"
    assert told(*EARLY, slo="early=none").verdict == "holds"


def test_a_request_that_nobody_sent_breaks(told):
    line = {"t": 1009.0, "event": "order", "id": "r-0fffffff", "key": None}
    verdict = told(line)
    assert verdict.verdict == "broken"
    assert only_reason(verdict).startswith(
        "1 requests arrived that nobody sent, allowed 0; first r-0fffffff at +9.000 s on v2-1"
    )
    assert told(line, slo="phantom=none").verdict == "holds"


def test_a_finding_names_the_promise_that_was_not_kept(told, tmp_path: Path):
    told(*EARLY, {"t": 1009.0, "event": "order", "id": "r-0fffffff", "key": None}, lost=1)
    evidence = Evidence.of(Recording.read(tmp_path / "r"), Slo())
    assert [found.promise for found in findings(evidence)] == ["lost", "phantom", "early"]


def test_a_cut_recording_accuses_nobody_of_what_it_may_have_lost(told):
    line = {"t": 1009.0, "event": "order", "id": "r-0fffffff", "key": None}
    assert told(line, closed=False).verdict == "inconclusive"


@pytest.mark.parametrize(("key", "broken"), [("k", True), ("", False), (None, False)])
def test_a_key_with_two_effects_breaks_the_promise_of_running_once(told, tmp_path, key, broken):
    lines = [{"t": 1009.0, "event": "order", "key": key, "id": f"r-0000000{n}"} for n in range(2)]
    assert told(*lines, slo="phantom=none").verdict == "holds", "no write carried a key of ours"
    recording = Recording.read(tmp_path / "r")
    recording.manifest["channels"]["write"]["keyed"] = True
    reasons = judge(recording, Slo.parse("phantom=none")).reasons
    told_twice = "1 idempotency keys had more than one effect, allowed 0"
    assert any(told_twice in reason for reason in reasons) is broken


def test_a_session_sent_back_is_measured_and_breaks_only_a_promise_of_none(judged):
    rolling = {"switch": (8.0, 12.0)}
    verdict = judged(**rolling)
    assert verdict.verdict == "holds"
    assert verdict.as_json()["correctness"]["backwards"] > 0
    verdict = judged("backwards=0", **rolling)
    assert verdict.verdict == "broken"
    assert "sent a session back from the new version, allowed 0; first r-" in only_reason(verdict)
    assert judged("backwards=0").verdict == "holds"


def test_a_download_of_another_length_breaks_though_it_was_answered_ok(tmp_path: Path):
    recording = Recording.read(synthetic.run(tmp_path / "r", latency=0.01))
    recording.manifest["channels"]["new"]["path"] = "/download?bytes=512"
    assert judge(recording, Slo()).verdict == "holds"
    row = int(np.flatnonzero(recording.samples.channel == 0)[7])
    recording.samples.bytes[row] = 511
    verdict = judge(recording, Slo())
    assert verdict.verdict == "broken"
    assert only_reason(verdict).startswith(
        "1 replies answered ok were not as long as asked for, allowed 0; first r-0000"
    )


def test_the_correctness_of_a_run_is_in_figures_with_witnesses(told):
    found = told(*EARLY, outages=[(8.0, 8.5, "reset", ["write"])], twice=1).as_json()
    assert found["correctness"]["witnesses"]["early"] == [
        {
            "id": "r-00000001",
            "at_s": pytest.approx(9.75),
            "instance": "v2-1",
            "told": "accepted by v2 250.0 ms before it was ready",
        }
    ]
    assert set(found["correctness"]["witnesses"]) == {"early", "twice"}
    counts = {k: v for k, v in found["correctness"].items() if k != "witnesses"}
    assert counts == {
        "lost": 0, "twice": 1, "key_lost": None, "key_twice": None, "phantom": 0, "early": 1,
        "repeated": 0, "backwards": 0, "stale": 0, "cut": 0, "altered": 0, "gaps": None,
        "repeats": None, "retried": None, "resumed": None, "undecided": 10, "undecided_ran": 10,
    }  # fmt: skip


def test_what_takes_a_journal_is_null_without_one(judged):
    found = judged(journal=False).as_json()["correctness"]
    unknown = ("lost", "twice", "key_twice", "phantom", "early", "repeated", "undecided_ran")
    assert [found[name] for name in unknown] == [None] * len(unknown)
    assert (found["backwards"], found["cut"], found["undecided"]) == (0, 0, 0)


def test_a_reply_from_the_old_version_after_the_deploy_breaks(judged):
    verdict = judged(switch=14.0)
    assert verdict.verdict == "broken"
    assert "replies not from v2 after the deploy" in only_reason(verdict)
    assert verdict.stale > 0
    shown = verdict.as_json()["correctness"]
    assert shown["stale"] == verdict.stale
    assert shown["witnesses"]["stale"][0]["told"].startswith("answered by v1 ")
    assert "; first r-0000" in only_reason(verdict)
    assert only_reason(verdict).endswith(
        "; the last 655ms after the deploy's end, of 6.66s seen (converge=656ms would allow them)"
    )
    assert judged("converge=656ms", switch=14.0).verdict == "holds"
    assert judged("converge=654ms", switch=14.0).verdict == "broken"


def test_an_old_version_that_goes_on_to_the_end_is_told_no_time_to_converge(judged):
    verdict = judged(switch=(12.0, 90.0))
    assert only_reason(verdict).endswith(
        "; the last 6.66s after the deploy's end, when the run ended"
    )


def test_nothing_is_stale_where_no_new_version_was_named(judged):
    verdict = judged(switch=14.0, manifest={"new_version": None})
    assert verdict.verdict == "holds"
    assert verdict.as_json()["correctness"]["stale"] is None
    assert verdict.as_json()["correctness"]["backwards"] == 0, "it is known all the same"


def test_replies_may_take_as_long_to_converge_as_promised(judged):
    assert judged("converge=1s", switch=14.0).verdict == "holds"
    assert judged("stale=none", switch=14.0).verdict == "holds"


def test_a_promise_about_messages_that_nobody_numbered_is_not_proved(judged):
    for name in ("gaps", "repeats"):
        verdict = judged(f"{name}=0")
        assert verdict.verdict == "inconclusive"
        assert only_reason(verdict) == (
            "inconclusive: no stream's message with a number for an id is on file, "
            f"so {name} are unknown"
        )
        assert judged(f"{name}=none").verdict == "holds"


@pytest.mark.parametrize(
    ("ids", "gaps", "repeats"),
    [((1, 2, 3), "holds", "holds"), ((1, 3), "broken", "holds"), ((1, 2, 2), "holds", "broken")],
)
def test_messages_left_out_or_sent_again_break_the_promise_of_none(
    tmp_path: Path, ids: tuple[int, ...], gaps: str, repeats: str
):
    folder = synthetic.run(tmp_path / "r")
    side = Side(folder / "messages.arrows", MESSAGE)
    for t, id in enumerate(ids):
        side.take(round((synthetic.BEGAN + t) * 1e9), id, 0, 0)
    side.close()
    for name, expected in (("gaps", gaps), ("repeats", repeats)):
        assert judge(Recording.read(folder), Slo.parse(f"{name}=0")).verdict == expected
    assert judge(Recording.read(folder), Slo()).verdict == "holds"


def test_a_key_answered_ok_without_an_effect_breaks_the_promise_of_none_lost(tmp_path: Path):
    folder = synthetic.run(tmp_path / "r", lost=1)
    Side(folder / "retries.arrows", RETRY).close()
    verdict = judge(Recording.read(folder), Slo())
    assert verdict.verdict == "broken"
    assert verdict.reasons[-1].startswith(
        "1 idempotency keys were answered ok and never had an effect, allowed 0; first r-0000"
    )
    assert judge(Recording.read(folder), Slo.parse("lost=1")).verdict == "holds"


def test_an_outage_longer_than_promised_breaks_even_at_its_least(judged):
    outages = [(8.0, 8.5, "refused", ["new"])]
    assert judged("failed=none,longest_outage=490ms", outages=outages).verdict == "holds"
    verdict = judged("failed=none,longest_outage=480ms", outages=outages)
    assert verdict.verdict == "broken"
    assert only_reason(verdict) == "the longest outage lasted at least 487ms, allowed 480ms"


def test_more_downtime_than_promised_breaks(judged):
    outages = [(8.0, 8.5, "refused", ["new"]), (11.0, 11.5, "refused", ["new"])]
    assert judged("failed=none,downtime=1s", outages=outages).verdict == "holds"
    assert judged("failed=none,downtime=900ms", outages=outages).verdict == "broken"


def test_a_required_rate_that_is_not_proved_is_inconclusive_and_says_what_it_takes(judged):
    verdict = judged("require_rate=1e-4")
    assert verdict.verdict == "inconclusive"
    assert "takes 29956 requests" in only_reason(verdict)
    assert judged("require_rate=1e-2").verdict == "holds"


def test_a_required_rate_that_is_disproved_is_broken(judged):
    verdict = judged("failed=none,require_rate=1e-3", outages=[(8.0, 8.5, "refused", None)])
    assert verdict.verdict == "broken"


# What keeps a run from proving anything.


def test_a_run_that_did_not_reach_its_rate_is_inconclusive(judged):
    verdict = judged(trailer={"reached_rate": 197.9})
    assert verdict.verdict == "inconclusive"
    assert only_reason(verdict) == (
        "inconclusive: only 197.9 of 200.0 requests/s were reached, needs 99 %"
    )
    assert judged(trailer={"reached_rate": 198.0}).verdict == "holds"


def test_a_run_that_does_not_say_its_rate_is_inconclusive(judged):
    assert "which rate" in only_reason(judged(trailer={"reached_rate": None}))


def test_a_recording_that_was_not_closed_is_inconclusive(judged):
    verdict = judged(closed=False)
    assert verdict.verdict == "inconclusive"
    assert "did not close its file" in only_reason(verdict)


def test_a_recording_with_rows_missing_is_inconclusive(judged):
    assert "the recorder wrote 5000" in only_reason(judged(trailer={"count": 5000}))


def test_a_recorder_that_dropped_samples_is_inconclusive(judged):
    assert "dropped 3 samples" in only_reason(judged(trailer={"dropped": 3}))


@pytest.fixture
def altered(tmp_path: Path):
    """Judge a clean run whose rows were put through `change` before they were written."""

    def altered(change: Callable[[Any], Any], **plan: Any) -> Verdict:
        made = synthetic.Plan(journal=False, **plan)
        folder = synthetic.run(tmp_path / "r", journal=False, **plan)
        synthetic._write_samples(folder / "samples.arrows", made, change(synthetic.samples(made)))
        return judge(Recording.read(folder), Slo())

    return altered


def test_rows_that_the_recorder_never_mentions_are_inconclusive(altered):
    verdict = altered(lambda rows: rows[rows["seq"] % 40 != 7])
    assert verdict.verdict == "inconclusive"
    assert only_reason(verdict) == "inconclusive: 108 of the first 4290 requests are not on file"


def test_rows_that_the_recorder_lost_are_no_phantoms(tmp_path):
    folder = synthetic.run(tmp_path / "r")
    made = synthetic.samples(synthetic.Plan())
    synthetic._write_samples(
        folder / "samples.arrows", synthetic.Plan(), made[made["seq"] % 40 > 7]
    )
    verdict = judge(Recording.read(folder), Slo())
    assert verdict.verdict == "inconclusive"
    assert verdict.history.phantom.count == 0


def test_one_row_that_is_missing_is_inconclusive(altered):
    assert "1 of the first" in only_reason(altered(lambda rows: rows[rows["seq"] != 2000]))
    assert altered(lambda rows: rows).verdict == "holds"


def test_senders_may_stop_one_by_one_in_the_last_half_second(altered):
    def others_stopped(rows: Any) -> Any:
        return rows[(rows["due"] < (synthetic.BEGAN + 19.6) * 1e9) | (rows["seq"] % 2 == 0)]

    assert altered(others_stopped).verdict == "holds"


def test_a_row_written_twice_is_inconclusive(altered):
    verdict = altered(lambda rows: np.concatenate([rows, rows[500:503]]))
    assert "3 requests have the number of another one" in only_reason(verdict)


def test_numbers_made_up_by_damage_cost_no_memory(altered):
    def damaged(rows: Any) -> Any:
        rows["seq"][100] = 0xFFFF_FFFE
        return rows

    assert "a request has the number 4294967294, of" in only_reason(altered(damaged))


def test_a_clock_that_was_moved_forward_is_inconclusive(altered):
    """An hour in the midst of the deploy in which nothing fell due."""

    def moved(rows: Any) -> Any:
        rows["due"][rows["due"] > (synthetic.BEGAN + 10.0) * 1e9] += 3600 * 10**9
        return rows

    marks = {"deploy": (6.0, 3613.0), "switch": 10.0}
    reasons = altered(moved, **marks).reasons
    assert any("on new nothing fell due for 60m00s at +10.000 s" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("deploy", "reason"),
    [
        ((-3600.0 + 7.0, 13.0), "the deploy began 59m53s before the load did"),
        ((7.0, 3613.0), "the deploy ended 59m53s after the load did"),
        ((3607.0, 3613.0), "the deploy ended 59m53s after the load did"),
    ],
)
def test_a_deploy_marked_by_another_clock_is_inconclusive(judged, deploy, reason):
    verdict = judged("p99_ratio=none,p99_over=none", marks=clock(*deploy), deploy=None)
    assert verdict.verdict == "inconclusive"
    assert any(reason in told for told in verdict.reasons)


def clock(begin: float, end: float) -> list[tuple[float, str, dict[str, object]]]:
    return [(begin, "deploy.begin", {}), (end, "deploy.end", {})]


def test_a_deploy_that_ended_before_it_began_never_ended(judged):
    verdict = judged(marks=clock(7.0, -3587.0), deploy=None)
    assert "inconclusive: the deploy's end was not marked (deploy.end)" in verdict.reasons


def test_a_run_interrupted_before_the_deploy_ended_is_inconclusive(judged):
    trailer = {"interrupted": True, "ended": synthetic.BEGAN + 12.0}
    assert "interrupted" in only_reason(judged(trailer=trailer))


def test_a_run_interrupted_after_the_deploy_still_proves_something(judged):
    assert judged(trailer={"interrupted": True}).verdict == "holds"


def test_a_run_without_a_deploy_is_inconclusive_and_all_baseline(judged):
    verdict = judged(deploy=None)
    assert verdict.verdict == "inconclusive"
    assert "no deploy was marked" in only_reason(verdict)
    assert verdict.phases["baseline"].requests == 4000


def test_a_deploy_that_never_ended_runs_to_the_end_and_is_inconclusive(judged):
    verdict = judged(deploy=(6.0, float("inf")), switch=10.0)
    assert verdict.verdict == "inconclusive"
    assert "the deploy's end was not marked" in only_reason(verdict)
    assert verdict.phases["settle"].requests == 0
    assert verdict.as_json()["window"]["end_s"] is None


def test_a_new_version_that_was_never_seen_is_inconclusive(judged):
    verdict = judged(switch=99.0)
    assert verdict.verdict == "inconclusive"
    assert "the new version v2 was never observed" in only_reason(verdict)


def test_a_new_version_that_answered_all_along_is_inconclusive(judged):
    verdict = judged(switch=0.0)
    assert "already answered every request before the deploy" in only_reason(verdict)


def test_a_new_version_named_as_the_old_one_is_inconclusive(judged):
    verdict = judged(manifest={"old_version": "v2"})
    assert verdict.verdict == "inconclusive"
    assert "old and new version are both v2" in only_reason(verdict)


@pytest.mark.parametrize(
    ("versions", "seen"), [(("v1", "v2"), "seen: v1"), (("", ""), "no reply told a version")]
)
def test_a_version_that_was_never_seen_is_told_with_those_that_were(judged, versions, seen):
    verdict = judged(switch=99.0, versions=versions, manifest={"new_version": "2.0.0"})
    assert only_reason(verdict) == (
        f"inconclusive: the new version 2.0.0 was never observed; {seen}"
    )


UNNAMED = {"new_version": None, "old_version": None}


def test_a_run_that_names_no_version_needs_none_where_it_shows_two(judged):
    verdict = judged(manifest=UNNAMED)
    assert (verdict.verdict, verdict.scope) == ("holds", "")


def test_where_every_reply_tells_one_version_nothing_shows_that_anything_was_deployed(judged):
    same = {"switch": 99.0, "manifest": UNNAMED}
    verdict = judged(**same)
    assert verdict.verdict == "inconclusive"
    assert only_reason(verdict) == (
        "inconclusive: all 4000 replies that told a version told v1, before and after: nothing "
        "shows that anything was deployed. Where the version changes, --new-version names it; "
        "where it stays, as after a reload, promise stale=none"
    )
    stays = judged("stale=none", **same)
    assert stays.verdict == "holds"
    assert stays.scope == (
        "not promised: stale; every version told was v1: that something was deployed is not checked"
    )


def test_a_version_told_only_before_or_only_after_the_deploy_has_changed(judged):
    """One of the two tells none, as an app that never did before."""
    for versions in (("v1", ""), ("", "v1")):
        verdict = judged(versions=versions, manifest=UNNAMED)
        assert (verdict.verdict, verdict.scope) == ("holds", "")


def test_where_nothing_but_time_or_a_fault_passed_one_version_is_what_there_is(judged):
    for manifest, plan in (
        ({"strategy": "duration"}, {}),
        ({"strategy": None}, {"deploy": None, "marks": FAULT}),
    ):
        verdict = judged(switch=99.0, manifest={**UNNAMED, **manifest}, **plan)
        assert (verdict.verdict, verdict.scope) == ("holds", "")


FAULT = [(7.0, "fault.begin", {"fault": "kill a"}), (7.1, "fault.proven", {"fault": "kill a"})]
FAULT += [(13.0, "fault.end", {"fault": "kill a"})]


def test_where_no_reply_tells_a_version_that_is_said_and_holds(judged):
    told = "no reply told its version: that something was deployed is not checked"
    verdict = judged(versions=("", ""), manifest=UNNAMED)
    assert (verdict.verdict, verdict.scope) == ("holds", told)
    assert f"\n  {told}\n" in verdict.summary()
    by_time = judged(versions=("", ""), manifest={**UNNAMED, "strategy": "duration"})
    assert by_time.scope == ""


def test_too_few_requests_inside_the_deploy_window_are_inconclusive(judged):
    verdict = judged(deploy=(10.0, 10.2), switch=10.1)
    assert verdict.verdict == "inconclusive"
    assert only_reason(verdict).endswith(
        "only 41 requests fell due inside the deploy window, needs 100: it took 200ms; let the "
        "command wait until the deploy is over, or send 537 requests/s"
    )
    assert judged(deploy=(10.0, 10.2), switch=10.1, requests=10740, rate=537).verdict == "holds"
    assert judged("min_requests=20", deploy=(10.0, 10.2), switch=10.1).verdict == "holds"


def test_a_channel_without_an_ok_reply_is_inconclusive(judged):
    slo = "failed=none,channels=new+idle"
    verdict = judged(slo)
    assert verdict.verdict == "inconclusive"
    assert only_reason(verdict) == "inconclusive: channel idle has no ok reply"


def test_a_channel_that_the_deploy_went_by_is_inconclusive(judged):
    """It may have answered all along; what the deploy does to it nobody has seen."""
    rare = {"new": 4.0, "slow": 0.002}
    verdict = judged(channels=rare, deploy=(6.0, 8.0), switch=7.0)
    assert verdict.verdict == "inconclusive"
    assert only_reason(verdict).endswith("no request of channel slow fell inside the deploy window")


FAILED = [(13.4, "deploy.end", {"version": "v2", "error": "v2 is not well"})]


def test_a_deploy_that_failed_proves_nothing_of_deploys(judged):
    verdict = judged(deploy=(6.0, float("inf")), switch=10.0, marks=FAILED)
    assert only_reason(verdict) == "inconclusive: the deploy failed: v2 is not well"


def test_a_bad_release_that_is_given_up_holds_where_that_is_promised(judged):
    bad = {"deploy": (6.0, float("inf")), "switch": 99.0, "manifest": {"old_version": "v1"}}
    verdict = judged("deploy=aborted", marks=FAILED, **bad)
    assert verdict.verdict == "holds"
    assert "promised: the deploy is given up" in verdict.summary(), (
        "or it reads as one that went well"
    )


def test_a_bad_release_that_is_not_given_up_breaks_that_promise(judged):
    verdict = judged("deploy=aborted,stale=none")
    assert only_reason(verdict) == "the deploy was done, promised was that it is aborted"
    assert verdict.verdict == "broken"


def test_after_a_deploy_was_given_up_the_new_version_is_stale(judged):
    verdict = judged(
        "deploy=aborted",
        deploy=(6.0, float("inf")),
        switch=10.0,
        marks=FAILED,
        manifest={"old_version": "v1"},
    )
    assert verdict.verdict == "broken"
    assert "replies not from v1 after the deploy, allowed 0" in only_reason(verdict)


@pytest.mark.parametrize(
    ("version", "named"), [("", None), ("", "v1"), ("v1", "1.0")], ids=["none", "named", "other"]
)
def test_who_alone_answers_after_an_abort_has_to_be_seen(judged, version, named):
    """An app that tells no version, or another than is named, may be the bad release for good."""
    verdict = judged(
        "deploy=aborted",
        deploy=(6.0, float("inf")),
        switch=10.0,
        versions=(version, version and "v2"),
        marks=FAILED,
        manifest={"old_version": named, "new_version": None},
    )
    assert verdict.verdict == "inconclusive"
    assert "alone answers afterwards was not seen" in only_reason(verdict)


def test_who_answers_after_a_deploy_has_to_be_seen_where_it_is_promised(judged):
    late = {"deploy": (6.0, 19.9), "switch": (10.0, 19.9)}
    for slo in ("converge=9s", ""):
        verdict = judged(slo, **({} if slo else late | {"deploy": (6.0, 20.1)}))
        assert verdict.verdict == "inconclusive"
        assert any("who answers then was not seen" in reason for reason in verdict.reasons)
    assert judged("converge=9s,stale=none").verdict == "holds"


def test_a_deploy_that_we_had_to_end_was_given_up_by_nobody(judged):
    (at, name, about) = FAILED[0]
    verdict = judged(
        "deploy=aborted",
        deploy=(6.0, float("inf")),
        switch=99.0,
        marks=[(at, name, {**about, "timed_out": True})],
        manifest={"old_version": "v1"},
    )
    assert only_reason(verdict).startswith("inconclusive: nobody gave the deploy up, we ended it")


def test_who_promises_sessions_no_way_back_has_to_tell_a_version(judged):
    verdict = judged("backwards=0,stale=none", switch=99.0, manifest={"new_version": None})
    assert only_reason(verdict).endswith("whether a session went back is unknown")


@pytest.mark.parametrize("name", ["lost", "twice", "phantom", "early"])
def test_a_journal_that_the_app_keeps_and_that_is_gone_is_inconclusive(judged, name):
    """Without it a promise of what it tells would be kept by nobody's looking."""
    others = ",".join(f"{one}=none" for one in ("lost", "twice", "phantom", "early") if one != name)
    verdict = judged(others, journal=False, manifest={"journal": True})
    assert verdict.verdict == "inconclusive"
    assert f"lacks what tells {name}" in only_reason(verdict)
    assert judged(others, journal=False).verdict == "holds"


def test_requests_that_the_generator_could_not_send_are_inconclusive_and_never_failed(judged):
    verdict = judged(outages=[(8.0, 8.1, "unsent", None)])
    assert verdict.verdict == "inconclusive"
    assert "could not send 20 of 4000 requests" in only_reason(verdict)
    assert (verdict.requests, verdict.failed, verdict.unsent) == (3980, 0, 20)


def test_a_generator_that_stalled_inside_the_deploy_is_inconclusive(judged):
    verdict = judged(stalls=[(8.0, 8.4)])
    assert verdict.verdict == "inconclusive"
    assert any("stalled for 400 ms at +8.000 s" in reason for reason in verdict.reasons)


def test_a_generator_that_stalled_outside_the_deploy_matters_not(judged):
    assert judged("p99_ratio=none", stalls=[(2.0, 2.4)]).verdict == "holds"


def test_a_connection_that_took_long_is_no_stall_of_the_generator(tmp_path: Path):
    recording = Recording.read(synthetic.run(tmp_path / "r", requests=4000))
    samples = recording.samples
    (row,) = np.flatnonzero(samples.due >= synthetic.BEGAN + 9)[:1]
    samples.sent_us[row] = 900_000
    samples.done_us[row] = 910_000
    assert judge(recording, Slo()).verdict == "holds"


def test_an_empty_recording_is_inconclusive(judged):
    verdict = judged(requests=0, control=0, deploy=None)
    assert verdict.verdict == "inconclusive"
    assert "inconclusive: no request was recorded" in verdict.reasons
    assert verdict.worst is None
    assert "100 %" not in verdict.summary()
    assert "0 of 0" not in verdict.summary()
    assert "no outage" not in verdict.summary()
    assert json.loads(json.dumps(verdict.as_json(), allow_nan=False))["requests"] == 0


def test_a_control_channel_may_be_absent(judged):
    assert judged(control=0).verdict == "holds"


# Evidence that does not stand.


def test_failures_while_the_control_server_failed_too_are_inconclusive(judged):
    together = [(8.0, 8.5, "refused", ["new", "control"])]
    verdict = judged(outages=together)
    assert verdict.verdict == "inconclusive"
    assert "40 of 4000 requests failed" in only_reason(verdict)
    assert "suspect" in only_reason(verdict)
    assert verdict.doubtful == 40


def test_a_suspect_host_does_not_excuse_failures_at_other_moments(judged):
    outages = [(8.0, 8.5, "refused", ["new", "control"]), (11.0, 11.1, "refused", ["new"])]
    assert judged(outages=outages).verdict == "broken"


def test_refused_connections_are_not_excused_by_a_slow_control_server(judged):
    outages = [(8.0, 8.5, "refused", ["new"])]
    assert judged(outages=outages, slow=[(8.0, 8.5, 0.3, ["control"])]).verdict == "broken"


def test_timeouts_while_the_control_server_was_slow_are_inconclusive(judged):
    outages = [(8.0, 8.5, "timeout", ["new"])]
    slow = [(8.0, 8.5, 0.3, ["control"])]
    assert judged(outages=outages, slow=slow).verdict == "inconclusive"
    assert judged(outages=outages).verdict == "broken"


def test_slow_replies_while_the_control_server_was_slow_are_inconclusive(judged):
    slow = [(8.0, 8.5, 1.5, None), (8.0, 8.5, 1.5, ["control"])]
    verdict = judged(slow=slow)
    assert verdict.verdict == "inconclusive"
    assert all("suspect" in reason for reason in verdict.reasons)


def test_slow_replies_of_a_stalled_generator_are_inconclusive(judged):
    verdict = judged("p99_ratio=none,p99_over=none", stalls=[(8.0, 9.5)])
    assert verdict.verdict == "inconclusive"
    assert any("took longer than 1s" in reason for reason in verdict.reasons)


def test_an_outage_that_is_only_suspect_is_too_long_for_nobody_to_know(judged):
    slo = "failed=none,longest_outage=100ms,downtime=100ms"
    verdict = judged(slo, outages=[(8.0, 8.5, "refused", ["new", "control"])])
    assert verdict.verdict == "inconclusive"
    assert len(verdict.reasons) == 2


def test_what_is_broken_comes_first_and_what_is_unproved_after_it(judged):
    verdict = judged(outages=[(8.0, 8.5, "refused", None)], closed=False)
    assert verdict.verdict == "broken"
    broken, note = verdict.reasons
    assert broken.startswith("100 of 4000 requests failed")
    assert note.startswith("inconclusive: the recorder did not close its file")


# Who is innocent.


def test_when_the_host_has_trouble_it_is_looked_for_until_the_control_is_well_again(judged):
    """Its echo server, asked each 50 ms, is reset as the system is, for the same 30 ms."""
    for seed in range(8):
        everybody = [*("new", "reused", "slow", "write"), "control"]
        verdict = judged(outages=[(8.0, 8.06, "reset", everybody)], seed=seed)
        assert verdict.verdict == "inconclusive", verdict.reasons
        assert verdict.failed > 0


def told_of_life(folder: Path) -> None:
    """Let the app tell when it was ready, and of one request after that."""
    lines = [("started", 1000.0), ("ready", 1001.0), ("request", 1002.0)]
    about = {"instance": "v1-1", "version": "v1", "pid": 1, "id": "r-00000000"}
    with (folder / "journal.jsonl").open("a") as journal:
        for event, at in lines:
            journal.write(json.dumps({"t": at, "event": event, **about}) + "\n")


def torn(folder: Path, word: str) -> None:
    """Cut the first such line of the journal in the midst, as a kill in its writing does."""
    journal = folder / "journal.jsonl"
    lines = journal.read_text().splitlines()
    row = next(n for n, line in enumerate(lines) if f'"event": "{word}"' in line)
    lines[row] = lines[row][:30]
    journal.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("order", "writes answered ok were lost, allowed 0"),
        ("ready", "requests were accepted before the instance was ready"),
    ],
)
def test_what_lacks_in_a_journal_of_which_lines_are_torn_accuses_nobody(tmp_path, word, told):
    folder = synthetic.run(tmp_path / "r")
    told_of_life(folder)
    assert judge(Recording.read(folder), Slo()).verdict == "holds"
    torn(folder, word)
    verdict = judge(Recording.read(folder), Slo())
    assert verdict.verdict == "inconclusive"
    assert told in verdict.reasons[0]
    doubt = "but lines of the app's journal cannot be read, which may tell otherwise"
    assert doubt in verdict.reasons[0]


def test_more_writes_lost_than_lines_are_torn_are_lost(tmp_path):
    folder = synthetic.run(tmp_path / "r", lost=3)
    torn(folder, "order")
    verdict = judge(Recording.read(folder), Slo())
    assert verdict.verdict == "broken"
    assert "4 of 400 writes answered ok were lost" in verdict.reasons[0]


def test_promises_of_some_channels_are_not_broken_by_another_ones_writes(judged):
    verdict = judged("channels=new", lost=3, twice=2)
    assert verdict.verdict == "holds"
    assert verdict.writes.lost == 3
    assert judged("channels=new+write", lost=3).verdict == "broken"


def test_what_comes_late_by_a_workers_clock_need_not_be_stale(judged):
    """The switch comes 20 ms after the deploy's end by a clock that may be 40 ms ahead."""
    late = {"deploy": (5.0, 13.33), "switch": 13.35}
    worker = {"worker": 0, "why": "", "clock_error_ms": 40.0}
    assert judged(**late).verdict == "broken"
    assert judged(**late, trailer={"workers": [worker]}).stale == 0


def test_wrong_bodies_are_counted_together_however_they_are_wrong(tmp_path):
    folder = synthetic.run(
        tmp_path / "r", outages=[(8.0, 8.05, "truncated", ["new"])], journal=False
    )
    recording = Recording.read(folder)
    evidence = Evidence.of(recording, Slo.parse("failed=none,bad_body=5"))
    wrong = evidence.failures(("new",))
    assert 0 < wrong <= 5
    odd = dataclasses.replace(evidence.history, odd=Found(4))
    found = findings(dataclasses.replace(evidence, history=odd))
    assert [one.promise for one in found] == ["bad_body"]
    assert found[0].text.startswith(
        f"{wrong} replies were cut short or wrong, and 4 replies answered ok were not as long"
    )


# The figures.


@pytest.mark.parametrize("versions", [254, 255, 300, 65_535])
def test_a_version_of_its_own_for_each_of_many_replies_is_counted(tmp_path, versions):
    """A build id, a date, an ETag: whatever the header is that tells it."""
    recording = Recording.read(synthetic.run(tmp_path / "r", journal=False))
    samples = recording.samples
    samples = dataclasses.replace(
        samples,
        versions=("", *(f"b{n}" for n in range(versions - 1))),
        version=(np.arange(len(samples)) % versions).astype(np.uint32),
    )
    verdict = judge(dataclasses.replace(recording, samples=samples), Slo())
    assert sum(verdict.versions.values()) == np.count_nonzero(
        (samples.version > 0) & (samples.channel != CONTROL)
    )


def test_the_verdict_has_the_fields_that_others_build_on(judged):
    told = judged(outages=[(8.0, 8.5, "refused", ["new"])]).as_json()
    assert {
        "schema", "run", "verdict", "reasons", "requests", "failed", "failed_upper95",
        "offered_rate", "reached_rate", "phases", "channels", "outages", "versions", "mixed_ms",
        "writes", "downtime_min_ms", "downtime_max_ms", "brownouts", "slo", "window", "suspect",
        "undecided", "stale", "availability_100ms_worst",
    } <= set(told)  # fmt: skip
    assert set(told["phases"]) == {"baseline", "under_way", "deploy", "settle"}
    assert {"requests", "failed", "p50_ms", "p99_ms", "max_ms", "failed_upper95"} == set(
        told["phases"]["deploy"]
    )
    assert {"requests", "failed", "downtime_min_ms", "downtime_max_ms", "downtime_open"} == set(
        told["channels"]["new"]
    )
    (outage,) = told["outages"]
    assert {"channel", "start_s", "min_ms", "max_ms", "failed", "total", "outcomes"} <= set(outage)
    assert outage["start_s"] == pytest.approx(8.0, abs=0.013)
    assert outage["min_ms"] == pytest.approx(487.5)
    assert outage["max_ms"] == pytest.approx(512.5)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert Slo.from_dict(told["slo"]) == Slo()


def test_a_request_under_way_when_the_deploy_begins_is_counted_by_itself(judged):
    verdict = judged(deploy=(10.0, 15.0), think={"slow": 2.0}, channels={"slow": 1.0}, rate=100)
    assert verdict.phases["baseline"].requests == pytest.approx(800, abs=5)
    assert verdict.phases["under_way"].requests == pytest.approx(200, abs=5)
    assert verdict.phases["under_way"].p99 is None, "they were chosen by having taken long"
    assert verdict.phases["deploy"].requests == pytest.approx(500, abs=5)


def test_the_phases_add_up_to_the_run(judged):
    verdict = judged(outages=[(8.0, 8.5, "refused", None), (15.0, 15.1, "reset", None)])
    assert sum(figures.requests for figures in verdict.phases.values()) == verdict.requests == 4000
    assert sum(figures.failed for figures in verdict.phases.values()) == verdict.failed == 120
    assert sum(channel.failed for channel in verdict.channels.values()) == 120
    assert verdict.undecided == 20


def test_percentiles_are_the_nearest_rank_of_ok_replies_beyond_think_time(tmp_path: Path):
    recording = Recording.read(synthetic.run(tmp_path / "r", requests=100, deploy=None, control=0))
    channel = recording.samples.channel
    think = np.where(channel == 3, 500_000, 0)
    recording.samples.done_us[:] = np.arange(1, 101) * 1000 + think
    baseline = judge(recording, Slo()).phases["baseline"]
    assert (baseline.p50, baseline.p99, baseline.max) == pytest.approx((0.05, 0.099, 0.1))


def test_streams_do_not_enter_percentiles(judged):
    verdict = judged(
        "slow=4s",
        channels={"new": 1.0, "stream": 1.0},
        slow=[(0, 99, 3.0, ["stream"])],
        journal=False,
    )
    assert verdict.verdict == "holds"
    assert verdict.phases["deploy"].max < 1


def test_versions_are_mixed_from_the_first_new_reply_to_the_last_old_one(judged):
    verdict = judged(switch=(9.0, 11.0))
    assert 1.5 < verdict.mixed <= 2.0
    assert verdict.as_json()["mixed_ms"] == verdict.mixed * 1e3


def test_an_atomic_switch_mixes_nothing_though_requests_were_under_way(judged):
    assert judged(think={"slow": 2.0}).mixed == 0.0


def test_without_named_versions_the_first_and_last_seen_are_compared(judged):
    unnamed = {"old_version": None, "new_version": None}
    assert 1.5 < judged(switch=(9.0, 11.0), manifest=unnamed).mixed <= 2.0


def test_ten_bad_tenths_cannot_hide_in_a_good_run(judged):
    verdict = judged(outages=[(8.0, 8.2, "refused", None)])
    assert verdict.worst == 0.0


def test_the_summary_states_the_bound_and_never_rounds_to_all_well(judged):
    summary = judged(
        requests=40_000, rate=2000, outages=[(8.0, 8.0004, "refused", ["new"])]
    ).summary()
    assert "1 of 13332 failed in the deploy window: 0.0076 % (0.00018 to 0.042 % at " in summary
    assert "1 of 40000 failed in the whole run: 99.997 %" in summary
    assert "100 %" not in summary


def test_the_summary_of_a_clean_run_says_how_much_that_proves(judged):
    verdict = judged()
    window = verdict.phases["deploy"].requests
    assert (
        f"0 of {window} failed in the deploy window: failure rate below 0.23 % at 95 %"
        in verdict.summary()
    )


def test_the_same_recording_can_be_judged_again_by_other_promises(tmp_path: Path):
    recording = Recording.read(
        synthetic.run(tmp_path / "r", outages=[(8.0, 8.5, "refused", ["new"])])
    )
    assert judge(recording, Slo()).verdict == "broken"
    assert judge(recording, Slo.parse("failed=40")).verdict == "holds"
    assert judge(recording, Slo()).verdict == "broken"


@pytest.mark.parametrize("rate", [200, 2000])
@pytest.mark.parametrize("length", [0.03, 0.1, 0.5, 3.0])
def test_every_scripted_outage_is_found_and_sized_within_a_send_interval_at_each_end(
    judged, rate: int, length: float
):
    start = 5.0
    verdict = judged(
        rate=rate,
        requests=12 * rate,
        channels={"new": 1.0, "reused": 1.0},
        outages=[(start, start + length, "refused", None)],
    )
    assert len(verdict.outages) == 2
    for outage in verdict.outages:
        assert outage.min <= length + 1e-6
        assert outage.max >= length - 1e-6
        assert outage.max - outage.min <= 2 * 2 / rate + 1e-6


def test_a_hole_in_the_schedule_counts_by_its_own_bound(tmp_path):
    folder = synthetic.run(tmp_path / "run", stalls=[(10.0, 10.4)])
    recording = Recording.read(folder)
    latencies = {"p99_ratio": None, "p99_over": None}
    assert judge(recording, Slo(**latencies)).verdict == "inconclusive"
    longer = judge(recording, Slo(**latencies, hole=1.0))
    assert longer.verdict == "holds"
    assert longer.suspect["stalled"], "it is still told"
