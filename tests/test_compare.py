"""Releases are kept in one file each, and compared by what is beyond chance."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import synthetic

from zdtest.cli import main
from zdtest.errors import ConfigError, RecordingError
from zdtest.judging.slo import Slo
from zdtest.results.chance import CHANCE, bootstrap, fisher
from zdtest.results.compare import REPEATS, compare
from zdtest.results.release import Release, runs_in, scenario
from zdtest.results.result import Result
from zdtest.run import judged

LENIENT = Slo(p99_ratio=None, p99_over=None, slow=None)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The result of a run that holds."""
    return Result.read(run(tmp_path_factory.mktemp("one"), "one"))


def run(parent: Path, name: str, **plan: Any) -> Path:
    told = {"topology": "custom_lb", "variant": "hardened", "strategy": "rolling"}
    about = {**told, "claim": {"id": "4a"}, "test": "rolling", "host": {"cpus": 2}}
    about |= plan.pop("manifest", {})
    folder = synthetic.run(parent / name, requests=1000, manifest=about, **plan)
    judged(folder, LENIENT)
    return folder


Made = Callable[..., Release]


@pytest.fixture
def made(one: Result) -> Made:
    """A release of made-up results: one for each change of the one that holds."""

    def make(*changes: dict[str, Any], label: str = "r", **environment: str) -> Release:
        results = tuple(dataclasses.replace(one, **change) for change in changes)
        return Release(label, results, environment, {})

    return make


def test_a_release_is_the_same_after_it_was_kept(tmp_path: Path) -> None:
    run(tmp_path / "runs", "a")
    run(tmp_path / "runs", "b", outages=[(2, 2.1, "refused", None)])
    release = Release.of("v1.0", runs_in(tmp_path / "runs"))
    path = release.write(tmp_path / "history")
    assert path.name == "v1.0.json"
    again = Release.read(path)
    assert (again.label, again.environment) == ("v1.0", release.environment)
    kept = [dataclasses.replace(one, folder=Path(one.folder.name)) for one in release.results]
    assert list(again.results) == kept
    assert again.environment["host cpus"] == "2"
    assert len(path.read_text().splitlines()) < 30, "a line a run"
    lacking = dataclasses.replace(release, unread=("c: damaged",)).write(tmp_path / "history")
    assert Release.read(lacking).unread == ("c: damaged",)
    assert [one.run for one in Release.read(tmp_path / "runs").results] == ["a", "b"]


def test_the_same_release_differs_from_itself_in_nothing(made: Made) -> None:
    release = made({}, {"test": "other"}, cpus="2")
    found = compare(release, release)
    assert (found.changes, found.same, found.environment) == ((), 2, {})


def test_a_verdict_that_changed_is_told_as_worse_or_better(made: Made) -> None:
    good, bad = made({}), made({"verdict": "broken", "reason": "x"})
    (change,) = compare(good, bad).worse
    assert (change.what, change.says) == ("verdict", "✓ holds 1 of 1 -> ✕ broken 1 of 1")
    (change,) = compare(bad, good).better
    assert change.says == "✕ broken 1 of 1 -> ✓ holds 1 of 1"


def test_a_verdict_that_changed_in_some_runs_says_in_how_many(made: Made) -> None:
    flaky = made({}, {"verdict": "broken"}, {})
    (change,) = compare(made({}, {}, {}), flaky).worse
    assert change.says.endswith("✕ broken 1 of 3, ✓ holds 2 of 3: not the same in every run")
    assert compare(flaky, made({}, {}, {})).changes == (), "it may be chance that it held"


@pytest.mark.parametrize(("old", "new", "told"), [(1, 20, "worse"), (20, 2, "better")])
def test_a_verdict_of_more_or_fewer_runs_is_told_beyond_chance(
    made: Made, old: int, new: int, told: str
) -> None:
    def broken(times: int) -> Release:
        return made(*[{"verdict": "broken"}] * times, *[{}] * (20 - times))

    (change,) = getattr(compare(broken(old), broken(new)), told)
    assert change.what == "verdict"
    assert "by chance in" in change.says
    assert compare(broken(new), broken(new - 1)).changes == ()


