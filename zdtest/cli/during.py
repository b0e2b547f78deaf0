"""``zdtest during``: measure your own stack while a command deploys."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from zdtest import duration
from zdtest.cli.exit import BROKEN, CODES, FAILED, USAGE, VERDICTS, say
from zdtest.cli.judge import SLO_HELP, show
from zdtest.errors import CommandError, ConfigError, DeployFailed, RecordingError
from zdtest.interrupt import die_by
from zdtest.sending import headers

if TYPE_CHECKING:
    from zdtest.during import Finding
    from zdtest.traffic import Load

_D = "(default %(default)s)"
_LONGEST = 7 * 24 * 3600.0
_NOT_AGAIN = ("verb", "command", "out", "seed", "header")
"""What is told of a run elsewhere, or is another one's each time."""
_HEADER_HELP = (
    "sent with every request, repeatable; so is every line of the environment's ZD_HEADER, "
    "which nobody who lists processes sees; values are kept nowhere"
)


def add_during(verb: argparse.ArgumentParser) -> None:
    """Add its options."""
    from zdtest import channel

    add = verb.add_argument
    add("--url", required=True, help="where users come in")
    add("--rate", type=float, default=100.0, metavar="N", help="requests/s in all (default 100)")
    add("--channels", default=channel.DEFAULT, metavar="SPEC", help=_channels_help())
    add("--slo", default="", metavar="PROMISES", help=SLO_HELP)
    add("--out", type=Path, metavar="DIR", help="the run's folder (default reports/<time>-during)")
    add("--proxy-log", type=Path, metavar="FILE", help="what your nginx or HAProxy writes down")
    add("--journal", type=Path, metavar="FILE", help="what your app writes down of its requests")
    add("--name", metavar="NAME", help="what releases know the run by (default: command)")
    add("--duration", metavar="TIME", help="measure for so long, in place of a command")
    add("--new-version", metavar="V", help="what the new version calls itself; it must be seen")
    add("--old-version", metavar="V", help="what the old version calls itself")
    add("--baseline", default="5s", metavar="TIME", help=f"quiet time before {_D}")
    add("--settle", default="3s", metavar="TIME", help=f"quiet time after {_D}")
    add("--command-timeout", default="10m", metavar="TIME", help=f"the command is ended then {_D}")
    add("--workers", type=int, default=1, metavar="N", help=f"processes that send it together {_D}")
    add("--timeout", default="5s", metavar="TIME", help=f"longest that a request may take {_D}")
    add("--seed", type=int, metavar="N", help="of the schedule's phases (default: drawn and kept)")
    add("--expect-status", default="2xx", metavar="LIST", help=f"such as 200,204 or 2xx {_D}")
    add("--expect-body", default="", metavar="TEXT", help="must be in every body but a stream's")
    add("--version-header", default="X-App-Version", metavar="NAME", help=f"tells the version {_D}")
    add("--instance-header", default="X-App-Instance", metavar="NAME", help=f"tells which one {_D}")
    add("--write-body", default="", metavar="JSON", help="what the write channel posts")
    add("--header", action="append", metavar="'NAME: VALUE'", help=_HEADER_HELP)
    add("--insecure", action="store_true", help="accept any certificate")
    add("command", nargs=argparse.REMAINDER, metavar="-- CMD…", help="what deploys")
    verb.usage = "zdtest during --url URL [option…] (-- CMD… | --duration TIME)"
    verb.formatter_class = argparse.RawDescriptionHelpFormatter
    verb.epilog = f"{_promises_help()}\n\n{CODES}"
    verb.set_defaults(verb=during)


def _promises_help() -> str:
    """Return every promise with its default; what each means is in the reference."""
    from zdtest.judging.slo import Slo, shown

    usual = Slo().as_dict()
    told = [f"{name}={value if isinstance(value, str) else shown(name, value)}"
            for name, value in usual.items()]  # fmt: skip
    lines = textwrap.wrap(" ".join(told), 90, initial_indent="  ", subsequent_indent="  ")
    head = "promises and their defaults, each explained in docs/reference.md:"
    return "\n".join([head, *lines])


def _channels_help() -> str:
    from zdtest import channel

    kinds = "; ".join(f"{name}: {meaning}" for name, meaning in channel.MEANING.items())
    written = "name[+key][=share][@path][~think][#text], comma separated (default %(default)s)"
    return f"{written}. {kinds}"


