"""What a server sends, taken apart (RFC 9112): pure functions and decoders over bytes.

A decoder takes the framing off a body as its pieces come and holds no more than a line of it, so
a download of any size costs neither memory nor a second look at what came before.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from typing import Final, NamedTuple, Protocol

from zdtest.records.sample import Outcome

CHUNKED: Final = -1
TO_THE_END: Final = -2

_MAX_HEAD: Final = 65_536
_MAX_DIGITS: Final = 18
_MAX_CHUNK_LINE: Final = 4_096
_KNOWN_HEADS: Final = 256
_HEX: Final = b"0123456789abcdefABCDEF"
_DIGITS: Final = b"0123456789abcdef"
"""Eight of them end a request's id."""


class Malformed(ValueError):
    """Bytes that are no HTTP/1."""


class Head(NamedTuple):
    """Status line and headers of a reply, as far as they matter here.

    `length` is the body's in bytes, `CHUNKED` or `TO_THE_END` of the connection. `keeps` is
    whether the connection can be used again. `digest` is the body's SHA-256 where it is told, `id`
    the X-Request-ID.
    """

    status: int
    length: int
    keeps: bool
    version: bytes
    instance: bytes
    digest: bytes = b""
    id: bytes = b""


def head_reader(version_header: str, instance_header: str) -> Callable[[bytes], Head]:
    """Return a function from a whole head, its empty line included, to what it says.

    It raises Malformed for what is none. Most heads of a run are the same to the byte, so those
    seen of late are known by heart.
    """
    version_key = b"\r\n%s:" % version_header.lower().encode()
    instance_key = b"\r\n%s:" % instance_header.lower().encode()

    @lru_cache(_KNOWN_HEADS)
    def read(data: bytes) -> Head:
        status = status_of(data)
        if not status:
            raise Malformed("no status line")
        head = data.lower()
        length = _length(head, status)
        connection = _words(head, b"\r\nconnection:")
        old = head.startswith(b"http/1.0") and b"keep-alive" not in connection
        keeps = not old and length != TO_THE_END and b"close" not in connection and status != 101
        version = _value(data, head, version_key)
        digest = _value(head, head, b"\r\nx-content-sha256:")
        if len(digest) != 64 or digest.strip(_HEX):
            digest = b""
        instance = _value(data, head, instance_key)
        id = _value(data, head, b"\r\nx-request-id:")
        return Head(status, length, keeps, version, instance, digest, id)

    return read


def strays(head: Head, payload: bytes) -> bool:
    """Whether the reply to the request `payload` is for another request of the same run.

    Ids that somebody on the way makes up himself, as some proxies do, say nothing; what he adds to
    ours (``…-0000002a.1``) changes nothing.
    """
    # With its name: an Idempotency-Key is the id of a request too.
    if not head.id or (b"X-Request-ID: " + head.id) in payload:
        return False
    ours = payload.partition(b"X-Request-ID: ")[2].partition(b"\r\n")[0]
    theirs, more = head.id[: len(ours)], head.id[len(ours) : len(ours) + 1]
    if theirs == ours or theirs[:-8] != ours[:-8] or theirs[-8:].strip(_DIGITS):
        return False
    return not more or more not in _HEX


def status_of(data: bytes) -> int:
    """Return the status in `data`, 0 where no whole status line begins it."""
    line, end, _ = data.partition(b"\r\n")
    if not end or not line.startswith(b"HTTP/1.") or line[12:13].strip():
        return 0
    code = line[9:12]
    return int(code) if len(code) == 3 and code.isdigit() and code >= b"100" else 0


def may_begin(data: bytes) -> bool:
    """Whether `data` can be the beginning of a head."""
    start = b"HTTP/1."[: len(data)]
    return data.startswith(start) and len(data) <= _MAX_HEAD


def _value(data: bytes, head: bytes, key: bytes) -> bytes:
    """Return the header's value as sent, b"" where it is absent; `head` is `data` in lower case."""
    at = head.find(key)
    if at < 0:
        return b""
    at += len(key)
    return data[at : head.find(b"\r\n", at)].strip()


def _words(head: bytes, key: bytes) -> list[bytes]:
    """Return what all lines of that name list, comma by comma; `head` is in lower case."""
    at = head.find(key)
    if at < 0:
        return []
    lines = []
    while at >= 0:
        end = head.find(b"\r\n", at + len(key))
        lines.append(head[at + len(key) : end])
        at = head.find(key, end)
    return [word.strip() for word in b",".join(lines).split(b",")]


def _length(head: bytes, status: int) -> int:
    """Return the length of the body (RFC 9112 section 6.3)."""
    if status < 200 or status in (204, 304):
        return 0
    # "identity" is how HTTP once said that there is no coding.
    if codings := [one for one in _words(head, b"\r\ntransfer-encoding:") if one != b"identity"]:
        return CHUNKED if codings[-1] == b"chunked" else TO_THE_END
    told = _words(head, b"\r\ncontent-length:")
    if not told:
        return TO_THE_END
    if not all(word.isdigit() and len(word) <= _MAX_DIGITS for word in told):
        raise Malformed("no length")
    if len(lengths := set(map(int, told))) > 1:
        raise Malformed("lengths that contradict each other")
    return lengths.pop()


