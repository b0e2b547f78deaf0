"""Document 000: how long a version may boot before its own rolling update takes all of it down.

The figure and its numbers are written into the run's folder; docs/ has those of one run::

    pytest scenarios/test_haproxy_swarm_boots.py --zd-full
"""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from account import Account

from zdtest import Slo
from zdtest.strategies import scripted

BOOTS = (2, 6, 9, 11, 13, 16, 20, 24, 26, 28, 30)
RELEASES = {f"v{number}": {"boot": boot} for number, boot in enumerate(BOOTS, start=2)}
STEP = 0.05


@pytest.mark.full
@pytest.mark.claim("0b", source="000", says="one at a time, ten seconds apart: two always serve")
@pytest.mark.topology("haproxy_swarm", variant="documented", scale=1, releases=RELEASES)
def test_boots_swept(zd):
    with zd.load(rate=40, channels="new@/", baseline="1s", settle="1s", timeout="20s"):
        for version, told in RELEASES.items():
            zd.deploy(version, scripted())
            zd.wait(told["boot"] + 2)
    zd.judge(Slo())
    found = [measured(zd, version, told["boot"]) for version, told in RELEASES.items()]
    (zd.folder / "boots.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(found, zd.folder / "boots.svg")
    least = [one["least"] for one in found]
    assert least == sorted(least, reverse=True), "the longer it boots, the fewer are left"
    assert (least[0], least[-1]) == (2, 0)
    # Before that as well: who has come late has to pass two checks, two seconds apart.
    assert all(one["down"] > 0 for one in found if one["none"] > 0.5)


def measured(zd, version: str, boot: float) -> dict[str, float]:
    """How many tasks HAProxy knew and were ready, and what users got of it, in that deploy."""
    account = Account(zd)
    begin = account.mark("deploy.begin", version=version)
    end = max(line["t"] for line in account.journal("ready", version=version)) + 1
    grid = np.arange(begin, end, STEP)
    usable = counts(zd, account, grid)
    chosen = account.within(begin, end)
    bad = np.sort(account.due[chosen & account.failed])
    buckets = ((account.due[chosen] - begin) // STEP).astype(int)
    failed = np.bincount(buckets, account.failed[chosen], minlength=len(grid))
    asked = np.bincount(buckets, minlength=len(grid))
    return {
        "boot": boot,
        "least": int(usable.min()),
        "two": round(float(np.sum(usable == 2)) * STEP, 2),
        "one": round(float(np.sum(usable == 1)) * STEP, 2),
        "none": round(float(np.sum(usable == 0)) * STEP, 2),
        "down": round(float(np.sum((asked > 0) & (failed == asked))) * STEP, 2),
        "failed": len(bad),
        "requests": int(np.sum(chosen)),
    }


def counts(zd, account: Account, grid):
    """How many tasks were ready and in HAProxy's configuration, at each of these moments."""
    clock = account.recording.manifest["clock"]
    shift = clock["monotonic"] - clock["wall"]
    tasks = map(json.loads, (zd.folder / "tasks.jsonl").read_text().splitlines())
    who = {line["task"]: (line["instance"], line["image"].rpartition(":")[2]) for line in tasks}
    log = (zd.folder / "logs" / "proxy.log").read_text()
    loads = [
        (float(at) + shift, [who[task] for task in re.findall(r"webapp\.\d\.(\w+)", servers)])
        for at, servers in re.findall(r"^([0-9.]+) pid \d+ has (.*)$", log, re.MULTILINE)
    ]
    ends = {(line["instance"], line["version"]): line["t"] for line in account.journal("term")}
    up = {
        (line["instance"], line["version"]): (
            line["t"],
            ends.get((line["instance"], line["version"]), np.inf),
        )
        for line in account.journal("ready")
    }
    known = np.searchsorted([at for at, _ in loads], grid) - 1
    return np.array(
        [
            sum(up[one][0] <= t < up[one][1] for one in loads[load][1] if one in up)
            for t, load in zip(grid, known, strict=True)
        ]
    )


def draw(found: list[dict[str, float]], path) -> None:
    """Seconds of an update with one task left and with none, by how long a version boots."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    boots = [one["boot"] for one in found]
    axes.plot(boots, [one["one"] for one in found], "o-", label="one task of three serves")
    axes.plot(boots, [one["none"] for one in found], "o-", label="none does")
    axes.plot(boots, [one["down"] for one in found], "x", label="users get errors only")
    axes.set_xlabel("seconds from a task's start until it listens")
    axes.set_ylabel("seconds of one update")
    axes.set_title("Document 000: parallelism 1, delay 10 s, three replicas")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, bbox_inches="tight")
    pyplot.close(figure)
