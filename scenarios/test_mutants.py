"""Hardened variants with one known fault in each: what a verdict must not miss."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from zdtest import strategies
from zdtest.faults import freeze, kill
from zdtest.mutant import Mutant, mutants, promised, twins

FAULTS = {"freeze": freeze, "kill": kill}


def raised(one: Mutant, of: Sequence[Mutant], **more: str):
    """What to raise for `one`: always, where one of those is to be caught always."""
    mark = pytest.mark.topology(one.topology, variant="hardened", **more, **one.parameters)
    return [mark] if any(each.always for each in of) else [mark, pytest.mark.full]


def caught(one: Mutant):
    marks = raised(one, [one], mutant=one.name)
    return pytest.param(one, id=f"{one.topology}-{one.name}", marks=marks)


def spared(alike: Sequence[Mutant]):
    one = alike[0]
    return pytest.param(alike, id=f"{one.topology}-{one.name}", marks=raised(one, alike))


def deploy(zd, one: Mutant) -> None:
    with zd.load(rate=one.rate, channels=one.channels or None, baseline="1s", settle="500ms"):
        zd.deploy("v2", strategies.find(one.deploy))
        for what, instance, time in one.fault:
            with zd.fault(FAULTS[what](instance), heal_after=time):
                # A second more, for what comes of it once it is over.
                zd.wait(time + 1)


@pytest.mark.parametrize("mutant", [caught(one) for one in mutants()])
def test_a_mutant_is_caught(zd, mutant):
    """By the promise that it breaks and no other reason than its own."""
    deploy(zd, mutant)
    verdict = zd.judge(mutant.slo)
    assert verdict.verdict == "broken", verdict.summary()
    assert any(re.search(mutant.says, reason) for reason in verdict.reasons), verdict.summary()


@pytest.mark.parametrize("alike", [spared(alike) for alike in twins(mutants())])
def test_without_its_fault_it_holds(zd, alike):
    """The same deploy under the same load, judged by what all mutants under it promise."""
    deploy(zd, alike[0])
    zd.expect(promised(alike))
