"""Somebody's own stack, small: a server on 127.0.0.1, and the zdtest command beside it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import tiny_server

from zdtest.engine import reaper

TINY = "import tiny_server; tiny_server.TinyServer({port}).serve(0)"
"""Code of a server that answers at once."""
QUICK = ("--rate", "200", "--baseline", "300ms", "--settle", "300ms")
"""Quiet times that are enough for what is not about figures."""
LENIENT = "p99_ratio=none,p99_over=none,slow=2s,stall=2s,hole=2s,min_requests=1"
"""Promises that a loaded test machine keeps too."""


@contextlib.contextmanager
def serving(code: str = TINY) -> Iterator[str]:
    """Yield the url of a server that lives in a process of its own, and is made by `code`."""
    port = tiny_server.free_port()
    with subprocess.Popen(
        [sys.executable, "-c", code.format(port=port)],
        stdin=subprocess.PIPE,
        cwd=Path(__file__).parent,
        start_new_session=True,
    ) as server:
        try:
            until(lambda: answers(port))
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.kill()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(true, seconds: float = 60.0):
    """Return what `true` returns once it is; AssertionError when it never is."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)
    return found


def start(
    *words: object, cwd: Path, env: Mapping[str, str] | None = None, **more
) -> subprocess.Popen[str]:
    """Start the zdtest command in a session of its own; both outputs are pipes unless told."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    argv = [sys.executable, "-m", "zdtest", *map(str, words)]
    return subprocess.Popen(
        argv, cwd=cwd, env={**os.environ, **(env or {})}, start_new_session=True, **pipes | more
    )


def zdtest(
    *words: object, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Return the zdtest command when it has ended; it says nothing that looks like a crash."""
    with start(*words, cwd=cwd, env=env) as process:
        out, err = process.communicate(timeout=180)
    assert "Traceback" not in out + err, out + err
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def ended(process: subprocess.Popen[str], folder: Path) -> tuple[int, str, str]:
    """Return exit code and outputs; nothing crashed and nothing of ours is left."""
    out, err = process.communicate(timeout=180)
    assert "Traceback" not in out + err, out + err
    assert left_of(folder) == []
    return process.returncode, out, err


def left_of(folder: Path) -> list[int]:
    """Return the pids of a run's processes that print into the logs of the run in `folder`."""
    return [
        one.pid
        for one in reaper.processes()
        if reaper.RUN in one.labels and _prints_to(one.pid).is_relative_to(folder.resolve())
    ]


def _prints_to(pid: int) -> Path:
    try:
        return Path(f"/proc/{pid}/fd/1").readlink()
    except OSError:  # it has ended meanwhile
        return Path("/")
