"""The engines of a session: plain processes, and Docker where one answers or can be started."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from zdtest.engine import reaper
from zdtest.errors import EngineError, EngineMissing

if TYPE_CHECKING:
    from zdtest.engine.images import Images

KINDS = ("auto", "docker", "process")
"""What may be asked for: ``auto`` is what the topology's document uses, as far as it is there."""


@dataclass(frozen=True, slots=True)
class Docker:
    """A Docker Engine of this machine that answers, and the images that it runs."""

    address: str
    """Its socket, as ``unix://PATH``."""
    version: str
    private: bool
    """Whether it is zdtest's own, which ends with its last user."""
    images: Images

    def __str__(self) -> str:
        return f"docker {self.version}{', private' if self.private else ''}"


def _expect(programs: Sequence[str]) -> None:
    """Raise EngineMissing for a program that is not on the path."""
    missing = [name for name in programs if not shutil.which(name)]
    if missing:
        raise EngineMissing(f"as plain processes: no {' and no '.join(missing)} on the path")


class Offer:
    """Lends engines while it is entered; a private Docker Engine that it started ends then.

    What dead runs left is ended first, in each engine when it is lent. With `keep` a private one
    goes on until ``zdtest engine stop``. `nginx` and `haproxy` name other images than those that
    are built; with `documented` the documents' own are run where ours stand in for them. `tell`
    hears of what takes long.
    """

    def __init__(
        self,
        kind: str = "auto",
        *,
        keep: bool = False,
        nginx: str = "",
        haproxy: str = "",
        documented: bool = False,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.kind = kind
        self._keep = keep
        self._theirs = {"nginx": nginx, "haproxy": haproxy}
        self._documented = documented
        self._tell = tell
        self._tidy = ExitStack()
        self._docker: Docker | None = None
        self._missing = ""

    def __enter__(self) -> Offer:
        reaper.sweep()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._tidy.close()

    def choose(self, able: Sequence[str], programs: Sequence[str] = ()) -> Docker | None:
        """Return the engine for what runs on those: None means plain processes.

        The first one wins that is wanted and there; plain processes need the `programs`. Raises
        EngineMissing with the reasons where there is none.
        """
        wanted = [one for one in able if self.kind in ("auto", one)]
        if not wanted:
            raise EngineMissing(f"runs on {' or '.join(able)}, not on {self.kind}")
        reasons = []
        for one in wanted:
            try:
                if one == "docker":
                    return self.docker()
                _expect(programs)
                return None
            except EngineMissing as error:
                reasons.append(str(error))
        raise EngineMissing("; ".join(reasons))

    def docker(self) -> Docker:
        """Return the Docker Engine, a private one started where none answers.

        Raises EngineMissing, each time with the same reason, where there is none.
        """
        if self._docker is None:
            if not self._missing:
                try:
                    self._docker = self._found()
                    return self._docker
                except EngineError as error:
                    self._missing = str(error)
            raise EngineMissing(self._missing)
        return self._docker

    def _found(self) -> Docker:
        """Return what answers, swept of what dead runs left in it; raises EngineError."""
        from zdtest.engine import daemon, remains
        from zdtest.engine.images import Images

        reached = self._tidy.enter_context(daemon.reached(keep=self._keep, tell=self._tell))
        remains.sweep(reached.address)
        images = Images(
            reached.address, tell=self._tell, documented=self._documented, **self._theirs
        )
        return Docker(reached.address, reached.version, reached.private, images)
