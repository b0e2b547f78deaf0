"""A file with a JSON object a line, read back: as dicts, or some fields of every line as columns.

A million lines are 200 MB of JSON. Arrow's reader turns the few fields that are asked for into
columns (a million lines take 3 s of processor time), and no line becomes a dict unless somebody
asks for that, or it is damaged.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeGuard

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
"""The number of a request whose id begins as this run's do, but cannot have been given.

What somebody on the way added to one (``…-0000002a.1``) does not make it another.
"""

Kinds = Mapping[str, tuple[type, ...]]
"""What a field may be, first what its column is; a number where text is meant becomes text."""

_ARROW = {float: pa.float64(), int: pa.int64(), str: pa.utf8()}
_BLOCK = 1 << 24
_FEW = 1 << 16
_DIGITS = 8
_HEX = np.full(256, -1, np.int64)
_HEX[list(b"0123456789abcdef")] = np.arange(16)
_LONGER = np.zeros(256, np.bool_)
_LONGER[list(b"0123456789abcdefABCDEF")] = True
"""What after the digits makes another number of them."""


class JsonLines:
    """The lines of `text`, what is no JSON object left out; columns have those of `kinds`."""

    def __init__(self, text: bytes, kinds: Kinds) -> None:
        self.text = text
        self._kinds = kinds
        fields = [pa.field(name, _ARROW[kind[0]]) for name, kind in kinds.items()]
        self._schema = pa.schema(fields)
        self._unread: Counter[bytes] = Counter()

    @cached_property
    def dicts(self) -> tuple[dict[str, Any], ...]:
        """Every line in full."""
        return tuple(objects(self.text.split(b"\n")))

    def unread(self, mark: bytes = b"") -> int:
        """Return how many of the lines that begin with that byte, or any, are no JSON object."""
        _ = self._table  # whose making counts them
        return self._unread[mark] if mark else self._unread.total()

    def numbers(self, name: str, dtype: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return a column's values, and which lines have one."""
        return _plain(self._table.column(name), dtype)

    def times(self, name: str) -> Floats:
        """Return a column's values, NaN where a line has none."""
        times, told = self.numbers(name, np.float64)
        return np.where(told, times, np.nan)

    def words(self, name: str) -> tuple[list[str], Ints]:
        """Return a column's words, the last one ``""`` for none, and each line's place in them."""
        coded = self._table.column(name).combine_chunks().dictionary_encode()
        words = [*coded.dictionary.to_pylist(), ""]
        codes, told = _plain(coded.indices, np.int32)
        told = told & (codes != words.index(""))  # an empty word is none as well
        return words, np.where(told, codes, len(words) - 1).astype(np.int64)

    def seqs(self, name: str, run: str, rows: NDArray[np.intp] | slice = slice(None)) -> Ints:
        """Return the number of the request of that run which a column's id is, of some lines.

        Others have `FOREIGN` or `IMPOSSIBLE`.
        """
        ids = self._table.column(name)
        return _seqs(_taken(ids, np.arange(len(ids))[rows]), run)

    @cached_property
    def _table(self) -> Any:
        return self._columns(self._objects_alone())

    def _columns(self, text: bytes) -> Any:
        """Return the fields asked for; a damaged line costs the quick way of those around it."""
        try:
            table = self._parsed(text)
            # Of two objects on one line Arrow makes two rows.
            if len(table) == text.count(b"\n") + bool(text and not text.endswith(b"\n")):
                return table
        except pa.ArrowInvalid:
            pass
        middle = text.find(b"\n", len(text) // 2) + 1
        if len(text) < _FEW or not 0 < middle < len(text):
            return self._parsed(b"\n".join(map(self._cleaned, self._counted(text.split(b"\n")))))
        halves = [self._columns(text[:middle]), self._columns(text[middle:])]
        return pa.concat_tables(halves).combine_chunks()

    def _parsed(self, text: bytes) -> Any:
        """Return the fields asked for; raises ArrowInvalid where a line is not as it should be."""
        if not text.strip():
            return self._schema.empty_table()
        parse = pj.ParseOptions(explicit_schema=self._schema, unexpected_field_behavior="ignore")
        read = pj.ReadOptions(block_size=_BLOCK)
        table = pj.read_json(pa.BufferReader(text), read_options=read, parse_options=parse)
        return table.select(self._schema.names).combine_chunks()

    def _objects_alone(self) -> bytes:
        """Return the lines that are objects; one with braces around it is not looked into."""
        text = self.text
        raw = np.frombuffer(text, np.uint8)
        begins, ends = _bounds(text, raw)
        braced = ends > begins
        braced[braced] = (raw[begins[braced]] == ord("{")) & (raw[ends[braced] - 1] == ord("}"))
        parts, done = [], 0
        for begin, end in zip(begins[~braced].tolist(), ends[~braced].tolist(), strict=True):
            parts.append(text[done:begin])
            found = self._counted([text[begin:end]])
            parts += [json.dumps(one).encode() + b"\n" for one in found]
            done = end + 1
        return b"".join([*parts, text[done:]]) if parts else text

    def _counted(self, lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
        """Yield the JSON objects among the lines, and count what else stands there."""
        for line in lines:
            found = list(objects([line]))
            if not found and (told := line.strip()):
                self._unread[told[:1]] += 1
            yield from found

    def _cleaned(self, line: Mapping[str, Any]) -> bytes:
        """Return the line with what is asked for, values of a wrong kind left out."""
        fit = {
            name: str(line[name]) if kinds[0] is str else line[name]
            for name, kinds in self._kinds.items()
            if _fits(line.get(name), kinds)
        }
        return json.dumps(fit, ensure_ascii=False).encode()


def objects(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects among the lines; one cut short by a crash is left out."""
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def is_time(value: object) -> TypeGuard[float]:
    """Whether a field's value can be a moment."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value)


def _bounds(text: bytes, raw: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return where each line begins, and where it ends."""
    ends = np.flatnonzero(raw == ord("\n"))
    if not text.endswith(b"\n"):
        ends = np.r_[ends, len(raw)]
    return np.r_[0, ends[:-1] + 1], ends


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


def distinct(rows: NDArray[np.int64]) -> tuple[Ints, Ints]:
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
    bounds = offsets.view(np.int32)[ids.offset : ids.offset + len(ids) + 1]
    whole = len(prefix.encode()) + _DIGITS
    rows = np.flatnonzero(ours & (np.diff(bounds) >= whole))
    ends = bounds[rows] + whole
    digits = _HEX[text[ends[:, None] + np.arange(-_DIGITS, 0)]]
    numbers = digits @ (16 ** np.arange(_DIGITS - 1, -1, -1, dtype=np.int64))
    added = np.flatnonzero(ends < bounds[rows + 1])
    digits[added[_LONGER[text[ends[added]]]]] = -1
    seqs[rows] = np.where((digits >= 0).all(axis=1), numbers, IMPOSSIBLE)
    return seqs
