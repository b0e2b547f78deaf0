"""A run's folder: written once while the run goes on, judged and drawn as often as wanted.

::

    reports/<run>/
      samples.arrows   one row a scheduled request (Arrow IPC stream, zstd), closed by a trailer
      messages.arrows  one row a numbered message, where a channel is a stream
      retries.arrows   one row a write asked again, where writes carry an Idempotency-Key
      events.jsonl     marks, one JSON object a line: {"t": monotonic seconds, "mark": name, ...}
      manifest.json    what ran: url, rate, seed, channels, SLO, versions, host
      journal.jsonl    the app's own account of its lifecycle and requests, where there is one
      tasks.jsonl      each change of a swarm's task, where there is a swarm
      memory.jsonl     what the app's instances held, twice a second, where zdtest started them
      logs/            what every process printed; proxy.log is the proxy's account of requests
      verdict.json     the judgement          report.html   the page

Times in the folder are CLOCK_MONOTONIC of the machine that recorded it. The manifest's ``clock``
ties them to the wall clock.

The sample file is a standard Arrow stream, so any Arrow reader opens it. Its columns are the
deltas and offsets that compress best: ``due`` is nanoseconds since the previous row (since zero
for the first row of a batch); ``sent``, ``first`` and ``done`` are microseconds after ``due``,
with `NEVER` for what did not happen. The trailer is the metadata of one last empty batch. A file
without it was not closed by its recorder, and what it holds proves nothing on its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from zdtest.errors import RecordingError
from zdtest.records.arrows import DAMAGED, ArrowWriter, batches, ended, ours, plain, scan, schema
from zdtest.records.arrows import SCHEMA as SCHEMA
from zdtest.records.beside import MESSAGE, RETRY, Beside
from zdtest.records.journal import Journal
from zdtest.records.marks import marks
from zdtest.records.memory import Memory
from zdtest.records.proxylog import ProxyLog
from zdtest.records.sample import CHANNELS, Mark, Outcome, Sample
from zdtest.records.shown import shown
from zdtest.records.unasked import unasked

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

PROXY_LOG = "logs/proxy.log"
"""Where in the folder a proxy's account of requests is."""

NEVER = 0xFFFF_FFFF
"""The offset of a moment that never came."""

ROW = np.dtype(
    [
        ("due", "<i8"),
        ("seq", "<u4"),
        ("sent", "<u4"),
        ("first", "<u4"),
        ("done", "<u4"),
        ("bytes", "<u4"),
        ("conn", "<u4"),
        ("session", "<u2"),
        ("status", "<u2"),
        ("version", "<u2"),
        ("instance", "<u2"),
        ("channel", "u1"),
        ("outcome", "u1"),
    ]
)
"""One sample as the load process packs it: 42 bytes, offsets in microseconds after `due`."""

ROW_FORMAT = "<qIIIIIIHHHHBB"
"""The same row for `struct.pack_into`."""

_PLAIN = [name for name in ROW.names or () if name not in ("due", "version", "instance")]
_TEXT = pa.dictionary(pa.uint16(), pa.utf8())
_ARROW = schema(
    [pa.field("due", pa.int64())]
    + [pa.field(name, pa.from_numpy_dtype(ROW[name])) for name in _PLAIN]
    + [pa.field("version", _TEXT), pa.field("instance", _TEXT)]
)


