"""What others append to files of theirs while a run goes on: a proxy's log, an app's journal.

It is copied into the run's folder, where it is read as if a topology of ours had written it.
"""

from __future__ import annotations

import json
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Self

from zdtest.errors import ConfigError, RecordingError

MOST = 1 << 28
"""Bytes of a file that are copied at the most: a million lines are about 200 MB."""

_LAST = 0.5
"""Seconds in which what has been answered is written down too."""

_EVERY = 0.1
"""Seconds from one look at the files to the next: what came and went in between was not seen."""

_TAIL = 512
"""Bytes before a file's end that have to be there again at the next look."""

_LINE = 1 << 16
_COARSE = 0.1
"""Seconds by which a file's time may be behind the clock."""

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
"""Not blocking: who opens a pipe that nobody writes to would wait for ever."""

_EMPTIED = "it was emptied during the run, and what it held is gone"

_LIFE = re.compile(rb'"event": ?"(started|ready|stopped)"')
_TIMES = ("t", "begin", "closed")
_MAYBE_WALL = re.compile(rb'"(?:t|begin|closed)"\s*:\s*(?:[0-9]{10}|[0-9.]+[eE])')
"""What a line has in it that tells the wall's time; a JVM writes 1.7956692998E9."""
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


class _File:
    """A file that others append to, held open: whatever becomes of its name, it can be read."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, _FLAGS)
        told = os.fstat(self._file)
        if not stat.S_ISREG(told.st_mode):
            self.close()
            raise OSError(0, "no file that grows")
        self.who = _who(told)
        self.size = self.begun = 0
        self._tail = b""

    def begin(self) -> None:
        """What stands there now is not of the run, but for a line that has not ended yet."""
        self.grown()
        last = self.read(max(0, self.size - _LINE))
        self.begun = self.size - len(last) + last.rfind(b"\n") + 1 if b"\n" in last else self.size

    def grown(self) -> bool:
        """Look how long it is; whether it goes on after what was seen of it."""
        size, at = os.fstat(self._file).st_size, self.size - len(self._tail)
        if size < self.size or os.pread(self._file, len(self._tail), at) != self._tail:
            return False
        self.size = size
        self._tail = os.pread(self._file, _TAIL, max(0, size - _TAIL))[: min(size, _TAIL)]
        return True

    def read(self, begin: int, end: int | None = None) -> bytes:
        """Return what stands there from one place to another, or to where it was seen to end."""
        parts, end = [], self.size if end is None else end
        while begin < end and (part := os.pread(self._file, end - begin, begin)):
            parts.append(part)
            begin += len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._file)


class Appended:
    """What is appended to the file from now on, also where it is moved away and begun anew.

    That it was is found out by `look`, which has to be done often.
    """

    def __init__(self, option: str, path: Path) -> None:
        self.option = option
        self.path = path
        try:
            self._files = [_File(path)]
            self._files[0].begin()
        except OSError as error:
            why = error.strerror or str(error)
            raise ConfigError(f"{option} {path}: {why}; expected a log that can be read") from error
        self._since = time.time() - _COARSE
        self._lost = ""
        self._unread: set[tuple[int, int]] = set()
        self._others = {_who(told): (path.name, head) for path, told, head in self._beside()}

    def before(self) -> Iterator[bytes]:
        """Yield the lines that stood there and tell of lives, of the last `MOST` bytes."""
        first = self._files[0]
        text = first.read(max(0, first.begun - MOST), first.begun)
        yield from (line for line in text.splitlines(keepends=True) if _LIFE.search(line))

    def look(self) -> None:
        """Find out whether it was emptied, and what took its place."""
        try:
            self._succeed()
            if not all([file.grown() for file in self._files]):
                self._lost = _EMPTIED
        except OSError as error:
            self._lost = self._lost or error.strerror or str(error)

    def _succeed(self) -> None:
        """Take hold of the file that has taken the place of the last one, where one has."""
        try:
            there = _who(os.stat(self.path))
        except FileNotFoundError:
            return  # moved away, and not begun anew yet
        if there in [file.who for file in self._files]:
            return
        self._unread.add(there)
        with suppress(OSError):  # as it may not be ours to read yet, or is gone already
            file = _File(self.path)
            self._unread.discard(file.who)
            self._files.append(file)

    def new(self) -> bytes:
        """Return what came; raises RecordingError where that is too much, or is not all there."""
        self.look()
        if self._unread:
            self._lost = self._lost or "what took its place could not be read"
        if self._lost:
            raise RecordingError(self._lost)
        if (whole := sum(file.size - file.begun for file in self._files)) > MOST:
            raise RecordingError(
                f"{whole / 1e6:.0f} MB came in the run, expected {MOST / 1e6:.0f} MB at most"
            )
        text = b""
        for file in self._files:
            # A line that was cut as the file was moved away is not glued to the next one.
            text += b"\n" if text and not text.endswith(b"\n") else b""
            text += (part := file.read(file.begun))
            if len(part) < file.size - file.begun:
                raise RecordingError(_EMPTIED)
        return text

    def missed(self, mark: bytes, text: bytes) -> str:
        """Return the name of a file beside it that has lines with the mark, of which none is seen.

        What is seen is in `text`: of that it may be a copy. What stood there as the run began is
        another log.
        """
        held = [file.who for file in self._files]
        seen: set[bytes] = set()
        for path, told, head in self._beside():
            if told.st_mtime < self._since or _who(told) in held or self._known(path, told, head):
                continue
            with suppress(OSError):  # as it may be gone by now
                found = _marked(_start(path, MOST), mark)
                seen = seen or (_marked(text, mark) if found else seen)
                if found - seen:
                    return path.name
        return ""

    def _beside(self) -> Iterator[tuple[Path, os.stat_result, bytes]]:
        """Yield the files whose names begin with this one's, and how they begin."""
        for path in sorted(self.path.parent.glob(f"{escape(self.path.name)}?*")):
            with suppress(OSError):  # as it may be gone by now, or no business of ours
                told = path.stat()
                if stat.S_ISREG(told.st_mode):
                    yield path, told, _start(path, _TAIL)

    def _known(self, path: Path, told: os.stat_result, head: bytes) -> bool:
        """Tell whether it stood there as the run began: a number is given to others once free."""
        name, start = self._others.get(_who(told), ("", b""))
        return head.startswith(start) if start else path.name == name

    def close(self) -> None:
        """Let go of the file, and of those that took its place."""
        for file in self._files:
            file.close()