def test_what_was_proved_and_is_inconclusive_now_is_neither_better_nor_worse(made: Made) -> None:
    """A busy machine breaks nothing and mends nothing."""
    none = made({"verdict": "inconclusive"})
    for before in ("holds", "broken"):
        found = compare(made({"verdict": before}), none)
        assert (found.changes, len(found.unproved), len(found.unheld)) == ((), 1, 1)
    some = made(*[{}] * 9, {"verdict": "inconclusive"})
    assert compare(made(*[{}] * 10), some).unheld == ()
    most = made({}, *[{"verdict": "inconclusive"}] * 4)
    found = compare(made(*[{}] * 5), most)
    assert (len(found.unproved), found.same) == (1, 0)


def test_what_was_proved_once_and_is_inconclusive_in_every_run_now_is_unproved(made: Made) -> None:
    nothing = {"verdict": "inconclusive"}
    found = compare(made({}, nothing, nothing), made(nothing, nothing, nothing))
    assert (len(found.unproved), len(found.unheld), found.same) == (1, 1, 0)
    assert compare(made({}, nothing, nothing), made(nothing, {}, nothing)).unproved == ()
    assert compare(made(nothing, nothing), made(nothing)).unproved == (), "it never was proved"


def test_a_mutant_that_is_caught_no_longer_is_worse(made: Made) -> None:
    about = {"mutant": "stop-first", "failed": 9}
    caught = made({**about, "verdict": "broken"}, {**about, "verdict": "broken"})
    missed = made({**about, "verdict": "broken"}, {**about, "verdict": "holds", "failed": 0})
    (change,) = compare(caught, missed).worsened
    assert (change.what, change.says.endswith("to be caught")) == ("mutant", True)
    assert len(compare(missed, caught).better) == 1
    assert compare(caught, caught).changes == ()


def test_of_many_scenarios_a_slower_one_may_be_chance_and_several_are_not(made: Made) -> None:
    def timed(slow: int, among: int, by: float = 8) -> Release:
        return made(
            *(
                {"test": f"t{n}", "p99": (1.0, 10.0 + repeat + by * (n < slow))}
                for n in range(among)
                for repeat in range(REPEATS)
            )
        )

    for slow, among, counts in ((1, 1, 1), (1, 80, 0), (2, 80, 0), (4, 80, 4)):
        found = compare(timed(0, among), timed(slow, among))
        assert (len(found.worse), len(found.worsened)) == (slow, counts)
    found = compare(timed(0, 80), timed(1, 80, by=90))
    assert len(found.worsened) == 1, "that is twice as long, and no chance"
    found = compare(timed(0, 3), timed(3, 3, by=5.5))
    assert (len(found.worse), found.worsened) == (3, ()), "another machine may be as much slower"


def test_what_is_gone_or_was_not_read_cannot_be_said_to_hold(made: Made) -> None:
    old, new = made({"test": "a"}, {"test": "b"}), made({"test": "a"})
    assert compare(old, new).unheld == ("gone: custom_lb hardened b",)
    assert compare(new, old).unheld == ()
    unread = dataclasses.replace(new, unread=("r1: damaged",))
    assert compare(new, unread).unheld == ("not read: r1: damaged",)


def test_failures_differ_where_chance_alone_would_hardly_do_it(made: Made) -> None:
    none, many = made({"failed": 0}), made({"failed": 40})
    (change,) = compare(none, many).worse
    assert change.what == "failures"
    assert change.says.startswith("0 of 1,000 -> 40 of 1,000 (by chance in ")
    assert compare(many, none).better
    assert compare(made({"failed": 0}), made({"failed": 4})).changes == ()


def test_failures_that_both_had_differ_only_with_enough_repeats_and_beyond_theirs(
    made: Made,
) -> None:
    """They are the lengths of outages: one of 5 s and one of 7 s say nothing about the next one."""

    def failing(*counts: int) -> Release:
        return made(*({"test": f"x[repeat{n}]", "failed": c} for n, c in enumerate(counts, 1)))

    short, long = (100, 110, 120, 130, 140), (300, 310, 320, 330, 340)
    (change,) = compare(failing(*short), failing(*long)).worse
    assert change.says.startswith("600 of 5,000 -> 1,600 of 5,000 (by chance in ")
    assert re.search(r", of a run \+1\d to \+2\d %$", change.says)
    assert compare(failing(*long), failing(*short)).better
    few = compare(failing(*short[:4]), failing(*long))
    assert few.changes == ()
    assert few.untold
    assert compare(failing(100, 400, 90, 420, 80), failing(110, 90, 500, 480, 520)).changes == ()


