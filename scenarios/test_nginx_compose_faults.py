"""Document 003 when something goes wrong, in a deploy or between two."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from account import UNINTERRUPTED
from behind_nginx import Behind

from zdtest import DeployFailed, Inconclusive, Slo, SloViolation
from zdtest.errors import FaultError
from zdtest.faults import at, freeze, kill, kill_balancer
from zdtest.strategies import scripted

QUICK = {"baseline": "1s", "settle": "500ms"}
CLIENTS = "new=2@/api,reused=2@/api,write=2@/orders"
# How long nginx leaves out a server that has failed it three times; the document has ten seconds.
OUT = 4
# Seconds of the document: longer than nginx leaves a server out, so it is asked while it boots.
BOOT = 25
# The one that was cut off failed, and is made again.
AGAIN = dataclasses.replace(UNINTERRUPTED, deploy="again")
# How long a colour stands still, and how long users wait.
STILL, PATIENCE = 1.8, 1.0


def both(**settings: object) -> pytest.MarkDecorator:
    """The documented and the hardened variant, with the same settings."""
    variants = {
        "documented": {**settings, "fail_timeout": OUT},
        "hardened": settings,
    }
    return pytest.mark.parametrize(
        "variant",
        [
            pytest.param(name, marks=pytest.mark.topology("nginx_compose", variant=name, **told))
            for name, told in variants.items()
        ],
    )


@dataclass(frozen=True, slots=True)
class Interrupt:
    """The deploy script is killed, with all that it started; somebody runs it again later."""

    name: str = "interrupt deploy"

    def inject(self, stack) -> Callable[[], None]:
        host, script = stack.engine.host, stack.script
        host.kill(script)
        if host.fate(script) != "killed by SIGKILL":
            raise FaultError(f"{self.name}: {host.fate(script)}")
        return lambda: None


@pytest.mark.claim("3a", source="003", says="a colour that boots is left out, as it is down")
@pytest.mark.parametrize(
    "scale",
    [
        pytest.param(
            scale,
            marks=[
                pytest.mark.topology("nginx_compose", scale=scale, boot=BOOT * scale),
                *([pytest.mark.full] if scale == 1 else []),
            ],
        )
        for scale in (0.1, 1)
    ],
)
@pytest.mark.xfail(
    raises=SloViolation, strict=True, reason="Docker accepts for who does not listen yet: 502"
)
@pytest.mark.causes("unready", "stopped", "dead")
def test_who_writes_while_the_new_colour_boots(zd, scale):
    """Sent is sent: nginx cannot know that nobody read it, and does not ask the other colour."""
    with zd.load(rate=100, channels="write=1@/orders", **QUICK):
        zd.deploy("v2", scripted())
    seen = Behind(zd)
    created = seen.mark("engine.container.create", instance="green")
    ready = ready_at(seen, "v2")
    booting = seen.failed & (seen.samples.due >= created) & (seen.samples.due < ready)
    lost, out = seen.ids(booting), 10 * scale
    assert lost
    # Once in each time for which nginx leaves out a server; several where they came at once.
    times = 1 + np.count_nonzero(np.diff(np.sort(seen.samples.done[booting])) > out / 2)
    assert times <= 1 + (ready - created) / out
    assert seen.statuses(booting) == {502}
    assert lost & set(seen.arrived) == set(), "none of it ran"
    assert all(seen.tries(request) == [address(zd, "green")] for request in lost)
    zd.expect(UNINTERRUPTED)


@pytest.mark.full
@pytest.mark.claim("3a", source="003", says="the same, asked for the first time once it is healthy")
@pytest.mark.topology("nginx_compose", variant="hardened", boot=BOOT / 10)
def test_who_writes_while_the_new_colour_boots_hardened(zd):
    with zd.load(rate=100, channels="write=1@/orders", **QUICK):
        zd.deploy("v2", scripted())
    zd.expect(UNINTERRUPTED)


@pytest.mark.full
@both(boot=0.0)
@pytest.mark.claim("3a", source="003", says="the one that is there dies, and comes back")
@pytest.mark.causes("nobody", "dead", "unready", "died")
def test_the_only_colour_dies(zd, variant):
    """Down while it is down, whatever nginx does. What differs is when users get it back."""
    with (
        zd.load(rate=100, channels=CLIENTS, **QUICK),
        zd.fault(kill("blue"), heal_after="500ms"),
    ):
        zd.wait(f"{OUT + 1.5}s" if variant == "documented" else "2.5s")
    with pytest.raises(SloViolation):
        zd.expect(Slo())
    seen = Behind(zd)
    dead, ready = seen.mark("fault.proven"), ready_at(seen, "v1")
    down = (seen.samples.due > dead) & (seen.samples.done < ready)
    assert np.count_nonzero(down) > 30
    assert np.all(seen.failed[down])
    assert seen.statuses(down) == {502}
    late = seen.answered(ready) - ready
    if variant == "documented":
        # Out by three failures just after it died; then nobody is asked, well as it is.
        assert OUT - 1 <= late + (ready - dead) <= OUT + 1.5
        assert late > 1
        refused = seen.failed & (seen.samples.due > ready) & (seen.samples.done < ready + late)
        assert not any(address(zd, "blue") in seen.tries(each) for each in seen.ids(refused))
    else:
        assert late < 0.3


@pytest.mark.full
@pytest.mark.claim("3b", source="003", says="a new colour that does not answer harms nobody")
@pytest.mark.topology("nginx_compose", variant="documented", boot=0.0)
@pytest.mark.xfail(raises=SloViolation, strict=True, reason="every other request waits for it")
@pytest.mark.causes("hung")
def test_the_new_colour_stands_still(zd):
    """It had its share as soon as it listened, and nginx waits for a minute."""
    with (
        zd.load(rate=150, channels=CLIENTS, timeout=PATIENCE, **QUICK),
        zd.fault(freeze("green"), at=at("started", after="2.4s"), heal_after=STILL),
    ):
        zd.deploy("v2", scripted())
    seen = Behind(zd)
    still = seen.mark("fault.proven")
    meanwhile = (seen.samples.due > still) & (seen.samples.due < still + STILL - PATIENCE)
    assert 0.4 < np.mean(seen.failed[meanwhile]) < 0.6
    zd.expect(UNINTERRUPTED)


@pytest.mark.full
@pytest.mark.claim("3b", source="003", says="the same: who is not well is not given any")
@pytest.mark.topology("nginx_compose", variant="hardened", boot=0.0)
def test_the_new_colour_stands_still_hardened(zd):
    """The script waits for it as long as it waits for a boot."""
    with (
        zd.load(rate=150, channels=CLIENTS, timeout=PATIENCE, **QUICK),
        zd.fault(freeze("green"), at="started", heal_after=STILL),
    ):
        zd.deploy("v2", scripted())
    zd.expect(UNINTERRUPTED)
    seen = Behind(zd)
    assert seen.mark("fault.proven") + STILL < seen.mark("app.ready")


@pytest.mark.full
@pytest.mark.claim("3b", source="003", says="whoever runs the script again gets what was delivered")
@pytest.mark.topology("nginx_compose", variant="documented", boot=0.0)
def test_a_deploy_that_was_cut_off(zd):
    """Both run. `up -d` does nothing for the one that is up, and the check is content with it."""
    with zd.load(rate=100, channels="new=1@/api", **QUICK):
        with zd.fault(Interrupt(), at=at("started", after="300ms")), pytest.raises(DeployFailed):
            zd.deploy("v2", scripted())
        zd.deploy("v3", scripted())
    with pytest.raises(Inconclusive, match="v3 was never observed"):
        zd.expect(AGAIN)
    seen = Behind(zd)
    assert "brings up green" in zd.stack.said()
    assert {line["version"] for line in seen.journal("started")} == {"v1", "v2"}


@pytest.mark.claim("3b", source="003", says="the same, whenever it was cut off")
@pytest.mark.topology("nginx_compose", variant="hardened", boot=0.0)
@pytest.mark.full
@pytest.mark.parametrize("when", ["started", "first_ready", "switch"])
def test_a_deploy_that_was_cut_off_hardened(zd, when):
    """What nginx was told says who is live; the other one is left over, and begun anew."""
    with zd.load(rate=100, channels=CLIENTS, **QUICK):
        with zd.fault(Interrupt(), at=when), pytest.raises(DeployFailed):
            zd.deploy("v2", scripted())
        zd.deploy("v3", scripted())
    verdict = zd.expect(AGAIN)
    # Whether it came to the switch: only "first_ready" may be a moment before it or after it.
    switched = "v2" in verdict.versions
    assert (when, switched) not in {("started", True), ("switch", False)}
    live, left = ("blue", "green") if switched else ("green", "blue")
    assert zd.stack.wanted(live)
    assert not zd.stack.wanted(left)


@pytest.mark.full
@both(boot=2.0)
@pytest.mark.claim("3a", source="003", says="one nginx: without it there is nothing")
@pytest.mark.causes("proxy")
def test_nginx_is_restarted_while_a_colour_boots(zd, variant):
    """Total outage until another one listens, and the deploy goes through all the same."""
    with (
        zd.load(rate=100, channels=CLIENTS, **QUICK),
        zd.fault(kill_balancer(), at="started", heal_after="200ms"),
    ):
        zd.deploy("v2", scripted())
    with pytest.raises(SloViolation):
        zd.expect(Slo())
    seen = Behind(zd)
    dead, back = seen.mark("fault.proven"), seen.mark("fault.end")
    down = (seen.samples.due > dead) & (seen.samples.done < back)
    assert np.count_nonzero(down) > 10
    outside = seen.failed & (seen.samples.done < seen.mark("fault.begin"))
    assert not np.any(outside)
    assert np.count_nonzero(seen.by("green")) > 0


# Where nginx.conf lies on this machine, and in the container.
CONF = {
    "documented": ("nginx.conf", "/etc/nginx/nginx.conf"),
    "hardened": ("nginx/nginx.conf", "/etc/nginx/study-pot/nginx.conf"),
}


@pytest.mark.full
@both(boot=0.0)
@pytest.mark.claim("3a", source="003", says="nginx.conf is mounted, so it is edited where it lies")
def test_an_edit_of_nginx_conf(zd, variant):
    """`sed -i`, as most editors, puts another file in its place; nginx still reads the first."""
    here, there = CONF[variant]
    edit = ["sed", "-i", "s/worker_connections  1024/worker_connections  2048/"]
    zd.stack.engine.run("edit", [*edit, str(zd.stack.folder / here)])
    read = zd.stack.engine.execute(zd.stack.balancer, ["nginx", "-T", "-c", there])
    assert ("worker_connections  2048" in read) == (variant == "hardened")
    assert ("worker_connections  1024" in read) == (variant == "documented")


def ready_at(seen: Behind, version: str) -> float:
    """When that version last became ready."""
    return max(line["t"] for line in seen.journal("ready", version=version))


def address(zd, name: str) -> str:
    """What nginx knows the colour by."""
    return f"{zd.stack.gateway}:{dict(blue=8081, green=8082)[name]}"
