"""The app's journal, read back: line by line, or the lines of one event as columns.

A journal of a million lines is 200 MB of JSON. Arrow's reader turns the few fields that the checks
ask for into columns (a million lines take 3 s of processor time), and no line becomes a dict unless
somebody iterates.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

FOREIGN = -2
"""The number of a request that is not of this run, or has no id."""

IMPOSSIBLE = -1
"""The number of a request whose id begins as this run's do, but cannot have been given."""

_KINDS: Mapping[str, tuple[type, ...]] = {
    "t": (float, int),
    "begin": (float, int),
    "closed": (float, int),
    "pid": (int,),
    "event": (str,),
    "instance": (str,),
    "version": (str,),
    "id": (str,),
    "key": (str,),
}
_ARROW = {float: pa.float64(), int: pa.int64(), str: pa.utf8()}
_SCHEMA = pa.schema([pa.field(name, _ARROW[kinds[0]]) for name, kinds in _KINDS.items()])
_BLOCK = 1 << 24
_DIGITS = 8
_HEX = np.full(256, -1, np.int64)
_HEX[list(b"0123456789abcdef")] = np.arange(16)


@dataclass(frozen=True, slots=True)
class Lines:
    """Some lines of a journal as columns of equal length, in the file's order.

    Times are seconds on CLOCK_MONOTONIC, NaN where a line tells none.
    """

    event: Ints
    """Which of the events asked for."""
    at: Floats
    begin: Floats
    closed: Floats
    seq: Ints
    """The request's number in this run, or `FOREIGN`, or `IMPOSSIBLE`."""
    key: Ints
    """The code of the Idempotency-Key, -1 without one; the same in all `Lines` of a journal."""
    process: Ints
    """The code of the process that wrote it: an index into `Journal.processes`."""

    def __len__(self) -> int:
        return len(self.at)

    def where(self, chosen: NDArray[np.bool_] | Ints) -> Lines:
        """Return the chosen lines."""
        return Lines(*(getattr(self, name)[chosen] for name in Lines.__slots__))

    @property
    def ours(self) -> Lines:
        """The lines about requests of this run."""
        return self.where(self.seq != FOREIGN)


@dataclass(frozen=True, slots=True)
class Process:
    """Who wrote lines: a name, a version, and a process id, which containers may share."""

    instance: str
    version: str
    pid: int


class Journal(Sequence[Mapping[str, Any]]):
    """A journal's lines; as a sequence they are dicts, what is no JSON object left out."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    @classmethod
    def read(cls, path: Path) -> Journal:
        """Return the journal in that file as it is now."""
        return cls(path.read_bytes())

    @classmethod
    def of(cls, lines: Iterable[Mapping[str, Any]]) -> Journal:
        """Return these lines as a journal; one that already is a journal as it is."""
        if isinstance(lines, Journal):
            return lines
        return cls("".join(json.dumps(line) + "\n" for line in lines).encode())

    def __len__(self) -> int:
        return len(self._dicts)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self._dicts)

    @overload
    def __getitem__(self, at: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Mapping[str, Any]]: ...
    def __getitem__(self, at: int | slice) -> Mapping[str, Any] | Sequence[Mapping[str, Any]]:
        return self._dicts[at]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._dicts == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def about(self, *events: str) -> Iterator[Mapping[str, Any]]:
        """Yield the lines of these events; no other line is parsed."""
        words = [f'"{event}"'.encode() for event in events]
        few = (line for line in self._text.splitlines() if any(word in line for word in words))
        yield from (line for line in _objects(few) if line.get("event") in events)

    @cached_property
    def _dicts(self) -> tuple[dict[str, Any], ...]:
        return tuple(_objects(self._text.splitlines()))

    def lines(self, run: str, *events: str) -> Lines:
        """Return the lines of these events as columns, requests numbered as in that run."""
        names, codes = self._words("event")
        place = [events.index(name) if name in events else -1 for name in names]
        event = np.array(place, np.int64)[codes]
        rows = np.flatnonzero(event >= 0)
        return Lines(
            event=event[rows],
            at=self._times("t")[rows],
            begin=self._times("begin")[rows],
            closed=self._times("closed")[rows],
            seq=_seqs(_taken(self._table.column("id"), rows), run),
            key=self._keys[rows],
            process=self._writers[1][rows],
        )

    @property
    def processes(self) -> tuple[Process, ...]:
        """Everybody who wrote lines."""
        return self._writers[0]

    @cached_property
    def _table(self) -> Any:
        """The fields asked for, of every line; one damaged line costs the quick way."""
        try:
            return _parsed(self._text)
        except pa.ArrowInvalid:
            return _parsed(b"\n".join(map(_cleaned, self._dicts)))

    @cached_property
    def _writers(self) -> tuple[tuple[Process, ...], Ints]:
        names = [self._words(name) for name in ("instance", "version")]
        pids, _ = _plain(self._table.column("pid"), np.int64)
        columns = np.stack([names[0][1], names[1][1], pids], axis=1)
        known, codes = _distinct(columns)
        found = (Process(names[0][0][i], names[1][0][v], pid) for i, v, pid in known.tolist())
        return tuple(found), codes

    @cached_property
    def _keys(self) -> Ints:
        words, codes = self._words("key")
        return np.where(codes == len(words) - 1, -1, codes)

    def _times(self, name: str) -> Floats:
        times, told = _plain(self._table.column(name), np.float64)
        return np.where(told, times, np.nan)

    def _words(self, name: str) -> tuple[list[str], Ints]:
        """Return a column's words, the last one ``""`` for none, and each line's place in them."""
        coded = self._table.column(name).combine_chunks().dictionary_encode()
        words = [*coded.dictionary.to_pylist(), ""]
        codes, told = _plain(coded.indices, np.int32)
        return words, np.where(told, codes, len(words) - 1).astype(np.int64)


def _objects(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects among the lines; one cut short by a crash is left out."""
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def _parsed(text: bytes) -> Any:
    """Return the fields asked for; raises ArrowInvalid where a line is not as it should be."""
    if not text.strip():
        return _SCHEMA.empty_table()
    parse = pj.ParseOptions(explicit_schema=_SCHEMA, unexpected_field_behavior="ignore")
    read = pj.ReadOptions(block_size=_BLOCK)
    table = pj.read_json(pa.BufferReader(text), read_options=read, parse_options=parse)
    return table.select(_SCHEMA.names).combine_chunks()


