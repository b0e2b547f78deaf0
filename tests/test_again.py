"""What a page says would measure, or judge, a run again does that and nothing else."""

from __future__ import annotations

import dataclasses
import html
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import synthetic

from zdtest import during
from zdtest.cli import main
from zdtest.errors import ConfigError
from zdtest.judging.slo import Slo
from zdtest.run import judged, verdict
from zdtest.traffic import Load

URL = "http://127.0.0.1:8080/"
OPTIONS = (
    *("--url", URL, "--rate", "250"),
    *("--channels", "new=4,slow=1@/report~2m05s,write+key=1@/orders"),
    *("--slo", "failed=3,p99_ratio=none,slow=2m", "--new-version", "v 2", "--baseline", "2s"),
    *("--timeout", "1.5s", "--expect-status", "200,204", "--insecure", "--settle", "7s"),
    *("--journal", "app log.jsonl", "--name", "shop", "--seed", "7"),
)


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Returns what `zdtest during` would measure by these words."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app log.jsonl").touch()

    def plan(*words: str) -> during.Plan:
        plans: list[during.Plan] = []

        def stop(one: during.Plan) -> None:
            plans.append(one)
            raise ConfigError("planned")

        monkeypatch.setattr(during, "during", stop)
        monkeypatch.setattr(Load, "expect_answers", lambda *_: None)
        assert main(["during", *words]) == 2
        (one,) = plans
        return dataclasses.replace(one, folder=Path())

    return plan


def page(folder: Path) -> list[list[str]]:
    """Return the commands of the page, a list of words each."""
    text = (folder / "report.html").read_text("utf-8")
    (block,) = re.findall("<h2>Again</h2>.*?<pre>(.*?)</pre>", text, re.DOTALL)
    return [shlex.split(line) for line in html.unescape(block).splitlines()]


def run(folder: Path, **manifest: Any) -> Path:
    judged(synthetic.run(folder, requests=500, manifest=manifest), Slo())
    return folder


@pytest.mark.parametrize("what", [("--", "sh", "-c", "./deploy.sh 'v 2'"), ("--duration", "2m")])
def test_the_command_of_a_page_measures_the_same_again(planned, tmp_path, what) -> None:
    plan = planned(*OPTIONS, *what)
    folder = run(tmp_path / "run", **plan.as_dict(), **plan.load.as_dict(), url=URL)
    *_, again = page(folder)
    assert again[:2] == ["zdtest", "during"]
    assert planned(*again[2:]) == plan


def test_what_is_as_it_is_anyway_is_left_out(planned, tmp_path) -> None:
    plan = planned("--url", URL, "--timeout", "5s", "--seed", "7", "--", "true")
    folder = run(tmp_path / "run", **plan.as_dict(), **plan.load.as_dict())
    assert page(folder)[-1] == ["zdtest", "during", "--url", URL, "--seed", "7", "--", "true"]


def test_no_header_and_no_body_is_told(planned, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("ZD_HEADER", "X-Key: hush")
    secret = ("--header", "Authorization: hush", "--write-body", '{"password": "hush"}')
    plan = planned("--url", URL, *secret, "--", "true")
    folder = run(tmp_path / "run", **plan.as_dict(), **plan.load.as_dict())
    words = page(folder)[-1]
    assert "Authorization: …" in words
    assert "X-Key: …" in words
    assert words[words.index("--write-body") + 1] == "…"
    assert not any(b"hush" in path.read_bytes() for path in folder.iterdir() if path.is_file())


def test_where_the_options_were_not_kept_no_command_is_made_up(tmp_path) -> None:
    folder = run(tmp_path / "run", command=["./deploy.sh"], slo=None)
    assert [words[:2] for words in page(folder)] == [["zdtest", "judge"], ["zdtest", "report"]]


@pytest.mark.parametrize(
    "slo", ["failed=9,slow=2m05s,channels=new+write", "p99_ratio=none,deploy=again", ""]
)
def test_a_run_is_judged_again_by_the_promises_of_its_page(tmp_path, monkeypatch, slo) -> None:
    folder = synthetic.run(tmp_path / "run", requests=500, manifest={"slo": {"failed": 5}})
    judged(folder, Slo.parse(slo))
    told = (folder / "verdict.json").read_text("utf-8")
    command = page(folder)[0]
    monkeypatch.chdir(tmp_path.parent)
    main(command[1:])
    assert (folder / "verdict.json").read_text("utf-8") == told
    judged(folder, Slo(failed=5))
    assert "--slo" not in page(folder)[0], "its own"
    assert verdict(folder, Slo.parse(slo)).slo == Slo.parse(Slo.parse(slo).written())
