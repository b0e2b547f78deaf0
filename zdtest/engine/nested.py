"""A container of an engine that runs in a container itself, seen from this machine."""

from __future__ import annotations

from pathlib import Path

from docker.errors import APIError

from zdtest.engine import reaper
from zdtest.engine.contained import Contained


class Nested(Contained):
    """Watched like any other; it is stopped and continued behind the back of its engine.

    An engine asks the health of no container that it has paused, and would never find it ill.
    """

    @property
    def frozen(self) -> bool:
        """Whether the kernel says that its main process is stopped."""
        return reaper.state(self._pid) == "T"

    def signal(self, name: str) -> None:
        """Send the signal to its main process, unless it has ended."""
        if self.fate:
            return
        try:
            self.container.kill(f"SIG{name}")
        except APIError as error:
            if error.status_code not in (404, 409):  # it has ended meanwhile
                raise


def pid(container: str) -> int:
    """Return the main process of the container with that id, 0 where none runs.

    It is the one that its own pid namespace calls 1; its control group has the container's name,
    however deep it lies.
    """
    for found in Path("/proc").glob("[0-9]*"):
        try:
            if container in (found / "cgroup").read_text() and _first(found):
                return int(found.name)
        except OSError:
            continue  # it has ended
    return 0


def _first(process: Path) -> bool:
    """Return whether it is the first process of its pid namespace."""
    for line in (process / "status").read_text("utf-8", "replace").splitlines():
        if line.startswith("NSpid:"):
            return line.split()[-1] == "1"
    return False
