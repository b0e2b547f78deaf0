"""What the client saw of the failures that nothing explains, and whose account was not there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from zdtest.records.recording import Recording
from zdtest.records.sample import CHANNELS, Outcome

SHOWN = 8
"""How many ways to fail are told one by one."""

_CUT = (Outcome.reset, Outcome.closed)
_ANSWERED = (Outcome.http_5xx, Outcome.http_4xx, Outcome.http_3xx)

_WORDS: Mapping[Outcome, str] = {
    Outcome.refused: "refused (nobody took connections at {at})",
    Outcome.connect_timeout: "without a connection in time (nothing came back from {at})",
    Outcome.dns: "never sent (the name in {at} did not resolve)",
    Outcome.tls: "never sent (no TLS handshake with {at})",
    Outcome.reset: "reset before a status line",
    Outcome.closed: "closed before a status line",
    Outcome.timeout: "without a reply in time",
    Outcome.truncated: "cut off in the midst of a reply",
    Outcome.body_timeout: "without the whole body in time",
    Outcome.bad_body: "answered {status} with the wrong body",
    Outcome.wrong_version: "answered by a version that was ruled out",
}


@dataclass(frozen=True, slots=True)
class Unexplained:
    """Failures by how they ended, which is all that is known of them."""

    seen: Mapping[tuple[Outcome, int, int], int]
    """How many had each outcome, status and channel."""
    at: str
    """Where users come in, ``host:port``."""
    lacking: str
    """Whose account would have told more, in words."""

    @classmethod
    def of(cls, recording: Recording, seen: Mapping[tuple[Outcome, int, int], int]) -> Unexplained:
        """Return what is known of these failures of `recording`."""
        url = str(recording.manifest.get("url") or "")
        return cls(dict(seen), address(url) or "the url", _lacking(recording))

    def text(self) -> str:
        """Return it in a line, the most frequent ways first; "" where there are none."""
        counts: Counter[str] = Counter()
        where: dict[str, set[int]] = {}
        for (outcome, status, channel), count in self.seen.items():
            words = self._words(outcome, status)
            counts[words] += count
            if outcome in _CUT:
                where.setdefault(words, set()).add(channel)
        told = [
            f"{count} {words}{_on(where.get(words, set()))}"
            for words, count in counts.most_common(SHOWN)
        ]
        rest = sum(counts.values()) - sum(count for _, count in counts.most_common(SHOWN))
        told += [f"{rest} in other ways"] if rest else []
        return f"{', '.join(told)}; {self.lacking}" if told else ""

    def _words(self, outcome: Outcome, status: int) -> str:
        if outcome in _ANSWERED:
            return f"answered {status}" if status else "answered by what is not HTTP"
        return _WORDS.get(outcome, outcome.name).format(at=self.at, status=status)


def address(url: str) -> str:
    """Return the host and port of a url, without what else it tells; "" where it has no host."""
    try:
        told = urlsplit(url)
        port = told.port or {"http": 80, "https": 443}.get(told.scheme)
    except ValueError:
        return ""
    host = told.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{port}" if host and port else host


def _on(channels: set[int]) -> str:
    """Return which channels these were on: some keep connections, on which such things happen."""
    return f" on {' and '.join(CHANNELS[one] for one in sorted(channels))}" if channels else ""


def _lacking(recording: Recording) -> str:
    own = not recording.manifest.get("topology")
    options = (" (--proxy-log)", " (--journal)") if own else ("", "")
    log, journal = recording.proxy is not None, recording.journal is not None
    if log and journal:
        return "the proxy's log and the app's journal do not tell why"
    if log:
        return f"no journal of the app's{options[1]} was there to tell why"
    if journal:
        return f"no proxy's log{options[0]} was there to tell why"
    return (
        f"neither a proxy's log{options[0]} nor the app's journal{options[1]} was there to tell why"
    )
