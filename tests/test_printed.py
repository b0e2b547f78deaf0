"""What docs/extending.md prints of tests of one's own is run, as it is printed."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest
from own_stack import serving

from zdtest.engine import reaper

TEXT = (Path(__file__).parents[1] / "docs" / "extending.md").read_text("utf-8")
FILES = dict(re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```", TEXT, re.M | re.S))

VERSIONED = """
import pathlib, tiny_server
class Versioned(tiny_server.TinyServer):
    def _request(self, link, head):
        open({heads!r}, "ab").write(head)
        super()._request(link, head)
    def reply(self, link, data):
        version = pathlib.Path({file!r}).read_bytes() or b"v1"
        super().reply(link, data.replace(b"App-Version: v1", b"App-Version: " + version))
Versioned({{port}}).serve(0)
"""
"""A server that tells the version which stands in a file."""

CONFTEST = """
import functools, pathlib, time
import pytest
import zdtest

# Promises besides the printed ones that a busy machine keeps too.
zdtest.Slo = functools.partial(
    zdtest.Slo, **dict({{"slow": None, "hole": 3, "stall": 3, "p99_ratio": None, "p99_over": None}})
)

class Shop:
    url = {url!r}
    def switch(self, version):
        time.sleep(0.5)
        pathlib.Path("version").write_text(version)
        time.sleep(0.5)

@pytest.fixture
def shop():
    return Shop()
"""
DEPLOY = """#!/bin/sh
sleep 0.5; printf "$1" > version; sleep 0.5
(for i in $(seq 600); do sleep 0.2; done) & echo $! > left.pid
"""


@pytest.fixture
def project(pytester):
    """Somebody's repository with what is printed in it."""
    for name, code in FILES.items():
        path = pytester.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(code)
    (pytester.path / "version").write_text("v1")
    pytester.makeini("[pytest]\naddopts = --strict-markers\nfilterwarnings = error\n")
    return pytester


@pytest.fixture
def url(project):
    """Where their stack runs, which tells the version in the file ``version``."""
    heads = str(project.path / "heads")
    code = VERSIONED.format(file=str(project.path / "version"), heads=heads)
    with serving(code) as url:
        (project.path / "conftest.py").write_text(CONFTEST.format(url=url))
        yield url


def run(project, *words: str):
    return project.runpytest_subprocess("-p", "no:cacheprovider", "-rA", *words)


def test_everything_is_printed():
    assert {*FILES} == {
        *("test_release.py", "test_raised_first.py", "test_shop.py"),
        *("shop/app.py", "shop/topology.py"),
    }


def test_a_url_and_a_command_are_a_scenario(project, url, monkeypatch):
    script = project.path / "deploy.sh"
    script.write_text(DEPLOY)
    script.chmod(0o755)
    monkeypatch.setenv("SHOP_URL", url)
    result = run(project, "test_release.py", "--zd-report-dir", "out")
    left = int((project.path / "left.pid").read_text())
    assert reaper.find(left) is not None, "what the command left running is theirs"
    os.kill(left, signal.SIGKILL)
    result.assert_outcomes(passed=1)
    (folder,) = (one for one in (project.path / "out").iterdir() if one.is_dir())
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["url"], manifest["new_version"]) == (url, "v2")
    assert (manifest["strategy"], manifest["topology"]) == ("command", "")
    assert manifest["headers"] == {"Authorization": "…"}
    heads = (project.path / "heads").read_bytes()
    assert heads.count(b"Authorization: Bearer let-me-in\r\n") == heads.count(b"HTTP/1.1") > 200
    assert url in result.stdout.str().partition("= zdtest =")[2]


def test_so_is_one_that_a_fixture_raised(project, url):
    run(project, "test_raised_first.py").assert_outcomes(passed=1)


def test_nothing_there_is_told_before_any_load(project, url, monkeypatch):
    monkeypatch.setenv("SHOP_URL", "http://127.0.0.1:9/")
    result = run(project, "test_release.py")
    result.assert_outcomes(failed=1)
    assert "nothing answers at http://127.0.0.1:9/: Connection refused" in result.stdout.str()


def test_a_topology_of_ones_own_is_raised_deployed_to_and_ended(project, url):
    result = run(project, "test_shop.py")
    result.assert_outcomes(passed=1, xfailed=1)
