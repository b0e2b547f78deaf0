"""``zdtest release`` and ``zdtest compare``: what a release was found to be, kept and compared."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from zdtest.cli.exit import BROKEN, HOLDS, INCONCLUSIVE
from zdtest.errors import ConfigError

_HISTORY = Path("reports/history")


def add_release(verb: argparse.ArgumentParser) -> None:
    """Add its options."""
    verb.add_argument("runs", type=Path, metavar="FOLDER", help="the folder with the runs")
    verb.add_argument("--label", metavar="NAME", help="the release (default: git describe)")
    verb.add_argument(
        "--history",
        type=Path,
        default=_HISTORY,
        metavar="FOLDER",
        help=f"where releases are kept (default: {_HISTORY})",
    )
    verb.set_defaults(verb=release)


def release(options: argparse.Namespace) -> int:
    """Keep what the runs say in one file; those that cannot be read are named."""
    from zdtest.host import commit
    from zdtest.release import Release, runs_in

    label = options.label or commit(Path.cwd())
    if not label:
        raise ConfigError("no git checkout here: expected --label with the release's name")
    if not options.runs.is_dir():
        raise ConfigError(f"{options.runs}: expected a folder with runs in it")
    one = Release.of(label, runs_in(options.runs))
    for why in one.unread:
        print(f"not read: {why}")
    print(one.write(options.history))
    return INCONCLUSIVE if one.unread else HOLDS


def add_compare(verb: argparse.ArgumentParser) -> None:
    """Add its options."""
    for name, what in (("old", "the release before"), ("new", "the one to judge")):
        verb.add_argument(
            name, type=Path, help=f"{what}: a file of `zdtest release` or a folder of runs"
        )
    verb.add_argument("--format", choices=("text", "json"), default="text", help="(default: text)")
    verb.add_argument("--never-worse", action="store_true", help="exit 1 where anything got worse")
    verb.set_defaults(verb=compare)


def compare(options: argparse.Namespace) -> int:
    """Say what got worse and better, beyond chance."""
    from zdtest.compare import compare
    from zdtest.release import Release

    found = compare(Release.read(options.old), Release.read(options.new))
    as_json = options.format == "json"
    print(json.dumps(found.as_json(), indent=2) if as_json else found.text())
    if options.never_worse and found.worse:
        return BROKEN
    return INCONCLUSIVE if found.old.unread or found.new.unread else HOLDS
