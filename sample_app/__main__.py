"""``python -m sample_app``."""

from __future__ import annotations

import os
import sys

from sample_app.process import lived, refused


def main() -> int:
    """Live one whole life and return its exit code: 2 where the environment makes no sense."""
    if len(sys.argv) > 1:
        return refused(f"{sys.argv[1]!r}: expected no arguments, only the environment")
    return lived(os.environ)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Workers that still sleep cannot be woken, and a normal exit would wait for them.
    os._exit(code)
