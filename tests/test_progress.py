"""The progress line."""

from __future__ import annotations

import io
import time

from zdtest.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_in_a_log_it_adds_a_line_every_ten_seconds_of_load(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    out = io.StringIO()
    progress = Progress(out)
    for step in range(251):
        now = 100.0 + step / 10
        told = {"t": now, "done": 20 * step, "failed": 0} if step > 10 else {}
        progress("starting" if step <= 10 else "deploy", told)
    progress.clear()
    lines = out.getvalue().splitlines()
    assert [line.split()[:4] for line in lines] == [
        ["zdtest:", "11.1", "s", "deploy"],
        ["zdtest:", "21.1", "s", "deploy"],
    ]
    assert "\r" not in out.getvalue()
    assert lines[1].endswith("200/s      4,220 done  0 failed")


def test_a_log_that_nobody_reads_any_more_stops_nothing():
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    progress = Progress(Closed())
    progress._next = 1.0
    progress("deploy", {"t": 1.0, "done": 5, "failed": 0})


def test_it_tells_time_phase_rate_and_failures():
    progress = Progress(Terminal())
    progress.line("baseline", {"t": 10.0, "done": 1_000, "failed": 0}, 1.0)
    line = progress.line("deploy", {"t": 12.0, "done": 1_400, "failed": 3}, 3.0)
    assert line.split() == ["3.0", "s", "deploy", "200/s", "1,400", "done", "3", "failed"]


def test_it_can_tell_before_anything_is_known():
    assert Progress(Terminal()).line("starting", {}, 0.0).endswith("0 done  0 failed")


def test_it_stays_on_one_line_and_can_be_taken_away():
    out = Terminal()
    progress = Progress(out)
    progress("deploy", {})
    progress.clear()
    assert "\n" not in out.getvalue()
    assert out.getvalue().endswith("\r\x1b[K")


def test_it_is_drawn_a_few_times_a_second_at_most():
    out = Terminal()
    progress = Progress(out)
    for _ in range(1_000):
        progress("deploy", {})
    assert out.getvalue().count("deploy") <= 2