class SampleWriter(ArrowWriter):
    """Appends packed rows to ``samples.arrows``; `close` ends it with the trailer."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _ARROW)

    def append(
        self, rows: NDArray[np.void], versions: Sequence[str], instances: Sequence[str]
    ) -> None:
        """Put `rows` (dtype `ROW`) on disk; their version and instance codes index the lists."""
        rows = rows[np.argsort(rows["due"], kind="stable")]
        columns: list[Any] = [pa.array(np.diff(rows["due"], prepend=np.int64(0)))]
        columns += [pa.array(np.ascontiguousarray(rows[name])) for name in _PLAIN]
        for name, words in (("version", versions), ("instance", instances)):
            codes = pa.array(np.ascontiguousarray(rows[name]))
            columns.append(pa.DictionaryArray.from_arrays(codes, pa.array(words, pa.utf8())))
        self.put(columns)


@dataclass(frozen=True, slots=True)
class Samples:
    """All samples of a run as columns of equal length, in `due` order.

    `due` is float64 seconds on CLOCK_MONOTONIC; the offsets are uint32 microseconds after it.
    `version` and `instance` are codes into `versions` and `instances` ("" is "not told").
    """

    due: Floats
    seq: NDArray[np.uint32]
    sent_us: NDArray[np.uint32]
    first_us: NDArray[np.uint32]
    done_us: NDArray[np.uint32]
    bytes: NDArray[np.uint32]
    conn: NDArray[np.uint32]
    session: NDArray[np.uint16]
    status: NDArray[np.uint16]
    channel: NDArray[np.uint8]
    outcome: NDArray[np.uint8]
    version: NDArray[np.uint16]
    instance: NDArray[np.uint16]
    versions: tuple[str, ...]
    instances: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.due)

    @property
    def done(self) -> Floats:
        """When each request ended, seconds."""
        return self.due + self.latency

    @property
    def latency(self) -> Floats:
        """Seconds from due to done."""
        return np.multiply(self.done_us, 1e-6, dtype=np.float64)

    @property
    def lag(self) -> Floats:
        """Seconds from due to sent; NaN where nothing was sent."""
        lag: Floats = np.where(self.sent_us == NEVER, np.nan, self.sent_us * 1e-6)
        return lag

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.intp] | slice) -> Samples:
        """Return the chosen rows, still in order when `chosen` keeps it."""
        return Samples(
            **{name: getattr(self, name)[chosen] for name in _COLUMNS},
            versions=self.versions,
            instances=self.instances,
        )

    def of(self, channel: str) -> Samples:
        """Return the rows of one channel."""
        return self.where(self.channel == CHANNELS.index(channel))

    def rows(self, run: str) -> Iterator[Sample]:
        """Yield each row as a `Sample` of the run named `run`."""
        for i in range(len(self)):
            due = float(self.due[i])
            sent, first = int(self.sent_us[i]), int(self.first_us[i])
            yield Sample(
                id=request_id(run, int(self.seq[i])),
                channel=CHANNELS[self.channel[i]],
                session=int(self.session[i]),
                due=due,
                sent=None if sent == NEVER else due + sent * 1e-6,
                first_byte=None if first == NEVER else due + first * 1e-6,
                done=due + int(self.done_us[i]) * 1e-6,
                outcome=Outcome(int(self.outcome[i])),
                status=int(self.status[i]),
                bytes=int(self.bytes[i]),
                version=self.versions[self.version[i]],
                instance=self.instances[self.instance[i]],
                conn=int(self.conn[i]),
            )

    @classmethod
    def from_rows(
        cls,
        rows: NDArray[np.void],
        versions: Sequence[str] = ("",),
        instances: Sequence[str] = ("",),
    ) -> Samples:
        """Return packed rows (dtype `ROW`) as columns, in `due` order."""
        rows = rows[np.argsort(rows["due"], kind="stable")]
        named = {"sent": "sent_us", "first": "first_us", "done": "done_us"}
        columns = {named.get(name, name): rows[name].copy() for name in ROW.names or ()}
        columns["due"] = columns["due"] * 1e-9
        return cls(**columns, versions=tuple(versions), instances=tuple(instances))


_COLUMNS = [name for name in Samples.__slots__ if name not in ("versions", "instances")]


def request_id(run: str, seq: int) -> str:
    """Return what the request numbered `seq` carries as ``X-Request-ID``."""
    return f"{run}-{seq:08x}"


@dataclass(frozen=True, slots=True)
class Recording:
    """One run, read back: what was sent, what happened around it, and whether it was closed."""

    folder: Path
    manifest: Mapping[str, Any]
    samples: Samples
    marks: tuple[Mark, ...]
    trailer: Mapping[str, Any] | None
    journal: Journal | None = field(repr=False, default=None)
    """The app's journal, None where the app keeps none; parsed when it is asked for."""
    proxy: ProxyLog | None = field(repr=False, default=None)
    """The proxy's log, None where no proxy keeps one; parsed when it is asked for."""
    messages: Beside | None = field(repr=False, default=None)
    """What the streams' subscribers got (`MESSAGE`), None where nobody kept an account of it."""
    retries: Beside | None = field(repr=False, default=None)
    """The writes asked again under their key (`RETRY`), None where they carried none."""
    memory: Memory | None = field(repr=False, default=None)
    """What the app's instances held, None where nobody sampled it."""
    unasked: frozenset[str] = field(repr=False, default=frozenset())
    """The ids of requests that a balancer without such a log says that it gave to no server."""
    cut: str = ""
    """Why not all samples were read, in words; "" where the recorder closed their file."""
    unread: int = 0
    """How many lines of ``events.jsonl`` are no marks, one cut short among them."""

    @property
    def run(self) -> str:
        """The run's name, which is also the prefix of its request ids."""
        return str(self.manifest["run"])

    @property
    def damage(self) -> Mapping[str, int]:
        """How many lines of each file cannot be read, of those of which some cannot."""
        told = {"events.jsonl": self.unread}
        if self.journal is not None:
            told["journal.jsonl"] = self.journal.unread
        if self.proxy is not None:
            told[PROXY_LOG] = self.proxy.unread
        return {name: count for name, count in told.items() if count}

    def mark(self, name: str) -> float | None:
        """Return when the first mark of that name was made, or None."""
        return next((mark.at for mark in self.marks if mark.name == name), None)

    def spans(self, name: str) -> list[tuple[float, float, Mapping[str, object]]]:
        """Return every ``<name>.begin`` .. ``<name>.end`` as (begin, end, about) in order.

        Pairs match on the ``step`` (or ``fault``) that both marks tell, an end with the last begin
        before it that is open; one never ended runs to infinity.
        """
        found: list[tuple[float, float, Mapping[str, object]]] = []
        for mark in sorted(self.marks, key=lambda mark: mark.at):
            if mark.name == f"{name}.begin":
                found.append((mark.at, np.inf, mark.about))
            elif mark.name == f"{name}.end":
                for row in reversed(range(len(found))):
                    begin, end, about = found[row]
                    if end == np.inf and _same(about, mark.about):
                        found[row] = (begin, mark.at, about)
                        break
        return found

    @classmethod
    def read(cls, folder: Path) -> Recording:
        """Return the run in `folder`, whole or cut short.

        A sample file that its recorder did not close, or that is damaged, is read as far as it
        goes, with `trailer` None and the reason in `cut`. Raises RecordingError when there is no
        run, or one that this version can't read.
        """
        if not folder.is_dir():
            raise RecordingError(f"no run at {folder}: expected a folder with manifest.json")
        told = manifest(folder)
        samples, trailer = read_samples(folder / "samples.arrows")
        told_of, unread = marks(folder / "events.jsonl")
        journal = folder / "journal.jsonl"
        return cls(
            folder=folder,
            manifest=told,
            samples=samples,
            marks=told_of,
            trailer=trailer,
            journal=Journal.read(journal) if journal.exists() else None,
            proxy=ProxyLog.read(folder / PROXY_LOG, told.get("clock")),
            messages=Beside.read(folder / "messages.arrows", MESSAGE),
            retries=Beside.read(folder / "retries.arrows", RETRY),
            memory=Memory.read(folder / "memory.jsonl"),
            unasked=unasked(folder / "logs" / "balancer.log"),
            cut="" if trailer is not None else _why(folder / "samples.arrows", len(samples)),
            unread=unread,
        )


