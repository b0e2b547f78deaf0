"""Recordings of any size on disk, with a known truth: made up here, never measured.

`run` writes a whole run's folder through the real writer, so that the judge and the report are
tested on the same bytes that the load leaves. All times given to it count from the first due time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zdtest.records.recording import NEVER, ROW, SCHEMA, SampleWriter, request_id
from zdtest.records.sample import CHANNELS, MAY_HAVE_RUN, NEVER_SENT, Outcome

BEGAN = 1000.0
"""The first due time of every made-up run, seconds on its made-up monotonic clock."""

WALL = 1_700_000_000.0
"""The same moment on the wall clock."""

CHANNEL_SHARES = {"new": 4.0, "reused": 4.0, "slow": 1.0, "write": 1.0}
THINK = {"slow": 0.5}
PATHS = {"slow": "/500", "write": "/orders", "stream": "/events", "control": "/echo"}
STATUS = {"http_5xx": 503, "http_4xx": 404, "http_3xx": 302, "truncated": 200, "bad_body": 200}

Outage = tuple[float, float, str, Sequence[str] | None]
"""(start, end, outcome, channels or None for all but control): every request due in between."""

Slow = tuple[float, float, float, Sequence[str] | None]
"""(start, end, seconds added, channels or None for all but control)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a made-up run contains; the defaults are a clean blue/green deploy on four channels."""

    requests: int = 4000
    rate: float = 200.0
    channels: Mapping[str, float] = field(default_factory=lambda: dict(CHANNEL_SHARES))
    think: Mapping[str, float] = field(default_factory=lambda: dict(THINK))
    timeout: float = 5.0
    control: float = 20.0
    deploy: tuple[float, float | None] | None = (-1.0, None)
    switch: float | tuple[float, float] | None = None
    share: float | None = None
    versions: tuple[str, str] = ("v1", "v2")
    outages: Sequence[Outage] = ()
    cut_at: float | None = None
    partial: float = 1.0
    slow: Sequence[Slow] = ()
    stalls: Sequence[tuple[float, float]] = ()
    latency: float = 0.004
    spread: float = 0.2
    lost: int = 0
    twice: int = 0
    journal: bool = True
    proxy: bool = False
    masked: Mapping[str, int] = field(default_factory=dict)
    masked_twice: int = 0
    seed: int = 1
    batch: int = 16384
    closed: bool = True
    trailer: Mapping[str, object] = field(default_factory=dict)
    manifest: Mapping[str, object] = field(default_factory=dict)
    marks: Sequence[tuple[float, str, Mapping[str, object]]] = ()
    memory: Sequence[tuple[float, Mapping[str, int | None]]] = ()

    @property
    def length(self) -> float:
        """Seconds of schedule."""
        return self.requests / self.rate

    @property
    def deployed(self) -> tuple[float, float] | None:
        """The deploy window; by default the middle third of the run."""
        if self.deploy is None:
            return None
        begin, end = self.deploy
        begin = self.length / 3 if begin < 0 else begin
        return begin, (self.length * 2 / 3 if end is None else end)

    @property
    def switched(self) -> tuple[float, float]:
        """When the first and the last instance changed version; half-way the deploy by default."""
        if isinstance(self.switch, tuple):
            return self.switch
        begin, end = self.deployed or (float("inf"), float("inf"))
        at = (begin + end) / 2 if self.switch is None else self.switch
        return at, at


def run(folder: Path, **plan: Any) -> Path:
    """Write a run's folder from a `Plan` of these fields and return the folder.

    ::

        synthetic.run(tmp_path / "r", requests=4000, rate=200, outages=[(8, 8.5, "refused", None)])
    """
    made = Plan(**plan)
    folder.mkdir(parents=True, exist_ok=True)
    rows = samples(made)
    _write_manifest(folder / "manifest.json", made, folder.name)
    _write_samples(folder / "samples.arrows", made, rows)
    _write_lines(folder / "events.jsonl", _marks(made))
    if made.memory:
        _write_lines(
            folder / "memory.jsonl", [{"t": BEGAN + at, "bytes": told} for at, told in made.memory]
        )
    if made.journal:
        _write_lines(folder / "journal.jsonl", _journal(made, rows, folder.name))
    log = folder / "logs" / "proxy.log"
    log.unlink(missing_ok=True)
    if made.proxy:
        log.parent.mkdir(exist_ok=True)
        log.write_bytes(_proxy_log(made, rows, folder.name))
    return folder


def samples(plan: Plan) -> NDArray[np.void]:
    """Return the plan's rows in due order, numbered from zero."""
    rng = np.random.default_rng(plan.seed)
    due, channel = _schedule(plan)
    rows = np.zeros(len(due), ROW)
    rows["due"] = ((BEGAN + due) * 1e9).astype(np.int64)
    rows["seq"] = np.arange(len(due))
    rows["channel"] = channel
    rows["session"] = rng.integers(0, 50, len(due))
    rows["conn"] = rng.integers(0, 20, len(due))
    lag = _lag(plan, due, rng)
    served = _latency(plan, due, channel, rng)
    rows["sent"] = lag * 1e6
    rows["first"] = (lag + served * 0.9) * 1e6
    rows["done"] = (lag + served) * 1e6
    rows["status"], rows["bytes"] = 200, 512
    _versions(plan, rows, due, rng)
    _break(plan, rows, due, rng)
    return rows


