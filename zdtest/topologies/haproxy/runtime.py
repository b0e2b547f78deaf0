"""HAProxy's runtime API: what it says of its servers, and what it is told about them."""

from __future__ import annotations

import csv
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from zdtest.errors import EngineError
from zdtest.topology import Counters

_PATIENCE = 5.0


class Runtime:
    """The stats socket in `home`, asked anew for each command; HAProxy's process may change."""

    def __init__(self, home: Path, backend: str) -> None:
        self._home = home
        self._backend = backend

    def command(self, *commands: str) -> str:
        """Return what HAProxy answers to these, given to it in one line.

        Raises EngineError when nobody answers.
        """
        line = "; ".join(commands)
        said = b""
        # The folder's own path may be longer than a socket's may be.
        folder = os.open(self._home, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as one:
                one.settimeout(_PATIENCE)
                one.connect(f"/proc/self/fd/{folder}/haproxy.stats")
                one.sendall(f"{line}\n".encode())
                while more := one.recv(1 << 16):
                    said += more
        except OSError as error:
            raise EngineError(f"HAProxy: {line}: {error}") from error
        finally:
            os.close(folder)
        return said.decode().strip()

    def set(self, *commands: str) -> None:
        """Give it commands that it answers nothing to; raises EngineError with what it said."""
        if said := self.command(*commands):
            raise EngineError(f"HAProxy refused {'; '.join(commands)}: {said}")

    def servers(self) -> dict[str, Mapping[str, str]]:
        """Return HAProxy's statistics of each server, by the names of its own columns."""
        table = self.command("show stat").removeprefix("# ")
        rows = csv.DictReader(table.splitlines())
        own = {row["svname"]: row for row in rows if row["pxname"] == self._backend}
        return {name: row for name, row in own.items() if name not in ("FRONTEND", "BACKEND")}

    def out(self, name: str) -> str:
        """Return why that server would get no users at whatever weight, "" where it would."""
        about = self.servers()[name]
        state = " ".join(about[one] for one in ("status", "check_status", "last_chk")).strip()
        # By its word UP may be "UP 1/3": one more failed check, and it is down.
        return "" if about["status"].startswith(("UP", "no check")) else f"{name} is {state}"

    def weights(self) -> dict[str, int]:
        """Return the weight of each server."""
        return {name: int(about["uweight"]) for name, about in self.servers().items()}

    def told(self, name: str) -> Counters:
        """Return what was counted of that server since HAProxy started or was reloaded.

        Each attempt counts for the server that had it. A reply that was cut is one that failed.
        """
        about = {key: int(value) for key, value in self.servers()[name].items() if value.isdigit()}
        good = sum(about[f"hrsp_{kind}xx"] for kind in (1, 2, 3, 4)) - about["srv_abrt"]
        bad = about["hrsp_5xx"] + about["econ"] + about["eresp"]
        return Counters(good, bad, about["scur"])
