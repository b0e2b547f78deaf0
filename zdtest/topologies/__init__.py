"""The documented systems, a folder each, and how their instances run the sample app."""

from __future__ import annotations

import sys
from pathlib import Path

SAMPLE_APP = (sys.executable, "-m", "sample_app")

_ROOT = str(Path(__file__).parent.parent.parent)


def app(
    port: int, instance: str, version: str, journal: Path | None, **settings: object
) -> dict[str, str]:
    """Return the environment of one instance of the sample app; `settings` in its own words.

    The journal is there afterwards, for whichever user the app runs as to write to.
    """
    if journal and not journal.exists():
        journal.touch()
        journal.chmod(0o666)
    told = {"PORT": port, "APP_INSTANCE": instance, "APP_VERSION": version, **settings}
    told |= {"JOURNAL": journal.absolute() if journal else "", "PYTHONPATH": _ROOT}
    return {name.upper(): str(value) for name, value in told.items()}
