"""``zdtest up``, ``down`` and ``clean``: topologies left running, and what others left."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import zdtest
from zdtest.cli.exit import HOLDS
from zdtest.engine.offer import KINDS
from zdtest.errors import ConfigError, unknown

_D = "(default %(default)s)"
_LOCUSTFILE = Path(zdtest.__file__).with_name("load.py")


def add_up(verb: argparse.ArgumentParser) -> None:
    """Add its options."""
    verb.add_argument("topology", metavar="TOPOLOGY", help="see `zdtest topologies`")
    add = verb.add_argument
    add("--variant", default="documented", metavar="NAME", help=f"documented or hardened {_D}")
    add("--version", default="v1", metavar="V", dest="app_version", help=f"what runs {_D}")
    add("--engine", choices=KINDS, default="auto", help=f"what runs it {_D}")
    verb.set_defaults(verb=up)


def up(options: argparse.Namespace) -> int:
    """Raise a topology, print where it is, and leave it running."""
    from zdtest import topology
    from zdtest.engine.offer import Offer
    from zdtest.run import fresh, run

    found = topology.find(options.topology)
    if options.variant not in found.variants:
        raise unknown(f"variant of {found.name}", options.variant, found.variants)
    folder = fresh(Path("reports"), f"up-{found.name}")
    about = {"topology": found.name}
    with Offer(options.engine, keep=True, tell=_progress) as offer:
        docker = offer.choose(found.engines, found.programs)
        with (
            run(folder, keep=True, about=about, docker=docker) as one,
            found.raised(options.variant, options.app_version, one.system) as stack,
        ):
            one.engine.leave(url=stack.url, topology=found.name, variant=options.variant)
            name, url = one.engine.run_id, stack.url
    engine = "; then zdtest engine stop" if docker and docker.private else ""
    channels = shlex.quote(found.channels[options.variant])
    locust = f"{shlex.quote(sys.executable)} -m locust -f {shlex.quote(str(_LOCUSTFILE))}"
    print(
        f"{url}\n\n{found.name} ({options.variant}) runs at {options.app_version}; "
        f"its logs are in {folder / 'logs'}\n"
        f"measure it  zdtest during --url {url} --duration 10s --channels {channels}\n"
        f"load it     {locust} --host {url} --channels {channels}\n"
        f"end it      zdtest down {name}{engine}"
    )
    return HOLDS


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def add_clean(verb: argparse.ArgumentParser) -> None:
    """Add its options."""
    verb.add_argument("--dry-run", action="store_true", help="list only")
    verb.set_defaults(verb=clean)


def clean(options: argparse.Namespace) -> int:
    """List what killed runs left behind, and remove it; kept stacks are ended by `down`."""
    from zdtest.engine import leftovers

    found = leftovers.found()
    for run, counts in found.items():
        print(f"{run}: {', '.join(f'{count} × {kind}' for kind, count in counts.items())}")
    if found and not options.dry_run:
        leftovers.remove()
        print("removed")
    if not found:
        print("nothing was left behind")
    return HOLDS


def add_down(verb: argparse.ArgumentParser) -> None:
    """Add its options."""
    verb.add_argument(
        "run", nargs="?", default="", metavar="RUN", help="only this one (default: all)"
    )
    verb.set_defaults(verb=down)


def down(options: argparse.Namespace) -> int:
    """End what `up` left running, and nothing else."""
    from zdtest.engine import kept

    ended = kept.down(options.run)
    if options.run and not ended:
        running = ", ".join(str(one["run"]) for one in kept.kept())
        expected = f"expected one of {running}" if running else "nothing was left running"
        raise ConfigError(f"no kept run {options.run!r}: {expected}")
    print("\n".join(f"ended {name}" for name in ended) or "nothing was left running")
    return HOLDS
