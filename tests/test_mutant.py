"""Mutants of topologies: what a patch has to say of itself, and that it fits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from zdtest import channel, strategies, topology
from zdtest.errors import ConfigError
from zdtest.mutant import Mutant, find, mutants, promised, table, twins

DOCS = Path(__file__).parents[1] / "docs" / "mutants.md"
HEAD = "Broken: nothing\nPromise: failed=0\nSays: requests failed\n"
DIFF = """
--- a/hardened/conf
+++ b/hardened/conf
@@ -1 +1 @@
-good
+bad
"""
TOPOLOGY = """
from pathlib import Path
from zdtest.topology import Topology
topology = Topology(Path(__file__).parent, "000", "", {"hardened": "new"}, (), print)
"""


@pytest.fixture
def patch(tmp_path: Path) -> Path:
    """A patch of a topology that is two files."""
    home = tmp_path / "tiny"
    (home / "mutants").mkdir(parents=True)
    (home / "hardened").mkdir()
    (home / "topology.py").write_text(TOPOLOGY)
    (home / "hardened" / "conf").write_text("good\n")
    path = home / "mutants" / "bad-conf.patch"
    path.write_text(HEAD + DIFF)
    return path


def test_a_mutant_is_a_copy_of_its_topology_with_the_patch_in_it(
    patch: Path, tmp_path: Path
) -> None:
    mutant = Mutant.read(patch)
    assert (mutant.topology, mutant.name, mutant.always) == ("tiny", "bad-conf", False)
    made = mutant.made(tmp_path / "run")
    assert made.name == "tiny"
    assert (made.folder / "hardened" / "conf").read_text() == "bad\n"
    assert (patch.parent.parent / "hardened" / "conf").read_text() == "good\n"


def test_a_patch_that_does_not_fit_any_more_is_an_error(patch: Path, tmp_path: Path) -> None:
    (patch.parent.parent / "hardened" / "conf").write_text("mended\n")
    with pytest.raises(ConfigError, match=r"bad-conf\.patch does not fit: .*hardened/conf"):
        Mutant.read(patch).made(tmp_path / "run")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Broken: x\nPromise: failed=0\n", "no Says: expected"),
        (HEAD + "Runs: sometimes\n", "unknown word for Runs"),
        (HEAD + "Brokn: x\n", "unknown line of .*did you mean 'Broken'"),
        (HEAD + "Rate: fast\n", r"Rate of bad-conf\.patch 'fast': expected requests/s"),
    ],
)
def test_a_patch_that_does_not_say_what_it_is_is_refused(patch: Path, text: str, says: str) -> None:
    patch.write_text(text + DIFF)
    with pytest.raises(ConfigError, match=says):
        Mutant.read(patch)


def test_its_promise_stands_alone(patch: Path) -> None:
    told = Mutant.read(patch).slo.as_dict()
    promises = {name for name, value in told.items() if value is not None}
    rules = {"deploy", "converge", "merge", "stall", "hole", "min_requests"}
    assert promises == {"failed"} | rules


def test_what_it_takes_to_see_it_is_told_in_its_head(patch: Path) -> None:
    patch.write_text(HEAD + 'With: {"boot": 0}\nFault: freeze a for 200ms\n' + DIFF)
    mutant = Mutant.read(patch)
    assert mutant.parameters == {"boot": 0}
    assert mutant.fault == (("freeze", "a", 0.2),)
    patch.write_text(HEAD + DIFF)
    assert (Mutant.read(patch).parameters, Mutant.read(patch).fault) == ({}, ())


@pytest.mark.parametrize("told", ["boot=0", "[1]", "{"])
def test_parameters_that_are_no_json_object_are_refused(patch: Path, told: str) -> None:
    patch.write_text(HEAD + f"With: {told}\n" + DIFF)
    with pytest.raises(ConfigError, match=r"With of bad-conf\.patch .*: expected an object"):
        assert Mutant.read(patch).parameters


@pytest.mark.parametrize(
    "told", ["freeze a", "freeze a for", "freeze a for ever", "freeze a in 2s"]
)
def test_a_fault_that_does_not_say_what_happens_is_refused(patch: Path, told: str) -> None:
    patch.write_text(HEAD + f"Fault: {told}\n" + DIFF)
    with pytest.raises(ConfigError, match=r"Fault of bad-conf\.patch .*: expected"):
        assert Mutant.read(patch).fault


def read(patch: Path, name: str, *lines: str) -> Mutant:
    """Another mutant of the same topology, its head changed and gone on with by `lines`."""
    path = patch.with_name(f"{name}.patch")
    path.write_text("\n".join([*lines, ""]) + DIFF)
    return Mutant.read(path)


def test_mutants_in_one_setting_have_one_twin_which_keeps_all_their_promises(patch: Path) -> None:
    head = ("Broken: x", "Says: x")
    first = read(patch, "a", *head, "Promise: failed=0")
    other = read(patch, "b", *head, "Promise: failed=0", 'With: {"boot": 1}')
    third = read(patch, "c", *head, "Promise: twice=0,channels=write")
    alike = {
        tuple(one.name for one in group): promised(group) for group in twins([first, other, third])
    }
    assert alike.keys() == {("a", "c"), ("b",)}
    both = alike["a", "c"]
    assert (both.failed, both.twice, both.channels, both.lost) == (0, 0, ("write",), None)
    assert alike["b",].twice is None


@pytest.mark.parametrize(
    "line", ["Rate: 100", "Channels: new", "Deploy: rolling", "Fault: kill a for 1s"]
)
def test_what_is_asked_of_it_is_part_of_its_setting(patch: Path, line: str) -> None:
    head = ("Broken: x", "Says: x", "Promise: failed=0")
    assert len(list(twins([read(patch, "a", *head), read(patch, "b", *head, line)]))) == 2


def test_the_table_has_a_line_for_each(patch: Path) -> None:
    always = read(patch, "a", "Broken: all of it", "Promise: failed=0", "Says: x|y", "Runs: always")
    lines = table([always, Mutant.read(patch)]).splitlines()
    assert lines[0] == "### tiny"
    assert lines[-2:] == [
        r"| `a` (always run) | all of it | `failed=0`: `x\|y` |",
        "| `bad-conf` | nothing | `failed=0`: `requests failed` |",
    ]


def test_the_documented_tables_are_those_of_the_mutants_there_are() -> None:
    assert table(mutants()) in DOCS.read_text("utf-8")


def test_an_unknown_mutant_names_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="unknown mutant of in_place 'x'"):
        find("x", "in_place")


@pytest.mark.parametrize("one", mutants(), ids=lambda one: f"{one.topology}-{one.name}")
def test_every_mutants_patch_fits_and_its_head_means_something(one: Mutant, tmp_path: Path) -> None:
    re.compile(one.says)
    assert one.slo.as_dict()
    assert strategies.find(one.deploy)
    assert one.parameters.keys() <= topology.find(one.topology).parameters.keys()
    assert not one.channels or channel.parse(one.channels, rate=one.rate)
    assert {what for what, _, _ in one.fault} <= {"freeze", "kill"}
    assert one.made(tmp_path).folder == tmp_path / one.topology
