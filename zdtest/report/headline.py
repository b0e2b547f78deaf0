"""The first screen of a report: the verdict, its reasons, what was deployed, the key figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from zdtest.duration import written
from zdtest.judging.interval import rates, upper_rate
from zdtest.judging.outage import covered
from zdtest.percent import between, bound, failing
from zdtest.report.frame import Frame
from zdtest.report.number import count, html, moment, ms, percent, real, span

SIGNS = {"holds": ("✓", "Holds"), "broken": ("✕", "Broken"), "inconclusive": ("?", "Inconclusive")}
"""How each verdict is marked and written; never by colour alone."""

MEANING = {
    "holds": "Every promise was kept, and the run is evidence of it.",
    "broken": "A promise was broken.",
    "inconclusive": "The run proves nothing either way.",
}

UNKNOWN = "not known"
"""What a figure shows that nothing on file tells: never a zero."""

Figure = tuple[str, str, str, bool]
"""What is measured, the value, a remark, and whether it alarms."""


def verdict_word(verdict: Mapping[str, Any]) -> str:
    """Return the verdict as one of the three words; anything unknown is inconclusive."""
    word = verdict.get("verdict")
    return word if isinstance(word, str) and word in SIGNS else "inconclusive"


def subject(manifest: Mapping[str, Any]) -> str:
    """Return what was deployed and how, as plain text."""
    topology, variant = manifest.get("topology"), manifest.get("variant")
    name = f"{topology} ({variant})" if topology and variant else topology or manifest.get("url")
    parts = [str(name or manifest.get("run"))]
    if strategy := manifest.get("strategy"):
        parts.append(str(strategy).replace("_", " "))
    old, new = manifest.get("old_version"), manifest.get("new_version")
    if new:
        parts.append(f"{old or '?'} → {new}")
    elif old:
        parts.append(str(old))
    return " · ".join(parts)


def when(manifest: Mapping[str, Any], at: float) -> str:
    """Return a moment of the run's clock as UTC wall time, "" when the manifest ties no clock."""
    clock = manifest.get("clock")
    wall, mono = (
        real(clock.get(k)) if isinstance(clock, dict) else None for k in ("wall", "monotonic")
    )
    if wall is None or mono is None:
        return ""
    try:
        moment = datetime.fromtimestamp(wall + at - mono, UTC)
    except (OverflowError, ValueError, OSError):
        return ""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def headline(frame: Frame) -> str:
    """Return the HTML of the first screen."""
    word = verdict_word(frame.verdict)
    sign, spelled = SIGNS[word]
    told = [*(frame.verdict.get("reasons") or [MEANING[word]])]
    for name in ("scope", "emulated"):
        if more := str(frame.verdict.get(name) or ""):
            told.append(more[:1].upper() + more[1:])
    said = f"{word}: "  # which the page says already, in larger letters
    reasons = "".join(f"<li>{html(str(one).removeprefix(said), 600)}</li>" for one in told)
    manifest = frame.recording.manifest
    facts = [when(manifest, frame.zero), f"{frame.length:,.1f}s of load", _rate(frame)]
    return (
        f'<header class="verdict {word}"><h1><span class="sign" aria-hidden="true">{sign}</span>'
        f'{spelled}</h1><p class="what"><strong>{html(subject(manifest))}</strong></p>'
        f'<p class="quiet">{html(" · ".join(fact for fact in facts if fact))}</p>'
        f'<ul class="reasons">{reasons}</ul></header>\n'
        f'<dl class="figures">{"".join(_figure(*figure) for figure in figures(frame))}</dl>'
    )


def _rate(frame: Frame) -> str:
    rate = real(frame.verdict.get("offered_rate"))
    return "" if rate is None else f"{rate:,.4g} requests/s offered"


def _figure(term: str, value: str, remark: str, alarms: bool) -> str:
    tone = ' class="alarm"' if alarms else ""
    by = f'<dd class="by">{html(remark)}</dd>' if remark else ""
    return f"<div{tone}><dt>{html(term)}</dt><dd>{html(value)}</dd>{by}</div>\n"


def figures(frame: Frame) -> list[Figure]:
    """Return the key figures in the order in which a reviewer asks for them."""
    made = (_failed, _bound, _downtime, _worst, _deploy, _p99, _writes, _versions)
    return [one(frame) for one in made]


def _requests(frame: Frame) -> int:
    return int(real(frame.verdict.get("requests")) or 0)


def _failed(frame: Frame) -> Figure:
    requests = _requests(frame)
    failed = int(real(frame.verdict.get("failed")) or 0)
    if not requests:
        return "Failed requests", UNKNOWN, "nothing was sent", False
    answered = f"{percent(requests - failed, requests)} answered as expected"
    masked = frame.verdict.get("masked")
    if isinstance(masked, dict) and (again := real(masked.get("requests"))):
        answered += f", {count(again)} of them only after the proxy had tried again"
    value = f"{count(failed)} of {count(requests)}"
    return "Failed requests", value, answered, failed > 0


def _bound(frame: Frame) -> Figure:
    requests, failed = _counted(frame, "deploy")
    also, before = _counted(frame, "under_way")
    if not requests:
        return "In the deploy window", "no request", "so it proves nothing", False
    remark = f"failure rate below {bound(upper_rate(0, requests))} at 95 %"
    if failed:
        likely = between(*rates(failed, requests))
        remark = f"{failing(failed, requests)}, at 95 % {likely}"
    if before:
        remark += f"; also {count(before)} of {count(also)} that were under way as it began"
    return (
        "In the deploy window",
        f"{count(failed)} of {count(requests)} failed",
        remark,
        failed + before > 0,
    )


