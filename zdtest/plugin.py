"""zdtest inside pytest: options, markers, the ``zd`` fixture, one table at the end.

Hooks and fixtures only. What they do lives elsewhere and is imported when a test needs it, so that
pytest starts as fast with this plugin as without it.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from zdtest import markers
from zdtest.errors import EngineMissing, ZdError, unknown

if TYPE_CHECKING:
    from zdtest.engine.offer import Docker, Offer
    from zdtest.scenario import Scenario

_ENGINES = ("auto", "docker", "process")
_REPEAT = "zd_repeat"
_MOST = 1000
_SEED = pytest.StashKey[int]()
_RAN = pytest.StashKey["_Ran"]()
_TRIED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options begin with --zd-, environment variables with ZD_."""
    group = parser.getgroup("zdtest", "zero-downtime verification")
    group.addoption(
        "--zd-engine",
        choices=_ENGINES,
        default=os.environ.get("ZD_ENGINE", "auto"),
        help="What runs the topologies; auto: what the document uses, where it is (default: auto)",
    )
    _add_images(group)
    group.addoption(
        "--zd-report-dir",
        type=Path,
        default=Path("reports"),
        help="Where runs are recorded (default: reports)",
    )
    group.addoption(
        "--zd-seed",
        type=int,
        default=None,
        help="Seed of every random choice (default: drawn, printed and kept)",
    )
    group.addoption(
        "--zd-repeat",
        type=_times,
        default=1,
        metavar="N",
        help="Run every scenario so often, each time with another seed, and print the rates",
    )
    group.addoption(
        "--zd-keep",
        action="store_true",
        help="Leave the topologies running; `zdtest down` ends them",
    )
    _add_releases(group)
    group.addoption(
        "--zd-full",
        action="store_true",
        help="Also run what is marked full, the guides' own timings among it",
    )


def _add_releases(group: pytest.OptionGroup) -> None:
    """Add what says what becomes of the session's runs at its end."""
    told = "Keep this session's runs as a release, in history/ below the report folder"
    group.addoption("--zd-release", metavar="LABEL", help=told)
    told = "Fail where anything is worse, beyond chance, than in that release"
    group.addoption("--zd-never-worse", type=Path, metavar="FILE", help=told)


def _add_images(group: pytest.OptionGroup) -> None:
    """Add what says which images are run."""
    group.addoption(
        "--zd-nginx-image",
        default="",
        metavar="IMAGE",
        help="Official nginx image to use, such as nginx:stable (default: built from Debian's)",
    )
    group.addoption(
        "--zd-haproxy-image",
        default="",
        metavar="IMAGE",
        help="Official HAProxy image to use, such as haproxy:lts (default: built from Debian's)",
    )
    group.addoption(
        "--zd-documented-images",
        action="store_true",
        help="Run the images that the documents name where ours stand in; they have to be pulled",
    )


def _times(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= _MOST):
        raise argparse.ArgumentTypeError(f"{text!r}: expected how often, 1 to {_MOST}")
    return int(text)


def pytest_configure(config: pytest.Config) -> None:
    """Tell the markers, settle the seed."""
    for text in markers.TEXTS:
        config.addinivalue_line("markers", text)
    if (engine := config.getoption("--zd-engine")) not in _ENGINES:  # of the environment
        raise pytest.UsageError(str(unknown("ZD_ENGINE", engine, _ENGINES)))
    given = config.getoption("--zd-seed")
    told = getattr(config, "workerinput", {}).get("zd_seed", given)
    config.stash[_SEED] = random.SystemRandom().getrandbits(32) if told is None else told
    config.stash[_RAN] = _Ran()
    config.pluginmanager.register(config.stash[_RAN], "zdtest-ran")
    if config.getoption("--zd-release") is not None or config.getoption("--zd-never-worse"):
        from zdtest.ending import Ending

        config.pluginmanager.register(Ending.asked(config, config.stash[_RAN].folders))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Have a worker of xdist draw by the seed that the session's head tells."""
    node.workerinput["zd_seed"] = node.config.stash[_SEED]


