from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zdtest.records.journal import FOREIGN, IMPOSSIBLE, Journal, Process


def line(event: str, **about: Any) -> dict[str, Any]:
    return {"t": 1.0, "event": event, "instance": "a", "version": "v1", "pid": 7, **about}


def text(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in lines)


def test_the_lines_of_an_event_are_columns_in_the_files_order():
    told = Journal.of(
        [
            line("ready", t=2.0),
            line("request", t=3.5, begin=3.25, id="r-0000001f"),
            line("request", t=4, begin=4, id="r-000000ff", instance="b"),
            line("stopped", t=5.0, closed=4.5),
        ]
    )
    requests = told.lines("r", "request")
    assert requests.at.tolist() == [3.5, 4.0]
    assert requests.begin.tolist() == [3.25, 4.0]
    assert requests.seq.tolist() == [0x1F, 0xFF]
    who = [told.processes[code] for code in requests.process]
    assert who == [Process("a", "v1", 7), Process("b", "v1", 7)]
    life = told.lines("r", "ready", "stopped")
    assert life.event.tolist() == [0, 1]
    np.testing.assert_equal(life.closed, [np.nan, 4.5])


def test_only_an_id_that_the_run_can_have_given_has_a_number():
    ids = ["r-0000000a", "r-0000000A", "r-1", "r-000000000", "q-00000001", "r", None, "", "ré"]
    numbers = Journal.of([line("order", id=one) for one in ids]).lines("r", "order").seq
    assert numbers.tolist() == [10, *[IMPOSSIBLE] * 3, *[FOREIGN] * 5]
    hops = [f"r-0000000a{more}" for more in ("-1", "#1", ".1.2", "/", "é", "-b", "f", "F", "g")]
    numbers = Journal.of([line("order", id=one) for one in hops]).lines("r", "order").seq
    assert numbers.tolist() == [*[10] * 6, *[IMPOSSIBLE] * 2, 10]
    foreign = Journal.of([line("order", id="é-00000001")]).lines("é", "order").seq
    assert foreign.tolist() == [1]


def test_equal_keys_have_one_code_and_none_has_minus_one():
    journal = Journal.of([line("order", key=key) for key in ("k", None, "l", "k")])
    codes = journal.lines("r", "order").key.tolist()
    assert codes[1] == -1
    assert codes[0] == codes[3] != codes[2]
    assert Journal.of([line("order", key=None)]).lines("r", "order").key.tolist() == [-1]


@pytest.mark.parametrize(
    "damage",
    [
        b'{"t": 3.0, "event": "order", "id": "r-000',
        b"[1]\n5\nnull\n\n",
        b"nonsense\n",
        b'{"t": "soon", "pid": 1e99, "event": 5, "id": 7}\n',
        b'{"t": NaN, "event": "order", "id": null}\n',
        b'{"event": "\\ud800", "key": "\\ud800", "pid": true}\n',
        b"\xff\xfe\n",
    ],
)
def test_a_damaged_line_costs_no_other(damage: bytes):
    good = text(line("order", id="r-00000001"), line("order", id="r-00000002"))
    found = Journal(good + damage).lines("r", "order")
    assert found.seq[found.seq >= 0].tolist() == [1, 2]
    assert found.at[:2].tolist() == [1.0, 1.0]


def test_a_last_line_without_its_end_counts_when_it_is_whole():
    assert len(Journal(text(line("order")).rstrip()).lines("r", "order")) == 1


@pytest.mark.parametrize("empty", [b"", b"\n", b"{}\n", text(line("ready"))])
def test_nothing_about_an_event_is_no_line(empty: bytes):
    lines = Journal(empty).lines("r", "order")
    assert len(lines) == len(lines.ours) == 0


def test_a_journal_is_a_sequence_of_its_objects():
    lines = [line("ready"), line("order", id="x")]
    journal = Journal(text(*lines) + b"half")
    assert list(journal) == lines
    assert journal[1]["id"] == "x"
    assert journal[:1] == (lines[0],)
    assert journal == tuple(lines) != Journal(b"")
    assert list(journal.about("ready")) == lines[:1]
    assert Journal.of(journal) is journal


