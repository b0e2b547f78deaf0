"""The hardened balancer's pings, beside what its requests find out meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from zdtest.topologies.custom_lb.hardened import ping
from zdtest.topologies.custom_lb.hardened.pool import Pool
from zdtest.topologies.custom_lb.hardened.settings import Place, Settings
from zdtest.topologies.custom_lb.hardened.target import Health, Ping, Rotation, Target


@pytest.mark.parametrize("answer", [Ping.GOOD, Ping.MISS])
def test_a_target_that_is_suspected_while_its_ping_is_on_the_way_ends_nobody(
    answer: Ping, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = Target("127.0.0.1", 1, fall=2, rise=2, pool=Pool(4.0))
    target.health = Health.UP
    answers = [answer, Ping.GOOD, Ping.GOOD]

    async def asked(*_: object) -> Ping:
        if len(answers) == 3:
            target.suspected()
        if not answers:
            raise asyncio.CancelledError
        return answers.pop(0)

    monkeypatch.setattr(ping, "_ping", asked)
    settings = Settings(targets=(Place("127.0.0.1", 1),), ping_period=0.0)
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(ping.watch(target, Rotation((target,)), settings))
    assert target.health is Health.UP
    told = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert told == ["registered"], "it comes back, and nothing else is told"
