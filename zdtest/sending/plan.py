"""A `Plan` is what the load's options ask for, checked before anything is sent."""

from __future__ import annotations

import random
import time
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult

from zdtest import channel, duration
from zdtest.channel import Channel
from zdtest.errors import ConfigError
from zdtest.records.recording import SCHEMA
from zdtest.sending import headers
from zdtest.sending.preflight import WORDS, expect_words, path_of, split
from zdtest.sending.wire import Target
from zdtest.status import statuses


@dataclass(frozen=True, slots=True)
class Plan:
    """One load: where to, how often, on which channels, and where it is recorded."""

    run: str
    url: str
    rate: float
    seed: int
    channels: tuple[Channel, ...]
    expected: frozenset[int]
    parts: SplitResult
    control: SplitResult | None
    folder: Path
    headers: Mapping[str, str] = field(repr=False)
    options: Namespace = field(repr=False)

    @classmethod
    def of(cls, options: Namespace, host: str) -> Plan:
        """Return what `options` ask of `host`; raises ConfigError when they mean nothing."""
        if not host:
            raise ConfigError("no host to send to: expected --host http://host[:port][/path]")
        parts = split(host)
        added = headers.parse(options.header or ())
        expect_words(
            {name: getattr(options, name.replace("-", "_")) for name in WORDS}, headers=added
        )
        timeout = duration.seconds(options.timeout, what="--timeout")
        if not 0 < timeout <= 600:
            raise ConfigError(f"--timeout {options.timeout}: expected more than 0s, at most 10m")
        path = options.path or path_of(host)
        run = options.zd_run or time.strftime("%Y%m%d-%H%M%S-load")
        return cls(
            run=run,
            url=host,
            rate=options.rate,
            seed=_seed(options.seed),
            channels=tuple(
                channel.parse(options.channels, rate=options.rate, path=path, timeout=timeout)
            ),
            expected=statuses(options.expect_status),
            parts=parts,
            control=split(options.control) if options.control else None,
            folder=_unused(Path(options.zd_out or Path("reports") / run)),
            headers=added,
            options=options,
        )

    def manifest(self) -> dict[str, object]:
        """Return what the run's manifest says where nobody else has written one."""
        return {
            "schema": SCHEMA,
            "run": self.run,
            "url": self.url,
            "rate": self.rate,
            "seed": self.seed,
            "channels": {one.name: one.as_dict() for one in self.channels},
            **headers.told(self.headers),
            "clock": {"monotonic": time.monotonic(), "wall": time.time()},
        }


def target(parts: SplitResult, *, verify: bool = True) -> Target:
    """Return where `parts` of a url point to; its name is not looked up yet."""
    tls = parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    return Target(parts.hostname or "", port, tls=tls, verify=verify)


def _seed(told: str | int | None) -> int:
    """Return the seed, one by chance where none is told (a web form tells it as text)."""
    if told is None or told == "":
        return random.SystemRandom().getrandbits(32)
    try:
        return int(told)
    except ValueError:
        raise ConfigError(f"--seed {told!r}: expected a whole number") from None


def _unused(folder: Path) -> Path:
    """Return `folder`, numbered where it holds a recording already: none is ever overwritten."""
    found, number = folder, 1
    while (found / "samples.arrows").exists():
        number += 1
        found = folder.with_name(f"{folder.name}-{number}")
    return found
