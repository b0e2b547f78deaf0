"""The progress line."""

from __future__ import annotations

import io

from zdtest.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_it_is_silent_when_nobody_watches():
    out = io.StringIO()
    progress = Progress(out)
    progress("deploy", {"t": 1.0, "done": 5, "failed": 0})
    progress.clear()
    assert out.getvalue() == ""


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
