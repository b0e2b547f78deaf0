"""Whether a client that had met the new version was sent back to the old one."""

from __future__ import annotations

import numpy as np

from zdtest.history.sent import moments, replied
from zdtest.history.witness import SHOWN, UNKNOWN, Found
from zdtest.records.recording import NEVER, Samples
from zdtest.records.sample import CHANNELS


def backwards(
    samples: Samples, run: str, new: str | None, *, streams: bool = False, slack: float = 0.0
) -> Found:
    """Return the replies of another version to a session that had had one of the new version.

    A session is one of a channel's. Only requests that do not overlap are in order: the one was
    sent after the other had ended, by more than `slack` seconds, of which the clock that tells them
    may have been set right in between. `streams` count where their sessions are their subscribers.
    None where no reply tells the new version. O(n).
    """
    if new not in samples.versions or not new:
        return UNKNOWN
    names = ("control",) if streams else ("control", "stream")
    apart = [CHANNELS.index(name) for name in names]
    told = (samples.version != samples.versions.index("")) & (samples.sent_us != NEVER)
    rows = np.flatnonzero(told & ~np.isin(samples.channel, apart))
    arrived = samples.version[rows] == samples.versions.index(new)
    session = samples.channel[rows].astype(np.int64) << 16 | samples.session[rows]
    if not arrived.any():
        return UNKNOWN
    met = np.full(len(CHANNELS) << 16, np.inf)
    latest = rows[arrived]
    np.minimum.at(met, session[arrived], samples.due[latest] + samples.done_us[latest] * 1e-6)
    back = rows[~arrived & (moments(samples, rows) > met[session] + slack)]
    witnesses = replied(samples, run, back[:SHOWN], f"after its session had met {new}")
    return Found(len(back), witnesses)
