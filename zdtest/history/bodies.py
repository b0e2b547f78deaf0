"""Replies whose body was cut short, or is not the one asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from zdtest.history.sent import replied
from zdtest.history.witness import SHOWN, Found
from zdtest.records.recording import Samples
from zdtest.records.sample import CHANNELS, Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CONTROL = CHANNELS.index("control")


def cut(samples: Samples, run: str) -> Found:
    """Return the replies that began with a status line and did not end. O(n)."""
    broken = np.isin(samples.outcome, [Outcome.truncated, Outcome.body_timeout])
    rows = np.flatnonzero(broken & (samples.channel != _CONTROL))
    return Found(len(rows), replied(samples, run, rows[:SHOWN], "cut short"))


def altered(samples: Samples, run: str, channels: Mapping[str, Mapping[str, Any]]) -> Found:
    """Return the whole replies with a wrong body, those of a wrong length included. O(n)."""
    wrong = (samples.outcome == Outcome.bad_body) & (samples.channel != _CONTROL)
    wrong |= _odd(samples, channels)
    rows = np.flatnonzero(wrong)
    return Found(len(rows), replied(samples, run, rows[:SHOWN], "not the body asked for"))


def odd(samples: Samples, run: str, channels: Mapping[str, Mapping[str, Any]]) -> Found:
    """Return the ok replies to ``/download?bytes=N`` that are not N bytes long. O(n).

    A proxy that loses its server in a chunked body can end its own copy in due form.
    """
    rows = np.flatnonzero(_odd(samples, channels))
    return Found(len(rows), replied(samples, run, rows[:SHOWN], "not as long as asked for"))


def _odd(samples: Samples, channels: Mapping[str, Mapping[str, Any]]) -> NDArray[np.bool_]:
    found = np.zeros(len(samples), np.bool_)
    for name, told in channels.items():
        length = _length(str(told.get("path") or ""))
        if length is not None and name in CHANNELS:
            of_channel = samples.channel == CHANNELS.index(name)
            found |= of_channel & (samples.bytes != length)
    found &= samples.outcome == Outcome.ok
    return found


def _length(path: str) -> int | None:
    parts = urlsplit(path)
    given = parse_qs(parts.query).get("bytes", [""])[0]
    return int(given) if parts.path.endswith("/download") and given.isdecimal() else None
