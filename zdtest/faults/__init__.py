"""Faults: disturbances that prove that they took effect, and that they are gone when healed.

One file a fault, each a value with a `name` and an `inject`. `armed` fires them on the phases of
a deploy::

    with armed(stack, mark, [plan(kill("a"), "first_ready", heal_after="2s")], seed=7):
        deploy()
"""

from __future__ import annotations

from zdtest.faults.armed import Plan, armed, plan
from zdtest.faults.balancer import kill_balancer
from zdtest.faults.bandwidth import bandwidth
from zdtest.faults.broken_config import Configured, broken_config
from zdtest.faults.cue import PHASES, When, at
from zdtest.faults.failing_health import failing_health
from zdtest.faults.fault import Balancing, Detoured, Fault, Ported
from zdtest.faults.freeze import freeze
from zdtest.faults.half_open import half_open
from zdtest.faults.kill import kill
from zdtest.faults.latency import latency
from zdtest.faults.netem import Networked, netem
from zdtest.faults.partition import partition
from zdtest.faults.resets import resets
from zdtest.faults.restart import restart
from zdtest.faults.slow_health import slow_health
from zdtest.faults.starve import starve
from zdtest.faults.stop import stop
from zdtest.faults.worker import Working, kill_worker

__all__ = [
    "PHASES",
    "Balancing",
    "Configured",
    "Detoured",
    "Fault",
    "Networked",
    "Plan",
    "Ported",
    "When",
    "Working",
    "armed",
    "at",
    "bandwidth",
    "broken_config",
    "failing_health",
    "freeze",
    "half_open",
    "kill",
    "kill_balancer",
    "kill_worker",
    "latency",
    "netem",
    "partition",
    "plan",
    "resets",
    "restart",
    "slow_health",
    "starve",
    "stop",
]
