"""The figures of a page are nearest ranks, as those are that it was judged by."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from zdtest.report.tally import QUANTILES, levels

_EXACT = {name: Fraction(name.removeprefix("p").replace("max", "100")) for name in QUANTILES}


@pytest.mark.parametrize("counts", [range(1, 2002), range(3000, 100_001, 1000)])
def test_a_quantile_is_its_nearest_rank_however_many_replies_there_are(counts: range) -> None:
    for count in counts:
        values = np.arange(count, 0, -1, dtype=np.float32)
        ranks = [math.ceil(share * count / 100) for share in _EXACT.values()]
        assert levels(values, QUANTILES.values()) == ranks, count


def test_of_no_replies_there_is_no_quantile() -> None:
    assert np.isnan(levels(np.array([], np.float32), QUANTILES.values())).all()