def _cleaned(line: Mapping[str, Any]) -> bytes:
    """Return the line with what the checks ask for, values of a wrong kind left out."""
    fit = {name: line[name] for name in _KINDS if _fits(line.get(name), _KINDS[name])}
    return json.dumps(fit, ensure_ascii=False).encode()


def _fits(value: object, kinds: tuple[type, ...]) -> bool:
    if isinstance(value, str):
        return str in kinds and value.isprintable()  # half a character is no text for Arrow
    number = isinstance(value, kinds) and not isinstance(value, bool)
    return number and isinstance(value, (int, float)) and abs(value) < 1 << 62


def _taken(column: Any, rows: NDArray[np.intp]) -> Any:
    """Return some rows of a column (and, unlike with `pa.array`, without pandas)."""
    wanted = pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(rows)])
    return column.take(wanted).combine_chunks()


def _plain(column: Any, dtype: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return a column's values, and where it has one.

    Arrow's own `to_numpy`, `fill_null` and `array` would import pandas.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    count, start = len(array), array.offset
    if not count:
        return np.empty(0, dtype), np.empty(0, np.bool_)
    bitmap, values, *_ = array.buffers()
    told = np.ones(count, np.bool_)
    if bitmap is not None:
        bits = np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little")
        told = bits[start : start + count].astype(np.bool_)
    if values is None:
        return np.zeros(count, dtype), told
    return np.frombuffer(values, dtype, count, start * np.dtype(dtype).itemsize), told


def _distinct(rows: NDArray[np.int64]) -> tuple[Ints, Ints]:
    """Return the distinct rows, and each row's place among them."""
    if not len(rows):
        return rows, np.empty(0, np.int64)
    codes = np.zeros(len(rows), np.int64)
    for column in rows.T:
        values, places = np.unique(column, return_inverse=True)
        codes = np.unique(codes * len(values) + places, return_inverse=True)[1]
    firsts = np.unique(codes, return_index=True)[1]
    return rows[firsts], codes


def _seqs(ids: Any, run: str) -> Ints:
    """Return the number in each request id of that run."""
    prefix = f"{run}-"
    begins, told = _plain(pc.starts_with(ids, pattern=prefix).cast(pa.uint8()), np.uint8)
    ours = told & (begins > 0)
    seqs = np.where(ours, IMPOSSIBLE, FOREIGN).astype(np.int64)
    if not ours.any():
        return seqs
    _, offsets, text = (np.frombuffer(b or b"", np.uint8) for b in ids.buffers())
    ends = offsets.view(np.int32)[ids.offset : ids.offset + len(ids) + 1]
    rows = np.flatnonzero(ours & (np.diff(ends) == len(prefix.encode()) + _DIGITS))
    digits = _HEX[text[ends[rows + 1][:, None] + np.arange(-_DIGITS, 0)]]
    numbers = digits @ (16 ** np.arange(_DIGITS - 1, -1, -1, dtype=np.int64))
    seqs[rows] = np.where((digits >= 0).all(axis=1), numbers, IMPOSSIBLE)
    return seqs
