"""Delay and loss by the kernel's own netem, where there is one and the instance has a network."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from zdtest.duration import seconds
from zdtest.engine import Instance
from zdtest.errors import ConfigError, FaultError
from zdtest.faults.proof import Heal, known, lives, living, proven
from zdtest.topology import Stack

_WITHIN = 10.0
_SENT = re.compile(r"qdisc netem .*\n Sent \d+ bytes (\d+) pkt")


@runtime_checkable
class Networked(Protocol):
    """The instances have network namespaces of their own."""

    def device(self, name: str) -> str:
        """Return the network device of that instance, such as ``eth0``, in its own namespace."""


@dataclass(frozen=True, slots=True)
class Netem:
    """What `instance` sends is delayed and lost by the kernel.

    It ends with the instance's network namespace, and so with the run.
    """

    instance: str
    delay: float
    jitter: float
    loss: float

    @property
    def name(self) -> str:
        """What it does to what."""
        return f"netem {self.instance}"

    def check(self, stack: Stack) -> None:
        """Raise ConfigError where the kernel has no netem, or the instance no network."""
        available()
        _networked(stack, self.name)
        known(stack, self.instance, self.name)

    def inject(self, stack: Stack) -> Callable[[], None]:
        """Return the heal once packets have gone through netem."""
        available()
        networked = _networked(stack, self.name)
        one = living(stack, self.instance, self.name)
        device = networked.device(self.instance)
        space = Space(one, self.name)
        heal = Heal(lambda: self._clear(space, one, device))
        try:
            space.tc("qdisc", "add", "dev", device, "root", "netem", *self._settings())
        except FaultError:
            space.close()
            raise
        try:
            proven(f"{self.name} in effect", lambda: _unused(space, device), within=_WITHIN)
        except FaultError:
            heal()
            raise
        return heal

    def _settings(self) -> list[str]:
        words = ["delay", f"{self.delay * 1e3:g}ms", f"{self.jitter * 1e3:g}ms"]
        return [*words, "loss", f"{self.loss:g}%"]

    def _clear(self, space: Space, one: Instance, device: str) -> None:
        """Return once tc shows none, or the instance has ended and sends nothing any more."""
        try:
            if lives(one):
                space.tc("qdisc", "del", "dev", device, "root")
                if "netem" in space.tc("qdisc", "show", "dev", device):
                    raise FaultError(f"{self.name} not gone: tc still shows it")
        finally:
            space.close()


class Space:
    """The network namespace of an instance, held open until `close`.

    A pid may be another's by the time of the heal, and with it the network that would be changed,
    this machine's own for instance. What is held open stays what it is.
    """

    def __init__(self, one: Instance, fault: str) -> None:
        try:
            self._handle = os.open(f"/proc/{one.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise FaultError(f"{fault}: no network of {one.name}: {error.strerror}") from error
        if not lives(one):  # had it been another's, it would still be
            self.close()
            raise FaultError(f"{fault}: {one.name} has ended")

    def tc(self, *words: str) -> str:
        """Return what tc prints in there; raises FaultError in one line when it fails."""
        inside = ["nsenter", f"--net=/proc/self/fd/{self._handle}"]
        return _tc([*inside, "tc", *words], holding=(self._handle,))

    def close(self) -> None:
        """Let go of it."""
        os.close(self._handle)


def netem(
    instance: str, delay: str | float, *, jitter: str | float = 0, loss: float = 0.0
) -> Netem:
    """Return the fault that delays what `instance` sends, and loses `loss` percent of it."""
    if not isinstance(loss, (int, float)) or not 0 <= loss <= 100:
        raise ConfigError(f"loss {loss!r}: expected percent, 0 to 100")
    late, spread = seconds(delay, what="delay"), seconds(jitter, what="jitter")
    if spread > late or not (late or loss):
        raise ConfigError(f"delay {delay} with jitter {jitter}: expected more delay, or a loss")
    return Netem(instance, late, spread, loss)


def available() -> None:
    """Return when the kernel has netem, tried in a network namespace that ends at once.

    Raises ConfigError otherwise.
    """
    probe = ["unshare", "-n", "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]
    try:
        _tc(probe)
    except FaultError as error:
        why = str(error).rpartition(": ")[2]
        raise ConfigError(
            f"a fault that needs what this kernel lacks: netem ({why}); expected latency()"
        ) from None


def _networked(stack: Stack, fault: str) -> Networked:
    if not isinstance(stack, Networked):
        raise ConfigError(f"{fault}: here no instance has a network of its own")
    return stack


def _unused(space: Space, device: str) -> str:
    shown = space.tc("-s", "qdisc", "show", "dev", device)
    sent = _SENT.search(shown)
    return "" if sent and int(sent[1]) else f"no packet went through netem\n{shown}"


def _tc(argv: Sequence[str], *, holding: Sequence[int] = ()) -> str:
    """Return what the command prints; raises FaultError in one line when it fails."""
    try:
        done = subprocess.run(
            argv, pass_fds=holding, capture_output=True, text=True, timeout=_WITHIN, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FaultError(f"{argv[0]} does not run: {error}") from error
    if done.returncode:
        why = " ".join(done.stderr.split()) or f"exit {done.returncode}"
        raise FaultError(f"{' '.join(argv)}: {why}")
    return done.stdout