def _counted(frame: Frame, phase: str) -> tuple[int, int]:
    """Return how many requests a phase had, and how many of them failed."""
    told = (frame.verdict.get("phases") or {}).get(phase) or {}
    return int(real(told.get("requests")) or 0), int(real(told.get("failed")) or 0)


def _downtime(frame: Frame) -> Figure:
    if not _requests(frame):
        return "Downtime", UNKNOWN, "nothing was sent", False
    channels = frame.verdict.get("channels") or {}
    down = {
        n: c
        for n, c in channels.items()
        if (real(c.get("downtime_max_ms")) or 0) > 0 or c.get("downtime_open")
    }
    low, high = (frame.verdict.get(f"downtime_{end}_ms") for end in ("min", "max"))
    if real(high) is None:
        worst: Mapping[str, Any]
        worst = max(down.values(), key=lambda c: float(c["downtime_max_ms"]), default={})
        low, high = worst.get("downtime_min_ms", 0), worst.get("downtime_max_ms", 0)
    if not down:
        return "Downtime", "none", f"on {len(channels)} channels", False
    remark = f"on {len(down)} of {len(channels)} channels: {', '.join(down)}"
    more = frame.verdict.get("downtime_open")
    return _down_or_not(frame), span(low, high, more), remark, True


def _down_or_not(frame: Frame) -> str:
    """Return what to call outages: downtime only where nothing was answered ok in any of them."""
    told = [
        (real(outage.get("failed")), real(outage.get("total")))
        for outage in frame.verdict.get("outages") or ()
    ]
    partial = [
        failed is not None and total is not None and failed < total for failed, total in told
    ]
    if not any(partial):
        return "Downtime"
    return "Failing at times for" if all(partial) else "Down, or failing at times, for"


def _worst(frame: Frame) -> Figure:
    outages = frame.verdict.get("outages") or ()
    if not _requests(frame):
        return "Longest outage", UNKNOWN, "nothing was sent", False
    if not outages:
        return "Longest outage", "none", "", False
    worst = max(outages, key=lambda o: real(o.get("max_ms")) or 0.0)
    start = real(worst.get("start_s"))
    failed = f"{count(worst.get('failed'))} of {count(worst.get('total'))} failed"
    begin = "" if start is None else f", from {moment(start)}"
    remark = f"{worst.get('channel')}, {failed}{begin}"
    more = bool(worst.get("open_start") or worst.get("open_end"))
    return "Longest outage", span(worst.get("min_ms"), worst.get("max_ms"), more), remark, True


def _deploy(frame: Frame) -> Figure:
    spans = frame.recording.spans("deploy")
    if not spans:
        return "Deploy", "not marked", "no deploy was seen", False
    ends = [mark.about for mark in frame.recording.marks if mark.name == "deploy.end"]
    wrong = [about for about in ends if about.get("error") or about.get("exit") not in (None, 0)]
    told = (wrong or ends or [{}])[0]
    ended = f"exit {told['exit']}" if told.get("exit") is not None else ""
    began = f"began at {moment(spans[0][0] - frame.zero)}"
    took = covered((begin, end) for begin, end, _ in spans)
    if not math.isfinite(took):
        return "Deploy", "did not end", began, True
    what = "Deploy took" if len(spans) == 1 else f"{len(spans)} deploys took"
    remark = ", ".join(filter(None, (began, str(told.get("error") or ended))))
    return what, written(took), remark, bool(wrong)


def _p99(frame: Frame) -> Figure:
    phases = frame.verdict.get("phases") or {}
    shown = [
        ms((phases.get(name) or {}).get("p99_ms")) for name in ("baseline", "deploy", "settle")
    ]
    return "Latency p99", _arrows(shown), "baseline → deploy → settle", False


def _arrows(shown: list[str]) -> str:
    """Return values one after the other, a unit that they share told once."""
    for unit in ("ms", "s"):
        if all(value.removesuffix(unit).replace(".", "").isdigit() for value in shown):
            shown = [value.removesuffix(unit) for value in shown[:-1]] + shown[-1:]
    return " → ".join(shown)


def _writes(frame: Frame) -> Figure:
    writes = frame.verdict.get("writes") or {}
    lost, twice = real(writes.get("lost")), real(writes.get("twice"))
    if lost is None or twice is None:
        told = "the app keeps no journal" if frame.recording.journal is None else "none were sent"
        return "Writes", "not known", told, False
    remark = f"{count(writes.get('ok'))} of {count(writes.get('sent'))} answered ok"
    if cut := real(writes.get("undecided")):
        remark += f", {count(cut)} cut off that may have run"
    value = f"{count(lost)} lost, {count(twice)} run twice"
    return "Writes", value, remark, bool(lost or twice)


def _versions(frame: Frame) -> Figure:
    seen = frame.verdict.get("versions") or {}
    mixed = real(frame.verdict.get("mixed_ms"))
    remark = ", ".join(f"{name or 'not told'}: {count(n)}" for name, n in seen.items())
    if len([name for name in seen if name]) < 2:
        return "Versions", remark or UNKNOWN, "" if remark else "no reply told its version", False
    if stale := real(frame.verdict.get("stale")):
        remark += f"; {count(stale)} stale after the deploy"
    return "Both versions answered for", UNKNOWN if mixed is None else ms(mixed), remark, False
