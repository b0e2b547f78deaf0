"""``zdtest try``: a documented topology deployed to and judged by one command."""

from __future__ import annotations

import json
import re
import socket

import pytest

from zdtest.cli import main

STEADY = "p99_ratio=none,p99_over=none,slow=2s,hole=1s"
"""Without promises of latency: whoever shares the machine takes its time at times."""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def manifest(folder):
    (run,) = (folder / "reports").iterdir()
    assert (run / "report.html").exists()
    return json.loads((run / "manifest.json").read_text())


def test_a_topology_that_interrupts_is_broken_and_says_where_its_report_is(here, capsys):
    assert main(["try", "in_place", "--rate", "50", "--seed", "7", "--slo", STEADY]) == 1
    told = capsys.readouterr()
    assert told.out.startswith("BROKEN")
    assert "report   reports/" in told.out
    assert "recreate to v2" in told.err
    about = manifest(here)
    assert (about["topology"], about["strategy"], about["seed"]) == ("in_place", "recreate", 7)


@pytest.mark.alone
def test_its_hardened_twin_holds_and_is_offered_where_there_is_one(here, capsys):
    assert main(["try", "custom_lb", "--variant", "hardened", "--slo", STEADY]) == 0
    assert capsys.readouterr().out.startswith("HOLDS")
    assert main(["try", "--slo", STEADY]) == 1
    assert "zdtest try custom_lb --variant hardened" in capsys.readouterr().out


def test_nothing_of_it_is_left(here, capsys):
    main(["try", "in_place", "--rate", "20"])
    (port,) = re.findall(r"load on http://127\.0\.0\.1:(\d+)", capsys.readouterr().err)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port)))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("nginx_swich", "did you mean 'nginx_switch'?"),
        ("custom_lb --variant hardend", "did you mean 'hardened'?"),
        ("custom_lb --strategy scripted", "unknown strategy of custom_lb 'scripted'"),
        ("custom_lb --slo fialed=0", "unknown slo promise 'fialed'"),
        ("custom_lb --rate 0", "rate 0: expected 0.1 to 200000"),
    ],
)
def test_what_means_nothing_is_refused_before_anything_is_raised(here, capsys, words, said):
    assert main(["try", *words.split()]) == 2
    assert said in capsys.readouterr().err
    assert list(here.iterdir()) == [], "nothing was begun"
