"""A `Channel` is one kind of client under the load: its share of the rate, its path, its pace.

Written ``name[+key][=share][@path][~think][#text]``, comma separated, for instance
``new=4@/api,slow=1@/1500~1.5s,write+key=1@/orders,stream=1@/events?every=200ms~200ms``. After the
``#`` stands what the bodies have to hold: ``new@/price#"price":119310``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from zdtest import duration
from zdtest.errors import ConfigError, unknown

MEANING = {
    "new": "a fresh connection for every request",
    "reused": "kept connections, used in turn",
    "idle": "connections parked for some seconds, then used",
    "slow": "requests that take seconds by design, each on a fresh connection",
    "write": "POST, not idempotent, on kept connections",
    "stream": "server-sent events; one sample for each message that is due",
}
DEFAULT = "new=1,reused=1"

_APART = 0.03
"""How far a channel's rate may lie from its share, so that no two channels stay in step.

Two channels at 80/s each would take turns for ever, and behind a round robin over two servers one
of them would meet only the dead one and the other only the living.
"""
_GOLDEN = (5**0.5 - 1) / 2

_WRITTEN = re.compile(r"([a-z]+)(\+[a-z]*)?(?:=([^@~#]*))?(?:@([^~#]*))?(?:~([^#]*))?(?:#(.*))?")
_MOST_STATIONS = 60_000
_THINK = {"slow": 2.0, "stream": 0.2}


@dataclass(frozen=True, slots=True)
class Channel:
    """One kind of client. `rate` is its requests a second, `share` its part of the whole rate.

    `think` is how long a reply takes by design, in seconds: it is taken off before a latency is
    held against a promise. For a `stream` it is the longest pause between two messages. `park` is
    how long an `idle` connection rests, `timeout` how long after its due time (and its think time)
    a request may take at all. `keyed` writes carry an Idempotency-Key, and one whose outcome is
    open is asked again under its key. A body has to hold one of `texts`, where there are any.
    """

    name: str
    share: float
    rate: float
    path: str = "/"
    think: float = 0.0
    timeout: float = 5.0
    park: float = 3.0
    keyed: bool = False
    texts: tuple[bytes, ...] = ()

    @property
    def stations(self) -> int:
        """How many subscribers a `stream` has, 0 for any other channel."""
        return max(1, round(self.rate * self.think)) if self.name == "stream" else 0

    @property
    def method(self) -> str:
        """The HTTP method it sends."""
        return "POST" if self.name == "write" else "GET"

    def as_dict(self) -> dict[str, object]:
        """Return it as the manifest tells it."""
        return {
            "rate": self.rate,
            "share": self.share,
            "interval": 1 / self.rate,
            "method": self.method,
            "path": self.path,
            "think": self.think,
            "timeout": self.timeout,
            "park": self.park if self.name == "idle" else None,
            "keyed": self.keyed,
            "texts": [text.decode(errors="replace") for text in self.texts],
            "stations": self.stations,
        }


def parse(text: str, *, rate: float, path: str = "/", timeout: float = 5.0) -> list[Channel]:
    """Return the channels in `text`, sharing `rate` requests a second by their shares.

    The shares are kept to within three per cent, on purpose: see `_APART`.

    Raises ConfigError for an unknown or repeated channel, a share or rate that means nothing, or a
    path without a leading slash, or texts that cannot be looked for.
    """
    if not 0.1 <= rate <= 200_000:
        raise ConfigError(f"rate {rate:g}: expected 0.1 to 200000 requests a second")
    shares: dict[str, float] = {}
    about: dict[str, dict[str, Any]] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, share, told = _item(item)
        if name in shares:
            raise ConfigError(f"channel {name!r} is named twice; expected each once")
        shares[name] = share
        about[name] = {"path": path, "timeout": timeout} | told
    if not shares:
        raise ConfigError("no channel: expected some of " + ", ".join(MEANING))
    apart = {name: share * _apart(n) for n, (name, share) in enumerate(shares.items())}
    whole, pulled = sum(shares.values()), sum(apart.values())
    return [
        _possible(Channel(name, shares[name] / whole, rate * share / pulled, **about[name]))
        for name, share in apart.items()
    ]


def _possible(one: Channel) -> Channel:
    if one.stations > _MOST_STATIONS:
        raise ConfigError(
            f"channel {one.name}: {one.stations} subscribers; expected at most {_MOST_STATIONS}, "
            "so a lower rate or a shorter think time"
        )
    return one


def _apart(n: int) -> float:
    """Return the factor of the nth channel's rate: never two in a simple ratio to each other."""
    return 1 + _APART * (2 * (n * _GOLDEN % 1) - 1)


def _item(item: str) -> tuple[str, float, dict[str, Any]]:
    """Return a channel's name, its share, and what else was told of it."""
    match = _WRITTEN.fullmatch(item)
    if match is None:
        raise ConfigError(f"channel {item!r}: expected name[+key][=share][@path][~think][#text]")
    name, key, share, path, think, text = match.groups()
    if name not in MEANING:
        raise unknown("channel", name, MEANING)
    if key and (name, key) != ("write", "+key"):
        raise ConfigError(f"channel {name}{key}: expected no + but that of write+key")
    try:
        weight = float(share) if share is not None else 1.0
    except ValueError:
        weight = 0.0
    if not 0 < weight < 1e6:
        raise ConfigError(f"channel {name}: share {share!r}; expected a number above 0")
    if path is not None and not re.fullmatch(r"/[!-~]*", path):
        raise ConfigError(f"channel {name}: path {path!r}; expected it to begin with /, no spaces")
    pause = _THINK.get(name, 0.0) if think is None else duration.seconds(think, what="think time")
    told = {"think": pause, "keyed": bool(key), "texts": _texts(name, text)}
    return name, weight, told | ({"path": path} if path else {})


def _texts(name: str, text: str | None) -> tuple[bytes, ...]:
    """Return the texts of which a body has to hold one: ``|`` divides them, ``%2C`` is a comma."""
    if text is None:
        return ()
    if name == "stream":
        raise ConfigError("channel stream: expected no #text, its bodies do not end")
    texts = tuple(unquote_to_bytes(one) for one in text.split("|"))
    if not all(texts) or re.search("%(?![0-9A-Fa-f]{2})", text):
        raise ConfigError(
            f"channel {name}: text {text!r}; expected what a body has to hold, or a|b for either "
            "of two, with , as %2C, | as %7C and % as %25"
        )
    return texts
