"""The ``zdtest`` command: one small function a verb.

Exit codes: 0 holds, 1 broken, 2 usage, 3 inconclusive, 4 the command or the deploy itself failed.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from zdtest import __version__, duration
from zdtest.errors import (
    ConfigError,
    DeployFailed,
    EngineError,
    LoadFailed,
    ZdError,
    unknown,
)
from zdtest.interrupt import die_by

if TYPE_CHECKING:
    from zdtest.during import Finding, Plan
    from zdtest.slo import Slo
    from zdtest.traffic import Load
    from zdtest.verdict import Verdict

HOLDS, BROKEN, USAGE, INCONCLUSIVE, FAILED = range(5)
_CODES = {"holds": HOLDS, "broken": BROKEN, "inconclusive": INCONCLUSIVE}

_LONGEST = 7 * 24 * 3600.0
_LOCUSTFILE = Path(__file__).with_name("load.py")

_D = "(default %(default)s)"
_SLO_HELP = "promises that differ from the default, such as failed=0,slow=2s"

_EXAMPLES = """examples:
  zdtest during --url http://127.0.0.1:8080/ --rate 200 -- ./deploy.sh v2
  zdtest during --url http://127.0.0.1:8080/ --duration 2m
  zdtest judge reports/RUN --slo failed=0,p99_over=100ms
  zdtest up custom_lb --variant hardened

exit codes: 0 holds, 1 broken, 2 usage, 3 inconclusive, 4 the command or the deploy failed
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code; what goes wrong is one line on standard error."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        options = parser().parse_args(_known(argv))
        verb: Callable[[argparse.Namespace], int] = options.verb
        code = verb(options)
        sys.stdout.flush()
        return code
    except (DeployFailed, EngineError) as error:
        return _say(error, FAILED)
    except LoadFailed as error:
        return _say(error, INCONCLUSIVE)
    except ZdError as error:
        return _say(error, USAGE)
    except BrokenPipeError:
        # Whoever read our output has left: end as if by SIGPIPE, without a word at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        return _say(ZdError(f"{error.strerror or error}: {error.filename or 'no file'}"), USAGE)
    except KeyboardInterrupt:
        die_by(signal.SIGINT)
        return 128 + signal.SIGINT


def _known(argv: list[str]) -> list[str]:
    """Return `argv`; raises ConfigError naming the nearest verb where it begins with none."""
    if argv and not argv[0].startswith("-") and argv[0] not in _VERBS:
        raise unknown("verb", argv[0], _VERBS)
    return argv


def _say(error: ZdError, code: int) -> int:
    print(f"zdtest: {error}", file=sys.stderr)
    return code


def parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    top = _Parser(
        prog="zdtest",
        description="Proves whether a deployment really has zero downtime.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"zdtest {__version__}")
    verbs = top.add_subparsers(metavar="VERB", required=True)
    for name, (add, summary) in _VERBS.items():
        add(verbs.add_parser(name, help=summary, description=summary, allow_abbrev=False))
    return top


def _add_during(verb: argparse.ArgumentParser) -> None:
    from zdtest import channel

    add = verb.add_argument
    add("--url", required=True, help="where users come in")
    add("--rate", type=float, default=100.0, metavar="N", help="requests/s in all (default 100)")
    add("--channels", default=channel.DEFAULT, metavar="SPEC", help=_channels_help())
    add("--slo", default="", metavar="PROMISES", help=_SLO_HELP)
    add("--out", type=Path, metavar="DIR", help="the run's folder (default reports/<time>-during)")
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
    add("--insecure", action="store_true", help="accept any certificate")
    add("command", nargs=argparse.REMAINDER, metavar="-- CMD…", help="what deploys")
    verb.usage = "zdtest during --url URL [option…] (-- CMD… | --duration TIME)"
    verb.set_defaults(verb=during)


def _channels_help() -> str:
    from zdtest import channel

    kinds = "; ".join(f"{name}: {meaning}" for name, meaning in channel.MEANING.items())
    return f"name[+key][=share][@path][~think], comma separated (default %(default)s). {kinds}"


def during(options: argparse.Namespace) -> int:
    """Measure while a command runs, print the verdict, write the run's folder."""
    from zdtest import during as work
    from zdtest.command import expect_command
    from zdtest.preflight import path_of
    from zdtest.run import fresh
    from zdtest.slo import Slo

    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if bool(command) == bool(options.duration):
        raise ConfigError("expected a command after --, or --duration in its place; not both")
    if command:
        expect_command(command)
    plan = work.Plan(
        url=options.url,
        load=_load(options, path_of(options.url)),
        slo=Slo.parse(options.slo),
        folder=options.out or Path("reports"),
        command=command,
        duration=_seconds(options, "duration", least=0.1) if options.duration else None,
        limit=_seconds(options, "command_timeout", least=0.1),
        baseline=_seconds(options, "baseline"),
        settle=_seconds(options, "settle"),
        old_version=options.old_version,
        new_version=options.new_version,
    )
    _expect_answers(plan, options)
    if options.out is None:
        plan = dataclasses.replace(plan, folder=fresh(plan.folder, "during"))
    return _tell(work.during(plan), plan.folder)


def _expect_answers(plan: Plan, options: argparse.Namespace) -> None:
    """Ask once for each page that the load will ask for and that answers at once."""
    from zdtest.preflight import expect_answer
    from zdtest.status import statuses

    expected = statuses(options.expect_status)
    lanes = plan.load.lanes()
    for path in dict.fromkeys(one.path for one in lanes if one.name in ("new", "reused", "idle")):
        expect_answer(plan.url, path, expected, verify=not options.insecure)


def _tell(found: Finding, folder: Path) -> int:
    """Print what came of a measurement and return its exit code, or die as we were told to."""
    _show(found.verdict, folder)
    for trouble in found.troubles:
        _say(trouble, FAILED)
    if found.signal is not None:
        sys.stdout.flush()
        die_by(found.signal)
    failed = any(isinstance(trouble, DeployFailed) for trouble in found.troubles)
    return FAILED if failed else _CODES[found.verdict.verdict]


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


def _show(verdict: Verdict, folder: Path) -> None:
    print(verdict.summary())
    print(f"\nreport   {folder / 'report.html'}")


def _add_judge(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    verb.add_argument("--slo", metavar="PROMISES", help=f"{_SLO_HELP} (default: the run's own)")
    verb.set_defaults(verb=judge)


def judge(options: argparse.Namespace) -> int:
    """Judge a recorded run again, from its files alone."""
    from zdtest.run import judged

    verdict = judged(options.run, _slo(options))
    _show(verdict, options.run)
    return _CODES[verdict.verdict]


def _slo(options: argparse.Namespace) -> Slo:
    """Return the promises asked for, else those that the run was judged by."""
    from zdtest.slo import Slo

    if options.slo is not None:
        return Slo.parse(options.slo)
    return _kept_slo(options.run)


def _kept_slo(folder: Path) -> Slo:
    """Return the promises in the run's manifest, the default ones where it tells none."""
    from zdtest.run import manifest_of
    from zdtest.slo import Slo

    told = manifest_of(folder).get("slo") or {}
    try:
        return Slo.from_dict(told)
    except ConfigError as error:
        raise ConfigError(f"{folder}: {error}; judge it by other promises with --slo") from error


def _add_report(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("run", type=Path, nargs="+", metavar="RUN", help="folders of runs")
    verb.add_argument(
        "--index", type=Path, metavar="FILE", help="also write a page that lists them"
    )
    verb.set_defaults(verb=report)


def report(options: argparse.Namespace) -> int:
    """Draw recorded runs again; those never judged are judged first."""
    from zdtest.report import write_index, write_report
    from zdtest.run import judged, manifest_of

    for folder in options.run:
        manifest_of(folder)
    for folder in options.run:
        if not (folder / "verdict.json").exists():
            judged(folder, _kept_slo(folder))
        print(write_report(folder))
    if options.index:
        print(write_index(options.run, options.index))
    return HOLDS


def _add_up(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("topology", metavar="TOPOLOGY", help="see `zdtest topologies`")
    add = verb.add_argument
    add("--variant", default="documented", metavar="NAME", help=f"documented or hardened {_D}")
    add("--version", default="v1", metavar="V", dest="app_version", help=f"what runs {_D}")
    verb.set_defaults(verb=up)


def up(options: argparse.Namespace) -> int:
    """Raise a topology, print where it is, and leave it running."""
    from zdtest import topology
    from zdtest.run import fresh, run

    found = topology.find(options.topology)
    if options.variant not in found.variants:
        raise unknown(f"variant of {found.name}", options.variant, found.variants)
    folder = fresh(Path("reports"), f"up-{found.name}")
    with (
        run(folder, keep=True, about={"topology": found.name}) as one,
        found.raised(options.variant, options.app_version, one.engine) as stack,
    ):
        one.engine.leave(url=stack.url, topology=found.name, variant=options.variant)
        name, url = one.engine.run_id, stack.url
    channels = shlex.quote(found.channels[options.variant])
    locust = f"{shlex.quote(sys.executable)} -m locust -f {shlex.quote(str(_LOCUSTFILE))}"
    print(
        f"{url}\n\n{found.name} ({options.variant}) runs at {options.app_version}; "
        f"its logs are in {folder / 'logs'}\n"
        f"measure it  zdtest during --url {url} --duration 10s --channels {channels}\n"
        f"load it     {locust} --host {url} --channels {channels}\n"
        f"end it      zdtest down {name}"
    )
    return HOLDS


def _add_down(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "run", nargs="?", default="", metavar="RUN", help="only this one (default: all)"
    )
    verb.set_defaults(verb=down)


def down(options: argparse.Namespace) -> int:
    """End what `up` left running, and nothing else."""
    from zdtest.engine import kept

    ended = kept.down(options.run)
    if options.run and not ended:
        running = ", ".join(str(one["run"]) for one in kept.kept()) or "nothing runs"
        raise ConfigError(f"no kept run {options.run!r}: expected one of: {running}")
    print("\n".join(f"ended {name}" for name in ended) or "nothing was left running")
    return HOLDS


def topologies(options: argparse.Namespace) -> int:
    """List the documented topologies."""
    from zdtest import topology

    for name in topology.names():
        found = topology.find(name)
        print(f"{name:<14} {found.summary}")
        print(f"{'':<14} document {found.source}; variants {', '.join(found.variants)}; ", end="")
        print(f"strategies {', '.join(found.strategies)}")
    return HOLDS


def doctor(options: argparse.Namespace) -> int:
    """Say what this machine can and can't run, and what to install."""
    from zdtest.doctor import findings

    missing = False
    for finding in findings():
        print(finding)
        missing |= finding.needed and not finding.works
    return USAGE if missing else HOLDS


def _add_topologies(verb: argparse.ArgumentParser) -> None:
    verb.set_defaults(verb=topologies)


def _add_doctor(verb: argparse.ArgumentParser) -> None:
    verb.set_defaults(verb=doctor)


_VERBS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], str]] = {
    "during": (_add_during, "measure your own stack while a command deploys"),
    "judge": (_add_judge, "judge a recorded run again, by other promises"),
    "report": (_add_report, "draw recorded runs again"),
    "up": (_add_up, "raise a topology and leave it running"),
    "down": (_add_down, "end what `up` left running"),
    "topologies": (_add_topologies, "list the documented topologies"),
    "doctor": (_add_doctor, "say what this machine can run, and what to install"),
}
