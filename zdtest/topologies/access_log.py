"""What an nginx wrote down of its requests, in the format of ``nginx_log.conf``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class AccessLog:
    """Counts, for each server behind nginx, what became of the requests that it was given.

    `path` may hold other lines too, and grows; each question reads what is new in it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._rest = b""
        self._answered: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()

    def told(self, address: str) -> tuple[int, int]:
        """Return how many requests that server answered, whole and below 500, and how many not.

        Each attempt counts for the server that it went to. One that its user left first counts for
        neither, and none is known of before it has ended.
        """
        for line in self._new():
            for server, status, good in attempts(line):
                if status:
                    (self._answered if good else self._failed)[server] += 1
        return self._answered[address], self._failed[address]

    def _new(self) -> Iterator[Mapping[str, Any]]:
        with self._path.open("rb") as log:
            log.seek(self._read)
            new = log.read()
        self._read += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        yield from map(json.loads, filter(is_request, lines))


def is_request(line: bytes) -> bool:
    """Return whether the line is about a request, and not what nginx says besides."""
    return line.startswith(b'{"t":') and line.endswith(b"}")


def attempts(line: Mapping[str, Any]) -> Iterator[tuple[str, int, bool]]:
    """Yield for each attempt its server, its status (0: none came), and whether it was answered.

    The last one has to be complete as well; what nginx answers by itself is no attempt.
    """
    servers = [one for one in _listed(line["upstream_addr"]) if ":" in one]
    statuses = [int(one) if one.isdigit() else 0 for one in _listed(line["upstream_status"])]
    for number, (server, status) in enumerate(zip(servers, statuses, strict=False), 1):
        whole = number < len(servers) or line["complete"] == "OK"
        yield server, status, 0 < status < 500 and whole


def _listed(told: str) -> list[str]:
    """Return what nginx joins by commas, and by colons after an internal redirect."""
    return told.replace(" : ", ", ").split(", ") if told else []
