"""``zdtest try``: a documented topology raised, loaded, deployed to and judged, here and now."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from zdtest.cli.exit import FAILED, VERDICTS, say
from zdtest.cli.judge import SLO_HELP, show
from zdtest.engine.offer import KINDS
from zdtest.errors import DeployFailed, unknown

if TYPE_CHECKING:
    from zdtest.scenario import Scenario, Setting
    from zdtest.topology import Topology

_D = "(default %(default)s)"


def add_try(verb: argparse.ArgumentParser) -> None:
    """Add its options."""
    add = verb.add_argument
    add("topology", nargs="?", default="custom_lb", help=f"see `zdtest topologies` {_D}")
    add("--variant", default="documented", metavar="NAME", help=f"documented or hardened {_D}")
    add("--strategy", metavar="NAME", help="how to deploy (default: the document's own way)")
    add("--rate", type=float, default=200.0, metavar="N", help="requests/s in all (default 200)")
    add("--slo", default="", metavar="PROMISES", help=SLO_HELP)
    add("--engine", choices=KINDS, default="auto", help=f"what runs it {_D}")
    add("--seed", type=int, metavar="N", help="of the schedule's phases (default: drawn and kept)")
    verb.set_defaults(verb=attempt)


def attempt(options: argparse.Namespace) -> int:
    """Raise a topology at v1, deploy v2 to it under load, print the verdict, and end it."""
    from zdtest import topology
    from zdtest.engine.offer import Offer
    from zdtest.judging.slo import Slo
    from zdtest.scenario import expect_setting, scenario
    from zdtest.traffic import Load

    found = topology.find(options.topology)
    how = options.strategy or found.strategies[0]
    if how not in found.strategies:
        raise unknown(f"strategy of {found.name}", how, found.strategies)
    slo, setting = Slo.parse(options.slo), _setting(options, found, how)
    expect_setting(setting)
    Load(rate=options.rate, channels=found.channels[setting.variant])
    with Offer(options.engine, tell=_progress) as offer:
        docker = offer.choose(found.engines, found.programs)
        _progress(f"raising {found.name} ({setting.variant}) at {setting.version}")
        with scenario(setting, docker) as zd:
            trouble = _deployed(zd, how, options.rate)
            verdict = zd.judge(slo)
    show(verdict, zd.folder)
    if setting.variant == "documented" and "hardened" in found.variants:
        print(f"mended   zdtest try {options.topology} --variant hardened")
    if trouble is not None and slo.deploy == "done":
        return say(trouble, FAILED)
    return VERDICTS[verdict.verdict]


def _setting(options: argparse.Namespace, found: Topology, how: str) -> Setting:
    from zdtest.scenario import Setting

    drawn = random.SystemRandom().getrandbits(32)
    return Setting(
        name=f"{found.name}-{options.variant}-{how}",
        reports=Path("reports"),
        seed=drawn if options.seed is None else options.seed,
        topology=options.topology,
        variant=options.variant,
    )


def _deployed(zd: Scenario, how: str, rate: float) -> DeployFailed | None:
    """Deploy to it under load, telling what goes on; return what the deploy failed by."""
    from zdtest import strategies

    _progress(f"load on {zd.url}, {rate:g} requests/s; report in {zd.folder}")
    with zd.load(rate=rate):
        _progress(f"{how} to v2")
        try:
            zd.deploy("v2", strategies.find(how))
        except DeployFailed as error:
            return error
        _progress("deployed; watching whether it settles")
    return None


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