class _Ran:
    """Collects the runs that the session's tests tell of, those of a worker of xdist too."""

    def __init__(self) -> None:
        self.folders: list[Path] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            told = dict(report.user_properties).get("zdtest.run")
            self.folders += [Path(str(told))] if told else []


def pytest_report_header(config: pytest.Config) -> str:
    """Say what it takes to run the same again."""
    return (
        f"zdtest: engine {config.getoption('--zd-engine')}, seed {config.stash[_SEED]}, "
        f"reports in {config.getoption('--zd-report-dir')}"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make of every scenario as many tests as it is to be run times."""
    times = metafunc.config.getoption("--zd-repeat")
    if "zd" in metafunc.fixturenames and times > 1:
        metafunc.fixturenames.append(_REPEAT)
        metafunc.parametrize(_REPEAT, range(1, times + 1), ids=lambda n: f"repeat{n}")


def _repeat(item: pytest.Item) -> int:
    """Return which of its repeats the test is, from 1."""
    callspec = getattr(item, "callspec", None)
    return int(callspec.params.get(_REPEAT, 1)) if callspec else 1


def _seed(item: pytest.Item) -> int:
    """Return the seed of the test's random choices: the session's, and others for its repeats."""
    seed, repeat = item.config.stash[_SEED], _repeat(item)
    return seed if repeat == 1 else random.Random(f"{seed}/{repeat}").getrandbits(32)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse words that mean nothing before the first test has taken its minute."""
    if not config.getoption("--zd-full"):
        left = [item for item in items if item.get_closest_marker("full")]
        if left:
            config.hook.pytest_deselected(items=left)
            items[:] = [item for item in items if item not in set(left)]
    for item in items:
        markers.expect_sense(item)


def _side_by_side(config: pytest.Config) -> bool:
    """Whether this is one of several workers of xdist."""
    return int(getattr(config, "workerinput", {}).get("workercount", 1)) > 1


@pytest.fixture
def zd_url(request: pytest.FixtureRequest) -> str:
    """Where the stack of the test's marker runs; one of your own may raise it first, and say."""
    if url := markers.url(request.node):
        return url
    pytest.fail("stack without a url: expected it, or a fixture zd_url of yours", pytrace=False)


@pytest.fixture
def zd_seed(request: pytest.FixtureRequest) -> int:
    """The seed of this test's random choices; the run's manifest keeps it."""
    return _seed(request.node)


@pytest.fixture
def zd_full(request: pytest.FixtureRequest) -> bool:
    """Whether the guides' own timings are asked for, not scaled ones."""
    return bool(request.config.getoption("--zd-full"))


@pytest.fixture(scope="session")
def zd_offer(request: pytest.FixtureRequest) -> Iterator[Offer]:
    """The engines that scenarios run on; Docker is looked for when the first one needs it."""
    from zdtest.engine.offer import Offer

    option = request.config.getoption
    say = _say(request.config)
    with Offer(
        option("--zd-engine"),
        keep=option("--zd-keep"),
        nginx=option("--zd-nginx-image"),
        haproxy=option("--zd-haproxy-image"),
        documented=option("--zd-documented-images"),
        tell=say,
    ) as offer:
        yield offer


def _say(config: pytest.Config) -> Callable[[str], None]:
    """Return what prints a line at once, whatever is being captured."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")

    def say(line: str) -> None:
        if reporter and capture:
            with capture.global_and_fixture_disabled():
                reporter.write_line(f"\n{line}" if reporter.currentfspath else line)
                reporter.currentfspath = None

    return say


@pytest.fixture
def zd_docker(request: pytest.FixtureRequest, zd_offer: Offer) -> Docker | None:
    """The Docker Engine for this test's topology, None for plain processes.

    The test is skipped where this machine has no engine that could run it, and where another one
    than it can run on was asked for. Asking for Docker where there is none ends the session.
    """
    from zdtest import topology

    if request.node.get_closest_marker("stack"):
        return None
    found = topology.find(markers.setting(request.node, 0).topology)
    try:
        return zd_offer.choose(found.engines, found.programs)
    except EngineMissing as error:
        if zd_offer.kind == "docker" and "docker" in found.engines:
            pytest.exit(f"--zd-engine docker: {error}", returncode=4)
        pytest.skip(str(error))


@pytest.fixture
def zd(
    request: pytest.FixtureRequest, zd_seed: int, zd_docker: Docker | None
) -> Iterator[Scenario]:
    """The topology of the test's marker, raised, ready for load."""
    from zdtest.scenario import scenario

    setting = markers.setting(request.node, zd_seed)
    if request.node.get_closest_marker("stack"):
        setting = dataclasses.replace(setting, url=request.getfixturevalue("zd_url"))
    if _side_by_side(request.config):
        # Not a UsageError at collection: xdist would make an internal error of it.
        pytest.fail(
            "load tests side by side measure each other: run those that use zd without -n, or -n1",
            pytrace=False,
        )
    if request.node.stash.get(_TRIED, False):
        pytest.fail(
            "no second attempt: a verdict becomes no retry; --zd-repeat tells how often it holds",
            pytrace=False,
        )
    request.node.stash[_TRIED] = True
    _note(request.node, claim=setting.claim.get("id", ""), topology=setting.called)
    if setting.mutant:
        _note(request.node, mutant=f"{setting.topology} {setting.mutant}")
    failed = ""
    try:
        with scenario(setting, zd_docker) as one:
            one.about(place=markers.place(request.node))
            try:
                yield one
            finally:
                _tell(request.node, one)
    except ZdError as error:
        failed = f"{type(error).__name__}: {error}"
    if failed:
        pytest.fail(failed, pytrace=False)


def _note(item: pytest.Item, **facts: object) -> None:
    """Put facts where JUnit XML and the table at the end find them."""
    item.user_properties.extend((f"zdtest.{name}", value) for name, value in facts.items())


def _tell(item: pytest.Item, one: Scenario) -> None:
    _note(item, run=str(one.folder))
    if (verdict := one.verdict) is not None:
        least, most = verdict.downtime
        deploy, cut = verdict.phases["deploy"], verdict.phases["under_way"].failed
        _note(
            item,
            verdict=verdict.verdict,
            promised_for=",".join(verdict.slo.channels or ()),
            requests=verdict.requests,
            failed=verdict.failed,
            deploy_requests=deploy.requests + cut,
            deploy_failed=deploy.failed + cut,
            downtime_min_ms=least * 1e3,
            downtime_max_ms=most * 1e3,
            downtime_open=any(outage.open for outage in verdict.outages),
            failed_upper95=verdict.failed_upper95,
        )


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print one table of what was measured, and where it is drawn."""
    from zdtest.table import Row, kills, rates, table

    results: dict[str, str] = {}
    rows: list[Row] = []
    for category, reports in terminalreporter.stats.items():
        for report in reports:
            if not isinstance(report, pytest.TestReport):
                continue
            # An error outweighs the result of the test itself: it leaves that in doubt.
            if category and results.get(report.nodeid) != "error":
                results[report.nodeid] = category
            facts = dict(report.user_properties)
            if report.when == "teardown" and "zdtest.topology" in facts:
                rows.append(Row.of(report.nodeid, facts))
    if rows:
        terminalreporter.section("zdtest")
        times = config.getoption("--zd-repeat")
        terminalreporter.write_line(
            table(rows, results) if times == 1 else rates(rows, results, times)
        )
        if any(row.mutant for row in rows):
            terminalreporter.write_line(kills(rows, results))
        _index(terminalreporter, config)


def _index(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Write the page that lists the runs; a summary never fails what was measured."""
    from zdtest.report import write_index

    runs = config.stash[_RAN].folders
    if not runs:
        return
    out = config.getoption("--zd-report-dir") / "index.html"
    try:
        terminalreporter.write_line(f"report   {write_index(runs, out)}")
    except (OSError, ZdError) as error:
        terminalreporter.write_line(f"no report: {error}")