def repeats(p99s: Sequence[float]) -> list[dict[str, Any]]:
    return [{"test": f"x[repeat{n}]", "p99": (5.0, p99)} for n, p99 in enumerate(p99s, 1)]


def test_latencies_differ_only_with_enough_repeats_and_beyond_what_they_differ_among_each_other(
    made: Made,
) -> None:
    slow, quick = [30.0, 31, 32, 33, 34], [10.0, 11, 12, 13, 14]
    (change,) = compare(made(*repeats(quick)), made(*repeats(slow))).worse
    assert change.what == "p99"
    assert change.says.startswith("12.0 ms -> 32.0 ms in the deploy")
    few = compare(made(*repeats(quick[:4])), made(*repeats(slow)))
    assert few.changes == ()
    assert len(few.untold) == 1
    noisy = compare(made(*repeats([10.0, 40, 12, 38, 14])), made(*repeats([30.0, 9, 32, 11, 34])))
    assert noisy.changes == ()
    assert f"fewer than {REPEATS} repeats" in few.text()


def test_what_only_one_release_has_and_what_it_ran_on_is_told(made: Made) -> None:
    old = made({}, {"test": "gone"}, label="a", **{"host cpus": "2", "engine": "docker 20"})
    new = made({}, {"test": "fresh"}, label="b", **{"host cpus": "4", "engine": "docker 20"})
    found = compare(old, new)
    assert [name.split()[-1] for name in found.only_old] == ["gone"]
    assert [name.split()[-1] for name in found.only_new] == ["fresh"]
    assert found.environment == {"host cpus": ("2", "4")}
    assert "measured on another host cpus: 2 -> 4" in found.text()
    assert found.text().startswith("a -> b")


@pytest.mark.parametrize(
    ("table", "chance"),
    [
        ((0, 10, 0, 10), 1.0),
        ((10, 10, 10, 10), 1.0),
        # The lady tasting tea: four of four, by guessing, or none at all.
        ((4, 4, 0, 4), 2 / 70),
        ((1, 10, 11, 14), 0.0027594561852200836),
    ],
)
def test_fishers_test_is_exact(table: tuple[int, int, int, int], chance: float) -> None:
    assert fisher(*table) == pytest.approx(chance, rel=1e-9)
    assert fisher(table[2], table[3], table[0], table[1]) == pytest.approx(chance, rel=1e-9)


def test_fishers_test_stands_large_counts() -> None:
    assert fisher(0, 300_000, 12, 300_000) < CHANCE
    assert math.isclose(fisher(500, 300_000, 500, 300_000), 1.0)
    began = time.monotonic()
    assert 0.5 < fisher(2_500_000, 5_000_000, 2_501_000, 5_000_000) < 0.55
    assert fisher(0, 5_000_000, 5_000_000, 5_000_000) == 0
    assert time.monotonic() - began < 1


def test_fishers_test_adds_up_every_way_that_is_no_likelier() -> None:
    def chance(k: int) -> float:
        return math.comb(12, k) * math.comb(9, 8 - k) / math.comb(21, 8)

    for failed in range(9):
        whole = sum(chance(k) for k in range(9) if chance(k) <= chance(failed) * (1 + 1e-7))
        assert fisher(failed, 12, 8 - failed, 9) == pytest.approx(whole, rel=1e-9)


def test_the_bootstrap_gives_the_same_bounds_each_time() -> None:
    least, most = bootstrap([1, 2, 3, 4, 5], [11, 12, 13, 14, 15])
    assert 0 < least <= 10 <= most < 15
    assert bootstrap([1, 2, 3, 4, 5], [11, 12, 13, 14, 15]) == (least, most)


HEAD = '{"schema": 2, "label": "x", "environment": {}, "configuration": {}, '


