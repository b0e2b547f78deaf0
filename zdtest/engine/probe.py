"""Waiting with a time limit, and asking a server over HTTP whether it is there."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from dataclasses import dataclass

from zdtest.duration import written
from zdtest.engine import Engine, Instance
from zdtest.errors import EngineError

_STEP = 0.02


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered; `version` is its ``X-App-Version``, "" where it tells none."""

    status: int
    version: str
    body: str


def ask(port: int, path: str, *, host: str = "127.0.0.1", timeout: float = 1.0) -> Reply | str:
    """Return the reply to one GET on a new connection, or in words why there is none."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        reply = connection.getresponse()
        body = reply.read().decode("utf-8", errors="replace")
        return Reply(reply.status, reply.headers.get("X-App-Version", ""), body)
    except (OSError, http.client.HTTPException) as error:
        return f"GET {path}: {error or type(error).__name__}"
    finally:
        connection.close()


def until(
    what: str, missing: Callable[[], str], *, timeout: float, evidence: Callable[[], str] = str
) -> None:
    """Return once `missing` says "", having said until then what is missing.

    Raises EngineError with the last thing missing and the `evidence` after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while state := missing():
        if time.monotonic() >= deadline:
            raise EngineError(
                f"{what}: not within {written(timeout)}\nlast state: {state}\n{evidence()}".rstrip()
            )
        time.sleep(_STEP)


def serves(
    engine: Engine,
    instance: Instance,
    port: int,
    path: str,
    *,
    host: str = "127.0.0.1",
    timeout: float = 15.0,
) -> None:
    """Return once the instance itself answers GET `path` with 200 from its own version.

    A version that either does not tell counts as its own. Raises EngineError with its output, as
    soon as it ends, else after `timeout` seconds.
    """

    def missing() -> str:
        if fate := engine.fate(instance):
            raise EngineError(
                f"{instance.name} {fate} before it was ready\n{engine.logs(instance)}"
            )
        reply = ask(port, path, host=host)
        if isinstance(reply, str):
            return reply
        if reply.status != 200:
            return f"GET {path}: {reply.status} {reply.body[:80]}"
        strange = instance.version and reply.version not in ("", instance.version)
        return f"GET {path}: answered by version {reply.version}" if strange else ""

    until(
        f"{instance.name} ready on port {port}",
        missing,
        timeout=timeout,
        evidence=lambda: engine.logs(instance),
    )
