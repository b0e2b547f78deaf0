"""Mutants of topologies: what a patch has to say of itself, and that it fits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from zdtest.errors import ConfigError
from zdtest.mutant import Mutant, find, mutants

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
    ],
)
def test_a_patch_that_does_not_say_what_it_is_is_refused(patch: Path, text: str, says: str) -> None:
    patch.write_text(text + DIFF)
    with pytest.raises(ConfigError, match=says):
        Mutant.read(patch)


def test_its_promise_stands_alone(patch: Path) -> None:
    told = Mutant.read(patch).slo.as_dict()
    promises = {name for name, value in told.items() if value is not None}
    assert promises == {"failed", "converge", "merge", "stall", "hole", "min_requests"}


def test_an_unknown_mutant_names_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="unknown mutant of in_place 'x'"):
        find("x", "in_place")


@pytest.mark.parametrize("one", mutants(), ids=lambda one: f"{one.topology}-{one.name}")
def test_every_mutants_patch_fits_and_its_reason_is_a_pattern(one: Mutant, tmp_path: Path) -> None:
    re.compile(one.says)
    assert one.slo.as_dict()
    assert one.made(tmp_path).folder == tmp_path / one.topology
