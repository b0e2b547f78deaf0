"""Ends what a run left behind, even when the run itself was killed with SIGKILL.

Every process of a run carries the run's name in its environment, which children inherit and
``nohup``, ``setsid`` and double forks keep. The engine starts this file as a process of its own
that holds the read end of a pipe. When the engine closes the pipe, or dies, the kernel says
end-of-file, and every labelled process is killed until none is left.

Containers are in another's hands: the engine tells the address of the Docker Engine that has some,
and they are removed, once nobody is left who could ask for more, as ``remains.py`` does it.

Some servers write their process title over their environment (nginx does). So the engine also
tells the leaders it started, as ``pid:began`` lines, and the sessions of those that still live
end with the run.

The standard library only, and little of it: this has to start quickly in any environment.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

RUN, OWNER, KEPT = "ZDTEST_RUN", "ZDTEST_OWNER", "ZDTEST_KEPT"
"""The labels: the run's name, ``pid:began`` of who runs it, and "left running on purpose"."""

KEEP, DOCKER = "keep", "docker "
"""The line that tells the reaper to end nothing, and how one begins that tells an address."""


class Process(NamedTuple):
    """A live process; `began` (clock ticks since boot) tells it from a later one with its pid."""

    pid: int
    began: int
    session: int
    labels: dict[str, str]

    @property
    def identity(self) -> str:
        """``pid:began``."""
        return f"{self.pid}:{self.began}"


Chosen = Callable[[Process], bool]


def find(pid: int) -> Process | None:
    """Return the process `pid`; None when there is none, or only a zombie.

    The labels are {} where the environment may not be read, or where the process lives in another
    pid namespace: the pids in its labels would not be ours.
    """
    try:
        state, _, _, session, began = _stat(pid)
    except (OSError, ValueError):
        return None
    return None if state in b"ZX" else Process(pid, began, session, _labels(pid))


def state(pid: int) -> str:
    """Return the letter that proc(5) gives the process's state, "" when there is none."""
    try:
        return _stat(pid)[0].decode()
    except (OSError, ValueError):
        return ""


def began(pid: int) -> int:
    """Return when the process started, in clock ticks; a zombie tells it too."""
    return _stat(pid)[4]


def group(number: int) -> Iterator[int]:
    """Yield the pid of every live process of that process group; zombies are none."""
    for pid in _pids():
        with contextlib.suppress(OSError, ValueError):
            state, _, theirs, *_ = _stat(pid)
            if theirs == number and state not in b"ZX":
                yield pid


def family(pid: int) -> dict[int, str]:
    """Return the states of the process and of all that are one with it, by pid, zombies aside.

    That is the group that it leads, else itself and what it has started, and they in turn.
    """
    live: dict[int, tuple[str, int, int]] = {}
    for one in _pids():
        with contextlib.suppress(OSError, ValueError):
            state, parent, group, *_ = _stat(one)
            if state not in b"ZX":
                live[one] = state.decode(), parent, group
    if pid not in live:
        return {}
    found = {pid}
    if live[pid][2] == pid:
        found |= {one for one, (_, _, group) in live.items() if group == pid}
    else:
        while new := {one for one, (_, parent, _) in live.items() if parent in found} - found:
            found |= new
    return {one: live[one][0] for one in found}


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _stat(pid: int) -> tuple[bytes, int, int, int, int]:
    """Return state, parent, group, session and start, of proc(5): after a name that lies."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return fields[0], int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19])


def _labels(pid: int) -> dict[str, str]:
    try:
        if os.readlink(f"/proc/{pid}/ns/pid") != os.readlink("/proc/self/ns/pid"):
            return {}
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return {}
    pairs = (os.fsdecode(entry).partition("=") for entry in entries if entry[:7] == b"ZDTEST_")
    return {name: value for name, _, value in pairs if name in (RUN, OWNER, KEPT)}


def processes() -> Iterator[Process]:
    """Yield every live process of this machine but our own."""
    for pid in _pids():
        if pid != os.getpid() and (process := find(pid)):
            yield process


def alive(identity: str) -> bool:
    """Return whether the process written ``pid:began`` still lives."""
    pid = identity.partition(":")[0]
    process = find(int(pid)) if pid.isdecimal() else None
    return process is not None and process.identity == identity


def end(chosen: Chosen, timeout: float = 5.0) -> list[Process]:
    """SIGKILL every chosen process until none is left; return what is left after `timeout` s.

    Two looks in a row have to find none: one look misses who is in the midst of an exec, and has no
    environment just then, and who was started by one that ended while it looked.
    """
    deadline, clean = time.monotonic() + timeout, 0
    while True:
        found = [process for process in processes() if chosen(process)]
        clean = 0 if found else clean + 1
        if clean == 2 or (found and time.monotonic() > deadline):
            return found
        for process in found:
            _kill(process)
        time.sleep(0.005)


def _kill(process: Process) -> None:
    """SIGKILL exactly this process, never a later one that got its pid."""
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        now = find(process.pid)
        if now is not None and now.began == process.began:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        pass  # it has ended, or it is not ours to end: the next look tells
    finally:
        os.close(handle)


def end_run(run: str, leaders: Iterable[str] = ()) -> list[Process]:
    """End all processes of the run; return what could not be ended.

    A leader counts only while it lives: its pid is then nobody else's session.
    """
    sessions = {int(leader.partition(":")[0]) for leader in leaders if alive(leader)}
    return end(lambda process: process.labels.get(RUN) == run or process.session in sessions)


def orphans() -> Iterator[Process]:
    """Yield what runs whose owner is dead left behind, kept stacks aside."""
    return filter(_orphaned, processes())


def _orphaned(process: Process) -> bool:
    labels = process.labels
    return RUN in labels and KEPT not in labels and not alive(labels.get(OWNER, ""))


def sweep() -> list[str]:
    """End what runs whose owner is dead left behind, kept stacks aside; return their names."""
    return _end_all(_orphaned)


def end_kept(run: str) -> list[str]:
    """End the kept stack `run`, "" for all, unless its owner is still at it; return the names."""
    return _end_all(
        lambda process: (
            KEPT in process.labels
            and run in ("", process.labels.get(RUN))
            and not alive(process.labels.get(OWNER, ""))
        )
    )


def _end_all(chosen: Chosen) -> list[str]:
    """End the runs of the chosen processes, with the sessions that they lead."""
    found = [process for process in processes() if chosen(process)]
    runs = sorted({process.labels[RUN] for process in found})
    for run in runs:
        own = [process for process in found if process.labels[RUN] == run]
        end_run(run, (process.identity for process in own if process.session == process.pid))
    return runs


def main(run: str) -> int:
    """End the run at the end of stdin, unless told to keep it; 1 when something outlived that."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    leaders, addresses = set(), set()
    for line in map(str.strip, sys.stdin):
        if line == KEEP:
            return 0
        if line.startswith(DOCKER):
            addresses.add(line.removeprefix(DOCKER))
        else:
            leaders.add(line)
    left: list[object] = [*end_run(run, leaders)]
    for address in addresses:
        left += _remains().remove(address, run)
    return 1 if left else 0


def _remains() -> Any:
    """Return the module beside this file, wherever Python looks for modules."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "remains.py")
    spec = importlib.util.spec_from_file_location("zdtest_remains", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
