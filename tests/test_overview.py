"""What many runs say together, and that one which cannot be read is named and in no figure."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import synthetic

from zdtest.cli import main
from zdtest.errors import RecordingError
from zdtest.judging.slo import Slo
from zdtest.report import write_index, write_report
from zdtest.report.overview import claims_section
from zdtest.results.claims import CLAIMS, DOCUMENTS
from zdtest.results.overview import as_json, claims, markdown, unchecked, ways
from zdtest.results.release import scenario
from zdtest.results.result import FIELDS, Result, read_all, worst
from zdtest.run import judged

Made = Callable[..., Path]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A judged run of a topology, by its name; what the manifest tells may be changed."""

    def make(name: str, *, claim: str = "4a", **plan: Any) -> Path:
        told = {"topology": "custom_lb", "variant": "hardened", "strategy": "rolling"}
        about = {**told, "claim": {"id": claim}, "test": name, **plan.pop("manifest", {})}
        folder = synthetic.run(tmp_path / name, requests=1000, manifest=about, **plan)
        judged(folder, Slo(p99_ratio=None, p99_over=None, slow=None))
        return folder

    return make


NOTHING = {"schema": 2, **dict.fromkeys(FIELDS)}
BROKEN = [(2, 2.1, "refused", None)]
KILLED = [(2.0, "fault.begin", {"fault": "kill a"}), (2.1, "fault.proven", {"fault": "kill a"})]
KILLED += [(2.2, "fault.end", {"fault": "kill a"})]


def test_a_result_is_what_manifest_and_verdict_tell(made: Made) -> None:
    one = Result.read(made("broken", outages=BROKEN))
    assert (one.verdict, one.failed, one.requests) == ("broken", 20, 1000)
    assert one.path == "custom_lb hardened rolling"
    assert one.reason.startswith("20 of 1000 requests failed")
    assert (one.claim, one.test, one.mutant, one.release, one.faults) == (
        "4a",
        "broken",
        "",
        "",
        (),
    )
    assert sum(one.causes.values()) == 20
    assert one.downtime[0] <= one.worst
    assert one.undisturbed


def test_what_was_broken_on_purpose_is_known(made: Made) -> None:
    assert Result.read(made("killed", marks=KILLED)).faults == ("kill a",)
    bad = {"parameters": {"releases": {"v2": {"release": "crash"}}}, "new_version": "v2"}
    assert Result.read(made("bad", manifest=bad)).release == "crash"
    shop = {"parameters": {"releases": {"v2": {"front": "slow:9", "coupon": "never-ready"}}}}
    found = Result.read(made("shop", manifest={**shop, "new_version": "v2"}))
    assert found.release == "never-ready"
    late = {"parameters": {"releases": {"v2": {"boot": 30}}}, "new_version": "v2"}
    assert Result.read(made("late", manifest=late)).undisturbed
    slow = {"parameters": {"releases": {"v2": {"release": "slow:50"}}}, "new_version": "v2"}
    assert Result.read(made("slow", manifest=slow)).undisturbed


def test_a_claims_verdict_is_the_worst_of_the_undisturbed_runs(made: Made) -> None:
    good, hurt = made("good"), made("hurt", outages=BROKEN, marks=KILLED)
    results, _ = read_all([good, hurt])
    (claim,) = claims(results)
    assert claim.claim is CLAIMS["4a"]
    assert claim.verdict("hardened") == "holds"
    assert len(claim.runs["hardened"]) == 2, "the other one is listed beside it"
    assert claim.verdict("documented") == ""
    results, _ = read_all([good, hurt, made("broken", outages=BROKEN)])
    assert claims(results)[0].verdict("hardened") == "broken"
    assert "20 of 1000 requests failed" in claims(results)[0].why("hardened")
    results, _ = read_all([hurt])
    assert claims(results)[0].verdict("hardened") == "broken", "there is no other"


def test_a_claim_about_what_fails_is_judged_by_the_runs_in_which_something_does(
    made: Made,
) -> None:
    about = {"claim": {"id": "1c", "source": "001", "says": "a bad version hurts nobody"}}
    bad = {"parameters": {"releases": {"v2": {"release": "crash"}}}, "new_version": "v2"}
    results, _ = read_all(
        [made("good", manifest=about), made("bad", outages=BROKEN, manifest={**about, **bad})]
    )
    (claim,) = claims(results)
    assert claim.verdict("hardened") == "broken"


