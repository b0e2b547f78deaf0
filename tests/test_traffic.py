"""The load as it is asked for, and its process as it is started and heard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zdtest.engine import Instance
from zdtest.errors import ConfigError, LoadFailed
from zdtest.traffic import Load, Traffic, written


def test_a_load_that_means_nothing_is_refused():
    for wrong in ({"rate": 0}, {"rate": float("nan")}, {"channels": "nwe"}, {"timeout": 0}):
        with pytest.raises(ConfigError):
            Load(**wrong)


def test_a_load_is_told_in_a_few_words():
    assert written(Load(rate=200, channels="new=3,write=1@/orders")) == (
        "200 requests/s on new write, timeout 5.0s"
    ) or written(Load(rate=200)).startswith("200 requests/s on new reused")


def test_seeds_are_drawn_unless_given():
    assert Load(seed=7).seed == 7
    assert Load().seed != Load().seed


def test_no_request_can_outlast_the_longest():
    assert Load(channels="new,slow@/x~7s", timeout=2.0).longest == 9.0


def test_the_command_line_leaves_no_word_to_be_taken_for_an_option():
    options = {"expect-body": "--help", "insecure": True, "write-body": ""}
    argv = Load(seed=-5, options=options).argv("http://h/")
    assert "--expect-body=--help" in argv
    assert "--insecure" in argv
    assert not any(word.startswith("--write-body") for word in argv)


class Engine:
    """An engine that runs nothing; the test writes what the load would."""

    run_id = "run"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "logs").mkdir()
        self.log = folder / "logs" / "load.log"
        self.log.write_text("first\nzdtest: no such thing\n")
        self.ended = ""

    def start(self, name, argv, **_):
        self.argv = argv
        return Instance(name, 1, 1, "", self.log, 0)

    def fate(self, instance):
        return self.ended

    def logs(self, instance, tail=20):
        return self.log.read_text().rstrip()


def tell(folder: Path, text: str) -> None:
    with (folder / "logs" / "load.jsonl").open("a") as news:
        news.write(text)


def test_news_are_read_once_and_only_in_whole_lines(tmp_path):
    engine = Engine(tmp_path)
    traffic = Traffic(engine, Load(), "http://h/", "http://c/", run="run")
    assert traffic.news() == {}
    tell(tmp_path, json.dumps({"began": 5.5}) + "\n" + '{"t": 6.0, "done": 1}\n{"t": 6.2')
    traffic.start()
    assert traffic.began == 5.5
    assert traffic.news() == {"began": 5.5, "t": 6.0, "done": 1}
    tell(tmp_path, ', "done": 4}\n')
    assert traffic.news()["done"] == 4


def test_a_load_that_ends_before_its_first_request_is_one_line(tmp_path):
    engine = Engine(tmp_path)
    engine.ended = "exited 2"
    with pytest.raises(LoadFailed) as raised:
        Traffic(engine, Load(), "http://h/", "http://c/", run="run").start()
    said = f"the load never sent a request: no such thing; see {engine.log}"
    assert str(raised.value) == said


def test_nobodys_settings_change_what_is_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCUST_USERS", "7")
    monkeypatch.setenv("ZD_RATE", "1")
    engine = Engine(tmp_path)
    tell(tmp_path, '{"began": 1.0}\n')
    Traffic(engine, Load(), "http://h/", "http://c/", run="run").start()
    assert engine.argv[:1] == ["env"]
    assert {"LOCUST_USERS", "ZD_RATE"} <= set(engine.argv)
    assert f"HOME={engine.folder.absolute()}" in engine.argv, "where Locust looks for .locust.conf"