class Body(Protocol):
    """A body on its way."""

    size: int
    """Bytes of content so far."""
    ended: bool
    """Whether it is whole."""
    extra: bool
    """Whether bytes followed it that belong to no reply."""

    def feed(self, data: bytes) -> bytes:
        """Return the content in `data`; raises Malformed where the framing makes no sense."""


def body_of(length: int) -> Body:
    """Return the decoder for a body of that `Head.length`."""
    return Chunked() if length == CHUNKED else Plain(length)


class Plain:
    """A body of known length, or one that goes on to the end of the connection."""

    __slots__ = ("_length", "ended", "extra", "size")

    def __init__(self, length: int) -> None:
        self._length = length
        self.size = 0
        self.ended = length == 0
        self.extra = False

    def feed(self, data: bytes) -> bytes:
        """Return the content in `data`."""
        if self._length != TO_THE_END:
            left = self._length - self.size
            self.extra = len(data) > left
            self.ended = len(data) >= left
            data = data[:left]
        self.size += len(data)
        return data


class Chunked:
    """A body in the chunked transfer coding (RFC 9112 section 7.1)."""

    __slots__ = ("_last", "_left", "_line", "_seam", "ended", "extra", "size")

    def __init__(self) -> None:
        self._left = 0
        self._line = b""
        self._seam = False
        self._last = False
        self.size = 0
        self.ended = self.extra = False

    def feed(self, data: bytes) -> bytes:
        """Return the content in `data`."""
        found: list[bytes] = []
        at = 0
        while at < len(data) and not self.ended:
            if self._left:
                part = data[at : at + self._left]
                found.append(part)
                self._left -= len(part)
                self._seam = not self._left
                at += len(part)
            else:
                at = self._take_line(data, at)
        self.extra = self.ended and at < len(data)
        content = b"".join(found)
        self.size += len(content)
        return content

    def _take_line(self, data: bytes, at: int) -> int:
        """Read the line that goes on at `at`, and return where what follows it begins."""
        end = data.find(b"\n", at) + 1
        self._line += data[at : end or len(data)]
        if len(self._line) > _MAX_CHUNK_LINE:
            raise Malformed("a chunk's line without an end")
        if end:
            line, self._line = self._line, b""
            if not line.endswith(b"\r\n"):
                raise Malformed("a line without its carriage return")
            self._read_line(line[:-2])
        return end or len(data)

    def _read_line(self, line: bytes) -> None:
        if self._seam:
            if line:
                raise Malformed("a chunk longer than it said")
            self._seam = False
        elif self._last:
            # The trailer section ends with an empty line.
            self.ended = not line
        else:
            digits = line.partition(b";")[0].strip()
            if not 0 < len(digits) <= 15 or digits.strip(_HEX):
                raise Malformed("no chunk size")
            self._left = int(digits, 16)
            self._last = not self._left


class Check(Protocol):
    """Looks at the content of a body as its pieces come."""

    def feed(self, data: bytes) -> None:
        """Look at the next piece."""

    @property
    def passed(self) -> bool:
        """Whether what was fed is as it should be."""


def checks_of(head: Head, text: bytes, texts: tuple[bytes, ...]) -> list[Check]:
    """Return what the body after `head` has to pass, "" and () being nothing.

    It holds `text`, and one of `texts`, and has the hash that it is told to have.
    """
    found: list[Check] = [Finder(*any_of) for any_of in ((text,), texts) if any(any_of)]
    return [*found, Digest(head.digest)] if head.digest else found


class Digest:
    """Tells whether the pieces fed to it have that SHA-256, which is told in lower case hex."""

    __slots__ = ("_running", "_told")

    def __init__(self, told: bytes) -> None:
        self._told = told
        self._running = sha256()

    def feed(self, data: bytes) -> None:
        """Look at the next piece."""
        self._running.update(data)

    @property
    def passed(self) -> bool:
        """Whether it is that hash."""
        return self._running.hexdigest().encode() == self._told


class Finder:
    """Tells whether one of the texts occurs in the pieces fed to it.

    It holds less than the longest one's length.
    """

    __slots__ = ("_keep", "_tail", "_texts", "passed")

    def __init__(self, *texts: bytes) -> None:
        self._texts = texts
        self._keep = max(map(len, texts)) - 1
        self._tail = b""
        self.passed = False

    def feed(self, data: bytes) -> None:
        """Look at the next piece."""
        if not self.passed:
            data = self._tail + data
            self.passed = any(text in data for text in self._texts)
            self._tail = data[max(0, len(data) - self._keep) :]


def unasked(status: int) -> Outcome:
    """Return the class of a status that was not asked for."""
    if status >= 500:
        return Outcome.http_5xx
    return Outcome.http_4xx if status >= 400 else Outcome.http_3xx