def test_a_claim_of_somebody_else_is_listed_in_the_words_of_its_scenario(made: Made) -> None:
    about = {"claim": {"id": "ours", "source": "handbook", "says": "nobody waits"}}
    results, _ = read_all([made("ours", outages=BROKEN, manifest=about), made("known")])
    known, ours = claims(results)
    assert (known.claim.id, ours.claim.id, ours.claim.words) == ("4a", "ours", "nobody waits")
    assert ours.verdict("hardened") == "broken"
    assert "claims of others" in claims_section(results, lambda one: "")


def test_the_claims_that_no_run_checked_are_named(made: Made) -> None:
    results, unread = read_all([made("known")])
    left = [key for key in CLAIMS if key != "4a"]
    assert [one.id for one in unchecked(results)] == left
    assert as_json(results, unread)["unchecked"] == left
    named = f"Not checked by any of these runs: {', '.join(left)}"
    assert named in markdown(results).splitlines()
    page = claims_section(results, lambda one: "")
    assert f"<summary>{named}</summary>" in page
    assert "<li>2b: an old task stops only once its successor is healthy</li>" in page


def test_claims_that_are_all_checked_leave_none_to_name(made: Made) -> None:
    results, _ = read_all([made(f"run{key}", claim=key) for key in CLAIMS])
    assert unchecked(results) == []
    assert "Not checked" not in markdown(results) + claims_section(results, lambda one: "")


def test_somebodys_own_runs_owe_the_documents_nothing(made: Made) -> None:
    results, _ = read_all([made("own", manifest=OWN), made("m", manifest={"mutant": "stop-first"})])
    assert unchecked(results) == []
    about = {"claim": {"id": "ours", "source": "handbook", "says": "nobody waits"}}
    assert unchecked(read_all([made("ours", manifest=about)])[0]) == []


def test_a_mutant_says_nothing_about_a_claim_or_a_way(made: Made) -> None:
    results, _ = read_all([made("mutant", outages=BROKEN, manifest={"mutant": "stop-first"})])
    assert claims(results) == []
    assert ways(results) == []


def test_a_way_adds_failures_up_and_takes_the_worst_of_downtimes(made: Made) -> None:
    folders = [made("one"), made("two", outages=BROKEN), made("hurt", marks=KILLED)]
    results, _ = read_all(folders)
    (way,) = ways(results)
    assert (way.runs, way.failed, way.requests, way.verdict) == (2, 20, 2000, "broken")
    assert 0.01 < way.failed_upper95 < 0.02
    broken = next(one for one in results if one.run == "two")
    assert (way.downtime, way.outage) == (broken.downtime[1], broken.worst)
    assert sum(way.channels.values()) == 20


