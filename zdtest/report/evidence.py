"""The evidence of a report: the three plots and the tables of outages, outcomes and failures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from zdtest.duration import written
from zdtest.records.sample import Mark
from zdtest.report import plots, tally
from zdtest.report import timeline as lanes
from zdtest.report.frame import Frame
from zdtest.report.number import NOTHING, count, html, moment, ms, percent, plain, real
from zdtest.report.tables import Loud, Show, table
from zdtest.report.tally import QUANTILES

FAILURES = 1000
"""How many failed requests are listed one by one."""

LATE = 0.1
"""Seconds by which an event may be noted late before that is told."""

_TIMES = ("t", "event", "noted")
"""What the table of events tells in another way."""

OUTAGES = 200
"""How many outages (and brownouts) are listed one by one."""


def timeline(frame: Frame) -> str:
    """Return the section that shows the deploy as lanes, and every event as a table."""
    slow = f"slow: taller (over {ms(frame.slow_ms)} beyond its think time)"
    entries = [
        (True, ("ok", "ok: a low band", 7)),
        (bool(frame.slow.any()), ("slow", slow, 10)),
        (bool(frame.failed.any()), ("bad", "failed: tallest, by the share that failed", 14)),
        (
            bool(frame.verdict.get("outages")),
            ("badtint", "outage; of the longest, how long it lasted at the most", 14),
        ),
        (frame.window is not None, ("deploy", "deploy", 14)),
        (bool(frame.recording.spans("fault")), ("fault", "fault", 14)),
    ]
    keys = [key for there, key in entries if there]
    note = "Seconds since the first request was due. Where nothing is drawn, nothing was sent."
    return _section(
        "The deploy as the clients saw it",
        note,
        _figure(frame, lanes.timeline, keys) + _events(frame),
    )


def throughput(frame: Frame) -> str:
    """Return the section that shows which version answered when."""
    keys = [
        (f"v{min(place, 4)}", plain(name, 60) or "version not told", 14)
        for place, name in enumerate(frame.versions)
    ]
    note = "Ok replies per second by the version that answered, stacked, by the time they were due."
    if frame.failed.any():
        keys.append(("bad", "failed (hatched)", 14))
    return _section("Who answered", note, _figure(frame, plots.throughput, keys))


def latency(frame: Frame) -> str:
    """Return the section with latency over time and percentiles by phase and channel."""
    thinks = {
        name: real(told.get("think"))
        for name, told in (frame.recording.manifest.get("channels") or {}).items()
        if real(told.get("think"))
    }
    without = ", ".join(f"{name} {ms(think * 1e3)}" for name, think in thinks.items() if think)
    left_out = f"streams and the time a reply takes by design ({without})" if without else "streams"
    note = f"Ok replies from due to done, {left_out} left out. Percentiles are exact."
    keys: list[Key] = [
        ("p50", "median", 3),
        ("p99", "p99", 3, "dash"),
        ("max", "maximum", 6, "dot"),
    ]
    channels = [name for name in frame.channels if name != "control"]
    body = _figure(frame, plots.latency, keys) + _by_phase(tally.percentiles(frame))
    if len(channels) > 1 and len(frame.samples):
        by_channel = _percentiles(tally.percentiles(frame, channels))
        body += f"<details><summary>By channel</summary>{by_channel}</details>"
    return _section("Latency", note, body)


def _by_phase(rows: pd.DataFrame) -> str:
    """Return the phases beside each other: seven rows of three figures fit any screen."""
    shows: dict[str, Show] = {"requests": count, "failed": count, **dict.fromkeys(QUANTILES, ms)}
    told = rows.to_dict("records")
    lines = [
        {"what": name} | {one["phase"]: _toned(name, one[name], show) for one in told}
        for name, show in shows.items()
    ]
    columns: dict[str, tuple[str, Show]] = {"what": ("", str)}
    columns |= {one["phase"]: (_phase(one["phase"]), _right) for one in told}
    return table(pd.DataFrame(lines, dtype=object), columns, caption="Latency by phase")


def _phase(name: object) -> str:
    return str(name).replace("_", " ")


def _toned(name: str, value: object, show: Show) -> str:
    """Return a figure as its cell shows it; failures stand out."""
    return Loud(show(value)) if name == "failed" and value else show(value)


def _percentiles(rows: pd.DataFrame) -> str:
    columns: dict[str, tuple[str, Show]] = {"phase": ("phase", _phase)}
    if "channel" in rows:
        columns = {"channel": ("channel", str), **columns}
    columns |= {"requests": ("requests", count), "failed": ("failed", count)}
    columns |= {name: (name, ms) for name in QUANTILES}
    return table(rows, columns, caption="Latency percentiles by phase", alarming={"failed"})


def outages(frame: Frame) -> str:
    """Return the section that lists outages and brownouts."""
    found = frame.verdict.get("outages") or []
    body = _episodes(found, "outages") if found else "<p>No outage on any channel.</p>"
    if brown := frame.verdict.get("brownouts"):
        body += f"<h3>Brownouts ({count(len(brown))})</h3>" + _episodes(brown, "brownouts")
    worst = tally.worst_windows(frame)
    if len(worst):
        worst["available"] = [
            percent(int(n - f), int(n))
            for f, n in zip(worst["failed"], worst["requests"], strict=True)
        ]
        columns: dict[str, tuple[str, Show]] = {
            "start_s": ("from", lambda at: moment(at, 1)),
            "available": ("available", _right),
            "failed": ("failed", count),
            "requests": ("requests", count),
        }
        body += "<h3>The worst windows of 100 ms</h3>"
        body += table(worst, columns, caption="Windows of 100 ms with the lowest availability")
    note = (
        "An outage runs from a channel's first failure to its last, as long as no two are more "
        "than the merge gap apart. At least: from failure to failure. At most: from ok to ok."
    )
    return _section(f"Outages ({count(len(found))})", note, body)


def _episodes(found: Iterable[Mapping[str, Any]], what: str) -> str:
    rows = pd.DataFrame([_episode(one) for one in found], dtype=object)
    columns: dict[str, tuple[str, Show]] = {
        "channel": ("channel", str),
        "start": ("from", moment),
        "least": ("at least", ms),
        "most": ("at most", _right),
        "failed": ("failed" if what == "outages" else "slow", count),
        "total": ("of", count),
        "outcomes": ("outcomes", str),
    }
    if what != "outages":
        del columns["outcomes"]
    shown = table(rows.head(OUTAGES), columns, caption=f"All {what}, in order of time")
    more = len(rows) - OUTAGES
    return shown + (f"<p>{count(more)} more are in verdict.json.</p>" if more > 0 else "")


def _episode(one: Mapping[str, Any]) -> dict[str, object]:
    outcomes = one.get("outcomes")
    told = outcomes.items() if isinstance(outcomes, dict) else ()
    return {
        "channel": one.get("channel"),
        "start": one.get("start_s"),
        "least": one.get("min_ms"),
        "most": ms(one.get("max_ms")) + (" or more" if _open(one) else ""),
        "failed": one.get("failed", one.get("slow")),
        "total": one.get("total"),
        "outcomes": ", ".join([*(f"{name} {count(n)}" for name, n in told), *_open(one)]),
    }


def _open(one: Mapping[str, Any]) -> list[str]:
    """Return what the bounds cannot tell: an outage that the run saw only one end of."""
    ends = {"open_start": "began before the run", "open_end": "not over when the run ended"}
    return [words for key, words in ends.items() if one.get(key)]


def outcomes(frame: Frame) -> str:
    """Return the section that counts every request by channel and outcome."""
    rows = tally.outcomes(frame)
    rows.insert(0, "channel", rows.index)
    columns: dict[str, tuple[str, Show]] = {"channel": ("channel", str)}
    columns |= {str(name): (str(name), count) for name in rows.columns if name != "channel"}
    alarming = set(columns) - {"channel", "requests", "ok"}
    caption = "Requests by channel and outcome"
    note = "Every request that was scheduled, the control's among them." if len(rows) else ""
    return _section("Outcomes", note, table(rows, columns, caption=caption, alarming=alarming))


def failed(frame: Frame) -> str:
    """Return the section with the failed requests in full, or a word that there are none."""
    total = int((frame.failed & frame.judged).sum())
    if not total:
        return _section("Failed requests (0)", "", "<p>None.</p>")
    rows = tally.failures(frame, FAILURES).replace(
        {"version": {"": NOTHING}, "instance": {"": NOTHING}}
    )
    columns: dict[str, tuple[str, Show]] = {
        "id": ("id", str),
        "channel": ("channel", str),
        "due": ("due", lambda at: moment(at, 6)),
        "sent": ("sent", _after),
        "first_byte": ("first byte", _after),
        "done": ("done", _after),
        "outcome": ("outcome", str),
        "status": ("status", lambda status: str(status or NOTHING)),
        "version": ("version", str),
        "instance": ("instance", str),
        "conn": ("connection", count),
    }
    shown = table(rows, columns, caption="Failed requests")
    more = total - len(rows)
    which = f"the first {count(len(rows))} of {count(total)}" if more else f"all {count(total)}"
    rest = f"<p>The other {count(more)} are in samples.arrows.</p>" if more else ""
    note = "Sent, first byte and done are told as time after due; – is what never happened."
    opened = " open" if total <= 20 else ""
    return _section(
        f"Failed requests ({count(total)})",
        note,
        f'<details class="long"{opened}><summary>Show {which}</summary>{shown}{rest}</details>',
    )


def _events(frame: Frame) -> str:
    """Return every mark, its words and what else it tells, as a table to open."""
    if not frame.marks:
        return ""
    rows = pd.DataFrame(
        {
            "at": [moment(mark.at - frame.zero) for mark in frame.marks],
            "event": [mark.name for mark in frame.marks],
            "about": [_about(mark) for mark in frame.marks],
        },
        dtype=object,
    )
    columns: dict[str, tuple[str, Show]] = {
        "at": ("at", _right),
        "event": ("event", str),
        "about": ("about", str),
    }
    shown = table(rows.head(FAILURES), columns, caption="Events of the run")
    more = len(rows) - FAILURES
    rest = (
        f"<p>The other {count(more)} are in events.jsonl and journal.jsonl.</p>" if more > 0 else ""
    )
    return f"<details><summary>{count(len(rows))} events</summary>{shown}{rest}</details>"


def _about(mark: Mark) -> str:
    """Return what a mark tells, and how much later it was noted where that was no short time."""
    told = [f"{key} {value}" for key, value in mark.about.items() if key not in _TIMES]
    noted = real(mark.about.get("noted"))
    late = 0.0 if noted is None else noted - mark.at
    return ", ".join([*told, f"noted {written(late)} later"] if late > LATE else told)


Key = tuple[str, str, int] | tuple[str, str, int, str]
"""An entry of a plot's legend: role, words, height of its sample in pixels, and its kind of line:
``dash``, ``dot``, or a plain one."""


def _figure(frame: Frame, plot: Callable[[Frame, plots.Sheet], str], keys: Iterable[Key]) -> str:
    """Return a plot twice, for wide and for narrow screens (the style shows one), and its key."""
    if not len(frame.samples):
        return "<p>No sample was recorded.</p>"
    drawn = "".join(
        f'<figure class="{sheet.name}">{plot(frame, sheet)}</figure>'
        for sheet in (plots.WIDE, plots.NARROW)
    )
    return drawn + _legend(keys)


def _legend(keys: Iterable[Key]) -> str:
    items = "".join(
        f'<li><i class="{" ".join(kind)}" style="--c: var(--{role}); height: {tall}px"></i>'
        f"{html(words)}</li>"
        for role, words, tall, *kind in keys
    )
    return f'<ul class="legend">{items}</ul>'


def _section(title: str, note: str, body: str) -> str:
    told = f'<p class="note">{html(note, 2000)}</p>' if note else ""
    return f"<section><h2>{html(title)}</h2>{told}\n{body}</section>"


def _right(text: object) -> str:
    """Show text as it is, on the right, as numbers stand."""
    return str(text)


def _after(value: object) -> str:
    return NOTHING if real(value) is None else f"+{ms(value)}"
