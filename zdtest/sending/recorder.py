"""The `Recorder` packs every exchange that ended into a row, and rows into the sample file."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from zdtest.records.arrows import RowWriter
from zdtest.records.beside import MESSAGE, RETRY
from zdtest.records.recording import ROW, ROW_FORMAT, SampleWriter
from zdtest.records.sample import CHANNELS, Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from zdtest.channel import Channel
    from zdtest.sending.exchange import Exchange

_ROWS: Final = 16_384
_MOST: Final = 4_000_000
_MOST_BESIDE: Final = 500_000
_PACK: Final = struct.Struct(ROW_FORMAT).pack_into
_SIZE: Final = ROW.itemsize
_TOP: Final = 0xFFFF_FFFF
_WORDS: Final = 0xFFFF


class Writer(Protocol):
    """Where rows go in the end: a file, or the process that keeps it."""

    def append(
        self, rows: NDArray[np.void], versions: Sequence[str], instances: Sequence[str]
    ) -> None:
        """Keep `rows`; their version and instance codes index the lists."""

    def close(self, trailer: Mapping[str, object]) -> None:
        """Keep the trailer; nothing comes after it."""


class SideWriter(Protocol):
    """Where rows of a `Side` go in the end."""

    def append(self, rows: NDArray[np.void]) -> None:
        """Keep `rows`."""

    def close(self, trailer: Mapping[str, object]) -> None:
        """Keep the trailer; nothing comes after it."""


class Side:
    """Rows of one kind that go into a file of their own beside the samples.

    They are few: what is taken waits as tuples until `news` or `write`, half a million at the most
    (100 MB). Past that rows are `dropped`, and counted.
    """

    def __init__(self, to: Path | SideWriter, dtype: np.dtype[np.void]) -> None:
        self._writer: SideWriter = RowWriter(to, dtype) if isinstance(to, Path) else to
        self._dtype = dtype
        self._taken: list[tuple[int, ...]] = []
        self.count = 0
        self.dropped = 0

    def take(self, *row: int) -> None:
        """Record one row, its fields in the order of the dtype."""
        if len(self._taken) < _MOST_BESIDE:
            self._taken.append(row)
        else:
            self.dropped += 1

    def news(self) -> NDArray[np.void]:
        """Hand over the rows taken since this was last asked: they are the caller's to write."""
        taken, self._taken = self._taken, []
        return np.array(taken, self._dtype)

    def write(self, run: Callable[..., Any], rows: NDArray[np.void] | None = None) -> None:
        """Put the news on disk, or these `rows` that somebody else took; `run` as for samples."""
        rows = self.news() if rows is None else rows
        if len(rows):
            run(self._writer.append, rows)
            self.count += len(rows)

    def close(self) -> None:
        """Write what is left, and the trailer."""
        self.write(_at_once)
        self._writer.close({"count": self.count, "dropped": self.dropped})


