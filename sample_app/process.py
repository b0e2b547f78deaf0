"""One process's whole life: what the environment says, the journal, and then `Lifecycle`."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sample_app.journal import Journal
from sample_app.settings import Settings, SettingsError

if TYPE_CHECKING:
    from sample_app.lifecycle import Build


def lived(environ: Mapping[str, str], build: Build | None = None) -> int:
    """Live one whole life and return its exit code: 2 where the environment makes no sense.

    `build` makes what is served, the app of `sample_app.app` unless it is given.
    """
    try:
        settings = Settings.of(environ)
        journal = Journal.of(settings)
    except SettingsError as error:
        return refused(str(error))
    journal.write("started")
    began = time.monotonic()  # after that line, so that no journal tells of a shorter boot

    import asyncio  # slow to import, as all that follows: a part of the boot

    from sample_app.lifecycle import Lifecycle

    loop = asyncio.new_event_loop()
    return loop.run_until_complete(Lifecycle(settings, journal, build, began=began).run())


def refused(reason: str) -> int:
    """Say why nothing is started, and return the exit code of that."""
    print(f"sample_app: {reason}", file=sys.stderr)
    return 2