def test_a_verdict_that_lacks_anything_of_its_schema_is_damage_wherever_it_is_read(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, odd = made("good"), made("odd")
    whole = json.loads((odd / "verdict.json").read_text())
    assert set(FIELDS) <= set(whole)
    for folder in (good, odd):
        (folder / "report.html").unlink()
    for name in FIELDS:
        lacking = {key: value for key, value in whole.items() if key != name}
        (odd / "verdict.json").write_text(json.dumps(lacking))
        _, unread = read_all([odd])
        told = f"damaged {odd}/verdict.json: it lacks {name}; judge it again: zdtest judge {odd}"
        assert unread == [told]
        with pytest.raises(RecordingError, match=f"lacks {name};"):
            write_report(odd)
    assert not (odd / "report.html").exists()
    index = tmp_path / "index.html"
    assert main(["report", str(odd), str(good), "--index", str(index)]) == 3
    assert f"not read: {unread[0]}" in capsys.readouterr().out
    assert (good / "report.html").exists(), "one that is damaged hides no other"
    assert "it lacks slo; judge it again" in index.read_text()
    assert '<span class="tag">not read</span>' in index.read_text()
    assert main(["judge", str(odd)]) == 0
    assert main(["report", str(odd)]) == 0, "as it says"


def test_what_users_saw_of_bad_releases_is_told_beside_and_not_among(made: Made) -> None:
    bad = {"parameters": {"releases": {"v2": {"release": "crash"}}}, "new_version": "v2"}
    results, _ = read_all([made("good"), made("bad", outages=BROKEN, manifest=bad)])
    (way,) = ways(results)
    assert (way.failed, way.requests, way.exposed) == (0, 1000, (20, 1000))


def test_the_worst_verdict_wins() -> None:
    assert worst([]) == ""


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("verdict.json", None, "no verdict.json, expected a judged run"),
        ("manifest.json", "[", "damaged"),
        ("verdict.json", "[]", "expected an object"),
        ("verdict.json", '{"schema": 1}', "schema 1, expected 2; judge it again"),
        ("verdict.json", '{"schema": 2}', "it lacks run, verdict, reasons and 28 more; judge it"),
        ("verdict.json", '{"schema": 2, "run": "a", "verdict": "holds"}', "it lacks reasons, "),
        ("verdict.json", json.dumps({**NOTHING, "verdict": "fine"}), "json: verdict "),
        ("verdict.json", json.dumps({**NOTHING, "verdict": "holds"}), "damaged"),
    ],
)
def test_a_run_that_cannot_be_read_is_named_and_in_no_figure(
    made: Made, tmp_path: Path, file: str, text: str | None, told: str
) -> None:
    folders = [made("good"), made("odd", outages=BROKEN)]
    if text is None:
        (folders[1] / file).unlink()
    else:
        (folders[1] / file).write_text(text)
    results, unread = read_all(folders)
    assert [one.run for one in results] == ["good"]
    assert len(unread) == 1
    assert told in unread[0]
    assert "odd" in unread[0]
    page = write_index(folders, tmp_path / "index.html").read_text()
    assert "In no figure" in page
    assert told.partition(",")[0] in page


def test_the_texts_are_for_a_comment_and_for_programs(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(made("good")), str(made("bad", outages=BROKEN, claim="1b"))]
    assert main(["report", "--format", "md", *folders]) == 0
    text = capsys.readouterr().out
    assert (
        "| 4a | a server is out after three missed pings, so rolling works | – | ✓ holds |" in text
    )
    assert "custom\\_lb hardened" in text
    assert main(["report", "--format", "json", *folders]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["id"] for one in told["claims"]] == ["1b", "4a"]
    assert told["claims"][0]["hardened"]["verdict"] == "broken"
    assert told["ways"][0]["failed"] == 20
    assert told["foreseen"] == []
    assert told["unread"] == []
    assert len(told["runs"]) == 2


def test_a_run_that_is_not_there_is_told_of_in_the_text_and_by_the_exit_code(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "--format", "md", str(made("good")), str(tmp_path / "none")]) == 3
    assert "- not read:" in capsys.readouterr().out
    assert main(["report", "--format", "md", "--index", "x.html", str(tmp_path)]) == 2
    assert "expected --format html" in capsys.readouterr().err


