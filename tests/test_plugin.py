"""zdtest inside somebody's pytest: real pytest runs, on a topology of two lines."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ET

import pytest

from zdtest.records.recording import Recording
from zdtest.records.sample import CHANNELS

TOPOLOGY = """
import sys
from contextlib import contextmanager
from pathlib import Path

from zdtest.engine import probe
from zdtest.topology import Topology


class Echo:
    instances = ("echo",)
    strategies = ("rolling", "recreate")
    journal = None

    def __init__(self, engine):
        self.engine, self.port = engine, engine.port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self, name, version):
        argv = [sys.executable, "-m", "zdtest.engine.echo", str(self.port)]
        self._echo = self.engine.start(name, argv, version=version)

    def stop(self, name):
        self.engine.stop(self._echo)

    def ready(self, name):
        probe.serves(self.engine, self._echo, self.port, "/")


@contextmanager
def raised(variant, version, engine, *, works=True):
    stack = Echo(engine)
    stack.start("echo", version if works else "")
    if not works:
        engine.run("schema", ["sh", "-c", "echo no such table; exit 1"])
    stack.ready("echo")
    yield stack


topology = Topology(
    folder=Path(__file__).parent,
    source="nobody",
    summary="an echo",
    channels={"documented": "new", "hardened": "new,reused"},
    strategies=Echo.strategies,
    raises=raised,
)
"""

SCENARIOS = """
    import pytest
    from zdtest import Inconclusive, Slo, SloViolation, recreate

    LENIENT = dict(
        p99_ratio=None, p99_over=None, slow=None, stall="3s", hole="3s", min_requests=1
    )
    QUICK = dict(rate=100, baseline="300ms", settle="300ms")


    @pytest.mark.claim("1z", source="nobody", says="an echo echoes")
    @pytest.mark.topology("./echo", variant="hardened")
    @pytest.mark.parametrize("n", [1])
    def test_quiet(zd, n):
        with zd.load(**QUICK):
            zd.mark("deploy.begin")
            zd.wait("500ms")
            zd.mark("deploy.end")
        zd.expect(Slo(**LENIENT))


    @pytest.mark.topology("./echo")
    @pytest.mark.xfail(raises=SloViolation, strict=True, reason="down in between")
    def test_recreated(zd):
        with zd.load(**QUICK):
            zd.deploy("v2", recreate)
        zd.expect(Slo(**LENIENT))


    @pytest.mark.topology("./echo")
    @pytest.mark.xfail(raises=SloViolation, strict=True, reason="proves nothing: no pass, no xfail")
    def test_unproved(zd):
        zd.expect(Slo(**LENIENT))


    @pytest.mark.topology("./echo", works=False)
    def test_never_up(zd):
        raise AssertionError("never reached")


    def test_without_topology_is_not_asked_for_one():
        pass
"""


@pytest.fixture
def inside(pytester):
    """A project of somebody's with one topology, and how to run pytest in it."""
    (pytester.path / "echo").mkdir()
    (pytester.path / "echo" / "topology.py").write_text(TOPOLOGY)
    pytester.makeini("[pytest]\naddopts = --strict-markers\nfilterwarnings = error\n")

    def run(tests: str, *options: str, how=pytester.runpytest_subprocess):
        pytester.makepyfile(textwrap.dedent(tests))
        return how("-p", "no:cacheprovider", *options)

    return run


def test_scenarios_from_start_to_table(inside, pytester):
    """One run of pytest, looked at from all sides: it takes some seconds."""
    result = inside(
        SCENARIOS, "--zd-seed", "7", "--zd-report-dir", "out", "--junitxml", "junit.xml"
    )
    result.assert_outcomes(passed=2, xfailed=1, failed=1, errors=1)
    result.stdout.fnmatch_lines(["zdtest: engine auto, seed 7, reports in out"])
    # A promise that proves nothing is neither a pass nor what xfail waits for.
    result.stdout.fnmatch_lines(["E *zdtest.Inconclusive: there is no samples.arrows: *"])
    result.stdout.fnmatch_lines(["FAILED *::test_unproved - zdtest.*"])
    # An error before the test is one clear line, without our own stack.
    text = result.stdout.str()
    assert "EngineError: schema exited 1\nno such table\n" in text
    assert "scenario.py:" not in text
    assert "During handling" not in text
    rows = [line.split() for line in text.partition("= zdtest =")[2].splitlines()[1:6]]
    told = {next(word for word in row if word in NAMES): row for row in rows}
    assert told["quiet[1]"][0] == "1z"
    assert told["quiet[1]"][-2:] == ["as", "expected"]
    assert "holds" in told["quiet[1]"]
    assert "as predicted: the document's promise breaks" in " ".join(told["recreated"])
    assert told["unproved"][-1] == "FAILED"
    assert told["never_up"][-3:] == ["not", "judged", "ERROR"]
    result.stdout.fnmatch_lines(["report   out/index.html"])
    properties = {
        case.get("name"): {one.get("name"): one.get("value") for one in case.iter("property")}
        for case in ET.parse(pytester.path / "junit.xml").getroot().iter("testcase")
    }
    assert properties["test_quiet[1]"]["zdtest.verdict"] == "holds"
    assert properties["test_quiet[1]"]["zdtest.failed"] == "0"
    assert properties["test_never_up"]["zdtest.topology"] == "./echo documented"
    assert properties["test_without_topology_is_not_asked_for_one"] == {}
    kinds = {path.name[16:] for path in (pytester.path / "out").iterdir() if path.is_dir()}
    assert kinds == {"quiet-1", "recreated", "unproved", "never-up"}


