"""How much of what failed had the cause that was known beforehand."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest
import synthetic

from zdtest.judging.slo import Slo
from zdtest.report import write_index
from zdtest.results.foreseen import Foreseen, foreseen, told
from zdtest.results.result import Result
from zdtest.run import judged

pytest_plugins = ["pytester"]
SCENARIOS = Path(__file__).parents[1] / "scenarios"


def result(
    tmp_path: Path, name: str, causes: Mapping[str, int], *expected: str, test: str = ""
) -> Result:
    """A run with these causes, of which some were known beforehand."""
    about = {"causes": list(expected), "topology": "custom_lb", "test": test or name}
    folder = synthetic.run(tmp_path / name, requests=1000, manifest=about)
    judged(folder, Slo())
    return dataclasses.replace(Result.read(folder), causes=causes)


def test_a_configurations_runs_are_counted_together_and_those_of_others_are_not(
    tmp_path: Path,
) -> None:
    runs = [
        result(
            tmp_path, "1", {"dead": 90, "unready": 5, "died": 4, "unknown": 1}, "dead", "unready"
        ),
        result(tmp_path, "2", {"dead": 7}, "dead", "unready", test="1[repeat2]"),
        result(tmp_path, "3", {"generator": 1, "hung": 2}, "hung"),
        result(tmp_path, "4", {"dead": 1000}),
    ]
    both, other = foreseen(runs)
    assert both == Foreseen("custom_lb hardened 1", ("dead", "unready"), 2, 107, 102, 1)
    assert (other.failed, other.right, other.share) == (3, 2, "66.66 %")
    assert told([both, other]) == (
        "blame: 104 of 110 failures had the cause known beforehand (94.54 %), 1 unknown, "
        "in 2 scenarios"
    )
    assert told([]) == ""


def test_one_of_very_many_that_is_not_as_foreseen_is_never_a_hundred_percent() -> None:
    row = Foreseen("custom_lb documented x", ("dead",), 1, 1_000_000, 999_999, 1)
    assert "(99.9999 %), 1 unknown, in 1 scenario" in told([row])


def test_the_first_page_tells_it_from_the_runs_own_files(tmp_path: Path) -> None:
    about = {"causes": ["<b>hung", "unknown"], "topology": "custom_lb", "test": "a_restart"}
    folder = synthetic.run(
        tmp_path / "bad", requests=1000, outages=[(2, 2.1, "refused", None)], manifest=about
    )
    judged(folder, Slo())
    (counts,) = [Result.read(folder).causes]
    page = write_index([folder], tmp_path / "index.html").read_text()
    table = page.partition("Whose fault, as foreseen</h2>")[2].partition("</section>")[0]
    assert "custom lb hardened a restart" in table
    assert "&lt;b&gt;hung or unknown" in table
    assert f"<td>20</td><td>{counts.get('unknown', 0)} (" in table
    plain = synthetic.run(tmp_path / "plain", requests=1000)
    judged(plain, Slo())
    assert "as foreseen" not in write_index([plain], tmp_path / "index.html").read_text()


RUN = """
    import pytest
    @pytest.mark.topology("in_place", boot=0.0)
    @pytest.mark.causes({causes})
    def test_a_kill(zd):
        with zd.load(rate=200, channels="new=1", baseline="1s", settle="500ms"):
            zd.stack.stop("app")
            zd.stack.start("app", "v1")
            zd.stack.ready("app")
        zd.judge()
"""


@pytest.mark.alone
@pytest.mark.parametrize(
    ("causes", "outcome"),
    [('"dead", "unready", "died"', {"passed": 1}), ('"hung"', {"passed": 1, "errors": 1})],
)
def test_a_session_of_scenarios_tells_it_in_a_line(
    pytester: pytest.Pytester, causes: str, outcome: dict[str, int]
) -> None:
    pytester.makeconftest((SCENARIOS / "conftest.py").read_text())
    pytester.makepyfile(RUN.format(causes=causes))
    ran = pytester.runpytest_subprocess("--zd-engine", "process", "-p", "no:cacheprovider")
    ran.assert_outcomes(**outcome)
    (line,) = [line for line in ran.outlines if line.startswith("blame: ")]
    right = int(line.split()[1].replace(",", ""))
    assert line.endswith("in 1 scenario")
    assert (right > 0) == (outcome == {"passed": 1})
