"""Arrow streams on disk (IPC, zstd), closed by a trailer: the metadata of one last empty batch.

A file without its trailer was not closed by its writer, and what it holds proves nothing on its
own. It is read as far as its batches are whole: each carries the CRC-32 of its columns, because
zstd as Arrow writes it has no checksum, and what was damaged can be decompressed all the same.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from zdtest.errors import RecordingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA = 1
"""Version of the run folder's layout; a reader refuses a newer one."""

_MARKED = {"zdtest": str(SCHEMA)}
_SUM = b"crc32"
DAMAGED = (pa.ArrowException, ValueError, OSError, IndexError, KeyError, OverflowError)
"""What a damaged file is met with."""

_END = b"\xff\xff\xff\xff\0\0\0\0"
"""What an Arrow stream that was closed ends with."""


def schema(fields: Sequence[Any]) -> Any:
    """Return these fields as the schema of a file of ours."""
    return pa.schema(list(fields), metadata=_MARKED)


class ArrowWriter:
    """Appends batches to a new file; `close` ends it with the trailer."""

    def __init__(self, path: Path, columns: Any) -> None:
        try:
            self._sink = path.open("wb")
        except OSError as error:
            raise RecordingError(
                f"cannot write {path}: {error.strerror}; expected a writable folder"
            ) from error
        options = pa.ipc.IpcWriteOptions(compression="zstd", emit_dictionary_deltas=False)
        self._schema = columns
        self._writer = pa.ipc.new_stream(self._sink, columns, options=options)

    def put(self, columns: list[Any]) -> None:
        """Put one batch on disk."""
        batch = pa.record_batch(columns, schema=self._schema)
        self._writer.write_batch(batch, custom_metadata={_SUM: str(_checksum(batch))})
        self._sink.flush()

    def close(self, trailer: Mapping[str, object]) -> None:
        """End the file: without this a recording proves nothing."""
        columns = [pa.array([], field.type) for field in self._schema]
        text = json.dumps(trailer)
        self._writer.write_batch(
            pa.record_batch(columns, schema=self._schema),
            custom_metadata={"trailer": text, _SUM: str(zlib.crc32(text.encode()))},
        )
        self._writer.close()
        self._sink.close()


class RowWriter(ArrowWriter):
    """Appends rows of one numpy `dtype`, a column a field."""

    def __init__(self, path: Path, dtype: np.dtype[np.void]) -> None:
        super().__init__(path, _columns(dtype))
        self._names = dtype.names or ()

    def append(self, rows: NDArray[np.void]) -> None:
        """Put `rows` on disk."""
        self.put([pa.array(np.ascontiguousarray(rows[name])) for name in self._names])


def _columns(dtype: np.dtype[np.void]) -> Any:
    return schema([pa.field(name, pa.from_numpy_dtype(dtype[name])) for name in dtype.names or ()])


def ours(path: Path, columns: Any) -> bool:
    """Whether `path` is there with a beginning; RecordingError where it is not a file of ours."""
    if not path.exists() or not path.stat().st_size:
        return False
    try:
        stream = pa.ipc.open_stream(pa.memory_map(str(path)))
        known = (stream.schema.metadata or {}).get(b"zdtest")
    except DAMAGED as error:
        raise RecordingError(f"not a zdtest recording: {path}: {error}") from error
    if known is None or not stream.schema.equals(columns):
        raise RecordingError(
            f"foreign recording {path}: expected the columns {', '.join(columns.names)}"
        )
    return True


def ended(path: Path) -> bool:
    """Whether the file at `path` has the end that closing gives it."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - len(_END)))
        return file.read() == _END


def _checksum(batch: Any) -> int:
    """Return the CRC-32 of a batch's columns, and of the words that their codes stand for."""
    found = 0
    for column in batch.columns if len(batch) else ():
        if pa.types.is_dictionary(column.type):
            column.dictionary.validate(full=True)  # reading damaged words may read anything
            words = json.dumps(column.dictionary.to_pylist())
            found = zlib.crc32(words.encode(), found)
            column = column.indices
        size = len(column) * column.type.bit_width // 8
        found = zlib.crc32(memoryview(column.buffers()[1])[:size], found)
    return found


def batches(path: Path) -> Iterator[Any]:
    """Yield the batches of the file; raises one of `DAMAGED` where one is."""
    stream = _stream(path)
    while True:
        try:
            batch, metadata = stream.read_next_batch_with_custom_metadata()
        except StopIteration:
            return
        told = metadata[_SUM] if metadata is not None and _SUM in metadata else None
        if told is not None and told != str(_checksum(batch)).encode():
            raise ValueError("checksum")
        yield batch


def _stream(path: Path, fields: list[int] | None = None) -> Any:
    """Return the file as Arrow reads it, all of its columns or the numbered ones."""
    options = pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False)
    return pa.ipc.open_stream(pa.memory_map(str(path)), options=options)


def scan(path: Path, field: int) -> tuple[list[int], Mapping[str, Any] | None]:
    """Return the rows of each whole batch up to the end or the cut, and the trailer if reached.

    Only the numbered column is read.
    """
    stream = _stream(path, [field])
    counts: list[int] = []
    summed: set[bool] = set()
    while True:
        try:
            batch, metadata = stream.read_next_batch_with_custom_metadata()
        except (StopIteration, *DAMAGED):
            return counts, None
        summed.add(metadata is not None and _SUM in metadata)
        if len(summed) > 1:  # all have a checksum, or none as in files from before there were any
            return counts, None
        if metadata is not None and b"trailer" in metadata:
            return counts, _trailer(metadata)
        counts.append(batch.num_rows)


def _trailer(metadata: Mapping[bytes, bytes]) -> Mapping[str, Any] | None:
    """Return the trailer, None where it is damaged."""
    text = metadata[b"trailer"]
    if _SUM in metadata and metadata[_SUM] != str(zlib.crc32(text)).encode():
        return None
    try:
        trailer: Any = json.loads(text)
    except ValueError:
        return None
    return trailer if isinstance(trailer, dict) else None


def plain(column: Any, dtype: Any) -> NDArray[Any]:
    """Return one batch's column without a copy (and, unlike `to_numpy`, without pandas)."""
    return np.frombuffer(column.buffers()[1], dtype, len(column))


def read_rows(
    path: Path, dtype: np.dtype[np.void]
) -> tuple[NDArray[np.void], Mapping[str, Any] | None]:
    """Return the rows that a `RowWriter` wrote, and the trailer, None when it was never closed.

    Raises RecordingError for a file of somebody else's.
    """
    if not ours(path, _columns(dtype)):
        return np.empty(0, dtype), None
    counts, trailer = scan(path, 0)
    rows, at = np.empty(sum(counts), dtype), 0
    try:
        for count, batch in zip(counts, batches(path), strict=False):
            for name in dtype.names or ():
                if count:
                    rows[name][at : at + count] = plain(batch.column(name), dtype[name])
            at += count
    except DAMAGED:
        return rows[:at], None
    return rows, trailer
