"""The exit codes of ``zdtest``, and how a line on standard error looks."""

from __future__ import annotations

import contextlib
import sys

from zdtest.errors import ZdError

HOLDS, BROKEN, USAGE, INCONCLUSIVE, FAILED = range(5)
VERDICTS = {"holds": HOLDS, "broken": BROKEN, "inconclusive": INCONCLUSIVE}

CODES = """exit codes:
  0  holds: every promise was kept, and the run is evidence of it
  1  broken: at least one promise was broken, by evidence that stands
  2  usage: an option, name or folder that cannot be used
  3  inconclusive: nothing was broken, but the run proves nothing
  4  the command failed; the verdict is written all the same"""
"""What they mean for who measures."""


def say(error: ZdError, code: int) -> int:
    """Print the error and return the code."""
    with contextlib.suppress(OSError):  # nobody reads it: the code is told all the same
        print(f"zdtest: {error}", file=sys.stderr)
    return code
