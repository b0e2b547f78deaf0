"""HTTP/1.1 messages on asyncio streams: heads are read strictly, bodies in pieces (RFC 9112)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from enum import Enum

Headers = list[tuple[bytes, bytes]]

HEAD_LIMIT = 65536
PIECE = 65536
HOP_BY_HOP = frozenset(
    (b"connection", b"content-length", b"expect", b"keep-alive", b"proxy-connection", b"te",
     b"trailer", b"transfer-encoding", b"upgrade")
)  # fmt: skip

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST = re.compile(rb"(" + _TOKEN + rb") ([!-~\x80-\xff]+) HTTP/1\.([01])")
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t -~\x80-\xff]*))?")
_NAME = re.compile(_TOKEN)
_VALUE = re.compile(rb"[\t -~\x80-\xff]*")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t -~\x80-\xff]*)?\r\n")


class BadMessage(Exception):
    """What was read is not acceptable HTTP/1.1; `status` is what a client is told."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


class Truncated(Exception):
    """The peer left in the middle of a body."""


class Unsized(Enum):
    """How a body ends that has no length."""

    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"


Framing = int | Unsized


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request, and how its body ends."""

    method: bytes
    path: bytes
    minor: int
    headers: Headers
    framing: Framing

    @property
    def keep(self) -> bool:
        """Whether the client means to use the connection again."""
        return self.minor == 1 and b"close" not in listed(self.headers, b"connection")

    @property
    def id(self) -> str:
        """The X-Request-ID, or an empty string."""
        return b"".join(values(self.headers, b"x-request-id")[:1]).decode("latin-1")


@dataclass(frozen=True, slots=True)
class Reply:
    """The head of a reply, and how its body ends."""

    status: int
    reason: bytes
    headers: Headers
    framing: Framing
    keep: bool


def values(headers: Headers, name: bytes) -> list[bytes]:
    """Return the values of a header; `name` is in lower case."""
    return [value for key, value in headers if key.lower() == name]


def listed(headers: Headers, name: bytes) -> list[bytes]:
    """Return the members, in lower case, of a header that is a comma-separated list."""
    return [m.strip().lower() for value in values(headers, name) for m in value.split(b",")]


def end_to_end(headers: Headers) -> Headers:
    """Return the headers a proxy passes on: neither hop-by-hop nor named by Connection."""
    dropped = HOP_BY_HOP.union(listed(headers, b"connection")) - {b"host"}
    return [(name, value) for name, value in headers if name.lower() not in dropped]


def written(start: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the bytes of a head."""
    return b"\r\n".join([start, *(b"%b: %b" % header for header in headers), b"", b""])


async def read_request(reader: asyncio.StreamReader) -> Request:
    """Return the next request's head.

    Raises BadMessage when it is none, with 431 when it is too long, and IncompleteReadError when
    the client left.
    """
    start, headers = await _read_head(reader)
    line = _REQUEST.fullmatch(start)
    if line is None:
        raise BadMessage(f"request line {start[:80]!r}")
    minor = int(line[3])
    if len(values(headers, b"host")) != minor and minor == 1:
        raise BadMessage("expected exactly one Host")
    framing = _framing(headers, minor)
    return Request(line[1], line[2], minor, headers, 0 if framing is None else framing)


async def read_reply(reader: asyncio.StreamReader, method: bytes, first: bytes) -> Reply:
    """Return a reply's head, interim ones passed over; `first` are bytes read before.

    Raises BadMessage when it is none and IncompleteReadError when the target left.
    """
    while True:
        start, headers = await _read_head(reader, first)
        line = _STATUS.fullmatch(start)
        if line is None or line[2] == b"101":
            raise BadMessage(f"status line {start[:80]!r}")
        if line[2] >= b"200":
            break
        first = b""
    minor, status = int(line[1]), int(line[2])
    framing = _framing(headers, minor)
    if method == b"HEAD" or status in (204, 304):
        framing = 0
    elif framing is None:
        framing = Unsized.UNTIL_CLOSE
    keep = minor == 1 and b"close" not in listed(headers, b"connection")
    return Reply(
        status, line[3] or b"", headers, framing, keep and framing is not Unsized.UNTIL_CLOSE
    )


async def _read_head(reader: asyncio.StreamReader, first: bytes = b"") -> tuple[bytes, Headers]:
    try:
        raw = first + await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise BadMessage(f"headers over {HEAD_LIMIT} bytes", 431) from None
    start, *lines = raw.lstrip(b"\r\n").removesuffix(b"\r\n\r\n").split(b"\r\n")
    return start, [_field(line) for line in lines]


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    value = value.strip(b" \t")
    if not colon or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise BadMessage(f"header {line[:80]!r}")
    return name, value


def _framing(headers: Headers, minor: int) -> Framing | None:
    lengths = values(headers, b"content-length")
    codings = values(headers, b"transfer-encoding")
    if lengths and codings:
        # Two parsers that believe different ones of the two can be played against each other.
        raise BadMessage("both Content-Length and Transfer-Encoding")
    if codings:
        if minor == 0 or [coding.lower() for coding in codings] != [b"chunked"]:
            raise BadMessage(f"Transfer-Encoding {b', '.join(codings)!r}: expected chunked")
        return Unsized.CHUNKED
    if not lengths:
        return None
    if len(lengths) != 1 or not _LENGTH.fullmatch(lengths[0]):
        raise BadMessage(f"Content-Length {b', '.join(lengths)[:80]!r}: expected one number")
    return int(lengths[0])


async def pieces(reader: asyncio.StreamReader, framing: Framing) -> AsyncIterator[bytes]:
    """Yield a body's data as it arrives.

    Raises Truncated when the peer leaves before its end and BadMessage for a chunk that is none.
    """
    try:
        if framing is Unsized.CHUNKED:
            while size := await _chunk_size(reader):
                async for piece in _exactly(reader, size):
                    yield piece
                if await reader.readexactly(2) != b"\r\n":
                    raise BadMessage("chunk longer than its size")
            await _skip_trailers(reader)
        elif framing is Unsized.UNTIL_CLOSE:
            while piece := await reader.read(PIECE):
                yield piece
        else:
            async for piece in _exactly(reader, framing):
                yield piece
    except (OSError, asyncio.IncompleteReadError) as error:
        raise Truncated(str(error)) from error


async def _exactly(reader: asyncio.StreamReader, size: int) -> AsyncIterator[bytes]:
    while size:
        piece = await reader.read(min(size, PIECE))
        if not piece:
            raise asyncio.IncompleteReadError(b"", size)
        size -= len(piece)
        yield piece


async def _chunk_size(reader: asyncio.StreamReader) -> int:
    match = _CHUNK.fullmatch(await _line(reader))
    if match is None:
        raise BadMessage("chunk size")
    return int(match[1], 16)


async def _skip_trailers(reader: asyncio.StreamReader) -> None:
    size = 0
    while (line := await _line(reader)) != b"\r\n":
        size += len(line)
        if size > HEAD_LIMIT:
            raise BadMessage("trailers too long", 431)


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError:
        raise BadMessage("line too long", 431) from None


def chunk(piece: bytes) -> bytes:
    """Return a piece as one chunk."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


LAST_CHUNK = b"0\r\n\r\n"
