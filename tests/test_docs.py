"""docs/reference.md names everything there is, with its default, and nothing that is not."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import re
from pathlib import Path

import pytest

from zdtest import channel, cli, duration, errors, markers, plugin
from zdtest.cli import exit as codes
from zdtest.judging.interval import upper_rate
from zdtest.judging.slo import Slo
from zdtest.percent import bound
from zdtest.records.sample import CHANNELS, Outcome

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "reference.md").read_text("utf-8")


def section(title: str) -> str:
    """Return the text below a heading, up to the next one of its level or above."""
    level, _, rest = re.search(rf"^(#+) [^\n]*{title}[^\n]*(\n)(.*)", TEXT, re.M | re.S).groups()
    return re.split(rf"^#{{1,{len(level)}}} ", rest, flags=re.M)[0]


def verbs() -> dict[str, argparse.ArgumentParser]:
    (action,) = cli.parser()._subparsers._group_actions
    return dict(action.choices)


def options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [one for one in parser._actions if one.option_strings and one.dest != "help"]


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_and_its_options_are_documented(verb):
    below = section(f"`zdtest {verb}")
    for option in options(verbs()[verb]):
        assert f"`{option.option_strings[-1]}" in below, option.option_strings


def test_every_option_says_in_help_what_it_does():
    for verb, parser in verbs().items():
        for option in options(parser):
            assert option.help, f"{verb} {option.option_strings}"


def test_defaults_of_during_are_the_documented_ones():
    for option in options(verbs()["during"]):
        name = option.option_strings[-1]
        if option.default not in (None, "", False):
            assert f"| `{name}` | {_shown(option.default)} |" in TEXT


def _shown(default: object) -> str:
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def load_options() -> set[str]:
    """Return the options of the Locust file, read and not run: importing it would patch us."""
    return {
        node.args[0].value
        for node in ast.walk(ast.parse((ROOT / "zdtest" / "load.py").read_text("utf-8")))
        if isinstance(node, ast.Call)
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and str(node.args[0].value).startswith("--")
    }


def locusts_own() -> set[str]:
    """Return Locust's own options, read and not run as well."""
    (home,) = importlib.util.find_spec("locust").submodule_search_locations
    return set(re.findall(r'"(--[a-z-]+)"', (Path(home) / "argument_parser.py").read_text("utf-8")))


def test_every_option_of_the_load_is_documented():
    assert len(load_options()) > 10
    assert {one for one in load_options() if f"`{one}`" not in section("The load")} == set()


class Group:
    """Collects the options that the plugin adds."""

    def __init__(self) -> None:
        self.options: list[str] = []

    def getgroup(self, *_: str) -> Group:
        return self

    def addoption(self, name: str, **about: object) -> None:
        assert about["help"]
        self.options.append(name)


def test_every_pytest_option_marker_and_fixture_is_documented():
    below = section("pytest")
    group = Group()
    plugin.pytest_addoption(group)
    assert group.options
    for name in group.options:
        assert f"| `{name}` |" in below, name
    for marker in markers.TEXTS:
        assert f"`{marker.partition(':')[0]}`" in below, marker
    fixtures = [name for name in vars(plugin) if name == "zd" or name.startswith("zd_")]
    assert len(fixtures) >= 2
    for name in fixtures:
        assert f"| `{name}` |" in below, name


def test_every_public_part_of_a_scenario_is_documented():
    from zdtest.scenario import Scenario

    below = section("pytest")
    for name in vars(Scenario):
        if not name.startswith("_"):
            assert re.search(rf"`{name}[(`]", below), name


def test_every_promise_is_documented_with_its_default():
    below = section("Promises")
    for name, default in Slo().as_dict().items():
        row = re.search(rf"^\| `{name}` \| `([^`]*)` \|", below, re.M)
        assert row, name
        assert Slo.parse(f"{name}={row[1]}") == Slo() if row[1] != "none" else default is None, name


def test_every_channel_is_documented_with_its_think_time():
    below = section("Channels")
    for name in channel.MEANING:
        (one,) = channel.parse(name, rate=1)
        row = re.search(rf"^\| `{name}` \| ([^|]*) \| ([^|,]*)", below, re.M)
        assert row, name
        assert duration.seconds(row[2].strip()) == one.think
    assert all(f"`{name}`" in below for name in CHANNELS)


def test_every_outcome_is_documented():
    below = section("Outcomes")
    assert {one.name for one in Outcome if f"`{one.name}`" not in below} == set()


def test_every_exit_code_is_documented():
    below = section("Exit codes")
    for code in (codes.HOLDS, codes.BROKEN, codes.USAGE, codes.INCONCLUSIVE, codes.FAILED):
        assert f"\n| {code} | " in below


def test_every_error_is_documented():
    below = section("Errors")
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, Exception) and not name.startswith("_"):
            assert f"| `{name}` |" in below, name


def test_nothing_is_documented_that_is_not_there():
    known = {string for parser in verbs().values() for one in parser._actions
             for string in one.option_strings}  # fmt: skip
    group = Group()
    plugin.pytest_addoption(group)
    known |= {"--version", "--help", *locusts_own(), *group.options}
    documented = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", TEXT))
    assert documented - known - load_options() == set()


@pytest.mark.parametrize("page", [*sorted(ROOT.glob("docs/*.md")), ROOT / "README.md"])
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")):
        path, _, anchor = target.partition("#")
        if target.startswith(("http://", "https://")):
            continue
        there = page.parent / path if path else page
        assert there.exists(), target
        headings = re.findall(r"^#+ (.*)", there.read_text("utf-8"), re.M) if anchor else []
        slugs = {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}
        assert not anchor or anchor in slugs, target


def test_each_bound_of_the_readme_is_that_of_its_requests():
    text = " ".join((ROOT / "README.md").read_text("utf-8").split())
    (part,) = re.findall(r"Of [\d,]+ requests that were under way in .*? \"Holds\" here", text)
    told = re.findall(r"of ([\d,]{6,}) .*? ?(0\.\d+ %)", part, re.IGNORECASE)
    assert len(told) == part.count(" %") - part.count("95 %") == 5
    for requests, below in told:
        assert bound(upper_rate(0, int(requests.replace(",", "")))) == below, requests
