"""Headers that somebody adds to every request, such as a login. Their values are secrets.

No error here repeats a value, and whoever tells of a load tells their names alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Final

from zdtest.errors import ConfigError

VARIABLE: Final = "ZD_HEADER"
"""The environment variable that holds headers for the load, one a line: nobody lists it."""

HIDDEN: Final = "…"
"""What stands where a value would, wherever it is told which headers there were."""

_OURS = {"x-request-id", "idempotency-key", "last-event-id"}
_FRAMING = {
    "connection", "content-length", "expect", "keep-alive", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
}  # fmt: skip
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t -~\x80-\xff]+")


def given() -> list[str]:
    """Return the lines of the environment's `VARIABLE`."""
    return [line for line in os.environ.get(VARIABLE, "").split("\n") if line.strip()]


def parse(lines: Iterable[str], *, what: str = "--header") -> dict[str, str]:
    """Return the headers written ``Name: value``, checked; raises ConfigError naming `what`."""
    found: list[tuple[str, str]] = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise ConfigError(f"{what}: expected 'Name: value', with a colon between the two")
        found.append((name, value))
    return checked(found, what=what)


def checked(headers: Iterable[tuple[str, str]], *, what: str = "header") -> dict[str, str]:
    """Return these names and values as they are sent; raises ConfigError for what cannot be."""
    found: dict[str, str] = {}
    for name, value in headers:
        small = expect_name(name, what).lower()
        if small in _OURS:
            raise ConfigError(f"{what} {name}: zdtest's own, by it each request is known")
        if small in _FRAMING:
            raise ConfigError(f"{what} {name}: expected none about the connection or the length")
        if small in map(str.lower, found):
            raise ConfigError(f"{what} {name} is given twice; expected each once")
        if not _VALUE.fullmatch(value.strip(" \t")):
            raise ConfigError(f"{what} {name}: expected a value of one line, in Latin-1")
        found[name] = value.strip(" \t")
    return found


def expect_name(name: str, what: str) -> str:
    """Return `name` where a header can be called so; raises ConfigError naming `what`."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{what} {name!r}: expected a header's name, such as X-App-Version")
    return name


def told(headers: Mapping[str, str]) -> dict[str, object]:
    """Return what a manifest tells of them: their names, nothing where there are none."""
    return {"headers": dict.fromkeys(headers, HIDDEN)} if headers else {}


def written(headers: Mapping[str, str]) -> list[str]:
    """Return a line a header."""
    return [f"{name}: {value}" for name, value in headers.items()]


def merged(default: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the default headers with those that are `given` in their place, and the others."""
    names = {name.lower() for name in given}
    return {**{name: it for name, it in default.items() if name.lower() not in names}, **given}