NAMES = ("scenario", "quiet[1]", "recreated", "unproved", "never_up")


USES = """
    import pytest
    from zdtest import SloViolation

    {marks}
    def test_it(zd):
        raise AssertionError("never reached")
"""


@pytest.mark.parametrize(
    ("marks", "said"),
    [
        ('@pytest.mark.claim("4a", sorce="x")', "unknown word of claim 'sorce': did you mean"),
        ("@pytest.mark.claim()", "claim needs its id"),
        ("", "zd needs @pytest.mark.topology(NAME)"),
        ('@pytest.mark.topology("custom_lp")', "unknown topology 'custom_lp': did you mean 'cus"),
        ('@pytest.mark.topology("./echo", variant="hardend")', "did you mean 'hardened'?"),
        ('@pytest.mark.topology("./echo", work=1)', "unknown parameter of echo 'work': did you"),
        ('@pytest.mark.stack("nowhere")', "url 'nowhere': expected http://host"),
        ('@pytest.mark.stack("http://me:pass@h/")', "url with a user in it: expected http://host"),
        ('@pytest.mark.stack("http://h/", verison="v1")', "unknown word of stack 'verison': did"),
        (
            '@pytest.mark.stack("http://h/")\n    @pytest.mark.topology("./echo")',
            "expected one of topology and stack, not both",
        ),
        (
            '@pytest.mark.stack("http://h/")\n    @pytest.mark.xfail',
            "expected xfail(raises=SloViol",
        ),
        (
            '@pytest.mark.stack("http://h/")\n'
            "    @pytest.mark.xfail(raises=(AssertionError,), strict=True)",
            "expected xfail(raises=SloViolation",
        ),
        (
            '@pytest.mark.stack("http://h/")\n'
            "    @pytest.mark.xfail(raises=(SloViolation, AssertionError), strict=True)",
            "expected xfail(raises=SloViolation",
        ),
        (
            '@pytest.mark.stack("http://h/")\n    @pytest.mark.xfail(raises=())',
            "expected xfail(raises=SloViolation",
        ),
        (
            '@pytest.mark.stack("http://h/")\n    @pytest.mark.xfail("sys.platform", reason="x")',
            "expected xfail(raises=SloViolation",
        ),
    ],
)
def test_a_word_that_means_nothing_ends_pytest_before_any_test(inside, pytester, marks, said):
    result = inside(USES.format(marks=marks), how=pytester.runpytest_inprocess)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    errors = [line for line in result.errlines if line.startswith("ERROR: ")]
    assert len(errors) == 1
    assert said in errors[0]
    assert "test_it: " in errors[0]


@pytest.mark.parametrize(
    "mark",
    [
        "raises=SloViolation, strict=True",
        "raises=(SloViolation,), strict=True",
        "run=False",
        "False, reason='only on arm'",
        "condition=False, reason='only on arm'",
    ],
)
def test_an_xfail_that_takes_broken_promises_only_or_nothing_is_let_be(inside, pytester, mark):
    marks = f'@pytest.mark.stack("http://h/")\n    @pytest.mark.xfail({mark})'
    result = inside(USES.format(marks=marks), "--collect-only", how=pytester.runpytest_inprocess)
    assert result.ret == pytest.ExitCode.OK
    assert result.errlines == []


