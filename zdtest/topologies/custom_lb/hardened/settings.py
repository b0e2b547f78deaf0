"""What targets.yml and the command line say."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeGuard
from urllib.parse import urlsplit

import yaml


@dataclass(frozen=True, slots=True)
class Place:
    """Where a target listens, and its weight at the start."""

    host: str
    port: int
    weight: int = 100


_PLACE = frozenset(field.name for field in fields(Place))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Seconds throughout; targets.yml explains each."""

    targets: tuple[Place, ...]
    port: int = 8080
    admin_port: int = 8090
    ping_path: str = "/ping"
    ping_period: float = 0.5
    ping_timeout: float = 0.3
    fall: int = 2
    rise: int = 2
    eject_after: int = 0
    eject_rise: int = 20
    connect_timeout: float = 1.0
    first_byte_timeout: float = 30.0
    client_idle: float = 75.0
    pool_idle: float = 4.0
    retry_ratio: float = 0.2
    retry_reserve: float = 10.0
    retry_burst: float = 500.0
    retry_after: int = 1
    stop_timeout: float = 30.0


def settings_from(arguments: list[str] | None = None) -> Settings:
    """Return the yml's settings, overridden by the command line; exit 2 where they mean nothing."""
    parser = argparse.ArgumentParser(description="round robin with failover, drain and weights")
    beside = Path(__file__).with_name("targets.yml")
    parser.add_argument("--config", type=Path, default=beside, help="default: %(default)s")
    parser.add_argument("--port", type=int, help="port to listen on, 0 for any free one")
    parser.add_argument("--admin-port", type=int, help="port of the admin API, 0 for any free one")
    parser.add_argument("--target", action="append", metavar="HOST:PORT", help="repeat for more")
    given = vars(parser.parse_args(arguments))
    config: Path = given.pop("config")
    given["targets"] = given.pop("target")
    try:
        said = yaml.safe_load(config.read_text("utf-8")) or {}
        return _settings({**said, **{k: v for k, v in given.items() if v is not None}})
    except (OSError, yaml.YAMLError, TypeError, ValueError) as error:
        parser.error(f"{config}: {error}")


def _settings(said: Mapping[str, object]) -> Settings:
    known = {field.name: str(field.type) for field in fields(Settings)}
    if unknown := sorted(said.keys() - known.keys()):
        raise ValueError(f"unknown key {unknown[0]!r}: expected one of {', '.join(known)}")
    written = said.get("targets")
    if not isinstance(written, list) or not written:
        raise ValueError("targets: expected a list with at least one host and port")
    targets = tuple(_place(one) for one in written)
    if len({(target.host, target.port) for target in targets}) != len(targets):
        raise ValueError("targets: one is listed twice")
    rest = {key: _typed(key, value, known[key]) for key, value in said.items() if key != "targets"}
    return Settings(targets=targets, **rest)  # type: ignore[arg-type]


def _typed(key: str, value: object, kind: str) -> object:
    if kind == "str" and isinstance(value, str) and value.startswith("/"):
        return value
    allowed = {"int": (int,), "float": (int, float)}.get(kind, ())
    if isinstance(value, allowed) and not isinstance(value, bool) and 0 <= value < math.inf:
        return value
    expected = {"str": "a path", "int": "a whole number >= 0"}.get(kind, "seconds or a number >= 0")
    raise ValueError(f"{key} {value!r}: expected {expected}")


def _place(written: object) -> Place:
    weight: object = 100
    if isinstance(written, dict) and {"host", "port"} <= written.keys() <= _PLACE:
        weight = written.get("weight", 100)
        written = f"{written['host']}:{written['port']}"
    if not is_weight(weight):
        raise ValueError(f"weight {weight!r} of {written}: expected a whole number from 0 to 100")
    if isinstance(written, str):
        parts = urlsplit(written if "//" in written else f"http://{written}")
        if parts.scheme == "http" and parts.hostname and parts.port:
            return Place(parts.hostname, parts.port, weight)
    raise ValueError(f"target {written!r}: expected host: http://127.0.0.1 and port: 8081")


def is_weight(value: object) -> TypeGuard[int]:
    """Return whether a target can have that weight."""
    return type(value) is int and 0 <= value <= 100
