"""The `Board` keeps Locust's own statistics up to date, so that its web page shows the load."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from locust.stats import StatsError

from zdtest.records.sample import CHANNELS, Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

_METHOD = "zdtest"
_CONTROL = CHANNELS.index("control")


class Board:
    """Feeds rows to Locust's `stats` in batches: request by request costs more than sending them.

    What a channel took is counted from when its requests were due. The control server is no part
    of the system and is left out.
    """

    def __init__(self, stats: Any) -> None:
        self._stats = stats

    def show(self, rows: NDArray[np.void]) -> None:
        """Add `rows`."""
        now = int(time.time())
        rows = rows[rows["channel"] != _CONTROL]
        if not len(rows):
            return
        for number in np.unique(rows["channel"]).tolist():
            name = CHANNELS[number]
            of_channel = rows[rows["channel"] == number]
            _add(self._stats.entries[(name, _METHOD)], of_channel, now)
            self._errors(name, of_channel[of_channel["outcome"] != Outcome.ok]["outcome"], now)
        _add(self._stats.total, rows, now)

    def _errors(self, name: str, outcomes: NDArray[np.uint8], now: int) -> None:
        for outcome, count in zip(
            *(part.tolist() for part in np.unique(outcomes, return_counts=True)), strict=True
        ):
            text = Outcome(outcome).name
            key = StatsError.create_key(_METHOD, name, text)
            error = self._stats.errors.setdefault(key, StatsError(_METHOD, name, text))
            error.occurrences += count
            for entry in (self._stats.entries[(name, _METHOD)], self._stats.total):
                entry.num_failures += count
                entry.num_fail_per_sec[now] += count


def _add(entry: Any, rows: NDArray[np.void], now: int) -> None:
    times = rows["done"] // 1000
    least = entry.min_response_time
    entry.num_requests += len(rows)
    entry.num_reqs_per_sec[now] += len(rows)
    entry.last_request_timestamp = time.time()
    entry.total_response_time += int(times.sum(dtype=np.int64))
    entry.min_response_time = int(times.min()) if least is None else min(int(times.min()), least)
    entry.max_response_time = max(int(times.max()), entry.max_response_time)
    entry.total_content_length += int(rows["bytes"].sum(dtype=np.int64))
    shown, counts = np.unique(_rounded(times), return_counts=True)
    for value, count in zip(shown.tolist(), counts.tolist(), strict=True):
        entry.response_times[value] += count
    if entry.use_response_times_cache:
        entry._cache_response_times(now - 1)


def _rounded(times: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Return milliseconds to two digits, as Locust keeps them."""
    step = 10 ** np.maximum(np.log10(np.maximum(times, 1)).astype(np.int64) - 1, 0)
    nearest: NDArray[np.int64] = (times + step // 2) // step * step
    return nearest
