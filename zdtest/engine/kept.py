"""Stacks left running on purpose: ``zdtest up`` notes them here, ``zdtest down`` ends them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from zdtest.engine import reaper
from zdtest.engine.ports import own_folder


def note(run: str, about: Mapping[str, object]) -> None:
    """Note the kept stack `run` and what a person wants to know of it, such as its URL."""
    (own_folder("kept") / f"{run}.json").write_text(json.dumps({"run": run, **about}) + "\n")


def kept() -> list[Mapping[str, Any]]:
    """Return what was noted of the stacks that still run."""
    runs = {process.labels.get(reaper.RUN) for process in reaper.processes()}
    noted = (json.loads(path.read_text()) for path in sorted(own_folder("kept").glob("*.json")))
    return [about for about in noted if about["run"] in runs]


def down(run: str = "") -> list[str]:
    """End the kept stack `run`, "" for all of this machine; return the names of those ended."""
    ended = reaper.end_kept(run)
    for name in ended:
        (own_folder("kept") / f"{name}.json").unlink(missing_ok=True)
    return ended
