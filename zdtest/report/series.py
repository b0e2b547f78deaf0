"""A run along its time, as data frames for the plots: lanes, throughput, latency."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd

from zdtest.records.sample import CHANNELS
from zdtest.report.frame import Frame, bins
from zdtest.report.tally import QUANTILES, levels

_STEPS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)


def step(frame: Frame, bins: int) -> float:
    """Return a bin width from 100 ms up: at most `bins` of them, and mostly 40 requests in each."""
    bins = min(bins, max(len(frame.at) // 40, 20))
    return next((wide for wide in _STEPS if frame.length / wide <= bins), frame.length / bins)


def throughput(frame: Frame, wide: float) -> pd.DataFrame:
    """Return requests per second by due time: a column a version that answered, and ``failed``.

    The last bin ends with the run: it is between half and one and a half times as wide.
    """
    size = max(round(frame.length / wide), 1)
    place = np.minimum(bins(frame.at, wide), size - 1)
    seconds = np.full(size, wide)
    seconds[-1] = frame.length - (size - 1) * wide
    columns: dict[str, Any] = {}
    for name in frame.versions:
        codes = [i for i, word in enumerate(frame.samples.versions) if word == name]
        of = np.isin(frame.samples.version, codes) & frame.judged & ~frame.failed
        columns[f"v:{name}"] = np.bincount(place[of], minlength=size) / seconds
    columns["failed"] = np.bincount(place[frame.judged & frame.failed], minlength=size) / seconds
    return pd.DataFrame(columns, index=np.arange(size) * wide)


def latency(frame: Frame, wide: float) -> pd.DataFrame:
    """Return p50, p99 and max of ok replies per bin of `wide` seconds of due time, ms."""
    served = np.flatnonzero(frame.timed)
    waited, at = frame.waited_ms[served], frame.at[served]
    edges = np.arange(0, frame.length + wide, wide)
    cuts = np.searchsorted(bins(at, wide), np.arange(len(edges)))
    names = ["p50", "p99", "max"]
    table = np.full((len(edges) - 1, len(names)), np.nan)
    for row, (low, high) in enumerate(itertools.pairwise(cuts)):
        if len(part := waited[low:high]):
            table[row] = levels(part, (QUANTILES[name] for name in names))
    return pd.DataFrame(table, index=edges[:-1] + wide / 2, columns=names)


def lane(frame: Frame, channel: str, columns: int) -> pd.DataFrame:
    """Return one channel along the run in at most `columns` equal pieces.

    ``left`` and ``right`` are seconds; ``failed`` is the share that failed, ``slow`` tells whether
    any reply was slower than the bound. Pieces without a request are left out.
    """
    rows = np.flatnonzero(frame.samples.channel == CHANNELS.index(channel))
    pieces = int(np.clip(len(rows) // 2, min(columns, 240), columns))
    wide = frame.length / pieces
    place = np.minimum((frame.at[rows] / wide).astype(np.int64), pieces - 1)
    total = np.bincount(place, minlength=pieces)
    failed = np.bincount(place[frame.failed[rows]], minlength=pieces)
    slow = np.bincount(place[frame.slow[rows]], minlength=pieces)
    used = np.flatnonzero(total)
    return pd.DataFrame(
        {
            "left": used * wide,
            "right": (used + 1) * wide,
            "failed": failed[used] / total[used],
            "slow": slow[used] > 0,
        }
    )
