"""What stands behind document 002 by itself: how it deploys, by what a manager tells."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from zdtest import topology
from zdtest.engine.process import ProcessEngine
from zdtest.errors import ConfigError

SHOP = topology.find("swarm_shop")
HARDENED = SHOP.folder / "hardened"
STACKS = ("prod", "coupon", "front")
MANAGER = """#!/bin/sh
# Says what the next line of the script says, its last one again and again; "away" is no answer.
echo "$*" >> "$TOLD/asked"
case "$*" in
  *rollback*) mv "$TOLD/back" "$TOLD/states" ;;
  *UpdateStatus.State*)
    state=$(head -n 1 "$TOLD/states")
    [ "$(wc -l < "$TOLD/states")" -lt 2 ] || sed -i 1d "$TOLD/states"
    echo "$state" > "$TOLD/now"
    [ "$state" != away ] || exit 1
    echo "$state" ;;
  *UpdateStatus.Message*) echo "why" ;;
  *Error*) echo "front_app.1 shop:2 Pending no suitable node" ;;
  *ps*) [ "$(cat "$TOLD/now")" != away ] && cat "$TOLD/images" ;;
esac
"""


def deployed(
    folder: Path, *states: str, images: str = "shop:2", back: str = "", within: float = 5
) -> subprocess.CompletedProcess[str]:
    """What the script says of a manager that tells these states of the update, one after the other.

    The tasks have these images; after a rollback it is `back`.
    """
    (folder / "docker").write_text(MANAGER)
    (folder / "docker").chmod(0o755)
    (folder / "states").write_text("\n".join(states) + "\n")
    (folder / "back").write_text(back + "\n")
    (folder / "images").write_text(images + "\n")
    told = {"TOLD": str(folder), "PATH": f"{folder}:{os.environ['PATH']}", "WITHIN": str(within)}
    script = ["bash", str(HARDENED / "deploy.sh"), "2", "front"]
    return subprocess.run(
        script, cwd=HARDENED, env=told, capture_output=True, text=True, timeout=20, check=False
    )


def asked(folder: Path, what: str) -> bool:
    return any(what in line for line in (folder / "asked").read_text().splitlines())


def test_an_update_is_waited_for(tmp_path: Path) -> None:
    ran = deployed(tmp_path, "", "updating", "updating", "completed", images="shop:1\nshop:2")
    assert (ran.returncode, ran.stdout) == (0, "")
    assert (tmp_path / "states").read_text() == "completed\n"


def test_where_all_run_that_version_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    assert deployed(tmp_path, "").returncode == 0


@pytest.mark.parametrize("images", ["shop:1\nshop:2", ""], ids=["one", "none"])
def test_where_not_all_run_it_the_update_has_not_begun(tmp_path: Path, images: str) -> None:
    ran = deployed(tmp_path, "", images=images, back="rollback_completed", within=1)
    assert ran.returncode == 1


def test_a_manager_that_is_away_has_not_said_that_it_is_done(tmp_path: Path) -> None:
    ran = deployed(tmp_path, "updating", "away", "away", "updating", "completed", images="shop:1")
    assert (ran.returncode, ran.stdout) == (0, "")
    assert (tmp_path / "states").read_text() == "completed\n"


@pytest.mark.parametrize("state", ["paused", "rollback_completed", "rollback_paused"])
def test_an_update_that_failed_fails_the_script_with_what_the_tasks_say(
    tmp_path: Path, state: str
) -> None:
    ran = deployed(tmp_path, "updating", state)
    assert ran.returncode == 1
    assert ran.stdout.splitlines()[:2] == [f"front_app: {state}", "why"]
    assert "no suitable node" in ran.stdout
    assert not asked(tmp_path, "rollback")


def test_an_update_that_does_not_get_there_is_taken_back(tmp_path: Path) -> None:
    ran = deployed(tmp_path, "updating", back="rollback_completed", within=1)
    assert ran.returncode == 1
    lines = ran.stdout.splitlines()
    assert (lines[0], lines[-1]) == ("front_app: not within 1 s", "front_app: rollback_completed")
    assert "no suitable node" in ran.stdout
    assert asked(tmp_path, "service rollback --detach front_app")


@pytest.mark.parametrize("stack", STACKS)
def test_the_next_task_is_replaced_only_once_an_ill_one_would_have_been_found(stack: str) -> None:
    told = yaml.safe_load((HARDENED / f"{stack}_service" / "docker-stack.yml").read_text())
    service = told["services"]["app"]
    health, update = service["healthcheck"], service["deploy"]["update_config"]
    drain = next(word for word in service["environment"] if word.startswith("DRAIN_SECONDS="))
    asked = health["retries"] * (seconds(health["interval"]) + seconds(health["timeout"]))
    # Two are the swarm's own, between a task's last new connection and its SIGTERM.
    assert asked + 2 + seconds(drain) < seconds(update["delay"]) < seconds(update["monitor"])


def seconds(written: str) -> float:
    """The seconds that are meant where the variable is not set: ``${DELAY:-18s}``."""
    return float(written.rpartition(":-")[2].removesuffix("}").removesuffix("s"))


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"entry": 4}, "entry 4: expected a node, 1 to 3"),
        ({"reserved": 2}, "reserved 2: expected a share of a node's memory, 0 to 1"),
        ({"replicas": 7}, "replicas 7: expected 1 to 6, two on a node"),
        ({"deploys": ("fron",)}, "unknown stack 'fron': did you mean 'front'"),
    ],
)
def test_what_cannot_be_raised_is_refused_before_anything_starts(
    tmp_path: Path, told: dict[str, object], says: str
) -> None:
    with (
        ProcessEngine("test-shop", tmp_path) as engine,
        pytest.raises(ConfigError, match=says),
        SHOP.raised("hardened", "v1", engine, **told),
    ):
        pass
