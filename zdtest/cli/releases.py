"""``zdtest release``, ``compare`` and ``history``: what releases said, side by side."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from zdtest.cli.exit import BROKEN, HOLDS, INCONCLUSIVE
from zdtest.errors import ConfigError

if TYPE_CHECKING:
    from zdtest.results.releases import Releases

_HISTORY = Path("reports/history")
_LAST = 20
_MOST = 1000


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
    _add_last(verb)
    verb.set_defaults(verb=release)


def release(options: argparse.Namespace) -> int:
    """Keep what the runs say in one file, and draw the history; what cannot be read is named."""
    from zdtest.records.host import commit
    from zdtest.results.release import Release, named, runs_in

    label = options.label if options.label is not None else commit(Path.cwd())
    if label is None:
        raise ConfigError("no git checkout here: expected --label with the release's name")
    if not options.runs.is_dir():
        raise ConfigError(f"{options.runs}: expected a folder with runs in it")
    one = Release.of(named(label), runs_in(options.runs))
    for why in one.unread:
        print(f"not read: {why}")
    print(one.write(options.history))
    drawn = _drawn(options)
    return INCONCLUSIVE if one.unread or drawn.unread else HOLDS


def add_history(verb: argparse.ArgumentParser) -> None:
    """Add its options."""
    verb.add_argument(
        "history",
        type=Path,
        nargs="?",
        default=_HISTORY,
        metavar="FOLDER",
        help=f"where releases are kept (default: {_HISTORY})",
    )
    _add_last(verb)
    verb.set_defaults(verb=history)


def history(options: argparse.Namespace) -> int:
    """Draw the page of the releases in that folder; those that cannot be read are named."""
    if not options.history.is_dir():
        raise ConfigError(f"{options.history}: expected a folder of releases, by `zdtest release`")
    return INCONCLUSIVE if _drawn(options).unread else HOLDS


def _add_last(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--last",
        type=_count,
        default=_LAST,
        metavar="N",
        help="releases that the history's page shows (default: %(default)s)",
    )


def _count(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= _MOST):
        raise argparse.ArgumentTypeError(f"{text!r}: expected how many, 1 to {_MOST}")
    return int(text)


def _drawn(options: argparse.Namespace) -> Releases:
    """Draw the history's page, print where, and return what is on it."""
    from zdtest.report import write_history
    from zdtest.results.releases import INDEX, Releases

    found = Releases.read(options.history, options.last)
    for why in found.unread:
        print(f"not read: {why}")
    print(f"history  {write_history(found, options.history / INDEX)}")
    return found


def add_compare(verb: argparse.ArgumentParser) -> None:
    """Add its options."""
    for name, what in (("old", "the release before"), ("new", "the one to judge")):
        verb.add_argument(
            name, type=Path, help=f"{what}: a file of `zdtest release`, a folder of runs, or a run"
        )
    verb.add_argument("--format", choices=("text", "json"), default="text", help="(default: text)")
    verb.add_argument(
        "--never-worse",
        action="store_true",
        help="exit 1 where anything got worse, 3 where that cannot be said of all",
    )
    verb.set_defaults(verb=compare)


def compare(options: argparse.Namespace) -> int:
    """Say what got worse and better, beyond chance."""
    from zdtest.results.compare import compare
    from zdtest.results.release import Release

    found = compare(Release.read(options.old), Release.read(options.new))
    as_json = options.format == "json"
    print(json.dumps(found.as_json(), indent=2) if as_json else found.text())
    if options.never_worse and found.worsened:
        return BROKEN
    unread = found.old.unread or found.new.unread
    return INCONCLUSIVE if unread or (options.never_worse and found.unheld) else HOLDS