MISTAKES = {
    "topology = Topology(": ("topology = Topolgy(", 40, "NameError: name 'Topolgy' is not def"),
    '    summary="an echo",\n': ("", 40, "TypeError: Topology.__init__() missing 1 required pos"),
    "class Echo:": ("class Echo", 10, "SyntaxError: expected ':'"),
    "import sys\n": ("import sis\n", 2, "ModuleNotFoundError: No module named 'sis'"),
    '{"documented": "new", "hardened": "new,reused"}': ('"new"', 40, "channels 'new': expected a"),
    '"new,reused"}': ('"nwe"}', 40, "unknown channel 'nwe': did you mean 'new'? expected one"),
    "strategies=Echo.strategies": ('strategies="rolling"', 40, "strategies 'rolling': expected a"),
    "raises=raised": ("raises=Echo", 40, "raises: too many positional arguments; expected a"),
    "(variant, version, engine, *, works=True)": ("(variant)", 40, "raises: too many positional"),
    "raises=raised,": ("raises=raised, engines=['dokcer'],", 40, "unknown engine 'dokcer': did"),
}


@pytest.mark.parametrize("right", MISTAKES)
def test_a_mistake_in_a_topology_is_one_line_with_its_file_and_line(inside, pytester, right):
    wrong, line, said = MISTAKES[right]
    assert TOPOLOGY.count(right) == 1
    (pytester.path / "echo" / "topology.py").write_text(TOPOLOGY.replace(right, wrong))
    marks = '@pytest.mark.topology("./echo")'
    result = inside(USES.format(marks=marks), how=pytester.runpytest_inprocess)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (error,) = [line for line in result.errlines if line.startswith("ERROR: ")]
    assert f"/echo/topology.py:{line}: {said}" in error
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("@contextmanager\n", "", "topology echo: raises gave a generator, no context; expected @"),
        (
            "    journal = None\n",
            "",
            "topology echo yielded Echo without journal: expected a zdtest",
        ),
        ("    yield stack", "    yield None", "topology echo yielded NoneType without engine, url"),
    ],
)
def test_what_a_topology_yields_in_place_of_a_stack_is_one_line(
    inside, pytester, right, wrong, said
):
    (pytester.path / "echo" / "topology.py").write_text(TOPOLOGY.replace(right, wrong))
    result = inside(USES.format(marks='@pytest.mark.topology("./echo")'))
    result.assert_outcomes(errors=1)
    text = result.stdout.str()
    assert f"ConfigError: {said}" in text
    assert "Traceback" not in text
    assert "scenario.py:" not in text


WORKER = """
    def pytest_configure(config):
        config.workerinput = {{"workercount": {workers}}}
"""


@pytest.mark.parametrize(("workers", "refused"), [(2, True), (1, False)])
def test_load_tests_side_by_side_are_refused(inside, pytester, workers, refused):
    """As in a worker of pytest-xdist."""
    pytester.makeconftest(textwrap.dedent(WORKER.format(workers=workers)))
    tests = """
        import pytest

        @pytest.mark.topology("./echo", works=False)
        def test_it(zd):
            raise AssertionError("never reached")

        def test_another():
            pass
    """
    result = inside(tests, how=pytester.runpytest_inprocess)
    result.assert_outcomes(passed=1, errors=1)
    said = "load tests side by side measure each other" in result.stdout.str()
    assert said == refused


TWICE = """
    import pytest
    from _pytest.runner import runtestprotocol

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(item, nextitem):
        for last in (False, True):
            item._initrequest()
            for report in runtestprotocol(item, nextitem=nextitem, log=False):
                if last:
                    item.ihook.pytest_runtest_logreport(report=report)
        return True
"""


def test_a_second_attempt_is_no_way_out(inside, pytester):
    """As of a plugin that runs what failed once more, and tells how that went alone."""
    pytester.makeconftest(textwrap.dedent(TWICE))
    tests = """
        import pytest

        @pytest.mark.stack("http://127.0.0.1:9/")
        def test_it(zd): ...

        def test_another(): ...
    """
    result = inside(tests, how=pytester.runpytest_inprocess)
    result.assert_outcomes(passed=1, errors=1)
    assert "no second attempt: a verdict becomes no retry" in result.stdout.str()


def test_the_seed_that_is_told_is_that_of_the_tests_in_a_worker_too(inside, pytester):
    tests = "def test_it(zd_seed): raise AssertionError(f'drew {zd_seed}.')"
    for more in ((), ("--zd-seed", "7")):
        text = inside(tests, "-p", "xdist", "-n1", *more).stdout.str()
        (told,) = re.findall(r"^zdtest: engine auto, seed (\d+),", text, re.MULTILINE)
        assert f"drew {told}." in text
        assert told == "7" or not more


REPEATED = """
    import pytest

    @pytest.mark.topology("./echo")
    def test_it(zd, zd_seed):
        with zd.load(rate=100, baseline="100ms", settle="100ms"):
            zd.mark("drawn", seed=zd_seed)
            zd.wait("200ms")

    def test_without_load():
        pass
"""


