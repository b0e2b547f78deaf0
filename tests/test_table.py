"""The table at the end of a pytest run."""

from __future__ import annotations

from zdtest.table import Row, kills, rates, table

FACTS = {
    "zdtest.claim": "4a",
    "zdtest.topology": "custom_lb documented",
    "zdtest.run": "reports/x",
    "zdtest.verdict": "broken",
    "zdtest.requests": 12_000,
    "zdtest.failed": 37,
    "zdtest.deploy_requests": 1_500,
    "zdtest.deploy_failed": 0,
    "zdtest.downtime_min_ms": 480.4,
    "zdtest.downtime_max_ms": 1_490.0,
}


def lines(rows: list[Row], results: dict[str, str]) -> list[str]:
    return [" ".join(line.split()) for line in table(rows, results).splitlines()]


def test_a_row_tells_what_was_measured_and_what_was_expected():
    row = Row.of("a.py::test_rolling", FACTS)
    assert lines([row], {"a.py::test_rolling": "xfailed"})[1] == (
        "4a custom_lb documented rolling broken 37 of 12,000 480 to 1,490 ms "
        "as predicted: the document's promise breaks"
    )


def test_the_same_name_in_two_files_is_two_results_and_says_in_which():
    rows = [Row.of("x/a.py::test_rolling", FACTS), Row.of("x/b.py::test_rolling", FACTS)]
    shown = lines(rows, {"x/a.py::test_rolling": "xfailed", "x/b.py::test_rolling": "failed"})
    assert " rolling (a.py) " in shown[1]
    assert shown[1].endswith("as predicted: the document's promise breaks")
    assert " rolling (b.py) " in shown[2]
    assert shown[2].endswith("FAILED")
    named = [line.split()[3:5] for line in rates(rows, {}, 1).splitlines()[2:]]
    assert named == [["rolling", "(a.py)"], ["rolling", "(b.py)"]]


def test_nothing_breaks_as_predicted_where_no_promise_broke():
    some = {name: FACTS[name] for name in ("zdtest.claim", "zdtest.topology")}
    rows = [Row.of("a::b", some), Row.of("a::c", FACTS | {"zdtest.verdict": "holds"})]
    results = {"a::b": "xfailed", "a::c": "xfailed"}
    shown = lines(rows, results)[1:]
    assert len(shown) == 2
    assert all(line.endswith("xfailed, and no promise broke") for line in shown)
    assert rates(rows, results, 1).count("1 xfailed, and no promise broke") == 2
    assert "as predicted" not in table(rows, results) + rates(rows, results, 1)


def test_a_promise_for_some_channels_says_for_which():
    shown = lines([Row.of("a::b", FACTS | {"zdtest.promised_for": "new,reused"})], {})
    assert "b broken on new,reused 37 of 12,000" in shown[1]


def test_no_outage_is_told_apart_from_not_judged():
    quiet = FACTS | {"zdtest.failed": 0, "zdtest.downtime_min_ms": 0.0, "zdtest.downtime_max_ms": 0}
    some = {name: FACTS[name] for name in ("zdtest.claim", "zdtest.topology")}
    shown = lines([Row.of("a::b", quiet), Row.of("a::c", some)], {"a::c": "error"})
    assert "0 of 12,000 none" in shown[1]
    assert shown[2] == "4a custom_lb documented c not judged ERROR"


def test_columns_line_up():
    rows = [Row.of("a::b", FACTS), Row.of("a::much_longer_name[x-1]", FACTS)]
    text = table(rows, {"a::b": "passed", "a::much_longer_name[x-1]": "passed"}).splitlines()
    assert len({line.index("as expected") for line in text[1:]}) == 1


def repeats(verdicts: list[str], name: str = "a.py::test_rolling[repeat{}]") -> list[Row]:
    return [
        Row.of(name.format(n), FACTS | {"zdtest.verdict": verdict})
        for n, verdict in enumerate(verdicts, 1)
    ]


def test_one_in_twenty_is_a_rate_with_its_interval():
    """Clopper & Pearson, 95 % each way: 1 of 20 is 0.256 % to 21.611 %."""
    rows = repeats(["holds"] * 19 + ["broken"])
    results = {row.node: "passed" for row in rows[:-1]} | {rows[-1].node: "failed"}
    shown = [" ".join(line.split()) for line in rates(rows, results, 20).splitlines()]
    assert shown[0] == "each 20 times; beside a count the rate it may truly be, each bound at 95 %"
    assert shown[2] == (
        "4a custom_lb documented rolling 20 19 (78.3 to 100 %) 1 (0.2 to 22 %) "
        "0 (0 to 14 %) 0 of 30,000 (below 0.0100 %) 19 as expected, 1 FAILED"
    )


def test_repeats_with_other_parameters_are_other_scenarios():
    rows = [
        row
        for name in ("a::x[1.0-repeat{}]", "a::x[repeat{}-2.0]", "b::x[repeat{}]")
        for row in repeats(["holds", "holds"], name)
    ]
    shown = rates(rows, {}, 2).splitlines()[2:]
    assert [line.split()[3] for line in shown] == ["x[1.0]", "x[2.0]", "x"]


def test_a_mutant_counts_as_caught_when_every_test_of_it_passed():
    facts = FACTS | {"zdtest.mutant": "nginx restart"}
    others = FACTS | {"zdtest.mutant": "nginx slow"}
    rows = [Row.of("a::b[1]", facts), Row.of("a::b[2]", facts), Row.of("a::c", others)]
    all_caught = {"a::b[1]": "passed", "a::b[2]": "passed", "a::c": "passed"}
    assert kills(rows, all_caught) == "mutants: 2 of 2 caught"
    assert kills(rows, {**all_caught, "a::b[2]": "failed"}) == (
        "mutants: 1 of 2 caught; not caught: nginx restart"
    )
    assert kills(rows, {**all_caught, "a::c": "error"}).endswith("not caught: nginx slow")
