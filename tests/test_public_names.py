"""What ``from zdtest import …`` gives."""

from __future__ import annotations

import subprocess
import sys

import zdtest


def test_the_public_names_are_sorted_and_there():
    assert list(zdtest.__all__) == sorted(zdtest.__all__)
    assert all(hasattr(zdtest, name) for name in zdtest.__all__)


def test_every_error_is_public():
    from zdtest import errors

    raised = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, Exception) and not name.startswith("_")
    }
    assert raised <= set(zdtest.__all__)


def test_every_public_name_says_what_it_is():
    for name in zdtest.__all__:
        if name != "Strategy":  # the name of a type of callables: its module tells
            assert getattr(zdtest, name).__doc__, name


def test_what_a_test_runner_shows_is_the_public_name():
    shown = [zdtest.SloViolation, zdtest.Inconclusive]
    assert [f"{one.__module__}.{one.__name__}" for one in shown] == [
        "zdtest.SloViolation",
        "zdtest.Inconclusive",
    ]


def test_the_strategy_command_is_no_module_whatever_was_imported_before():
    code = "import zdtest.during, zdtest.scenario; from zdtest import command; command(['true'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
