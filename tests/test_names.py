"""Names that change under load: an /etc/hosts of the load's own, in a mount namespace."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import namespaces
import pytest
from own_stack import until
from scripted import OK, Peer, ScriptedServer

from zdtest.judging.outage import doubted, outages
from zdtest.records.recording import Recording
from zdtest.records.sample import Mark, Outcome

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(bool(namespaces.missing()), reason=namespaces.missing()),
]

LOAD = Path(__file__).parent.parent / "zdtest" / "load.py"
BOUND = """
mount --bind hosts /etc/hosts || exit
if [ -e /etc/nsswitch.conf ]; then mount --bind switch /etc/nsswitch.conf || exit; fi
exec "$@"
"""
"""Names are what the file says, and no name server, which may be slow or away, is asked."""
LOCUST = [sys.executable, "-m", "locust", "-f", str(LOAD), "--headless", "--only-summary"]


def answers(peer: Peer) -> None:
    while peer.hear():
        peer.say(OK)


class Hosts:
    """The load's own /etc/hosts: what names stand for, for as long as a test says."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_text("")
        path.with_name("switch").write_text("hosts: files\n")

    def say(self, name: str, addresses: Sequence[str]) -> tuple[float, float]:
        """Have `name` stand for these addresses; return between which moments it came to."""
        before = time.monotonic()
        self._path.write_text("".join(f"{one} {name}\n" for one in addresses))
        return before, time.monotonic()


@contextmanager
def load(folder: Path, url: str, *options: str, seconds: float) -> Iterator[None]:
    """Send load to `url` for `seconds` in all; the block begins with it, and it ends with us."""
    words = [*LOCUST, "--host", url, "--run-time", f"{seconds}s", "--zd-out", "run", *options]
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("LOCUST_", "ZD_"))}
    command = ["unshare", "--mount", "sh", "-c", BOUND, "sh", *words, "--zd-news", "news"]
    with subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.DEVNULL) as process:
        try:
            until(lambda: "done" in _news(folder))
            yield
            process.wait(60)
        finally:
            process.kill()


def _news(folder: Path) -> str:
    path = folder / "news"
    return path.read_text() if path.exists() else ""


def names(recording: Recording) -> list[Mark]:
    return [mark for mark in recording.marks if mark.name.startswith("name.")]


def test_a_name_that_is_gone_for_half_a_second_is_an_outage_of_half_a_second(
    tmp_path: Path,
) -> None:
    hosts = Hosts(tmp_path / "hosts")
    hosts.say("app.test", ["127.0.0.1"])
    options = ("--rate", "200", "--channels", "new=1,reused=1")
    with (
        ScriptedServer(answers) as server,
        load(tmp_path, f"http://app.test:{server.port}", *options, seconds=5),
    ):
        time.sleep(1)
        gone = hosts.say("app.test", [])
        time.sleep(0.5)
        back = hosts.say("app.test", ["127.0.0.1"])
    recording = Recording.read(tmp_path / "run")
    found, lost, again = names(recording)
    assert [mark.name for mark in (found, lost, again)] == ["name.found", "name.lost", "name.found"]
    assert found.about["addresses"] == again.about["addresses"] == ["127.0.0.1"]
    assert lost.about["since"] <= gone[1]
    assert gone[0] <= lost.at
    assert again.about["since"] <= back[1]
    assert back[0] <= again.at
    assert recording.trailer is not None
    unsure = recording.trailer["lookup_ms"] / 1e3
    assert unsure == pytest.approx(max(one.at - one.about["since"] for one in (lost, again)))
    samples = recording.samples
    failed = samples.outcome != Outcome.ok
    assert set(samples.outcome[failed].tolist()) == {Outcome.dns}
    # Kept connections ask for no name, unless more are needed.
    (outage,) = doubted(
        [one for one in outages(samples, failed) if one.channel == "new"], 0.0, unsure
    )
    assert outage.min <= back[1] - gone[0]
    assert back[0] - gone[1] <= outage.max


def test_the_second_address_of_a_name_is_asked_as_often_as_the_first(tmp_path: Path) -> None:
    hosts = Hosts(tmp_path / "hosts")
    hosts.say("app.test", ["127.0.0.1", "127.0.0.2"])
    with ScriptedServer(answers) as server:
        # Nobody listens at the other one.
        with load(tmp_path, f"http://app.test:{server.port}", "--channels", "new", seconds=2):
            pass
        seen = server.seen
    recording = Recording.read(tmp_path / "run")
    outcomes = recording.samples.outcome
    assert abs(len(outcomes) - 2 * int((outcomes == Outcome.refused).sum())) <= 1
    assert seen == int((outcomes == Outcome.ok).sum())
    (found,) = names(recording)
    assert found.about["addresses"] == ["127.0.0.1", "127.0.0.2"]