def test_repeats_differ_and_the_seed_of_one_replays_its_schedule(inside, pytester):
    def ran(*options):
        out = f"out{len(options)}"
        result = inside(REPEATED, "--zd-report-dir", out, *options)
        folders = sorted((pytester.path / out).glob("*it*/"))
        return result, [Recording.read(folder) for folder in folders]

    result, (first, second) = ran("--zd-repeat", "2", "--zd-seed", "7")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["each 2 times; *", "*documented*it*2*2 as expected"])
    for one in (first, second):
        (drawn,) = (mark.about["seed"] for mark in one.marks if mark.name == "drawn")
        assert drawn == one.manifest["seed"]
    assert first.manifest["seed"] == 7
    assert schedule(first) != schedule(second)

    _, (again,) = ran("--zd-seed", str(second.manifest["seed"]))
    length = min(len(schedule(again)), len(schedule(second)))
    assert length > 20
    assert schedule(again)[:length] == schedule(second)[:length]


def schedule(recording: Recording) -> list[tuple[int, int]]:
    """Return microseconds from the first request to each, and its channel."""
    samples = recording.samples
    ours = samples.where(samples.channel != CHANNELS.index("control"))
    offsets = ((ours.due - recording.trailer["began"]) * 1e6).round().astype(int).tolist()
    return list(zip(offsets, ours.channel.tolist(), strict=True))


@pytest.mark.parametrize("times", ["0", "-1", "two", "100000"])
def test_a_number_of_repeats_that_means_nothing_is_refused(inside, pytester, times):
    result = inside("def test_it(zd): pass", "--zd-repeat", times, how=pytester.runpytest_inprocess)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert any("expected how often, 1 to 1000" in line for line in result.errlines)


def test_without_a_scenario_nothing_is_printed_or_written(inside, pytester):
    result = inside("def test_it(): pass", how=pytester.runpytest_inprocess)
    assert "= zdtest =" not in result.stdout.str()
    assert re.search(r"zdtest: engine auto, seed \d+, reports in reports", result.stdout.str())
    assert not (pytester.path / "reports").exists()


def test_a_kept_topology_runs_on_until_down(inside, pytester):
    uses = USES.format(marks='@pytest.mark.topology("./echo")')
    inside(uses, "--zd-keep").assert_outcomes(failed=1)
    from zdtest.engine import kept

    ours = [one["run"] for one in kept.kept() if str(pytester.path) in one["folder"]]
    assert len(ours) == 1
    assert kept.down(ours[0]) == ours


HEAVY = "{'numpy', 'pandas', 'pyarrow', 'matplotlib', 'locust', 'gevent', 'docker', 'psutil'}"


def test_the_package_and_the_plugin_load_nothing_heavy():
    """What they cost beyond the standard library and pytest is then a few milliseconds."""
    code = f"import sys, zdtest; print(sorted({HEAVY} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_pytest_starts_without_anything_heavy(inside, pytester):
    result = inside(f"import sys\ndef test_it():\n    assert not {HEAVY} & set(sys.modules)\n")
    result.assert_outcomes(passed=1)


JUDGED = """
    import pytest
    from zdtest import Slo

    @pytest.mark.topology("./echo")
    def test_it(zd):
        with zd.load(rate=100, baseline="300ms", settle="300ms"):
            zd.mark("deploy.begin")
            {meanwhile}
            zd.mark("deploy.end")
        zd.judge(Slo(p99_ratio=None, p99_over=None, slow=None, stall="3s", hole="3s",
                     min_requests=1))
        {then}
"""
DOWN = 'zd.stack.stop("echo"); zd.wait("500ms"); zd.stack.start("echo", "v1")'


def judging(meanwhile: str = 'zd.wait("500ms")', then: str = "pass") -> str:
    return JUDGED.format(meanwhile=meanwhile, then=then)


