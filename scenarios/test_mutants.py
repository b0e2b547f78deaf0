"""Hardened variants with one known fault in each: what a verdict must not miss."""

from __future__ import annotations

import re

import pytest

from zdtest import strategies
from zdtest.mutant import Mutant, mutants


def marked(one: Mutant):
    raised = pytest.mark.topology(one.topology, variant="hardened", mutant=one.name)
    marks = [raised] if one.always else [raised, pytest.mark.full]
    return pytest.param(one, id=f"{one.topology}-{one.name}", marks=marks)


@pytest.mark.parametrize("mutant", [marked(one) for one in mutants()])
def test_a_mutant_is_caught(zd, mutant):
    """By the promise that it breaks and no other reason than its own."""
    with zd.load(rate=mutant.rate, channels=mutant.channels or None, baseline="2s", settle="1s"):
        zd.deploy("v2", strategies.find(mutant.deploy))
    verdict = zd.judge(mutant.slo)
    assert verdict.verdict == "broken", verdict.summary()
    assert any(re.search(mutant.says, reason) for reason in verdict.reasons), verdict.summary()