def test_hostile_words_stay_words(made: Made, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>|`x`"
    about = {"topology": hostile, "strategy": hostile, "test": hostile}
    folder = made("odd", outages=BROKEN, manifest=about)
    results, unread = read_all([folder])
    text = markdown(results, [hostile])
    assert "<script>" not in text
    assert "|`x`" not in text.replace("\\|\\`x\\`", "")
    page = write_index([folder], tmp_path / "index.html").read_text()
    assert page.count("<script>") == 1, "its own"
    assert "alert(1)</script>" not in page
    assert json.dumps(as_json(results, unread), default=str)


OWN = {"topology": None, "variant": None, "strategy": "command", "test": None, "claim": None}
"""What the manifest of somebody's own stack tells."""


def test_runs_of_ones_own_stack_are_a_table_of_their_own(made: Made) -> None:
    results, _ = read_all([made("a", manifest=OWN), made("b", outages=BROKEN, manifest=OWN)])
    lines = markdown(results).splitlines()
    assert lines[0] == "## Runs"
    assert not any("Claims" in line or "Ways" in line for line in lines), "they would be empty"
    good, bad = ([cell.strip() for cell in line.split("|")] for line in lines[4:6])
    assert good[1:6] == ["✓ holds", "a", "command", "0 of 1,000", "none"]
    assert bad[1:5] == ["✕ broken", "b", "command", "20 of 1,000"]
    assert float(bad[5]) > 90
    assert bad[6].count("→") == 2
    assert "20 of 1000 requests failed" in bad[7]
    assert "; unknown: nothing that was written down explains it: 20 refused" in bad[7]


def test_a_run_that_was_named_is_known_by_its_name(made: Made) -> None:
    shop = {**OWN, "test": "shop"}
    results, _ = read_all([made("a", manifest=OWN), made("b", manifest=shop)])
    assert sorted(map(scenario, results)) == ["command", "shop"]
    assert "| b | shop |" in markdown(results)


def test_why_names_no_request_and_says_what_its_cause_means(made: Made) -> None:
    stale = Result.read(made("stale", switch=3.0, deploy=(1.0, 2.0)))
    assert "stale-0000" in stale.reason
    assert re.search(r"allowed 0; first at \+\d", stale.why)
    (claim,) = claims([Result.read(made("broken", outages=BROKEN))])
    assert claim.why("hardened").endswith(
        "(unknown: nothing that was written down explains it: 20 refused (nobody took connections "
        "at 127.0.0.1:8080); no proxy's log was there to tell why)"
    )
    none = Result.read(made("few", deploy=(2.0, 2.1)))
    assert none.verdict == "inconclusive"
    assert none.why == none.reason.removeprefix("inconclusive: ")


def test_the_first_page_says_how_many_of_the_broken_runs_had_to_be(
    made: Made, tmp_path: Path
) -> None:
    folders = [
        made("good"),
        made("bad", outages=BROKEN),
        made("mutant", outages=BROKEN, manifest={"mutant": "one"}),
        made("known", outages=BROKEN, manifest={"causes": ["dead"]}),
        made("known too", outages=BROKEN, manifest={"causes": ["dead"]}),
    ]
    told = (
        "Of the broken ones: mutants, which have to be caught: 1; "
        "known to break, and why, before they ran: 2; others: 1."
    )
    assert told in write_index(folders, tmp_path / "index.html").read_text()
    page = write_index(folders[:2], tmp_path / "index.html").read_text()
    assert "1 broken" in page
    assert "known to break" not in page


def test_a_text_of_no_run_says_so(made: Made) -> None:
    assert markdown([]) == "No run was judged.\n"
    results, _ = read_all([made("a")])
    assert "## Runs" not in markdown(results), "a topology's are among the ways"
    assert markdown(results, ["b: no verdict.json"]).endswith("- not read: b: no verdict.json\n")


def test_ways_are_drawn_around_the_switch_and_told_in_words(made: Made, tmp_path: Path) -> None:
    folders = [
        made("good"),
        made(
            "bad",
            outages=[(2, 2.3, "refused", None)],
            manifest={"topology": "in_place", "strategy": "recreate"},
        ),
        made("idle", manifest={"strategy": "idle"}),
    ]
    page = write_index(folders, tmp_path / "index.html").read_text()
    assert "Around the switch" in page
    assert "custom lb hardened, rolling: nothing failed" in page
    # The switch is half-way through the deploy, at 2.5 s; these failed from 2.0 to 2.3.
    assert "in place hardened, recreate: up to 100 % failed, -0.5 to -0.2 s" in page
    assert "idle:" not in page
    (folders[0] / "samples.arrows").unlink()
    page = write_index(folders, tmp_path / "index.html").read_text()
    assert "custom lb hardened, rolling: nothing failed" not in page
    assert "custom_lb hardened" in page, "it was judged, and its samples were not kept"


def test_a_run_says_the_same_wherever_its_folder_is(made: Made, tmp_path: Path) -> None:
    here = made("here", outages=BROKEN, proxy=True, masked={"new": 3})
    there = tmp_path / "elsewhere" / "copy"
    shutil.copytree(here, there)
    (there / "verdict.json").unlink()
    judged(there, Slo(p99_ratio=None, p99_over=None, slow=None))
    assert (there / "verdict.json").read_bytes() == (here / "verdict.json").read_bytes()
    pages = [folder / "report.html" for folder in (here, there)]
    where = [str(folder.relative_to(folder.parent.parent)) for folder in (here, there)]
    texts = [page.read_text().replace(name, "RUN") for page, name in zip(pages, where, strict=True)]
    assert texts[0] == texts[1]


def test_every_claim_is_of_a_document() -> None:
    assert {claim.source for claim in CLAIMS.values()} == set(DOCUMENTS)