def _start(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        return file.read(most)


def _marked(text: bytes, mark: bytes) -> set[bytes]:
    return {line for line in text.splitlines() if mark in line} if mark in text else set()


def _who(told: os.stat_result) -> tuple[int, int]:
    return told.st_dev, told.st_ino


class Beside:
    """Keeps for the run in `folder` what is `asked` for, and looks at the files until then.

    As a context manager it is over in any case, also where nothing is kept.
    """

    def __init__(self, asked: Asked, folder: Path) -> None:
        self._folder = folder
        files = (("--proxy-log", asked.proxy_log), ("--journal", asked.journal))
        self._files = [Appended(option, path) for option, path in files if path is not None]
        self.looks = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="appended", daemon=True)
        if self._files:
            self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Look no more, and let go of the files."""
        self._over.set()
        if self._files:
            self._thread.join()
        for file in self._files:
            file.close()
        self._files = []

    def _follow(self) -> None:
        while not self._over.wait(_EVERY):
            for file in self._files:
                file.look()
            self.looks += 1

    def keep(self, run: str, left_out: Callable[[str], None]) -> None:
        """Write what came into the folder; `left_out` hears of each file why nothing of it was.

        That is so where no line of it is about a request of `run`: what was asked for is unknown.
        """
        if self._files:
            time.sleep(_LAST)
            self._over.set()
            self._thread.join()
        for file in self._files:
            try:
                self._keep(file, run)
            except (OSError, RecordingError) as error:
                why = getattr(error, "strerror", None) or error
                left_out(f"{file.option} {file.path} is left out: {why}")
        self.close()

    def _keep(self, file: Appended, run: str) -> None:
        text, mark = file.new(), f'"{run}-'.encode()
        if name := file.missed(mark, text):
            raise RecordingError(f"lines of the run are in {name}, where it was moved unseen")
        if mark not in text:
            count = len(text.splitlines())
            raise RecordingError(
                f"of {count} lines that came in the run none has the id of a request of it; "
                'expected each one\'s X-Request-ID as its "id"'
            )
        if file.option == "--proxy-log":
            (self._folder / "logs" / "proxy.log").write_bytes(text)
            return
        lines = [*file.before(), *text.splitlines(keepends=True)]
        shift = time.monotonic() - time.time()
        lines = [_moved(line, shift) if _MAYBE_WALL.search(line) else line for line in lines]
        (self._folder / "journal.jsonl").write_bytes(b"".join(lines))


def _moved(line: bytes, shift: float) -> bytes:
    """Return a line of the journal with those of its times that are the wall's moved by `shift`."""
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