def during(options: argparse.Namespace) -> int:
    """Measure while a command runs, print the verdict, write the run's folder."""
    from zdtest import during as work
    from zdtest.appended import Asked
    from zdtest.command import expect_command
    from zdtest.judging.slo import Slo
    from zdtest.results.release import named
    from zdtest.run import fresh
    from zdtest.sending.preflight import path_of

    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if command and options.duration:
        raise ConfigError("a command and --duration: expected one of the two, not both")
    if not command and not options.duration:
        raise ConfigError("nothing to measure: expected a command after --, or --duration TIME")
    if command:
        expect_command(command)
    slo = Slo.parse(options.slo)
    if slo.deploy == "aborted" and not command:
        raise ConfigError("slo deploy=aborted: expected a command after --, whose failing tells it")
    plan = work.Plan(
        url=options.url,
        load=_load(options, path_of(options.url)),
        slo=slo,
        folder=options.out or Path("reports"),
        command=command,
        duration=_seconds(options, "duration", least=0.1) if options.duration else None,
        limit=_seconds(options, "command_timeout", least=0.1),
        baseline=_seconds(options, "baseline"),
        settle=_seconds(options, "settle"),
        name=named(options.name, "--name") if options.name is not None else "",
        again=_again(options),
        logs=Asked(options.proxy_log, options.journal),
        old_version=options.old_version,
        new_version=options.new_version,
    )
    plan.load.expect_answers(plan.url)
    if options.out is None:
        plan = dataclasses.replace(plan, folder=fresh(plan.folder, "during"))
    return _tell(work.during(plan), plan.folder)


def _again(options: argparse.Namespace) -> list[str]:
    """Return the options that are not as they are anyway; what may be secret is left out."""
    bare = argparse.ArgumentParser()
    add_during(bare)
    usual = vars(bare.parse_args(["--url", ""]))
    words = []
    for name, value in vars(options).items():
        if name in _NOT_AGAIN or value == usual.get(name):
            continue
        told = headers.HIDDEN if name == "write_body" else str(value)
        words += [f"--{name.replace('_', '-')}", *([told] if value is not True else [])]
    return words


def _tell(found: Finding, folder: Path) -> int:
    """Print what came of a measurement and return its exit code, or die as we were told to."""
    from zdtest.records.recording import Recording
    from zdtest.sending.summary import replies

    try:
        show(found.verdict, folder)
        print(replies(Recording.read(folder)))
        for trouble in found.troubles:
            say(trouble, FAILED)
        sys.stdout.flush()
    finally:  # also where nobody is left to read that, as after a hangup
        if found.signal is not None:
            die_by(found.signal)
    return _code(found)


def _code(found: Finding) -> int:
    """Return the exit code: of what went wrong beside the verdict, else the verdict's."""
    # Where the deploy is to be aborted, that it fails is no failure.
    fails = (DeployFailed,) if found.verdict.slo.deploy == "done" else ()
    if any(isinstance(trouble, (CommandError, *fails)) for trouble in found.troubles):
        return FAILED
    verdict = VERDICTS[found.verdict.verdict]
    unwritten = any(isinstance(trouble, RecordingError) for trouble in found.troubles)
    return USAGE if unwritten and verdict != BROKEN else verdict


def _load(options: argparse.Namespace, path: str) -> Load:
    from zdtest.traffic import Load

    names = ("expect-status", "expect-body", "version-header", "instance-header", "write-body")
    passed = {name: getattr(options, name.replace("-", "_")) for name in names}
    seed = {} if options.seed is None else {"seed": options.seed}
    return Load(
        rate=options.rate,
        channels=options.channels,
        path=path,
        timeout=_seconds(options, "timeout"),
        workers=options.workers,
        headers=headers.parse([*headers.given(), *(options.header or ())]),
        options={**passed, "insecure": options.insecure},
        **seed,
    )


def _seconds(options: argparse.Namespace, name: str, least: float = 0.0) -> float:
    option = f"--{name.replace('_', '-')}"
    given = getattr(options, name)
    found = duration.seconds(given, what=option)
    if not least <= found <= _LONGEST:
        raise ConfigError(
            f"{option} {given!r}: expected {duration.written(least)} to {_LONGEST / 3600:.0f}h"
        )
    return found
