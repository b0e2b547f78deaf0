"""The engine for where no container engine is needed: plain processes on 127.0.0.1."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from zdtest.duration import written
from zdtest.engine import Container, Instance, Marker, kept, ports, reaper, remains, silent
from zdtest.engine.watched import Watched
from zdtest.errors import EngineError

_KILLED_WITHIN = 5.0
_EXEC_WITHIN = 0.5


class ProcessEngine:
    """Starts processes that all end with the context, however this process ends.

    Each gets a session of its own, nothing on stdin, its output in ``<folder>/logs/<name>.log``
    and the labels that `reaper` looks for. `on_event` hears ``app.started``, ``app.term`` and
    ``app.stopped`` of what runs a version, ``process.*`` of everything else; the end is told by a
    thread, when it comes.

    With ``kept=True`` and after `leave`, everything goes on when the context ends.
    """

    def __init__(
        self, run_id: str, folder: Path, *, on_event: Marker = silent, kept: bool = False
    ) -> None:
        self.run_id = run_id
        self.folder = folder
        self._on_event = on_event
        self._kept = kept
        self._left = False
        self._watched: dict[Instance, Watched] = {}
        self._leases: list[ports.Lease] = []
        self._engines: list[str] = []

    def __enter__(self) -> ProcessEngine:
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        # By path and isolated: it imports nothing of ours, so it starts in about 20 ms anywhere.
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", reaper.__file__, self.run_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=_unlabelled(),
            start_new_session=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._end()
        except EngineError as left:
            if error is None:
                raise
            error.add_note(str(left))
        finally:
            for lease in self._leases:
                lease.release()

    def _end(self) -> None:
        """Let the reaper end the run: one hand, whether we leave or are killed."""
        if self._left:
            self._tell(reaper.KEEP)
        if self._reaper.stdin:
            self._reaper.stdin.close()
        if self._reaper.wait() and not self._left:
            leaders = [f"{one.pid}:{one.began}" for one in self._watched]
            left = [f"process {one.pid}" for one in reaper.end_run(self.run_id, leaders)]
            for address in self._engines:
                left += [f"{one.kind} {one.name}" for one in remains.remove(address, self.run_id)]
            if left:
                raise EngineError(f"cannot be ended: {', '.join(left)}")
        if not self._left:
            for watched in self._watched.values():
                watched.join(_KILLED_WITHIN)

    @property
    def labels(self) -> Mapping[str, str]:
        """The environment by which the reaper knows what belongs to this run."""
        pid = os.getpid()
        labels = {reaper.RUN: self.run_id, reaper.OWNER: f"{pid}:{reaper.began(pid)}"}
        return {**labels, reaper.KEPT: "1"} if self._kept else labels

    def beside(self, address: str) -> None:
        """From now on what carries this run's label in that Docker Engine ends with the run too."""
        self._tell(f"{reaper.DOCKER}{address}")
        self._engines.append(address)

    def leave(self, **about: object) -> None:
        """Leave everything running when the context ends, noted with what `about` tells."""
        if not self._kept:
            raise EngineError(f"{self.run_id} cannot be left: expected an engine with kept=True")
        told = {"folder": str(self.folder.absolute()), "engines": self._engines}
        kept.note(self.run_id, {**told, **about})
        self._left = True

    @property
    def keeps(self) -> bool:
        """Whether what it starts may be left."""
        return self._kept

    @property
    def left(self) -> bool:
        """Whether everything goes on when the context ends."""
        return self._left

    @property
    def host(self) -> ProcessEngine:
        """Itself."""
        return self

    def port(self) -> int:
        """Return a port leased until the engine ends."""
        self._leases.append(ports.lease())
        return self._leases[-1].port

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        version: str = "",
        container: Container | None = None,
    ) -> Instance:
        """Return the started process. Raises EngineError when there is no such command."""
        path = self.folder / "logs" / f"{name}.log"
        try:
            with path.open("ab") as log:
                log_from = log.tell()
                child = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=cwd,
                    # Unbuffered, so that what it said survives a SIGKILL.
                    env={**_unlabelled(), "PYTHONUNBUFFERED": "1", **(env or {}), **self.labels},
                    start_new_session=True,
                )
        except OSError as error:
            raise EngineError(f"cannot start {name}: {error.strerror}: {error.filename}") from error
        born = reaper.began(child.pid)
        instance = Instance(name, child.pid, born, version, path, log_from)
        self._tell(f"{child.pid}:{born}")
        return self._watch(instance, os.pidfd_open(child.pid), child)

    def adopt(self, name: str, pid: int, *, beside: Instance, version: str = "") -> Instance:
        """Return the process that `beside` left running, from now on watched under `name`.

        Raises EngineError unless it carries this run's label.
        """
        try:
            handle = os.pidfd_open(pid)
        except OSError as error:
            raise EngineError(f"{name} has ended: pid {pid}\n{self.logs(beside)}") from error
        process = _settled(pid)
        if process is None or process.labels.get(reaper.RUN) != self.run_id:
            os.close(handle)
            what = "is no process of this run" if process else "has ended"
            raise EngineError(f"{name} {what}: pid {pid}\n{self.logs(beside)}")
        instance = Instance(name, pid, process.began, version, beside.log, beside.log_from)
        return self._watch(instance, handle, None)

    def run(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 60.0,
    ) -> Instance:
        """Return the command once it has exited 0; raises EngineError with its output if not."""
        command = self.start(name, argv, env=env, cwd=cwd)
        if not self.wait(command, timeout):
            self.kill(command)
            raise EngineError(f"{name} still ran after {written(timeout)}\n{self.logs(command)}")
        if (fate := self.fate(command)) != "exited 0":
            raise EngineError(f"{name} {fate}\n{self.logs(command)}")
        return command

    def execute(self, instance: Instance, argv: Sequence[str], *, timeout: float = 30.0) -> str:
        """Return what the command printed; raises EngineError with it unless it exits 0 in time."""
        if fate := self.fate(instance):
            raise EngineError(f"{instance.name} {fate}: cannot run {argv[0]} beside it")
        command = self.run(f"{instance.name}-{Path(argv[0]).name}", argv, timeout=timeout)
        return self.logs(command, tail=1_000_000)

    def stop(self, instance: Instance, grace: float = 10.0) -> None:
        """SIGTERM it, SIGKILL all of it after `grace` seconds; it has ended on return."""
        self.signal(instance, "TERM")
        if not self.wait(instance, grace):
            self.kill(instance)

    def kill(self, instance: Instance) -> None:
        """SIGKILL all of it; it has ended on return."""
        self.signal(instance, "KILL")
        if not self.wait(instance, _KILLED_WITHIN):
            raise EngineError(f"{instance.name} outlives SIGKILL: pid {instance.pid}")

    def signal(self, instance: Instance, name: str) -> None:
        """Send the signal; nothing happens when it has ended."""
        if name == "TERM" and not self.fate(instance):
            self._event("term", instance)
        self._watched[instance].signal(name)

    def frozen(self, instance: Instance) -> bool:
        """Return whether the kernel says that all of it is stopped, none of its workers spared."""
        if self.fate(instance):
            return False
        states = reaper.family(instance.pid)
        return instance.pid in states and set(states.values()) == {"T"}

    def wait(self, instance: Instance, timeout: float) -> bool:
        """Return whether it has ended within `timeout` seconds."""
        return self._watched[instance].wait(timeout)

    def fate(self, instance: Instance) -> str:
        """Return how it ended, "" while it runs."""
        return self._watched[instance].fate

    def logs(self, instance: Instance, tail: int = 20) -> str:
        """Return the last `tail` lines it printed."""
        with instance.log.open("rb") as log:
            log.seek(instance.log_from)
            lines = log.read().decode("utf-8", errors="replace").splitlines()
        return "\n".join(lines[-tail:])

    def _tell(self, line: str) -> None:
        """Write a line to the reaper, unless it is gone: `_end` does its work then."""
        if self._reaper.stdin:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._reaper.stdin.fileno(), f"{line}\n".encode())

    def _watch(
        self, instance: Instance, handle: int, child: subprocess.Popen[bytes] | None
    ) -> Instance:
        self._event("started", instance, pid=instance.pid)
        self._watched[instance] = Watched(
            instance.pid,
            handle,
            child,
            lambda fate, at: self._event("stopped", instance, exit=fate, happened=at),
        )
        return instance

    def _event(self, what: str, instance: Instance, **about: object) -> None:
        if instance.version:
            name, about = "app", {"version": instance.version, **about}
        else:
            name = "process"
        self._on_event(f"{name}.{what}", instance=instance.name, **about)


def _settled(pid: int) -> reaper.Process | None:
    """Return the process once it tells its labels, or has had the time to.

    In the midst of an exec a process has no environment to be read.
    """
    until = time.monotonic() + _EXEC_WITHIN
    while (found := reaper.find(pid)) is not None and not found.labels:
        if time.monotonic() > until:
            return found
        time.sleep(0.001)
    return found


def _unlabelled() -> dict[str, str]:
    """Return our environment without the labels of a run that we ourselves may belong to."""
    labels = (reaper.RUN, reaper.OWNER, reaper.KEPT)
    return {name: value for name, value in os.environ.items() if name not in labels}
