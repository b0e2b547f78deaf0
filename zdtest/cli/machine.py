"""``zdtest topologies`` and ``zdtest doctor``: what there is, and what can run here."""

from __future__ import annotations

import argparse

from zdtest.cli.exit import HOLDS, USAGE
from zdtest.errors import ConfigError


def topologies(options: argparse.Namespace) -> int:
    """List the documented topologies."""
    from zdtest import topology

    for name in topology.names():
        try:
            found = topology.find(name)
        except ConfigError as error:
            print(f"{name:<14} {error}")
            continue
        print(f"{name:<14} {found.summary}")
        print(f"{'':<14} document {found.source}; variants {', '.join(found.variants)}; ", end="")
        print(f"strategies {', '.join(found.strategies)}; runs on {' or '.join(found.engines)}")
    return HOLDS


def doctor(options: argparse.Namespace) -> int:
    """Say what this machine can and can't run, and what to install."""
    from zdtest.doctor import findings

    missing = False
    for finding in findings():
        print(finding)
        missing |= finding.needed and not finding.works
    return USAGE if missing else HOLDS


def add_topologies(verb: argparse.ArgumentParser) -> None:
    """Add its options."""
    verb.set_defaults(verb=topologies)


def add_doctor(verb: argparse.ArgumentParser) -> None:
    """Add its options."""
    verb.set_defaults(verb=doctor)