def _schedule(plan: Plan) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Return every due time and channel: each channel at its own even pace, phases apart."""
    total = sum(plan.channels.values())
    dues, codes = [], []
    paces = {name: plan.rate * share / total for name, share in plan.channels.items()}
    if plan.control:
        paces["control"] = plan.control
    for place, (name, pace) in enumerate(paces.items()):
        times = np.arange(round(plan.length * pace)) / pace + place / plan.rate / len(paces)
        dues.append(times)
        codes.append(np.full(len(times), CHANNELS.index(name), np.uint8))
    due = np.concatenate(dues)
    order = np.argsort(due, kind="stable")
    return due[order], np.concatenate(codes)[order]


def _lag(plan: Plan, due: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return seconds from due to sent; a stalled generator sends all at the stall's end."""
    lag = rng.exponential(0.0001, len(due))
    for start, end in plan.stalls:
        held = (due >= start) & (due < end)
        lag[held] += end - due[held]
    return lag


def _latency(
    plan: Plan, due: NDArray[np.float64], channel: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return seconds from sent to done of a request that is answered."""
    served = rng.lognormal(np.log(plan.latency), plan.spread, len(due))
    served[channel == CHANNELS.index("control")] = 0.001
    think = np.array([plan.think.get(name, 0.0) for name in CHANNELS])
    served += think[channel]
    for start, end, added, names in plan.slow:
        served[_hit(plan, due, channel, (start, end), names)] += added
    return served


def _hit(
    plan: Plan,
    due: NDArray[np.float64],
    channel: NDArray[np.uint8],
    span: tuple[float, float],
    names: Sequence[str] | None,
) -> NDArray[np.bool_]:
    """Return which requests are due in the span on the named channels."""
    codes = [CHANNELS.index(name) for name in (plan.channels if names is None else names)]
    return (due >= span[0]) & (due < span[1]) & np.isin(channel, codes)


def _versions(
    plan: Plan, rows: NDArray[np.void], due: NDArray[np.float64], rng: np.random.Generator
) -> None:
    """Code 1 is the old version, 2 the new; instances 1..2 run the old, 3..4 the new.

    Where a `share` is planned, the new one has that much of the switch and nothing afterwards.
    """
    first, last = plan.switched
    share = np.clip((due - first) / (last - first), 0, 1) if last > first else due >= first
    if plan.share is not None:
        share = np.where((due >= first) & (due < last), plan.share, 0.0)
    new = rng.random(len(due)) < share
    rows["version"] = 1 + new
    rows["instance"] = 1 + 2 * new + rng.integers(0, 2, len(due))
    control = rows["channel"] == CHANNELS.index("control")
    rows["version"][control] = rows["instance"][control] = 0


def _break(
    plan: Plan, rows: NDArray[np.void], due: NDArray[np.float64], rng: np.random.Generator
) -> None:
    """Make the requests of each outage fail as that outcome does."""
    for start, end, name, names in plan.outages:
        hit = _hit(plan, due, rows["channel"], (start, end), names)
        hit &= rng.random(len(due)) < plan.partial
        outcome = Outcome[name]
        rows["outcome"][hit] = outcome
        rows["status"][hit] = STATUS.get(name, 0)
        if name not in STATUS:
            rows["version"][hit] = rows["instance"][hit] = rows["bytes"][hit] = 0
            rows["first"][hit] = NEVER
        if outcome in NEVER_SENT:
            rows["sent"][hit] = NEVER
        late = plan.timeout if "timeout" in name else 0.002
        rows["done"][hit] = np.where(rows["sent"][hit] == NEVER, 0, rows["sent"][hit]) + late * 1e6
        if plan.cut_at is not None:
            rows["done"][hit] = (plan.cut_at - due[hit]) * 1e6


def _words(plan: Plan) -> tuple[list[str], list[str]]:
    old, new = plan.versions
    return ["", old, new], ["", f"{old}-1", f"{old}-2", f"{new}-1", f"{new}-2"]


def _write_samples(path: Path, plan: Plan, rows: NDArray[np.void]) -> None:
    """Write the rows in the order in which the replies came, as the load does."""
    rows = rows[np.argsort(rows["due"] + rows["done"] * 1000, kind="stable")]
    writer = SampleWriter(path)
    versions, instances = _words(plan)
    for at in range(0, len(rows), plan.batch):
        writer.append(rows[at : at + plan.batch], versions, instances)
    if plan.closed:
        writer.close(_trailer(plan, rows))
    else:
        writer._sink.close()


def _trailer(plan: Plan, rows: NDArray[np.void]) -> dict[str, object]:
    lag = rows["sent"][rows["sent"] != NEVER] / 1e3
    p50, p99, top = np.percentile(lag, [50, 99, 100]) if len(lag) else (0.0, 0.0, 0.0)
    due = rows["due"] * 1e-9
    return {
        "count": len(rows),
        "scheduled": len(rows),
        "offered_rate": plan.rate,
        "reached_rate": plan.rate,
        "began": float(due[0]) if len(due) else BEGAN,
        "ended": float(due[-1]) if len(due) else BEGAN,
        "lag_p50_ms": float(p50),
        "lag_p99_ms": float(p99),
        "lag_max_ms": float(top),
        "unsent": int((rows["outcome"] == Outcome.unsent).sum()),
        "dropped": 0,
        "interrupted": False,
        **plan.trailer,
    }


def _write_manifest(path: Path, plan: Plan, name: str) -> None:
    total = sum(plan.channels.values())
    rates = {channel: plan.rate * share / total for channel, share in plan.channels.items()}
    manifest: dict[str, object] = {
        "schema": SCHEMA,
        "run": name,
        "tool": "0.1.0",
        "url": "http://127.0.0.1:8080/",
        "rate": plan.rate,
        "seed": plan.seed,
        "channels": {channel: _channel(plan, channel, rate) for channel, rate in rates.items()},
        "slo": {},
        "old_version": plan.versions[0],
        "new_version": plan.versions[1] if plan.deploy else None,
        "topology": "made_up",
        "variant": "hardened",
        "strategy": "blue_green",
        "command": None,
        "engine": "none",
        "clock": {"monotonic": BEGAN, "wall": WALL},
        "host": {
            "name": "nowhere",
            "cpus": 2,
            "memory": 8 << 30,
            "kernel": "6.1",
            "python": "3.11",
        },
        "git": None,
        **plan.manifest,
    }
    path.write_text(json.dumps(manifest, indent=1), "utf-8")


def _channel(plan: Plan, name: str, rate: float) -> dict[str, object]:
    return {
        "rate": rate,
        "share": plan.channels.get(name, 0.0),
        "path": PATHS.get(name, "/"),
        "method": "POST" if name == "write" else "GET",
        "think": plan.think.get(name, 0.0),
        "timeout": plan.timeout,
        "interval": 1 / rate,
    }


def _marks(plan: Plan) -> list[dict[str, object]]:
    """Return the lines of events.jsonl: the load, the deploy in one step, and each instance."""
    told: list[tuple[float, str, Mapping[str, object]]] = [(0.0, "load.begin", {})]
    if plan.deployed:
        begin, end = plan.deployed
        first, last = plan.switched
        old, new = plan.versions
        told += [
            (begin, "deploy.begin", {"command": "./deploy.sh"}),
            (begin, "deploy.step.begin", {"step": "a"}),
            ((begin + first) / 2, "app.started", {"instance": f"{new}-1", "version": new}),
            (first, "app.ready", {"instance": f"{new}-1", "version": new}),
            (last, "app.term", {"instance": f"{old}-1", "version": old}),
            ((last + end) / 2, "app.stopped", {"instance": f"{old}-1", "version": old}),
            (end, "deploy.step.end", {"step": "a"}),
            (end, "deploy.end", {"exit": 0}),
        ]
    told += [(plan.length, "load.end", {}), *plan.marks]
    ordered = sorted((line for line in told if np.isfinite(line[0])), key=lambda line: line[0])
    return [{"t": BEGAN + at, "mark": name, **about} for at, name, about in ordered]


def _journal(plan: Plan, rows: NDArray[np.void], name: str) -> list[dict[str, object]]:
    """Return one line an executed order: answered or cut off ones ran, refused ones did not.

    The first `lost` that were answered ok have no line, the next `twice` have two.
    """
    writes = rows[rows["channel"] == CHANNELS.index("write")]
    ran = writes[np.isin(writes["outcome"], [Outcome.ok, *MAY_HAVE_RUN])]
    answered = np.flatnonzero(ran["outcome"] == Outcome.ok)
    times = np.ones(len(ran), int)
    times[answered[: plan.lost]] = 0
    times[answered[plan.lost : plan.lost + plan.twice]] = 2
    versions, instances = _words(plan)
    return _requests(plan, rows, name) + [
        {
            "t": float(row["due"] * 1e-9 + 0.001),
            "event": "order",
            "instance": instances[row["instance"]],
            "version": versions[row["version"]],
            "pid": 1000,
            "id": request_id(name, int(row["seq"])),
            "key": None,
        }
        for row in np.repeat(ran, times)
    ]


def _tried_again(plan: Plan, rows: NDArray[np.void]) -> NDArray[np.intp]:
    """Return the rows that `masked` asks for: of each channel the first ones after the switch."""
    begin = plan.switched[0] if plan.deployed else 0.0
    good = (rows["outcome"] == Outcome.ok) & (rows["due"] >= (BEGAN + begin) * 1e9)
    return np.sort(
        np.concatenate(
            [
                np.flatnonzero(good & (rows["channel"] == CHANNELS.index(name)))[:count]
                for name, count in plan.masked.items()
            ]
            or [np.empty(0, np.intp)]
        )
    )


def _requests(plan: Plan, rows: NDArray[np.void], name: str) -> list[dict[str, object]]:
    """Return the journal's lines of every request behind a proxy: each arrived, some twice."""
    if not plan.proxy:
        return []
    sent = _passed(rows)
    times = np.ones(len(rows), int)
    times[_tried_again(plan, rows)[: plan.masked_twice]] = 2
    _, instances = _words(plan)
    return [
        {
            "t": float(row["due"] * 1e-9 + 0.001),
            "event": "request",
            "instance": instances[row["instance"]],
            "pid": 1000,
            "id": request_id(name, int(row["seq"])),
        }
        for row in np.repeat(rows[sent], times[sent])
    ]


def _passed(rows: NDArray[np.void]) -> NDArray[np.intp]:
    """Return the rows that came to the proxy as requests: of a stream the first one."""
    stream = rows["channel"] == CHANNELS.index("stream")
    later = stream & (np.cumsum(stream) > 1)
    never = np.isin(rows["outcome"], list(NEVER_SENT))
    return np.flatnonzero(~later & ~never & (rows["channel"] != CHANNELS.index("control")))


def _proxy_log(plan: Plan, rows: NDArray[np.void], name: str) -> bytes:
    """Return what an nginx before two servers would write, with what it says besides."""
    again = set(_tried_again(plan, rows).tolist())
    old, new = "127.0.0.1:18081", "127.0.0.1:18082"
    lines = ["2023/11/14 22:13:20 [notice] 7#7: start worker processes"]
    for place in _passed(rows).tolist():
        row = rows[place]
        status = str(row["status"] or 502)
        if place in again:
            told = (f"{new}, {old}", f"502, {status}")
            lines.append(f"2023/11/14 22:13:21 [error] 8#8: *7 connect() to {new} failed")
        else:
            told = (old if row["version"] < 2 else new, status)
        channel = CHANNELS[row["channel"]]
        lines.append(
            f'{{"t":{WALL - BEGAN + row["due"] * 1e-9 + row["done"] * 1e-6:.3f},'
            f'"id":"{request_id(name, int(row["seq"]))}",'
            f'"method":"{"POST" if channel == "write" else "GET"}",'
            f'"uri":"{PATHS.get(channel, "/")}","status":"{status}","time":0.004,"complete":"OK",'
            f'"upstream_addr":"{told[0]}","upstream_status":"{told[1]}",'
            f'"upstream_time":"0.004","conn":{row["conn"]},"worker":8}}'
        )
    return "".join(line + "\n" for line in lines).encode()


def _write_lines(path: Path, lines: Sequence[Mapping[str, object]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
