"""A deploy command of somebody's own, run beside the load with its output kept and shown."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from zdtest.duration import written
from zdtest.engine import reaper
from zdtest.errors import CommandError, ConfigError, DeployFailed, DeployTimeout
from zdtest.progress import Progress

_GRACE = 5.0
_STEP = 0.05
_PIECE = 1 << 20


def expect_command(argv: Sequence[str]) -> None:
    """Return when there is such a command; raises ConfigError before anything has been started."""
    name = argv[0]
    if shutil.which(name):
        return
    found = os.sep in name and os.path.exists(name)
    what = "is not an executable file" if found else "not found"
    raise ConfigError(f"command {shlex.quote(name)} {what}: expected a command to run after --")


class Command:
    """`argv` at work, its output in `log` and, line by line, on our own standard output.

    The output goes to a file and not to a pipe: what a deploy script leaves running keeps its
    output when we end, and is none of ours to end either.

    It leads a process group. Its own process is waited for only once nobody of that group is
    signalled any more: for so long its number is nobody else's, whoever has ended.

    Raises CommandError when it cannot be executed.
    """

    def __init__(self, argv: Sequence[str], log: Path, *, progress: Progress) -> None:
        self.argv = list(argv)
        self._progress = progress
        self._log = log
        self._shown = 0
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    self.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                )
        except OSError as error:
            raise CommandError(
                f"cannot run {shlex.quote(self.argv[0])}: {error.strerror}: "
                f"expected a program, or a script whose first line names one, as #!/bin/sh"
            ) from error

    def finish(self, limit: float, tick: Callable[[], None]) -> None:
        """Return once it has exited 0, calling `tick` in between.

        Raises DeployFailed with its last output when it exits otherwise, DeployTimeout when it had
        to be ended after `limit` seconds. An exception of `tick` leaves it running.
        """
        deadline = time.monotonic() + limit
        while self._process.poll() is None:
            if time.monotonic() > deadline:
                self.end(signal.SIGTERM)
                raise DeployTimeout(
                    f"the command still ran after {written(limit)}: {shlex.join(self.argv)}"
                    f"\n{self.tail()}"
                )
            self.show()
            tick()
            time.sleep(_STEP)
        code = self._process.returncode
        if code:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited {code}"
            raise DeployFailed(f"the command {how}: {shlex.join(self.argv)}\n{self.tail()}")

    def end(self, number: signal.Signals) -> None:
        """Pass the signal on to the command and its group; SIGKILL to those there after 5 s.

        SIGTERM asks all of them to end. SIGINT and SIGHUP ask the command: what is deaf to those
        is what a shell put into the background and what ``nohup`` started, as a server that was
        just deployed. That goes on once the command has ended, as it would without us.
        """
        if self._process.returncode is not None:
            return  # waited for: the number of its group may be another one's by now
        over = self._nobody if number is signal.SIGTERM else self._ended
        for one in (number, signal.SIGKILL):
            if over():
                break
            with contextlib.suppress(OSError):  # another user's, as under sudo: not ours to end
                os.killpg(self._process.pid, one)
            until = time.monotonic() + _GRACE
            while not over() and time.monotonic() < until:
                time.sleep(_STEP)
        if self._ended():
            self._process.wait()

    def _ended(self) -> bool:
        """Return whether its own process has, which is still there to be waited for."""
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, flags) is not None

    def _nobody(self) -> bool:
        """Return whether nobody is left of its group."""
        return not any(reaper.group(self._process.pid))

    def show(self, *, everything: bool = False) -> None:
        """Print the lines it has printed since the last time, or all that is left."""
        with self._log.open("rb") as log:
            log.seek(self._shown)
            while new := log.read(_PIECE):
                whole = new if everything or len(new) == _PIECE else new[: new.rfind(b"\n") + 1]
                self._shown += len(whole)
                ends = b"" if not everything or whole.endswith(b"\n") else b"\n"
                if whole:
                    self._print(whole + ends)
                if len(whole) < len(new):
                    return

    def _print(self, output: bytes) -> None:
        self._progress.clear()
        # Nobody reads, as after a hangup, or the disk is full: no reason to stop measuring.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stdout.buffer.write(output)
            sys.stdout.buffer.flush()

    def tail(self, lines: int = 20) -> str:
        """Return the last lines it printed."""
        return "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-lines:])
