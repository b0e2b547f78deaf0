"""Before any load: does the system answer at all, and as it is expected to?"""

from __future__ import annotations

import http.client
import re
import ssl
from urllib.parse import SplitResult, urlsplit

from zdtest.errors import ConfigError


def split(url: str) -> SplitResult:
    """Return the parts of an http or https url; raises ConfigError for anything else."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        whole = False
    if not whole or not re.fullmatch(r"[!-~]+", url):
        raise ConfigError(
            f"url {url!r}: expected http://host[:port][/path] or https://…, "
            "without spaces, anything else written %20"
        )
    return parts


def path_of(url: str) -> str:
    """Return the path and query that `url` asks for."""
    parts = split(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def expect_answer(
    url: str, path: str, expected: frozenset[int], *, verify: bool = True, timeout: float = 5.0
) -> None:
    """Return once one GET of `path` was answered with an expected status.

    Raises ConfigError in one line that says what came instead.
    """
    parts = split(url)
    connection = _connection(parts, verify, timeout)
    try:
        connection.request("GET", path, headers={"Connection": "close", "User-Agent": "zdtest"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if isinstance(error, http.client.BadStatusLine):
            reason = f"no HTTP but {str(error).strip()!r}"
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
