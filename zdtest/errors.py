"""Everything zdtest raises on purpose.

::

    Exception
     ├─ ZdError               the tool or the system could not do what was asked
     │   ├─ ConfigError       an option, topology, marker, path or Slo that cannot mean anything
     │   ├─ RecordingError    a run's folder that is missing, foreign, damaged or unwritable
     │   ├─ EngineError       a process or container did not start, become ready or stop
     │   │   └─ EngineMissing there is no engine here that could run it
     │   ├─ CommandError      the deploy command could not be executed: no deploy began
     │   ├─ DeployFailed      the deploy command or strategy raised, timed out or exited non-zero
     │   │   └─ DeployTimeout it ran out of time, and was ended for it
     │   ├─ FaultError        a fault that took no effect, was not undone or never fired
     │   ├─ LoadFailed        the load generator died or never sent its first request
     │   └─ Inconclusive      the run ended, and proves nothing either way
     └─ AssertionError
         └─ SloViolation      nothing went wrong in the tool: the promise was broken

The first line of a message holds the fact, within about sixty characters where it can, because
that is what a test runner's summary keeps. What was expected follows.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ZdError(Exception):
    """The tool or the system under test could not do what was asked."""


class ConfigError(ZdError):
    """An option, topology, marker, path or Slo that cannot mean anything."""


class RecordingError(ZdError):
    """A run's folder is missing, foreign, damaged or cannot be written."""


class EngineError(ZdError):
    """A process or container did not start, become ready or stop; carries its last output."""


class EngineMissing(EngineError):
    """There is no engine on this machine that could run it; says what would bring one."""


class CommandError(ZdError):
    """The deploy command could not be executed: no deploy began, so none was given up either."""


class DeployFailed(ZdError):
    """The deploy command or strategy raised, ran out of time or exited non-zero."""


class DeployTimeout(DeployFailed):
    """The deploy command ran out of time, and was ended for it."""


class FaultError(ZdError):
    """A fault took no effect, was still there after its heal, or never fired: no pass."""


class LoadFailed(ZdError):
    """The load generator died or never sent its first request."""


class Inconclusive(ZdError):
    """The run ended and proves nothing either way; says which evidence is missing."""


class SloViolation(AssertionError):
    """The promise was broken, by evidence that stands."""


for _shown_by_its_public_name in (Inconclusive, SloViolation):
    # pytest prints an exception with its module; users meet these as ``zdtest.SloViolation``.
    _shown_by_its_public_name.__module__ = "zdtest"


EXTRAS = {
    **dict.fromkeys(("docker", "testcontainers"), "docker"),
    **dict.fromkeys(("anyio", "httptools", "httpx", "starlette", "uvicorn", "yaml"), "scenarios"),
}
"""By which extra of zdtest a package comes that not everybody needs."""


def lacking(package: str) -> str:
    """Return in words that a package of an extra is missing, and what installs it."""
    return f"the package {package} is missing: pip install 'zdtest[{EXTRAS[package]}]'"


def unknown(kind: str, given: str, known: Iterable[str]) -> ConfigError:
    """Return the error for a name that is not known, naming the nearest one that is."""
    names = sorted(known)
    near = difflib.get_close_matches(given, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ConfigError(f"unknown {kind} {given!r}: {hint}expected one of {', '.join(names)}")


def fact(error: BaseException) -> str:
    """Return the first line of what an error says, its name where it says nothing."""
    return str(error).partition("\n")[0] or type(error).__name__