def _same(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Whether two marks tell of the same step or fault."""
    return all(one.get(key) == other.get(key) for key in ("step", "fault"))


def read_samples(path: Path) -> tuple[Samples, Mapping[str, Any] | None]:
    """Return the samples in `path` in due order, and the trailer, None when it was never closed."""
    if not ours(path, _ARROW):
        return Samples.from_rows(np.empty(0, ROW)), None
    return _read(path)


def _read(path: Path) -> tuple[Samples, Mapping[str, Any] | None]:
    """Return what `read_samples` promises, of a file that is ours.

    The first pass, over one column only, tells how many rows are whole. The second puts each
    batch into its place while it is still in the processor's cache: nothing is held twice. One
    thread is quicker than many, as a column of a batch is decompressed in microseconds.
    """
    counts, trailer = scan(path, _ARROW.get_field_index("outcome"))
    columns = {name: np.empty(sum(counts), ROW[name]) for name in _ARROW.names}
    words: dict[str, dict[str, int]] = {"version": {"": 0}, "instance": {"": 0}}
    at = 0
    try:
        for count, batch in zip(counts, batches(path), strict=False):
            if not count:
                continue
            place = slice(at, at + count)
            for name in ("due", *_PLAIN):
                columns[name][place] = plain(batch.column(name), ROW[name])
            for name, known in words.items():
                columns[name][place] = _codes(batch.column(name), known)
            np.cumsum(columns["due"][place], out=columns["due"][place])
            at += count
    except DAMAGED:
        trailer, columns = None, {name: column[:at] for name, column in columns.items()}
    if at and (
        columns["channel"].max() >= len(CHANNELS) or columns["outcome"].max() >= len(Outcome)
    ):
        raise RecordingError(f"damaged {path}: it holds a channel or outcome that does not exist")
    _sort(columns)
    named = {"sent": "sent_us", "first": "first_us", "done": "done_us"}
    columns["due"] = columns["due"] * 1e-9
    samples = Samples(
        **{named.get(name, name): column for name, column in columns.items()},
        versions=tuple(words["version"]),
        instances=tuple(words["instance"]),
    )
    return samples, trailer


def _codes(column: Any, words: dict[str, int]) -> NDArray[np.uint16]:
    """Return one batch's words as the codes of `words`, which learns the new ones."""
    told = map(shown, column.dictionary.to_pylist())
    table = [words.setdefault(word, len(words)) for word in told]
    codes: NDArray[np.uint16] = np.array(table, np.uint16)[plain(column.indices, np.uint16)]
    return codes


def _sort(columns: dict[str, NDArray[Any]]) -> None:
    """Put the rows in due order in place: batches overlap where replies came late."""
    due = columns["due"]
    if np.all(due[1:] >= due[:-1]):
        return
    order = np.argsort(due, kind="stable")
    moved = np.flatnonzero(order != np.arange(len(order)))
    source = order[moved]
    for column in columns.values():
        column[moved] = column[source]


def manifest(folder: Path) -> Mapping[str, Any]:
    """Return what the run in `folder` says of itself; raises RecordingError when there is none."""
    path = folder / "manifest.json"
    try:
        found: Any = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RecordingError(
            f"no run at {path.parent}: expected a folder with {path.name}"
        ) from error
    except (OSError, ValueError) as error:
        raise RecordingError(f"damaged {path}: {error}") from error
    told: dict[str, Any] = found if isinstance(found, dict) else {}
    if told.get("schema") != SCHEMA or "run" not in told:
        raise RecordingError(
            f"cannot read {path}: schema {told.get('schema')!r}, expected {SCHEMA}"
        )
    return told


def _why(path: Path, samples: int) -> str:
    """Return why the sample file at `path`, of which so many were read, has no trailer."""
    if not path.exists():
        return f"there is no {path.name}: the load never began, or the file was removed"
    if ended(path):
        return f"{path.name} is damaged: of it {samples} samples could be read"
    return f"the recorder did not close its file: {samples} samples were read, more may be missing"
