"""The kill list itself: complete, told in the documentation, and counted at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants.kill_list import ALL, only, table
from zdtest.judging.slo import Slo

DOCS = Path(__file__).parents[2] / "docs" / "mutants.md"


def test_the_documented_list_is_the_one_that_is_run() -> None:
    assert table() in DOCS.read_text("utf-8")


def test_no_two_mutants_have_one_name() -> None:
    assert len({mutant.name for mutant in ALL}) == len(ALL)


def test_one_promise_alone_is_one_promise_alone() -> None:
    quiet = {name: value for name, value in only("lost").as_dict().items() if value == 0}
    assert quiet.keys() - {"converge"} == {"lost"}
    made = {name for name, value in Slo().as_dict().items() if value is not None}
    left = {name for name, value in only("lost").as_dict().items() if value is not None}
    assert made - left == {
        *("failed", "bad_body", "p99_ratio", "p99_over", "slow", "twice", "phantom"),
        *("early", "stale"),
    }


SUITE = """
    import pytest

    class Mutant:
        def __init__(self, name):
            self.name = name

    ALL = [Mutant("one"), Mutant("two"), Mutant("three")]

    @pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name)
    def test_it(mutant):
        {body}
"""


@pytest.mark.parametrize(
    ("body", "line", "failed"),
    [
        ("pass", "mutants: 3 of 3 caught", False),
        ("assert mutant is not ALL[1]", "mutants: 2 of 3 caught; not caught: two", True),
        ("mutant is ALL[2] and pytest.skip()", "mutants: 2 of 3 caught; not caught: three", True),
        ("mutant is ALL[2] and pytest.xfail()", "mutants: 2 of 3 caught; not caught: three", True),
    ],
)
def test_the_end_says_how_many_were_caught_and_fails_if_one_was_not(
    pytester: pytest.Pytester, body: str, line: str, failed: bool
) -> None:
    check_the_end(pytester, body, line, failed)


def test_the_end_says_so_too_where_workers_ran_them(pytester: pytest.Pytester) -> None:
    body = "mutant is ALL[0] and pytest.skip()"
    check_the_end(pytester, body, "mutants: 2 of 3 caught; not caught: one", True, "-n1")


def check_the_end(
    pytester: pytest.Pytester, body: str, line: str, failed: bool, *options: str
) -> None:
    conftest = (Path(__file__).parents[1] / "conftest.py").read_text("utf-8")
    pytester.makeconftest(conftest)
    pytester.makepyfile(SUITE.format(body=body))
    ended = pytester.runpytest("-p", "no:cacheprovider", *options)
    ended.stdout.fnmatch_lines([f"*{line}"])
    assert ended.ret == (1 if failed else 0)
