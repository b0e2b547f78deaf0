"""``python -m sample_app``."""

from __future__ import annotations

import os
import sys
import time

from sample_app.journal import Journal
from sample_app.settings import Settings, SettingsError


def main() -> int:
    """Live one whole life and return its exit code: 2 where the environment makes no sense."""
    began = time.monotonic()
    try:
        if len(sys.argv) > 1:
            raise SettingsError(f"{sys.argv[1]!r}: expected no arguments, only the environment")
        settings = Settings.of(os.environ)
        journal = Journal.of(settings)
    except SettingsError as error:
        print(f"sample_app: {error}", file=sys.stderr)
        return 2
    journal.write("started")

    import asyncio

    from sample_app.lifecycle import Lifecycle

    loop = asyncio.new_event_loop()
    return loop.run_until_complete(Lifecycle(settings, journal, began=began).run())


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Workers that still sleep cannot be woken, and a normal exit would wait for them.
    os._exit(code)
