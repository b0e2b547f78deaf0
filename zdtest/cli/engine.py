"""``zdtest engine``: a Docker Engine of zdtest's own, by hand."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from zdtest.cli.exit import HOLDS
from zdtest.errors import EngineMissing

if TYPE_CHECKING:
    from zdtest.engine.private import Usage


def add_engine(verb: argparse.ArgumentParser) -> None:
    """Add what may be asked for."""
    acts = {
        "start": (start, "have one that answers until `stop`"),
        "stop": (stop, "end the one that was kept"),
        "status": (status, "say which one there is, and who uses it"),
        "install": (install, "install what is lacking, as root on Debian and Ubuntu"),
    }
    meaning = "; ".join(f"{name}: {what}" for name, (_, what) in acts.items())
    verb.add_argument("act", choices=acts, metavar="ACT", help=meaning)
    verb.set_defaults(verb=lambda options: acts[options.act][0]())


def start() -> int:
    """Start a private engine that goes on until it is stopped, unless one answers anyway."""
    from zdtest.engine import daemon
    from zdtest.engine.private import Private

    with daemon.reached(keep=True, tell=_tell) as there:
        if there.private:
            print(
                f"Docker {there}; its images are in {Private().data}\n"
                f"use it  export DOCKER_HOST={there.address}\n"
                f"end it  zdtest engine stop"
            )
        else:
            print(f"Docker {there} answers: no other one is needed")
    return HOLDS


def stop() -> int:
    """End the private engine, as soon as nobody uses it."""
    from zdtest.engine.private import Private

    private = Private()
    before = private.usage()
    if left := private.stop():
        print(f"it ends with its last user: {_users(left)}")
    else:
        print("ended" if before else "no private engine runs")
    return HOLDS


def status() -> int:
    """Say which engine there is; raises EngineMissing when there can be none."""
    from zdtest.engine import daemon
    from zdtest.engine.private import Private

    there, private = daemon.found(), Private()
    if isinstance(there, daemon.Reached):
        print(f"Docker {there}")
    elif why := daemon.unwilling():
        raise EngineMissing(f"no Docker Engine: {there}; {why}")
    else:
        print(f"no Docker Engine: {there}; a private one is started when it is needed")
    if usage := private.usage():
        kept = "kept until `zdtest engine stop`, " if usage.kept else ""
        print(f"private engine: {kept}{_users(usage)}")
    return HOLDS


def install() -> int:
    """Install what is lacking; raises EngineMissing with the reason where it is not possible."""
    from zdtest.engine import debian

    installed = debian.install(tell=_tell)
    print(f"installed {', '.join(installed)}" if installed else "nothing is lacking")
    return HOLDS


def _users(usage: Usage) -> str:
    return f"used by {', '.join(f'pid {pid}' for pid in usage.pids) or 'nobody'}"


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