def test_a_journal_is_read_without_pandas(tmp_path: Path):
    (tmp_path / "j").write_bytes(text(line("order", id="r-00000001", key=None), line("ready")))
    code = (
        "import sys; from pathlib import Path; from zdtest.history import Journal, key_twice, early"
        f"; journal = Journal.read(Path({str(tmp_path / 'j')!r}))"
        "; key_twice(journal, 'r'); early(journal, 'r'); assert len(journal.lines('r', 'order'))"
        "; sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize("damage", [b"nonsense\n", b' {"event": "order", "pid": "x"}\n', b"{]}\n"])
def test_damage_amid_very_many_lines_costs_few_of_them_the_quick_way(damage: bytes):
    one = json.dumps(line("order", id="r-00000001", sha256="0" * 64)).encode() + b"\n"
    Journal(one).lines("r", "order")

    def took(text: bytes) -> float:
        began = time.process_time()
        assert (Journal(text).lines("r", "order").seq == 1).sum() == 200_000
        return time.process_time() - began

    # Line by line it takes ten times as long.
    assert took(one * 100_000 + damage + one * 100_000) < 5 * took(one * 200_000)


def test_an_object_with_blanks_around_it_is_a_line_in_its_place():
    text = b'{"event":"order","t":1}\n  {"event":"order","t":2} \r\n{"event":"order","t":3}\n'
    assert Journal(text).lines("r", "order").at.tolist() == [1, 2, 3]


def test_two_objects_on_one_line_are_one_line_that_cannot_be_read():
    one = json.dumps(line("order", id="r-00000001")).encode()
    glued = Journal(one + one + b"\n" + one + b"\n")
    assert (len(glued.lines("r", "order")), glued.unread) == (1, 1)
    assert list(glued) == [json.loads(one)]


def test_a_torn_line_is_told_also_where_two_objects_stand_on_another():
    one = json.dumps(line("order", id="r-00000001")).encode() + b"\n"
    torn, glued = one[:40] + b"\n", one.rstrip() + one
    for amid in (b"", one, one * 5_000):
        assert Journal(torn + amid + glued).unread == 2
        assert Journal(glued + amid + torn).unread == 2


def test_a_blank_line_is_no_damage():
    one = json.dumps(line("order", id="r-00000001")).encode() + b"\n"
    blank = Journal(b"\n" + one + b"\n  \n\n" + one + b"\r\n")
    assert (len(blank.lines("r", "order")), blank.unread) == (2, 0)


@pytest.mark.parametrize("told", [{}, {"t": None}, {"t": "2026-11-26T05:00:00Z"}, {"t": True}])
def test_a_line_that_does_not_tell_when_is_one_that_cannot_be_read(told: dict[str, Any]):
    for event in ("request", "order", "answered", "ready", "stopped"):
        without = {name: value for name, value in line(event).items() if name != "t"} | told
        journal = Journal(text(line("ready"), without, {"msg": "listening"}))
        assert journal.unread == 1
        assert list(journal.about(event)) == [line("ready")] * (event == "ready")


def test_a_life_that_is_nobodys_is_a_line_that_cannot_be_read():
    nobodys = {"t": 1.0, "event": "ready"}
    journal = Journal(text(line("ready"), nobodys, {**nobodys, "instance": ""}))
    assert journal.unread == 2
    assert list(journal.about("ready")) == [line("ready")]
    assert Journal(text({"t": 1.0, "event": "order"})).unread == 0


def test_an_empty_word_is_none():
    lines = [line("order", key="", process=""), line("order", key=None), line("order", key="k")]
    journal = Journal(text(*lines))
    assert (journal.lines("r", "order").key >= 0).tolist() == [False, False, True]
    assert journal.processes == (Process("a", "v1", 7),)


def test_two_hundred_thousand_lines_take_a_second_or_two():
    one = json.dumps(line("order", id="r-00000001", key=None, sha256="0" * 64)).encode() + b"\n"
    began = time.process_time()
    assert len(Journal(one * 200_000).lines("r", "order")) == 200_000
    assert time.process_time() - began < 3
