"""An `Interrupt` holds signals that ask us to end back until a moment at which that is safe."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType, TracebackType

_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
"""SIGHUP comes when the terminal goes, as where an ssh connection is closed."""


class Stopped(BaseException):
    """A signal asked us to stop; not an Exception, so that nothing takes it for a failure."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


class Interrupt:
    """While the context lives a signal is only noted, and `check` raises `Stopped` once for it.

    So no signal cuts through the closing of a recording; one more just hears that it goes on. A
    signal that was ignored before, as in ``nohup``, stays ignored. Main thread only.
    """

    def __init__(self) -> None:
        self.number: signal.Signals | None = None
        """The first signal that came."""
        self._told = False

    def check(self) -> None:
        """Raise Stopped if a signal has come and none was raised yet."""
        if self.number is not None and not self._told:
            self._told = True
            raise Stopped(self.number)

    def __enter__(self) -> Interrupt:
        handled = [one for one in _SIGNALS if signal.getsignal(one) != signal.SIG_IGN]
        self._before = {one: signal.signal(one, self._note) for one in handled}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number is None:
            self.number = signal.Signals(number)
            return
        # Not print: a handler may come in the middle of one.
        with contextlib.suppress(OSError):
            os.write(2, b"zdtest: still stopping; what was measured is being kept\n")


def die_by(number: signal.Signals) -> None:
    """End this process by the signal it was sent, so that whoever called it knows."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
