"""What a run amounts to, as data frames for the tables: counts, percentiles, failures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from zdtest.judging import phase
from zdtest.records.recording import NEVER, request_id
from zdtest.records.sample import CHANNELS, Outcome
from zdtest.report.frame import Frame, bins

if TYPE_CHECKING:
    from numpy.typing import NDArray


def outcomes(frame: Frame) -> pd.DataFrame:
    """Return counts by channel (rows) and outcome (columns): ok, and what else happened."""
    width = len(Outcome)
    codes = frame.samples.channel * np.uint8(width) + frame.samples.outcome
    table = np.bincount(codes, minlength=width * len(CHANNELS)).reshape(-1, width)
    counts = pd.DataFrame(table, index=list(CHANNELS), columns=[o.name for o in Outcome])
    counts = counts.loc[frame.channels]
    kept = [name for name in counts if name == "ok" or counts[name].any()]
    counts = counts[kept]
    counts.insert(0, "requests", counts.sum(axis=1))
    return counts


QUANTILES = {"p50": 500, "p90": 900, "p99": 990, "p99.9": 999, "max": 1000}
"""In thousandths: by a binary fraction the rank of p99.9 would be one too high at 1000 replies."""


def percentiles(frame: Frame, channels: Sequence[str] = ()) -> pd.DataFrame:
    """Return exact percentiles of ok replies, ms: a row a phase, and a channel if any are named.

    They are nearest ranks of the replies that the judge ranks, too. Those under way as the deploy
    began are there where some failed, without: they were chosen by having taken long.
    """
    rows = []
    for code, name in enumerate(phase.PHASES):
        mine = frame.judged & (frame.phase == code)
        told = frame.telling(code)
        if code == phase.UNDER_WAY:
            if not (mine & frame.failed).any():
                continue
            told &= False
        for of in channels or [""]:
            here = _is(frame.samples.channel, of) if of else np.ones(len(mine), np.bool_)
            counts = {"requests": (mine & here).sum(), "failed": (mine & here & frame.failed).sum()}
            waited = frame.took_ms(np.flatnonzero(told & here))
            found = dict(zip(QUANTILES, levels(waited, QUANTILES.values()), strict=True))
            rows.append({"channel": of, "phase": name, **counts, **found})
    table = pd.DataFrame(rows)
    if not channels:
        return table.drop(columns="channel")
    return table.sort_values("channel", key=lambda names: names.map(CHANNELS.index), kind="stable")


def _is(channel: NDArray[np.uint8], name: str) -> NDArray[np.bool_]:
    return np.asarray(channel == CHANNELS.index(name))


def levels(values: NDArray[np.floating[Any]], thousandths: Iterable[int]) -> list[float]:
    """Return these quantiles of the values, each its nearest rank; NaN of no values."""
    thousandths = list(thousandths)
    if not len(values):
        return [math.nan] * len(thousandths)
    ranks = [max(1, -(-each * len(values) // 1000)) for each in thousandths]
    ordered = np.partition(values, [rank - 1 for rank in ranks])
    return [float(ordered[rank - 1]) for rank in ranks]


def worst_windows(frame: Frame, wide: float = 0.1, top: int = 5) -> pd.DataFrame:
    """Return the windows of `wide` seconds with the lowest availability, worst first."""
    place = bins(frame.at, wide)
    size = int(place[-1]) + 1 if len(place) else 0
    total = np.bincount(place[frame.judged], minlength=size)
    failed = np.bincount(place[frame.judged & frame.failed], minlength=size)
    hit = np.flatnonzero(failed)
    table = pd.DataFrame({"start_s": hit * wide, "failed": failed[hit], "requests": total[hit]})
    order = (table["failed"] / table["requests"]).to_numpy()
    worst = np.lexsort((table["start_s"], -table["failed"], -order))[:top]
    return table.iloc[worst].reset_index(drop=True)


def failures(frame: Frame, limit: int) -> pd.DataFrame:
    """Return the first `limit` failed requests in full, times in seconds since `zero`."""
    rows = np.flatnonzero(frame.failed & frame.judged)[:limit]
    part = frame.samples.where(rows)
    due = frame.at[rows]
    after = {
        name: np.where(column == NEVER, np.nan, column * 1e-3)
        for name, column in (("sent", part.sent_us), ("first_byte", part.first_us))
    }
    return pd.DataFrame(
        {
            "id": [request_id(frame.recording.run, int(seq)) for seq in part.seq],
            "channel": [CHANNELS[code] for code in part.channel],
            "due": due,
            **after,
            "done": part.done_us * 1e-3,
            "outcome": [Outcome(int(code)).name for code in part.outcome],
            "status": part.status,
            "version": [part.versions[code] for code in part.version],
            "instance": [part.instances[code] for code in part.instance],
            "conn": part.conn,
        }
    )
