"""Before any load: does the system answer at all, and as it is expected to?"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
import threading
from collections.abc import Mapping
from queue import Empty, SimpleQueue
from urllib.parse import SplitResult, urlsplit

from zdtest.errors import ConfigError
from zdtest.sending.headers import expect_name, merged

_NONE: Mapping[str, str] = {}


WORDS = ("version-header", "instance-header", "write-body")
"""Options of the load that not every text can stand for."""


def split(url: str) -> SplitResult:
    """Return the parts of an http or https url; raises ConfigError for anything else.

    A url with a user or a password in it is refused: it would be shown wherever the url is.
    """
    if "@" in re.split("[/?#]", url.partition("://")[2] or url)[0]:
        raise ConfigError(
            "url with a user in it: expected http://host[:port][/path] without one, and "
            "--header 'Authorization: …' for whom to be"
        )
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        whole = False
    if not whole or not re.fullmatch(r"[!-~]+", url):
        shown = re.sub(".*@", "…@", url, flags=re.S)
        raise ConfigError(
            f"url {shown!r}: expected http://host[:port][/path] or https://…, "
            "without spaces, anything else written %20"
        )
    return parts


def path_of(url: str) -> str:
    """Return the path and query that `url` asks for."""
    parts = split(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def expect_words(told: Mapping[str, object], *, headers: Mapping[str, str]) -> None:
    """Return where the names of headers are some, and what is posted is of its type.

    `told` are options of the load by their long names, empty where nothing is said. Raises
    ConfigError.
    """
    for name in ("version-header", "instance-header"):
        if word := told.get(name):
            expect_name(str(word), f"--{name}")
    body = str(told.get("write-body") or "")
    if body and "content-type" not in map(str.lower, headers):
        try:
            json.loads(body)
        except ValueError as error:
            raise ConfigError(
                f"--write-body {body[:40]!r}: expected JSON, or --header 'Content-Type: …' "
                f"for anything else ({error})"
            ) from error


def expect_answer(
    url: str,
    path: str,
    expected: frozenset[int],
    *,
    headers: Mapping[str, str] = _NONE,
    verify: bool = True,
    timeout: float = 5.0,
) -> None:
    """Return once one GET of `path`, with these `headers` too, was answered as expected.

    All of it has `timeout` seconds. Raises ConfigError in one line that says what came instead.
    """
    parts = split(url)
    connection = _connection(parts, verify, timeout)
    try:
        ours = {"Connection": "close", "User-Agent": "zdtest"}
        status = _status(connection, path, merged(ours, headers), timeout)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if isinstance(error, http.client.BadStatusLine):
            reason = f"no HTTP but {str(error).strip()!r}"
        if isinstance(error, ssl.SSLCertVerificationError):
            raise ConfigError(
                f"{url} shows a certificate that is not trusted: {error.verify_message}; "
                "expected one that is, or --insecure"
            ) from error
        raise ConfigError(
            f"nothing answers at {url}: {reason}; expected the system to be up before the deploy"
        ) from error
    finally:
        connection.close()
    if status not in expected:
        raise ConfigError(
            f"{url} answers {status} to GET {path}: expected {_some(expected)}; "
            "give the url of a page that does, or --expect-status"
        )


def _status(
    connection: http.client.HTTPConnection, path: str, headers: Mapping[str, str], timeout: float
) -> int:
    """Return the status of the answer; raises TimeoutError after `timeout` seconds.

    A socket's own limit is one for each of its steps, of which there may be any number.
    """
    told: SimpleQueue[int | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            connection.request("GET", path, headers=dict(headers))
            told.put(connection.getresponse().status)
        except Exception as error:
            told.put(error)

    threading.Thread(target=ask, name="preflight", daemon=True).start()
    try:
        answer = told.get(timeout=timeout)
    except Empty:
        with contextlib.suppress(OSError, AttributeError):
            connection.sock.shutdown(socket.SHUT_RDWR)
        raise TimeoutError("timed out") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _connection(parts: SplitResult, verify: bool, timeout: float) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, parts.port, timeout=timeout)
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, parts.port, timeout=timeout, context=context)


def _some(expected: frozenset[int]) -> str:
    shown = sorted(expected)[:3]
    return " or ".join(map(str, shown)) + (" …" if len(expected) > len(shown) else "")
