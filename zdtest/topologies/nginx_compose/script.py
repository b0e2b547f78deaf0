"""A deploy script while it runs: what it tells of the deploy is marked when it tells it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

from zdtest.duration import written
from zdtest.engine import Engine, Instance, Marker
from zdtest.errors import EngineError

_STEP = 0.02
_COLOUR = re.compile("blue|green")
_SAYS = {
    "it is up": "app.ready",
    "is ready": "app.ready",
    "has the users": "deploy.switch",
}
"""What a line of the documented or the hardened script means, about the colour last named."""


def follow(engine: Engine, script: Instance, version: str, mark: Marker, *, timeout: float) -> None:
    """Return once the script, a process of this machine, has exited 0.

    Raises EngineError with its last lines unless it did within `timeout` seconds; it has ended.
    """
    colour = ""
    for line in _lines(engine, script, time.monotonic() + timeout):
        colour = [colour, *_COLOUR.findall(line)][-1]
        for words, name in _SAYS.items():
            if words in line:
                mark(name, instance=colour, version=version)
    if not engine.fate(script):
        engine.kill(script)
        raise EngineError(
            f"{script.name} still ran after {written(timeout)}\n{engine.logs(script)}"
        )
    if (fate := engine.fate(script)) != "exited 0":
        raise EngineError(f"{script.name} {fate}\n{engine.logs(script)}")


def _lines(engine: Engine, script: Instance, deadline: float) -> Iterator[str]:
    """Yield what it prints, line by line, until it has ended or the deadline has come."""
    with script.log.open("rb") as log:
        log.seek(script.log_from)
        rest, over = b"", False
        while not over and time.monotonic() < deadline:
            over = engine.wait(script, _STEP)
            *lines, rest = (rest + log.read()).split(b"\n")
            yield from (line.decode("utf-8", errors="replace") for line in lines)
