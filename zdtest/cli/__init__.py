"""The ``zdtest`` command: one small function a verb.

Exit codes: 0 holds, 1 broken, 2 usage, 3 inconclusive, 4 the command or the deploy itself failed.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from zdtest import __version__
from zdtest.cli import attempt, during, engine, judge, machine, releases, stacks
from zdtest.cli.exit import FAILED, INCONCLUSIVE, USAGE, say
from zdtest.errors import (
    CommandError,
    ConfigError,
    DeployFailed,
    EngineError,
    LoadFailed,
    ZdError,
    unknown,
)
from zdtest.interrupt import die_by

_EXAMPLES = """examples:
  zdtest try custom_lb
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
    except (CommandError, DeployFailed, EngineError) as error:
        return say(error, FAILED)
    except LoadFailed as error:
        return say(error, INCONCLUSIVE)
    except ZdError as error:
        return say(error, USAGE)
    except BrokenPipeError:
        # Whoever read our output has left: end as if by SIGPIPE, without a word at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        return say(ZdError(f"{error.strerror or error}: {error.filename or 'no file'}"), USAGE)
    except KeyboardInterrupt:
        die_by(signal.SIGINT)
        return 128 + signal.SIGINT
    except Exception:
        # A mistake of ours. Python would exit by 1, which says that a promise was broken.
        traceback.print_exc()
        return FAILED


def _known(argv: list[str]) -> list[str]:
    """Return `argv`; raises ConfigError naming the nearest verb where it begins with none."""
    if argv and not argv[0].startswith("-") and argv[0] not in _VERBS:
        raise unknown("verb", argv[0], _VERBS)
    return argv


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


_VERBS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], str]] = {
    "during": (during.add_during, "measure your own stack while a command deploys"),
    "try": (attempt.add_try, "raise a documented topology, deploy to it under load, judge it"),
    "judge": (judge.add_judge, "judge a recorded run again, by other promises"),
    "report": (judge.add_report, "draw recorded runs again"),
    "release": (releases.add_release, "keep what the runs of a release said in one file"),
    "compare": (releases.add_compare, "say what got worse and better between two releases"),
    "history": (releases.add_history, "draw all the releases that were kept side by side"),
    "up": (stacks.add_up, "raise a topology and leave it running"),
    "down": (stacks.add_down, "end what `up` left running"),
    "clean": (stacks.add_clean, "list and remove what killed runs left behind"),
    "topologies": (machine.add_topologies, "list the documented topologies"),
    "engine": (engine.add_engine, "start, stop or install a Docker Engine of zdtest's own"),
    "doctor": (machine.add_doctor, "say what this machine can run, and what to install"),
}
