"""``zdtest engine``: the private Docker Engine by hand."""

from __future__ import annotations

import argparse
import sys

from zdtest.cli.exit import HOLDS
from zdtest.engine import daemon, debian
from zdtest.engine.daemon import Reached
from zdtest.engine.private import Private, Usage
from zdtest.errors import EngineMissing

_ACTS = {
    "start": "have one that answers until `stop`",
    "stop": "end the one that was kept",
    "status": "say which one there is, and who uses it",
    "install": "install what is lacking, as root on Debian and Ubuntu",
}


def add_engine(verb: argparse.ArgumentParser) -> None:
    """Add what may be asked for."""
    meaning = "; ".join(f"{act}: {what}" for act, what in _ACTS.items())
    verb.add_argument("act", choices=_ACTS, metavar="ACT", help=meaning)
    verb.set_defaults(verb=engine)


def engine(options: argparse.Namespace) -> int:
    """Do what was asked for; raises EngineError where it cannot be done."""
    {"start": start, "stop": stop, "status": status, "install": install}[options.act]()
    return HOLDS


def start() -> None:
    """Start a private engine that goes on until it is stopped, unless one answers anyway."""
    there = daemon.found()
    if isinstance(there, Reached) and not there.private:
        print(f"Docker {there}: no other one is needed")
        return
    with daemon.reached(keep=True, tell=_tell) as there:
        print(
            f"Docker {there}; its images are in {Private().data}\n"
            f"use it  export DOCKER_HOST={there.address}\n"
            f"end it  zdtest engine stop"
        )


def stop() -> None:
    """End the private engine, as soon as nobody uses it."""
    private = Private()
    before = private.usage()
    left = private.stop()
    if left:
        print(f"it ends with its last user: {_users(left)}")
    else:
        print("ended" if before else "no private engine runs")


def status() -> None:
    """Say which engine there is; raises EngineMissing when there can be none."""
    there, private = daemon.found(), Private()
    if isinstance(there, Reached):
        print(f"Docker {there}")
    elif why := private.missing():
        raise EngineMissing(f"no Docker Engine: {there}; {why}")
    else:
        print(f"{there}; a private one is started when it is needed")
    if usage := private.usage():
        kept = "kept until `zdtest engine stop`; " if usage.kept else ""
        print(f"private engine: {kept}{_users(usage)}")


def install() -> None:
    """Install what is lacking; raises EngineMissing with the reason where it is not possible."""
    installed = debian.install(tell=_tell)
    print(f"installed {', '.join(installed)}" if installed else "nothing is lacking")


def _users(usage: Usage) -> str:
    return f"used by {', '.join(f'pid {pid}' for pid in usage.pids) or 'nobody'}"


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
