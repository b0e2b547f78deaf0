"""The exit codes of ``zdtest``, and how a line on standard error looks."""

from __future__ import annotations

import sys

from zdtest.errors import ZdError

HOLDS, BROKEN, USAGE, INCONCLUSIVE, FAILED = range(5)
VERDICTS = {"holds": HOLDS, "broken": BROKEN, "inconclusive": INCONCLUSIVE}


def say(error: ZdError, code: int) -> int:
    """Print the error and return the code."""
    print(f"zdtest: {error}", file=sys.stderr)
    return code
