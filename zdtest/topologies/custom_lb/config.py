"""The targets.yml that a balancer runs with: the one beside it, with our ports in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml


def write(
    path: Path,
    balancer: Path,
    settings: Mapping[str, object],
    *,
    users: Sequence[int],
    spares: Sequence[int],
) -> None:
    """Write to `path` what `balancer` comes with, `settings` changed, these ports its targets.

    The `spares` have weight 0. A setting that is None is left as it was.
    """
    config = yaml.safe_load(balancer.with_name("targets.yml").read_text("utf-8"))
    config |= {name: value for name, value in settings.items() if value is not None}
    config["targets"] = [_place(port) for port in users]
    config["targets"] += [_place(port) | {"weight": 0} for port in spares]
    path.write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")


def _place(port: int) -> dict[str, object]:
    return {"host": "http://127.0.0.1", "port": port}