def test_of_two_fives_only_those_that_do_not_overlap_differ() -> None:
    """By chance alone so 2 times of 252; what overlaps a little would be so in 17 of 1,000."""
    least, _ = bootstrap([1, 2, 3, 4, 5], [6, 7, 8, 9, 10])
    assert least > 0
    least, most = bootstrap([1, 2, 3, 4, 6], [5, 7, 8, 9, 10])
    assert least < 0 < most


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[", "damaged"),
        ("[" * 100_000, "damaged"),
        ("[]", r"schema \[\], expected 2"),
        ('{"schema": 1}', "schema 1, expected 2"),
        ('{"schema": 2}', "damaged"),
        (HEAD + '"runs": [{"run": "a"}]}', "damaged .*fields"),
        (HEAD + '"runs": [1]}', "damaged"),
        (HEAD + '"runs": 1}', "damaged"),
    ],
)
def test_a_file_that_is_no_release_is_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(RecordingError, match=told):
        Release.read(tmp_path / "r.json")
    with pytest.raises(RecordingError, match="expected a file of `zdtest release`"):
        Release.read(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("verdict", "fine"),
        ("verdict", None),
        ("failed", 1001),
        ("failed", "1"),
        ("failed", True),
        ("requests", -1),
        ("began", 1e999),
        ("p99", [1.0]),
        ("p99", [1.0, "x"]),
        ("faults", [1]),
        ("channels", {"new": "x"}),
        ("channels", []),
        ("test", ["<script>"]),
        ("more", 1),
    ],
)
def test_a_run_in_it_that_cannot_be_is_damage(
    made: Made, tmp_path: Path, field: str, value: object
) -> None:
    path = made({}).write(tmp_path)
    told = json.loads(path.read_text())
    told["runs"][0][field] = value
    path.write_text(json.dumps(told))
    with pytest.raises(RecordingError, match=f"damaged {path}"):
        Release.read(path)


def test_a_release_that_is_older_than_a_field_knows_nothing_of_it(
    made: Made, tmp_path: Path
) -> None:
    path = made({"memory": 1e6}).write(tmp_path)
    told = json.loads(path.read_text())
    assert Release.read(path).results[0].memory == 1e6
    del told["runs"][0]["memory"]
    path.write_text(json.dumps(told))
    assert Release.read(path).results[0].memory is None


def test_a_folder_is_a_release_whatever_it_is_called(tmp_path: Path) -> None:
    run(tmp_path / "my reports", "a")
    assert Release.read(tmp_path / "my reports").label == str(tmp_path / "my reports")


@pytest.mark.parametrize("odd", [5, [5], {"a": 5}, "x", None, {"new": {"share": "x", "texts": 1}}])
def test_a_manifest_with_odd_facts_is_read_all_the_same(tmp_path: Path, odd: object) -> None:
    folder = run(tmp_path / "runs", "a")
    told = json.loads((folder / "manifest.json").read_text())
    told |= dict.fromkeys(("host", "engine", "tool", "git", "images", "channels", "slo"), odd)
    (folder / "manifest.json").write_text(json.dumps(told))
    kept = Release.of("v1", [folder]).write(tmp_path)
    assert compare(Release.read(kept), Release.read(tmp_path / "runs")).environment == {}


