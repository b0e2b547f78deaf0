"""What the environment says about this instance, checked before anything starts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from sample_app.release import LIMIT_MB, RELEASES, Release

Shutdown = Literal["immediate", "graceful"]

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(ms|s|m)?")
_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0}
_NAME = re.compile(r"[A-Za-z0-9._+-]{1,64}")
_SWITCH = {"": False, "0": False, "false": False, "1": True, "true": True}


class SettingsError(Exception):
    """A variable that cannot mean anything; one line that says what was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One instance, as the environment describes it. Durations are seconds."""

    port: int
    host: str
    version: str
    instance: str
    deploy_name: str
    profiles: tuple[str, ...]
    boot: float
    boot_cpu: float
    shutdown: Shutdown
    drain: float
    shutdown_timeout: float
    ignore_sigterm: bool
    journal: str | None
    workers: int
    accept_count: int
    max_connections: int
    keep_alive: float
    release: Release

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Settings:
        """Return the settings; raises SettingsError naming the first variable that is wrong."""
        read = Environment(environ)
        port = read.whole("PORT", 8080, 0, 65535)
        return cls(
            port=port,
            host=read.text("HOST", "127.0.0.1"),
            version=read.name("APP_VERSION", "v1"),
            instance=read.name("APP_INSTANCE", f"app-{port}"),
            deploy_name=read.name("DEPLOY_NAME", "default"),
            profiles=read.names("PROFILE"),
            boot=read.seconds("BOOT_SECONDS", "0"),
            boot_cpu=read.seconds("BOOT_CPU_SECONDS", "0"),
            shutdown=cast(Shutdown, read.one_of("SHUTDOWN", ("immediate", "graceful"))),
            drain=read.seconds("DRAIN_SECONDS", "0"),
            shutdown_timeout=read.seconds("SHUTDOWN_TIMEOUT", "30"),
            ignore_sigterm=read.switch("IGNORE_SIGTERM"),
            journal=read.text("JOURNAL", "") or None,
            workers=read.whole("WORKERS", 200, 1, 10_000),
            accept_count=read.whole("ACCEPT_COUNT", 100, 1, 65535),
            max_connections=read.whole("MAX_CONNECTIONS", 8192, 1, 1_000_000),
            keep_alive=read.seconds("KEEP_ALIVE", "20"),
            release=read.release("RELEASE"),
        )


def duration(written: str, *, what: str) -> float:
    """Return `written` in seconds; a bare number already is seconds.

    Raises SettingsError naming `what` when it is no duration.
    """
    if match := _DURATION.fullmatch(written.strip()):
        return float(match[1]) * _UNITS[match[2] or "s"]
    raise SettingsError(f"{what} {written!r}: expected a duration such as 250ms, 1.5s or 2m")


class Environment:
    """Reads one variable at a time; one that is unset or empty has its default.

    Each raises SettingsError, naming the variable, for what it cannot mean.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, variable: str, default: str) -> str:
        """Return what it says."""
        return self._environ.get(variable, "").strip() or default

    def name(self, variable: str, default: str) -> str:
        """Return a name that may go into headers."""
        return _checked(variable, self.text(variable, default))

    def names(self, variable: str) -> tuple[str, ...]:
        """Return such names, separated by commas; none where it is unset."""
        listed = (one.strip() for one in self.text(variable, "").split(","))
        return tuple(_checked(variable, one) for one in listed if one)

    def whole(self, variable: str, default: int, least: int, most: int) -> int:
        """Return a whole number between these two."""
        return _whole(variable, self.text(variable, str(default)), least, most)

    def seconds(self, variable: str, default: str) -> float:
        """Return a duration in seconds."""
        return duration(self.text(variable, default), what=variable)

    def one_of(self, variable: str, known: tuple[str, ...]) -> str:
        """Return one of these; the first one where it is unset."""
        given = self.text(variable, known[0])
        if given in known:
            return given
        raise SettingsError(f"{variable} {given!r}: expected {' or '.join(known)}")

    def release(self, variable: str) -> Release:
        """Return one of the releases, the good one where it is unset."""
        given = self.text(variable, "good")
        name, colon, amount = given.partition(":")
        if name not in RELEASES or bool(colon) != bool(RELEASES[name]):
            known = ", ".join(f"{one}:{unit}" if unit else one for one, unit in RELEASES.items())
            raise SettingsError(f"{variable} {given!r}: expected one of {known}")
        what = f"{variable} {name}"
        if name == "sick-after":
            return Release(name, duration(amount, what=what))
        if name == "slow":
            return Release(name, _whole(what, amount, 0, 600_000) / 1e3)
        return Release(name, _whole(what, amount, 1, LIMIT_MB) if colon else 0.0)

    def switch(self, variable: str) -> bool:
        """Return whether it is on; off where it is unset."""
        given = self.text(variable, "")
        if given.lower() in _SWITCH:
            return _SWITCH[given.lower()]
        raise SettingsError(f"{variable} {given!r}: expected 1 or 0")


def _whole(what: str, given: str, least: int, most: int) -> int:
    if re.fullmatch("[0-9]{1,9}", given) and least <= int(given) <= most:
        return int(given)
    raise SettingsError(f"{what} {given!r}: expected a whole number from {least} to {most}")


def _checked(variable: str, name: str) -> str:
    if _NAME.fullmatch(name):  # it goes into headers and replies as it is
        return name
    raise SettingsError(f"{variable} {name!r}: expected 1 to 64 letters, digits or . _ + -")
