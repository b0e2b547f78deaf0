"""Document 000: a swarm's rolling update behind a HAProxy that finds the tasks by itself."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from account import UNINTERRUPTED, Account

from zdtest import SloViolation
from zdtest.records.sample import CHANNELS
from zdtest.strategies import scripted

QUICK = {"baseline": "1s", "settle": "500ms"}
# The slow ones last longer than it takes the swarm to end a task that is to go: 2 to 3.5 seconds.
CLIENTS = "new=4@/,reused=4@/,write=2@/orders,slow=1@/5000~5s"
NO_SLOW = "new=3@/,reused=3@/,write=2@/orders"

ONE_AFTER_THE_OTHER = ["sh", "-c", 'while curl -s "$0" || echo "curl: $?"; do echo; sleep 1; done']
ANSWER = re.compile(r"app-[123], current time : \d{13}")


def by_hand(zd, during) -> list[str]:
    """What the document's own test says meanwhile: `curl`, again and again, once a second."""
    host = zd.stack.engine.host
    curl = host.start("curl", [*ONE_AFTER_THE_OTHER, zd.url])
    during()
    host.kill(curl)
    return [line for line in host.logs(curl, 10_000).splitlines() if line]


@pytest.mark.claim("0a", source="000", says="HAProxy finds who leaves, so nobody notices")
@pytest.mark.parametrize(
    "scale",
    [
        # Five seconds are to the swarm's own two what they are in the document.
        pytest.param(0.4, marks=pytest.mark.topology("haproxy_swarm", scale=0.4, poll=5)),
        pytest.param(1, marks=[pytest.mark.topology("haproxy_swarm", scale=1), pytest.mark.full]),
    ],
)
@pytest.mark.xfail(raises=SloViolation, strict=True, reason="a task is ended with what it has")
@pytest.mark.causes("stopped", "unready", "dead", "reload")
def test_an_update(zd, scale):
    """0c as well: `curl` once a second is content with the very same update."""
    with zd.load(rate=110, channels=CLIENTS, timeout="20s", **QUICK):
        said = by_hand(zd, lambda: zd.deploy("v2", scripted()))
    assert len(said) > 15
    assert all(ANSWER.fullmatch(line) for line in said), said
    account = Account(zd)
    proxy = {line["id"]: line for line in account.balancer}
    ends = ended(account, "v1")
    assert set(ends) == {"webapp.1", "webapp.2", "webapp.3"}
    slow = account.failed & (account.samples.channel == CHANNELS.index("slow"))
    for name, end in ends.items():
        cut = account.ids(slow & (np.abs(account.done - end) < 0.3))
        # Of one that was not the first on its connection HAProxy says no word, to nobody.
        told = [proxy[one] for one in cut if one in proxy]
        assert told, f"{name} had some"
        assert {(line["status"], line["end"]) for line in told} == {("502", "SH")}
        assert {line["server"].split(".")[1] for line in told} == {name.removeprefix("webapp.")}
    zd.expect(UNINTERRUPTED)


def ended(account: Account, version: str) -> dict[str, float]:
    """When the process of each instance ended that ran that version."""
    return {
        line["instance"]: line["t"]
        for line in account.journal("stopped", version=version, code=143)
    }


# Of the boots that leave nobody, the shortest by some: two tasks have gone, and HAProxy has heard
# that the third is to go, while the first one boots.
BOOT = 7.0
# What is left of the document's times; the swarm's own are three seconds or so a task.
SHORT = 0.02


@pytest.mark.claim("0b", source="000", says="one at a time, ten seconds apart: two always serve")
@pytest.mark.topology("haproxy_swarm", variant="documented", scale=SHORT, boot=BOOT)
@pytest.mark.xfail(raises=SloViolation, strict=True, reason="the delay counts from a start")
@pytest.mark.causes("nobody", "unready")
def test_an_update_to_what_boots_for_long(zd):
    with zd.load(rate=100, channels=NO_SLOW, **QUICK):
        zd.deploy("v2", scripted())  # and `docker service update` looks on for five seconds more
    account = Account(zd)
    proxy = {line["id"]: line for line in account.balancer}
    left, pids = without(zd, account, "v1")
    came = first_ready(account, "v2")
    assert came - left > 0.5
    # The process before takes who comes until the new one has told it to go.
    meanwhile = account.within(left, came)
    lines = [proxy[one] for one in account.ids(meanwhile) if one in proxy]
    told = [line for line in lines if line["pid"] in pids]
    assert len(told) > 30
    assert {line["status"] for line in told} == {"503"}
    assert {line["end"] for line in told} <= {"SC", "sC"}
    zd.expect(UNINTERRUPTED)


def without(zd, account: Account, version: str) -> tuple[float, set[int]]:
    """When the image had HAProxy go on without any task of the version, and as which processes."""
    clock = account.recording.manifest["clock"]
    shift = clock["monotonic"] - clock["wall"]
    log = (zd.folder / "logs" / "proxy.log").read_text()
    tasks = map(json.loads, (zd.folder / "tasks.jsonl").read_text().splitlines())
    old = {line["task"] for line in tasks if line["image"].endswith(f":{version}")}
    gone = [
        (float(at) + shift, int(pid))
        for at, pid, servers in re.findall(r"^([0-9.]+) pid (\d+) has (.*)$", log, re.MULTILINE)
        if not set(re.findall(r"webapp\.\d\.(\w+)", servers)) & old
    ]
    return gone[0][0], {pid for _, pid in gone}


def first_ready(account: Account, version: str) -> float:
    """When the first instance of that version was ready."""
    return min(line["t"] for line in account.journal("ready", version=version))


@pytest.mark.claim("0b", source="000", says="the same: a task is there once it is healthy")
@pytest.mark.topology("haproxy_swarm", variant="hardened", scale=SHORT, boot=BOOT)
def test_an_update_to_what_boots_for_long_hardened(zd):
    """0a as well: whoever is told to end has no users any more, and finishes what it has."""
    with zd.load(rate=100, **QUICK):
        zd.deploy("v2", scripted())
    verdict = zd.expect(UNINTERRUPTED)
    assert set(verdict.versions) == {"v1", "v2"}
    assert verdict.writes.ok == verdict.writes.sent


MANY = [f"v{number}" for number in range(1, 14)]


@pytest.mark.full
@pytest.mark.claim("0a", source="000", says="the same a dozen times, for every kind of client")
@pytest.mark.topology("haproxy_swarm", variant="hardened", scale=0.1)
def test_a_dozen_updates_hardened(zd):
    clients = "new=3@/,reused=3@/,idle=1@/,slow=1@/500~500ms,write=2@/orders"
    with zd.load(rate=250, channels=f"{clients},stream=1@/events?every=200ms&for=1s~200ms"):
        for version in MANY[1:]:
            zd.deploy(version, scripted())
    verdict = zd.expect(UNINTERRUPTED)
    assert set(verdict.versions) == set(MANY)
    assert verdict.writes.ok == verdict.writes.sent


@pytest.mark.full
@pytest.mark.claim("0b", source="000", says="the same at its own times, there and back")
@pytest.mark.topology("haproxy_swarm", variant="hardened", scale=1, boot=10)
def test_two_updates_hardened(zd):
    with zd.load(rate=110, channels=CLIENTS, **QUICK):
        zd.deploy("v2", scripted())
        zd.deploy("v3", scripted())
    zd.expect(UNINTERRUPTED)