class Recorder:
    """Takes each ended exchange once; whoever owns it asks for `news` and calls `write` regularly.

    `take` only packs, so it can be called from the event loop itself. What the disk is too slow
    to take waits in memory, up to four million rows (170 MB). Past that rows are `dropped`, and
    counted.

    What it is given as `messages` and `retries` is written and closed with the samples.
    """

    def __init__(
        self, to: Path | Writer, *, messages: Side | None = None, retries: Side | None = None
    ) -> None:
        self._writer: Writer = SampleWriter(to) if isinstance(to, Path) else to
        self.messages = messages
        self.retries = retries
        # The first batch makes pyarrow load half of itself: now, not while the schedule runs.
        self._writer.append(np.empty(0, ROW), [""], [""])
        self._buffer = bytearray(_ROWS * _SIZE)
        self._fill = 0
        self._full: list[NDArray[np.void]] = []
        self._unwritten: list[NDArray[np.void]] = []
        self._waiting = 0
        self._versions: dict[bytes, int] = {}
        self._instances: dict[bytes, int] = {}
        self.count = 0
        self.dropped = 0
        self.tally: dict[tuple[int, int], int] = {}

    @classmethod
    def of(cls, folder: Path, channels: Iterable[Channel]) -> Recorder:
        """Return one that records all there is to know of these channels in `folder`."""
        specs = list(channels)
        streams, keyed = any(one.stations for one in specs), any(one.keyed for one in specs)
        return cls(
            folder / "samples.arrows",
            messages=Side(folder / "messages.arrows", MESSAGE) if streams else None,
            retries=Side(folder / "retries.arrows", RETRY) if keyed else None,
        )

    def take(self, exchange: Exchange) -> None:
        """Record how `exchange` ended."""
        version, instance = exchange.version, exchange.instance
        _PACK(
            self._buffer,
            self._fill * _SIZE,
            exchange.due,
            exchange.seq,
            exchange.offset(exchange.sent),
            exchange.offset(exchange.first),
            exchange.offset(exchange.done),
            min(exchange.size, _TOP),
            exchange.conn,
            exchange.session,
            exchange.status,
            (self._versions.get(version) or _code(self._versions, version)) if version else 0,
            (self._instances.get(instance) or _code(self._instances, instance)) if instance else 0,
            exchange.channel.number,
            exchange.outcome,
        )
        self._fill += 1
        if self._fill == _ROWS:
            self._turn()

    def add(
        self, rows: NDArray[np.void], versions: Sequence[str], instances: Sequence[str]
    ) -> None:
        """Take rows that another recorder packed; their codes index the lists, and are changed."""
        for name, words, known in (
            ("version", versions, self._versions),
            ("instance", instances, self._instances),
        ):
            raw = [word.encode() for word in words]
            codes = [(known.get(word) or _code(known, word)) if word else 0 for word in raw]
            rows[name] = np.array(codes, np.uint16)[rows[name]]
        self._turn()
        self._full.append(rows)

    def _turn(self) -> None:
        """Put the rows at hand aside, and go on with an empty buffer."""
        if self._fill:
            self._full.append(np.frombuffer(self._buffer, ROW, self._fill))
            self._buffer = bytearray(_ROWS * _SIZE)
            self._fill = 0

    def news(self) -> NDArray[np.void]:
        """Return the rows taken since this was last asked, and bring `tally` up to date."""
        self._turn()
        rows = np.concatenate(self._full) if self._full else np.empty(0, ROW)
        self._full.clear()
        self._count(rows)
        if self._waiting + len(rows) > _MOST:
            self.dropped += len(rows)
        elif len(rows):
            self._unwritten.append(rows)
            self._waiting += len(rows)
        return rows

    def _count(self, rows: NDArray[np.void]) -> None:
        """Add `rows` to the tally by channel and outcome."""
        keys, counts = np.unique(
            rows["channel"].astype(np.uint16) << 8 | rows["outcome"], return_counts=True
        )
        for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
            pair = (key >> 8, key & 0xFF)
            self.tally[pair] = self.tally.get(pair, 0) + count

    @property
    def sides(self) -> list[Side]:
        """What it records beside the samples."""
        return [side for side in (self.messages, self.retries) if side is not None]

    @property
    def waiting(self) -> int:
        """How many rows of the news so far are not on disk yet."""
        return self._waiting

    def write(self, run: Callable[..., Any]) -> None:
        """Put the rows of the news so far on disk.

        `run` calls a function with its arguments and returns once that has returned: beside the
        event loop, so that compressing does not hold up the schedule. Not to be called again
        before it has returned.
        """
        for side in self.sides:
            side.write(run)
        chunks = len(self._unwritten)
        if not chunks:
            return
        rows = np.concatenate(self._unwritten)
        run(self._writer.append, rows, _texts(self._versions), _texts(self._instances))
        del self._unwritten[:chunks]
        self.count += len(rows)
        self._waiting -= len(rows)

    def total(self, *, failed: bool = False) -> int:
        """Return how many requests ended so far, or how many of them failed, control left out."""
        control = CHANNELS.index("control")
        passing = (Outcome.ok, Outcome.unsent)
        return sum(
            count
            for (channel, outcome), count in self.tally.items()
            if channel != control and not (failed and outcome in passing)
        )

    def close(self, trailer: Mapping[str, object]) -> None:
        """Write what is left, and the trailer."""
        self.news()
        self.write(_at_once)
        for side in self.sides:
            side.close()
        self._writer.close({"count": self.count, "dropped": self.dropped, **trailer})


def _at_once(append: Callable[..., Any], *rows: Any) -> None:
    append(*rows)


def _code(words: dict[bytes, int], word: bytes) -> int:
    """Return the word's number, from 1; past 65,535 of them that of "not told", 0."""
    return words.setdefault(word, len(words) + 1) if len(words) < _WORDS else 0


def _texts(words: dict[bytes, int]) -> list[str]:
    return ["", *(word.decode("utf-8", "replace") for word in words)]
