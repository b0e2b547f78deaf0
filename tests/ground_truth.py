"""A server that fails on purpose, at known instants, and says exactly when it did.

It runs as a process of its own, so that neither side stalls the other. A script names the
outages::

    python tests/ground_truth.py --port 8080 '[{"kind": "refused", "at": 3, "for": 0.5}]'

``at`` counts from the first request it receives and ``for`` lasts, both in seconds. The first
line on stdout says where it listens; when its standard input ends (or on Ctrl-C) it prints the
truth, a JSON object a line: one for each outage with ``begin`` and ``end`` on CLOCK_MONOTONIC as
they really were (no ``end``: it was still going on) and the ids of the requests that it hit, and
one that closes the account. ``clear`` is when what a hang had piled up was answered.

| kind | what every request meets |
| --- | --- |
| refused | listener closed, every connection reset; the same port listens again at the end |
| http_503 | answered 503 |
| hang | the whole process stands still, then answers everything late |
| black_hole | never answered, nor is any stream's message sent |
| reset | answered by RST |
| reset_in_flight | those in service at that one instant are RST; ``for`` means nothing |
| partial | one of three is answered 503, as behind a balancer with one bad replica of three |
| truncated | a status line and half of the body, then the connection ends |
| bad_body | 200 with another body |
| slow | ok, but ``ms`` milliseconds later |
| close_first_attempt | on a kept connection RST, on a fresh one ok: a retry hides it |
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tiny_server import BODY, OK, Link, Request, TinyServer, free_port

UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nX-App-Version: v1\r\nContent-Length: 0\r\n\r\n"


@dataclass(slots=True)
class Outage:
    """One line of the script, and once it has been played the truth about it."""

    kind: str
    at: float
    seconds: float = 0.0
    ms: float = 0.0
    begin: float = 0.0
    end: float | None = None
    clear: float | None = None
    ids: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> Outage:
        """Return what a line of the script asks for; ValueError when it is of no known kind."""
        if line["kind"] not in KINDS:
            raise ValueError(f"unknown kind {line['kind']!r}: expected one of {', '.join(KINDS)}")
        return cls(line["kind"], float(line["at"]), float(line.get("for", 0)), line.get("ms", 0.0))

    @property
    def truth(self) -> dict[str, Any]:
        """The line that it leaves."""
        told = {name: getattr(self, name) for name in ("kind", "begin", "end", "clear", "ids")}
        return {"event": "outage", **told, "hits": len(self.ids)}


class ScriptedServer(TinyServer):
    """Plays `script` from the first request on; `played` is the truth so far."""

    def __init__(self, port: int, script: Sequence[Outage]) -> None:
        super().__init__(port)
        self.script = script
        self.played: list[Outage] = []
        self.came: dict[bytes, float] = {}
        self.again: Counter[bytes] = Counter()
        self.began = 0.0
        self._current: Outage | None = None
        self._turns: Counter[tuple[bytes, bytes, bool]] = Counter()

    @property
    def truth(self) -> list[dict[str, Any]]:
        """What there is to say in the end: each outage, then the account."""
        account = {
            "began": self.began,
            "requests": self.requests,
            "connections": self.connections,
            "came": {id.decode(): at for id, at in self.came.items()},
            "repeated": {id.decode(): times for id, times in self.again.items()},
        }
        return [*(outage.truth for outage in self.played), {"event": "stopped", **account}]

    def received(self, link: Link, request: Request) -> None:
        if not self.began:
            self._begin_script()
        if request.id and self.came.setdefault(request.id, now := time.monotonic()) != now:
            self.again[request.id] += 1
        outage = self._current
        if outage and _WINDOWS[outage.kind](self, link, request):
            outage.ids.append(request.id.decode())
        elif link.serving:
            self.answer(link, request)

    def _begin_script(self) -> None:
        self.began = time.monotonic()
        for outage in self.script:
            self.at(self.began + outage.at, self._begin, outage)

    def _begin(self, outage: Outage) -> None:
        self._current = outage
        self.played.append(outage)
        outage.begin = time.monotonic()
        if outage.kind in _INSTANTS:
            _INSTANTS[outage.kind](self, outage)
        else:
            self.muted = outage.kind == "black_hole"
            self.at(outage.begin + outage.seconds, self._end, outage)

    def _end(self, outage: Outage) -> None:
        self._current, self.muted = None, False
        outage.end = outage.clear = time.monotonic()

    # -- what happens at one instant

    def _refuse(self, outage: Outage) -> None:
        self.refuse()
        self._reset_in_service(outage)
        for link in list(self.links.values()):
            self.reset(link)
        self.at(outage.begin + outage.seconds, self._listen_again, outage)

    def _listen_again(self, outage: Outage) -> None:
        self.listen()
        self._end(outage)

    def _reset_in_flight(self, outage: Outage) -> None:
        self._reset_in_service(outage)
        self._end(outage)

    def _in_service(self, outage: Outage) -> list[Link]:
        """Return the connections that wait for an answer; their requests are hit."""
        found = [link for link in self.links.values() if link.serving]
        outage.ids += [link.serving.id.decode() for link in found if link.serving]
        return found

    def _reset_in_service(self, outage: Outage) -> None:
        for link in self._in_service(outage):
            self.reset(link)

    def _hang(self, outage: Outage) -> None:
        self._in_service(outage)
        time.sleep(outage.seconds)
        ended = time.monotonic()
        self.catch_up()
        self._end(outage)
        outage.end = ended

    # -- what a request meets while it lasts; True when it was hit

    def _late(self, link: Link, request: Request) -> bool:
        self.answer(link, request)
        return True

    def _unavailable(self, link: Link, request: Request) -> bool:
        self.reply(link, UNAVAILABLE)
        return True

    def _ignore(self, link: Link, request: Request) -> bool:
        return True

    def _reset_it(self, link: Link, request: Request) -> bool:
        self.reset(link)
        return True

    def _one_of_three(self, link: Link, request: Request) -> bool:
        """Fail every third request of its sort, so that each sort has its share of failures."""
        sort = (request.method, request.path, link.served == 1)
        self._turns[sort] += 1
        return self._turns[sort] % 3 == 0 and self._unavailable(link, request)

    def _truncate(self, link: Link, request: Request) -> bool:
        self.write(link, OK + BODY[: len(BODY) // 2])
        self.end(link)
        return True

    def _lie(self, link: Link, request: Request) -> bool:
        self.reply(link, OK + BODY[::-1])
        return True

    def _dawdle(self, link: Link, request: Request) -> bool:
        assert self._current is not None
        self.at(time.monotonic() + self._current.ms / 1e3, self.answer, link, request)
        return True

    def _reset_if_kept(self, link: Link, request: Request) -> bool:
        return link.served > 1 and self._reset_it(link, request)


_INSTANTS = {
    "refused": ScriptedServer._refuse,
    "hang": ScriptedServer._hang,
    "reset_in_flight": ScriptedServer._reset_in_flight,
}
_WINDOWS = {
    "http_503": ScriptedServer._unavailable,
    "hang": ScriptedServer._late,
    "black_hole": ScriptedServer._ignore,
    "reset": ScriptedServer._reset_it,
    "partial": ScriptedServer._one_of_three,
    "truncated": ScriptedServer._truncate,
    "bad_body": ScriptedServer._lie,
    "slow": ScriptedServer._dawdle,
    "close_first_attempt": ScriptedServer._reset_if_kept,
}
KINDS = sorted({*_WINDOWS, *_INSTANTS})


class GroundTruth:
    """The server as a process, from entering the block until `truth` is asked for or it is left.

    `core` pins it to one core.
    """

    def __init__(self, script: Sequence[Mapping[str, Any]] = (), *, core: int | None = None):
        self._script = json.dumps(list(script))
        self._pin = [] if core is None else ["taskset", "-c", str(core)]
        self._lines: list[dict[str, Any]] | None = None

    def __enter__(self) -> GroundTruth:
        self.process = subprocess.Popen(
            [*self._pin, sys.executable, "-S", __file__, self._script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port: int = json.loads(self.process.stdout.readline())["port"]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    @property
    def outages(self) -> list[dict[str, Any]]:
        """The truth about each outage played, in order; it stops the server."""
        return self._stop()[:-1]

    @property
    def account(self) -> dict[str, Any]:
        """How many requests and connections came, when each id came first (`came`), and how often
        it came again (`repeated`); it stops the server."""
        return self._stop()[-1]

    def _stop(self) -> list[dict[str, Any]]:
        if self._lines is None:
            told, _ = self.process.communicate(timeout=10)
            self._lines = [json.loads(line) for line in told.splitlines()]
        return self._lines


def main() -> None:
    parser = argparse.ArgumentParser(description="fails on purpose at known instants")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("script", nargs="?", default="[]", help="JSON, see the docstring")
    options = parser.parse_args()
    script = [Outage.of(line) for line in json.loads(options.script)]
    server = ScriptedServer(options.port or free_port(), script)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    gc.disable()  # it makes no cycles, and a collection would be a stall of its own
    print(json.dumps({"event": "listening", "port": server.port}), flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve(sys.stdin.fileno())
    for line in server.truth:
        print(json.dumps(line))


if __name__ == "__main__":
    main()