def test_a_release_is_kept_of_this_sessions_runs_and_later_ones_are_never_worse(inside, pytester):
    """Three runs of pytest, in a folder in which an older run lies."""
    old = pytester.path / "out" / "old"
    old.mkdir(parents=True)
    (old / "manifest.json").write_text("{}")
    (old / "verdict.json").write_text("{}")
    first = inside(judging(), "--zd-report-dir", "out", "--zd-release", "v1")
    assert first.ret == pytest.ExitCode.OK
    first.stdout.fnmatch_lines(["release  out/history/v1.json", "history  out/history/index.html"])
    told = json.loads((pytester.path / "out" / "history" / "v1.json").read_text())
    assert [one["test"] for one in told["runs"]] == ["it"]
    assert (pytester.path / "out" / "history" / "index.html").exists()

    held = ("--zd-report-dir", "out", "--zd-never-worse", "out/history/v1.json")
    again = inside(judging(), *held)
    assert again.ret == pytest.ExitCode.OK
    again.stdout.fnmatch_lines(["v1 -> this session", "1 scenarios without a difference*"])

    worse = inside(judging(DOWN), *held, "--zd-release", "v2")
    worse.assert_outcomes(passed=1)
    assert worse.ret == pytest.ExitCode.TESTS_FAILED
    worse.stdout.fnmatch_lines(
        [
            "report *",
            "worse: echo documented it: verdict: ✓ holds 1 of 1 -> ✕ broken 1 of 1",
            "FAILED 2 worse than in 'v1'",
            "release  out/history/v2.json",
        ]
    )
    page = (pytester.path / "out" / "index.html").read_text()
    assert '<section id="since"><h2>Since v1</h2>' in page
    assert 'href="./history/index.html"' in page

    better = inside(judging(), "--zd-never-worse", "out/history/v2.json", "--zd-report-dir", "out")
    assert better.ret == pytest.ExitCode.OK
    better.stdout.fnmatch_lines(["better: echo documented it: verdict: *"])


def test_what_cannot_be_read_of_this_session_is_not_held(inside, pytester):
    inside(judging(), "--zd-release", "v1")
    spoilt = judging(then='(zd.folder / "verdict.json").write_text("{}")')
    both = spoilt + judging().replace("test_it", "test_other")
    inside(both.replace("write_text", "exists() or str"), "--zd-release", "v1")
    result = inside(both, "--zd-never-worse", "reports/history/v1.json")
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["not read: *verdict.json: schema None*", "FAILED 1 not read"])


def test_neither_hides_a_failure_and_a_worker_tells_its_runs(inside, pytester):
    failing = judging(then="raise AssertionError")
    first = inside(failing, "--zd-release", "v1", "-p", "xdist", "-n1")
    first.assert_outcomes(failed=1)
    assert first.ret == pytest.ExitCode.TESTS_FAILED
    first.stdout.fnmatch_lines(["report   reports/index.html", "release  reports/history/v1.json"])
    again = inside(failing, "--zd-never-worse", "reports/history/v1.json")
    assert again.ret == pytest.ExitCode.TESTS_FAILED
    again.stdout.fnmatch_lines(["1 scenarios without a difference*"])


def test_a_session_that_was_interrupted_keeps_no_release(inside, pytester):
    result = inside(judging(then="raise KeyboardInterrupt"), "--zd-release", "v1")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["FAILED no release kept: the session ended early"])
    result = inside(judging(then="raise AssertionError"), "--zd-release", "v1", "-x")
    result.stdout.fnmatch_lines(["FAILED no release kept: the session ended early"])
    assert not (pytester.path / "reports" / "history").exists()


FACTS = '"environment": {}, "configuration": {}, "unread": [], "runs": []'
HEAD = f'{{"schema": 2, "label": "v0", {FACTS}}}'


def test_what_is_held_against_nothing_is_no_pass(inside, pytester):
    (pytester.path / "v0.json").write_text(HEAD)
    tests = "def test_it(): pass"
    options = ("--zd-never-worse", "v0.json", "--zd-release", "v1")
    result = inside(tests, *options)
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "FAILED nothing compared with 'v0': no judged run for release this session*",
            "FAILED no release kept: no judged run for release v1*",
        ]
    )
    assert inside(tests, *options, "--collect-only").ret == pytest.ExitCode.OK
    result = inside(judging(), "--zd-never-worse", "v0.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["new: 1 scenarios", "FAILED nothing compared: no scenario is in both"]
    )


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--zd-release", "a/b", "--zd-release: label 'a/b': expected letters"),
        ("--zd-release", "", "--zd-release: label '': expected letters"),
        ("--zd-never-worse", "none.json", "--zd-never-worse: no release at none.json: expected"),
        ("--zd-never-worse", "bad.json", "--zd-never-worse: damaged bad.json"),
        ("--zd-never-worse", ".", "--zd-never-worse: no judged run"),
    ],
)
def test_a_release_that_means_nothing_ends_pytest_before_any_test(
    inside, pytester, option, value, told
):
    (pytester.path / "bad.json").write_text(HEAD[:40])
    result = inside("def test_it(): pass", f"{option}={value}", how=pytester.runpytest_inprocess)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert told in "\n".join(result.errlines)
    assert "passed" not in result.stdout.str()
