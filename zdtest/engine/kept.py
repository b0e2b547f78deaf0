"""Stacks left running on purpose: ``zdtest up`` notes them here, ``zdtest down`` ends them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from zdtest.engine import reaper, remains
from zdtest.engine.ports import own_folder


def note(run: str, about: Mapping[str, object]) -> None:
    """Note the kept stack `run` and what a person wants to know of it, such as its URL."""
    (own_folder("kept") / f"{run}.json").write_text(json.dumps({"run": run, **about}) + "\n")


def kept() -> list[Mapping[str, Any]]:
    """Return what was noted of the stacks that still run."""
    runs = {process.labels.get(reaper.RUN) for process in reaper.processes()}
    for address in _engines():
        runs |= {one.run for one in _there(address)}
    return [about for about in _noted() if about["run"] in runs]


def down(run: str = "") -> list[str]:
    """End the kept stack `run`, "" for all of this machine; return the names of those ended."""
    ended = set(reaper.end_kept(run))
    for address in _engines():
        if _there(address):
            ended.update(remains.remove_kept(address, run))
    for name in ended:
        (own_folder("kept") / f"{name}.json").unlink(missing_ok=True)
    return sorted(ended)


def _noted() -> list[Mapping[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(own_folder("kept").glob("*.json"))]


def _engines() -> set[str]:
    """Return the addresses of the Docker Engines that hold parts of kept stacks."""
    return {address for about in _noted() for address in about.get("engines", ())}


def _there(address: str) -> list[remains.Remnant]:
    """Return what of any run that engine holds, nothing where it has ended."""
    try:
        return list(remains.remnants(address))
    except OSError:
        return []
