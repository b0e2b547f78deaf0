"""What others append to files of theirs while a run goes on: a proxy's log, an app's journal.

It is copied into the run's folder, where it is read as if a topology of ours had written it.
"""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from zdtest.errors import ConfigError, RecordingError

MOST = 1 << 28
"""Bytes of a file that are copied at the most: a million lines are about 200 MB."""

_LAST = 0.5
"""Seconds in which what has been answered is written down too."""

_LIFE = re.compile(rb'"event": ?"(started|ready|stopped)"')
_TIMES = ("t", "begin", "closed")
_WALL = 1e9
"""Seconds that no machine has been up for, and that the wall's clock has passed long ago."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which files are to be copied, None for none. Raises ConfigError for what cannot be read."""

    proxy_log: Path | None = None
    journal: Path | None = None

    def __post_init__(self) -> None:
        for option, path in (("--proxy-log", self.proxy_log), ("--journal", self.journal)):
            if path is not None:
                Appended(option, path).close()


class Appended:
    """What is appended to the file from now on, also where it is moved away and begun anew."""

    def __init__(self, option: str, path: Path) -> None:
        self.option = option
        self.path = path
        try:
            # Not blocking: who opens a pipe that nobody writes to would wait for ever.
            self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise self._refused(error.strerror or str(error)) from error
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            self.close()
            raise self._refused("no file that grows")
        self.begun = os.fstat(self._file).st_size

    def _refused(self, why: str) -> ConfigError:
        return ConfigError(f"{self.option} {self.path}: {why}; expected a log that can be read")

    def before(self) -> Iterator[bytes]:
        """Yield the lines that stood there and tell of lives, of the last `MOST` bytes."""
        at = max(0, self.begun - MOST)
        text = os.pread(self._file, self.begun - at, at)
        yield from (line for line in text.splitlines(keepends=True) if _LIFE.search(line))

    def new(self) -> bytes:
        """Return what came since; raises RecordingError where that is too much, or was cut off."""
        size = os.fstat(self._file).st_size
        if size < self.begun:
            raise RecordingError("it was emptied during the run, and what it held is gone")
        parts = [(self._file, self.begun, size - self.begun)]
        after = self._begun_anew()
        try:
            if after is not None:
                parts.append((after, 0, os.fstat(after).st_size))
            if (whole := sum(length for _, _, length in parts)) > MOST:
                raise RecordingError(
                    f"{whole / 1e6:.0f} MB came in the run, expected {MOST / 1e6:.0f} MB at most"
                )
            return b"".join(_read(*part) for part in parts)
        finally:
            if after is not None:
                os.close(after)

    def _begun_anew(self) -> int | None:
        """Return the file that took the place of this one, None where none did."""
        try:
            after = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        if _identity(after) != _identity(self._file):
            return after
        os.close(after)
        return None

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


def _identity(file: int) -> tuple[int, int]:
    told = os.fstat(file)
    return told.st_dev, told.st_ino


def _read(file: int, at: int, length: int) -> bytes:
    parts = []
    while length and (part := os.pread(file, length, at)):
        parts.append(part)
        at, length = at + len(part), length - len(part)
    return b"".join(parts)


class Beside:
    """Keeps for the run in `folder` what is `asked` for."""

    def __init__(self, asked: Asked, folder: Path) -> None:
        self._folder = folder
        files = (("--proxy-log", asked.proxy_log), ("--journal", asked.journal))
        self._files = [Appended(option, path) for option, path in files if path is not None]

    def keep(self, run: str, left_out: Callable[[str], None]) -> None:
        """Write what came into the folder; `left_out` hears of each file why nothing of it was.

        That is so where no line of it is about a request of `run`: what was asked for is unknown.
        """
        if self._files:
            time.sleep(_LAST)
        for file in self._files:
            try:
                self._keep(file, run)
            except (OSError, RecordingError) as error:
                why = getattr(error, "strerror", None) or error
                left_out(f"{file.option} {file.path} is left out: {why}")
            finally:
                file.close()

    def _keep(self, file: Appended, run: str) -> None:
        text = file.new()
        if f'"{run}-'.encode() not in text:
            count = len(text.splitlines())
            raise RecordingError(
                f"of {count} lines that came in the run none has the id of a request of it; "
                'expected each one\'s X-Request-ID as its "id"'
            )
        if file.option == "--proxy-log":
            (self._folder / "logs" / "proxy.log").write_bytes(text)
            return
        lines = [*file.before(), *text.splitlines(keepends=True)]
        if any(_wall(_object(line).get("t")) for line in lines[:1]):
            shift = time.monotonic() - time.time()
            lines = [_moved(line, shift) for line in lines]
        (self._folder / "journal.jsonl").write_bytes(b"".join(lines))


def _moved(line: bytes, shift: float) -> bytes:
    """Return a line of the journal with its times, which are the wall's, moved by `shift`."""
    told = _object(line)
    moved = {name: round(told[name] + shift, 6) for name in _TIMES if _wall(told.get(name))}
    return json.dumps({**told, **moved}, ensure_ascii=False).encode() + b"\n" if moved else line


def _object(line: bytes) -> dict[str, float]:
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _wall(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > _WALL
