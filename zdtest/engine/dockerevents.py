"""What a Docker Engine says that happens to its objects, on the run's clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

from docker.errors import DockerException
from requests.exceptions import RequestException

from zdtest.engine import Marker, remains
from zdtest.errors import ZdError, fact

_TOLD = {
    "container": {
        *("create", "start", "restart", "pause", "unpause"),
        *("kill", "stop", "die", "oom", "destroy"),
    },
    "network": {"create", "connect", "disconnect", "destroy"},
    "volume": {"create", "destroy"},
}
"""What is marked; health checks' states are too, every single check is not."""


def _named(labels: Mapping[str, str]) -> str:
    return labels.get(remains.INSTANCE) or labels.get("name", "")


class DockerEvents:
    """Marks each as ``engine.<kind>.<what>`` and tells containers' to `hear`, while entered.

    It is told of what has the `label`. ``happened`` is when the engine says that it was, in seconds
    on this process's CLOCK_MONOTONIC. `hear` gets the container's id, what happened, its labels and
    when, on a thread; `named` is what the marks call the instance with such labels.
    """

    def __init__(
        self,
        client: Any,
        label: str,
        mark: Marker,
        hear: Callable[[str, str, Mapping[str, str], float], None],
        named: Callable[[Mapping[str, str]], str] = _named,
    ) -> None:
        self._mark = mark
        self._hear = hear
        self._named = named
        # The engine's times are the wall's; both clocks are read together, once.
        self._shift = time.monotonic() - time.time()
        self._stream = client.events(decode=True, filters={"label": label})
        self._thread = threading.Thread(target=self._listen, name="docker events", daemon=True)

    def __enter__(self) -> DockerEvents:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError, DockerException, RequestException):
            self._stream.close()
        self._thread.join(1)

    def _listen(self) -> None:
        # The stream ends with the engine, or by our closing it from another thread.
        with suppress(OSError, ValueError, AttributeError, DockerException, RequestException):
            for event in self._stream:
                try:
                    self._one(event)
                except (ZdError, KeyError, DockerException, RequestException) as error:
                    # Whoever is to hear of it finds it gone already: what follows is heard.
                    self._mark("engine.unheard", error=fact(error))

    def _one(self, event: Mapping[str, Any]) -> None:
        kind, what = str(event["Type"]), str(event["Action"])
        about = dict(event["Actor"]["Attributes"])
        health = what.startswith("health_status")
        if not health and what not in _TOLD.get(kind, ()):
            return
        at = round(event["timeNano"] / 1e9 + self._shift, 6)
        if kind == "container":
            self._hear(event["Actor"]["ID"], what, about, at)
        told = {"instance": self._named(about)}
        told |= {word: about[word] for word in ("signal", "exitCode") if word in about}
        self._mark(f"engine.{kind}.{what.replace(': ', '.')}", **told, happened=at)
