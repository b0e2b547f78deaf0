"""`Load` says what traffic to send; `Traffic` is that load at work, in a process of its own.

Locust changes the interpreter that imports it, so it never runs in this one.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zdtest import channel, duration
from zdtest.channel import Channel
from zdtest.engine import Engine, Instance
from zdtest.errors import ConfigError, EngineError, LoadFailed
from zdtest.sending import headers
from zdtest.sending.preflight import expect_answer, expect_words
from zdtest.status import statuses

_LOCUSTFILE = Path(__file__).with_name("load.py")
_LOCUST = [sys.executable, "-m", "locust", "-f", str(_LOCUSTFILE), "--loglevel", "WARNING"]
_HERE = "127.0.0.1"
_STARTS_WITHIN = 30.0
_ENDS_WITHIN = 30.0
_WORKERS_END_WITHIN = 10.0
_MOST_WORKERS = 64


@dataclass(frozen=True, slots=True)
class Load:
    """What traffic to send: open loop, `rate` requests a second over all `channels`.

    `timeout` is in seconds. More than one of `workers` are so many processes that send it together,
    and a master beside them that records. `options` are further options of the Locust file, by
    their long names without the dashes in front. `headers` are sent with every request; their
    values are told to nobody else. Raises ConfigError when any of it means nothing.
    """

    rate: float = 100.0
    channels: str = channel.DEFAULT
    path: str = "/"
    timeout: float = 5.0
    seed: int = field(default_factory=lambda: secrets.randbits(32))
    workers: int = 1
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    options: Mapping[str, str | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lanes()
        if not 0 < self.timeout <= 600:
            raise ConfigError(f"timeout {self.timeout:g}s: expected more than 0s, at most 10m")
        if not 1 <= self.workers <= _MOST_WORKERS:
            raise ConfigError(f"workers {self.workers}: expected 1 to {_MOST_WORKERS}")
        object.__setattr__(self, "headers", headers.checked(self.headers.items()))
        expect_words(self.options, headers=self.headers)

    def lanes(self) -> list[Channel]:
        """Return the channels with their rates."""
        return channel.parse(self.channels, rate=self.rate, path=self.path, timeout=self.timeout)

    def expect_answers(self, url: str) -> None:
        """Return once each page was answered that is asked for and answers at once.

        Raises ConfigError in one line that says what came instead.
        """
        expected = statuses(str(self.options.get("expect-status") or "2xx"))
        verify = not self.options.get("insecure")
        quick = [one.path for one in self.lanes() if one.name in ("new", "reused", "idle")]
        for path in dict.fromkeys(quick):
            expect_answer(url, path, expected, headers=self.headers, verify=verify)

    @property
    def longest(self) -> float:
        """Seconds after which no request can still be on its way."""
        return max(one.think for one in self.lanes()) + self.timeout

    def as_dict(self) -> dict[str, object]:
        """Return it as the manifest tells it."""
        return {
            "rate": self.rate,
            "seed": self.seed,
            **({"workers": self.workers} if self.workers > 1 else {}),
            "channels": {one.name: one.as_dict() for one in self.lanes()},
            **headers.told(self.headers),
        }

    def argv(self, url: str) -> list[str]:
        """Return the command line of the Locust file."""
        argv = [*_LOCUST, "--headless", "--only-summary", "--host", url]
        argv += ["--rate", repr(self.rate), "--channels", self.channels, "--path", self.path]
        argv += ["--timeout", f"{self.timeout!r}s", "--seed", str(self.seed)]
        for name, value in self.options.items():
            argv += [f"--{name}"] if value is True else [f"--{name}={value}"] if value else []
        return argv


class Traffic:
    """The load's process: it sends from `start` to `stop`, and tells how it goes in between.

    Where there are workers they send and it records.
    """

    def __init__(self, engine: Engine, load: Load, url: str, control: str, *, run: str) -> None:
        self.load = load
        self._engine = engine
        folder = engine.folder.absolute()
        self._news = folder / "logs" / "load.jsonl"
        self._argv = [
            *load.argv(url),
            *("--zd-out", str(folder), "--zd-run", run),
            *("--zd-news", str(self._news), "--control", control),
        ]
        self._process: Instance | None = None
        self._workers: list[Instance] = []
        self._read = 0
        self._latest: Mapping[str, Any] = {}
        self.began = 0.0

    def start(self, tick: Callable[[], None] = lambda: None) -> None:
        """Return once the first request is due, having called `tick` in between.

        Raises LoadFailed with what the load said.
        """
        # Its own folder and home and none of Locust's variables: nobody's settings, of which Locust
        # reads some from the home, change what is measured.
        theirs = [name for name in os.environ if re.match(r"(LOCUST|ZD)_", name)]
        theirs = [name for name in theirs if name != headers.VARIABLE]
        env = ["env", *(word for name in theirs for word in ("-u", name))]
        try:
            folder = self._engine.folder
            self._start([*env, f"HOME={folder.absolute()}"], folder)
        except EngineError as error:
            raise LoadFailed(f"the load did not start: {error}") from error
        deadline = time.monotonic() + _STARTS_WITHIN
        while "began" not in self.news():
            if not self.running or time.monotonic() > deadline:
                said = self.output().rpartition("\n")[2].removeprefix("zdtest: ")
                log = self.process.log
                raise LoadFailed(f"the load never sent a request: {said or 'no word'}; see {log}")
            tick()
            time.sleep(0.01)
        self.began = float(self._latest["began"])

    def _start(self, env: list[str], cwd: Path) -> None:
        workers = self.load.workers
        # No argument: those are shown to whoever lists processes.
        secret = {headers.VARIABLE: "\n".join(headers.written(self.load.headers))}
        if workers == 1:
            self._process = self._engine.start("load", [*env, *self._argv], cwd=cwd, env=secret)
            return
        port = str(self._engine.port())
        bound = ["--master-bind-host", _HERE, "--master-bind-port", port]
        master = ["--master", *bound, "--expect-workers", str(workers)]
        self._process = self._engine.start(
            "load", [*env, *self._argv, *master], cwd=cwd, env=secret
        )
        # The master tells them what to send.
        worker = [*_LOCUST, "--worker", "--master-host", _HERE, "--master-port", port]
        for number in range(workers):
            name = f"load-worker-{number}"
            one = self._engine.start(name, [*env, *worker], cwd=cwd, env={headers.VARIABLE: ""})
            self._workers.append(one)

    @property
    def process(self) -> Instance:
        """What sends; raises LoadFailed before it has been started."""
        if self._process is None:
            raise LoadFailed("no load yet: expected it to have been started")
        return self._process

    @property
    def running(self) -> bool:
        """Whether it still sends."""
        return self._process is not None and not self._engine.fate(self._process)

    def news(self) -> Mapping[str, Any]:
        """Return what it told last: began, and soon t, done, failed, on_the_way, lag_ms."""
        if self._news.exists():
            with self._news.open("rb") as file:
                file.seek(self._read)
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read += len(whole)
            for line in whole.splitlines():
                self._latest = {**self._latest, **json.loads(line)}
        return self._latest

    def output(self) -> str:
        """Return the last lines it printed."""
        return self._engine.logs(self._process) if self._process else ""

    def stop(self) -> None:
        """Return once nothing is sent any more and the recording is closed.

        Raises LoadFailed when it had died before, or does not end.
        """
        if self._process is None:
            return
        died = self._engine.fate(self._process)
        self._engine.signal(self._process, "TERM")
        if not self._engine.wait(self._process, self.load.longest + _ENDS_WITHIN):
            self._engine.kill(self._process)
            raise LoadFailed(f"the load did not end by itself\n{self.output()}")
        for worker in self._workers:
            # The master has what they recorded, or has noted that it has not.
            if not self._engine.wait(worker, _WORKERS_END_WITHIN):
                self._engine.kill(worker)
        if died:
            raise LoadFailed(f"the load {died} while it was needed\n{self.output()}")


def written(load: Load) -> str:
    """Return the load in a few words."""
    names = " ".join(one.name for one in load.lanes())
    return f"{load.rate:g} requests/s on {names}, timeout {duration.written(load.timeout)}"
