"""The topology's deploy script while it runs: what it starts, and what its lines mean."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from zdtest.duration import written
from zdtest.engine import Engine, Instance
from zdtest.errors import EngineError

_STEP = 0.01


def run(
    engine: Engine,
    script: Path,
    *,
    env: Mapping[str, str],
    timeout: float,
    watch: Callable[[Instance, list[str]], None],
) -> None:
    """Run `script` in its folder, `watch` told often of it and of the lines it has printed.

    Raises EngineError with its last lines unless it exits 0 within `timeout` seconds.
    """
    name = script.name
    one = engine.host.start(name, ["bash", name], env=env, cwd=script.parent)
    deadline = time.monotonic() + timeout
    over = False
    while not over and time.monotonic() < deadline:
        over = engine.wait(one, _STEP)
        watch(one, engine.logs(one, 10_000).splitlines())
    if not over:
        engine.kill(one)
        raise EngineError(f"{name} still ran after {written(timeout)}\n{engine.logs(one)}")
    if (fate := engine.fate(one)) != "exited 0":
        raise EngineError(f"{name} {fate}: {_last(engine.logs(one))}\n{engine.logs(one)}")


def _last(said: str) -> str:
    """Return its last word of its own, which begins with ``>`` as all of them."""
    own = [line for line in said.splitlines() if line.startswith("> ")]
    return own[-1].removeprefix("> ") if own else "it said nothing"
