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
from zdtest.errors import ConfigError, DeployFailed, DeployTimeout
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
            name = shlex.quote(self.argv[0])
            raise DeployFailed(f"cannot run {name}: {error.strerror}") from error

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
        """Pass the signal on to the command and its group; SIGKILL after five seconds."""
        for one in (number, signal.SIGKILL):
            if self._process.poll() is not None:
                return
            with contextlib.suppress(OSError):  # another user's, as under sudo: not ours to end
                os.killpg(self._process.pid, one)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE)

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
        with contextlib.suppress(BrokenPipeError):  # nobody reads: no reason to stop measuring
            sys.stdout.flush()
            sys.stdout.buffer.write(output)
            sys.stdout.buffer.flush()

    def tail(self, lines: int = 20) -> str:
        """Return the last lines it printed."""
        return "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-lines:])
