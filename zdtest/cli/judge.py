"""``zdtest judge`` and ``zdtest report``: what was recorded, judged and drawn again."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from zdtest.cli.exit import BROKEN, HOLDS, INCONCLUSIVE, USAGE, VERDICTS, say
from zdtest.errors import ConfigError, RecordingError

if TYPE_CHECKING:
    from zdtest.judging.slo import Slo
    from zdtest.judging.verdict import Verdict

SLO_HELP = "promises that differ from the default, such as failed=0,slow=2s"


def add_judge(verb: argparse.ArgumentParser) -> None:
    """Add its options."""
    verb.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    verb.add_argument("--slo", metavar="PROMISES", help=f"{SLO_HELP} (default: the run's own)")
    verb.set_defaults(verb=judge)


def judge(options: argparse.Namespace) -> int:
    """Judge a recorded run again, from its files alone."""
    from zdtest.run import keep
    from zdtest.run import verdict as verdict_on

    verdict = verdict_on(options.run, _slo(options))
    try:
        keep(verdict, options.run)
    except RecordingError as error:
        print(verdict.summary())
        return say(error, BROKEN if verdict.verdict == "broken" else USAGE)
    show(verdict, options.run)
    return VERDICTS[verdict.verdict]


def _slo(options: argparse.Namespace) -> Slo:
    """Return the promises asked for, else those that the run was judged by."""
    from zdtest.judging.slo import Slo

    if options.slo is not None:
        return Slo.parse(options.slo)
    return _kept_slo(options.run)


def _kept_slo(folder: Path) -> Slo:
    """Return the promises in the run's manifest, the default ones where it tells none."""
    from zdtest.judging.slo import Slo
    from zdtest.run import manifest_of

    told = manifest_of(folder).get("slo") or {}
    try:
        return Slo.from_dict(told)
    except ConfigError as error:
        raise ConfigError(f"{folder}: {error}; judge it by other promises with --slo") from error


def add_report(verb: argparse.ArgumentParser) -> None:
    """Add its options."""
    verb.add_argument("run", type=Path, nargs="+", metavar="RUN", help="folders of runs")
    verb.add_argument(
        "--index", type=Path, metavar="FILE", help="also write the first page of them all"
    )
    verb.add_argument(
        "--format",
        choices=("html", "md", "json"),
        default="html",
        help="draw each run's page, or print them all together (default: html)",
    )
    verb.set_defaults(verb=report)


def report(options: argparse.Namespace) -> int:
    """Draw recorded runs again, or tell of them in a text; those never judged are judged first."""
    from zdtest.run import draw, judged, manifest_of

    if options.format != "html":
        return _told(options)
    from zdtest.report import write_index
    from zdtest.results.result import judgement

    for folder in options.run:
        manifest_of(folder)
    damaged = False
    for folder in options.run:
        if not (folder / "verdict.json").exists():
            judged(folder, _kept_slo(folder))
        try:
            judgement(folder)
        except RecordingError as error:
            print(f"not read: {error}")
            damaged = True
            continue
        print(draw(folder))
    if options.index:
        print(write_index(options.run, options.index))
    return INCONCLUSIVE if damaged else HOLDS


def _told(options: argparse.Namespace) -> int:
    """Print what the runs say together; one that cannot be read is told of, and is in no figure."""
    from zdtest.results.overview import as_json, markdown
    from zdtest.results.result import read_all

    if options.index:
        raise ConfigError("--index is a page: expected --format html with it")
    results, unread = read_all(options.run)
    if options.format == "json":
        print(json.dumps(as_json(results, unread), indent=2, default=str))
    else:
        print(markdown(results, unread), end="")
    return INCONCLUSIVE if unread else HOLDS


def show(verdict: Verdict, folder: Path) -> None:
    """Print the verdict, and where it is drawn, if it is."""
    print(verdict.summary())
    if (page := folder / "report.html").exists():
        print(f"\nreport   {page}")