def test_a_run_that_never_was_under_load_is_none(tmp_path: Path) -> None:
    run(tmp_path, "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "manifest.json").write_text("{}")
    assert [path.name for path in runs_in(tmp_path)] == ["a"]


@pytest.mark.parametrize(
    ("test", "name"),
    [
        ("rolling", "rolling"),
        ("rolling[repeat3]", "rolling"),
        ("rolling[0.1-repeat12]", "rolling[0.1]"),
        ("rolling[a-b]", "rolling[a-b]"),
        ("repeat1_or_not", "repeat1_or_not"),
    ],
)
def test_repeats_are_one_scenario(one: Result, test: str, name: str) -> None:
    assert scenario(dataclasses.replace(one, test=test)) == f"custom_lb hardened {name}"


def test_scenarios_that_were_measured_otherwise_are_told(tmp_path: Path) -> None:
    strict = Slo(p99_ratio=None, p99_over=None)
    for name, slo, told in (("old", strict, {}), ("new", LENIENT, {"rate": 50.0})):
        about = {"topology": "x", "parameters": {"boot": 1}, "channels": {"new": {"share": 0.25}}}
        synthetic.run(tmp_path / name / "a", requests=500, manifest=about | told)
        judged(tmp_path / name / "a", slo)
    found = compare(*(Release.read(tmp_path / name) for name in ("old", "new")))
    assert found.configuration == {
        "x hardened blue_green": {"promise slow": ("", "none"), "rate": ("200.0", "50.0")}
    }
    assert "measured otherwise, promise slow: the default -> none: x hardened" in found.text()
    assert list(json.loads(json.dumps(found.as_json()))["configuration"]) == [
        "x hardened blue_green"
    ]


def test_a_run_that_was_judged_anew_by_other_promises_was_measured_otherwise(
    tmp_path: Path,
) -> None:
    """They are those of its verdict, and not those that its manifest has kept from its making."""
    folder = run(tmp_path / "runs", "a", outages=[(2, 2.1, "refused", None)])
    old = Release.of("old", [folder])
    judged(folder, dataclasses.replace(LENIENT, failed=9999))
    found = compare(old, Release.of("new", [folder]))
    assert found.better
    assert "measured otherwise, promise failed: the default -> 9999: " in found.text()


def test_a_channel_that_was_asked_otherwise_is_told_setting_by_setting(tmp_path: Path) -> None:
    slow = {"path": "/report", "share": 0.5, "think": 2.0}
    for name, repeat, told in (
        ("old", 0, {"new": {"path": "/", "share": 1 / 3, "timeout": 5.0}}),
        ("old", 1, {"new": {"path": "/", "share": 0.25, "timeout": 5.0}}),
        ("new", 0, {"new": {"path": "/", "share": 0.5, "timeout": 5.0}, "slow": slow}),
    ):
        synthetic.run(tmp_path / name / str(repeat), requests=500, manifest={"channels": told})
        judged(tmp_path / name / str(repeat), LENIENT)
    found = compare(*(Release.read(tmp_path / name) for name in ("old", "new")))
    (pairs,) = found.configuration.values()
    assert pairs == {
        "channel new share": ("0.25 or 0.333", "0.5"),
        "channel slow": ("", "path /report, share 0.5, think 2"),
    }
    assert "channel slow: not set -> path /report, share 0.5, think 2: " in found.text()


def test_two_runs_are_compared_as_two_releases_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = run(tmp_path, "old")
    new = run(tmp_path, "new", outages=[(2, 2.1, "refused", None)])
    assert main(["compare", str(old), str(new)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{old} -> {new}"
    assert lines[1].startswith("worse: custom_lb hardened rolling: verdict: ✓ holds 1 of 1 -> ✕")
    (new / "verdict.json").unlink()
    assert main(["compare", str(old), str(new)]) == 2
    assert "no verdict.json" in capsys.readouterr().err


def test_a_release_has_a_name_and_a_run(tmp_path: Path) -> None:
    release = Release.of("v1", [run(tmp_path, "a")])
    for label in ("../x", "", "a b", "x" * 101):
        with pytest.raises(ConfigError, match="expected letters, digits"):
            dataclasses.replace(release, label=label).write(tmp_path / "history")
    assert not (tmp_path / "history").exists()
    with pytest.raises(RecordingError, match="no judged run for release v1: no folder of a run"):
        Release.of("v1", [])


def test_by_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, outages in (("old", []), ("new", [(2, 2.1, "refused", None)])):
        run(tmp_path / name, "a", outages=outages)
        told = ["--label", name, "--history", str(tmp_path / "history")]
        assert main(["release", str(tmp_path / name), *told]) == 0
    old, new = (str(tmp_path / "history" / f"{name}.json") for name in ("old", "new"))
    assert [line for line in capsys.readouterr().out.splitlines() if ".json" in line] == [old, new]
    assert main(["compare", old, new]) == 0
    assert "worse: custom_lb hardened rolling: verdict" in capsys.readouterr().out
    assert main(["compare", "--never-worse", old, new]) == 1
    assert main(["compare", "--never-worse", new, old]) == 0
    other = run(tmp_path / "other", "a", manifest={"test": "another"}).parent
    assert main(["compare", old, str(other)]) == 0
    assert main(["compare", "--never-worse", old, str(other)]) == 3, "nothing was compared"
    capsys.readouterr()
    assert main(["compare", "--format", "json", old, new]) == 0
    assert [one["what"] for one in json.loads(capsys.readouterr().out)["worse"]] == [
        "verdict",
        "failures",
    ]


def test_a_run_that_cannot_be_read_is_told_of_by_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "runs", "a")
    (run(tmp_path / "runs", "b") / "verdict.json").unlink()
    told = ["--label", "x", "--history", str(tmp_path / "history")]
    assert main(["release", str(tmp_path / "runs"), *told]) == 3
    assert "not read:" in capsys.readouterr().out
    assert main(["compare", str(tmp_path / "runs"), str(tmp_path / "history" / "x.json")]) == 3
    assert main(["release", str(tmp_path / "none"), *told]) == 2
    assert "expected a folder with runs" in capsys.readouterr().err


def test_a_history_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    release = Release.of("x", [run(tmp_path, "a")])
    (tmp_path / "file").touch()
    with pytest.raises(RecordingError, match="cannot write"):
        release.write(tmp_path / "file")
