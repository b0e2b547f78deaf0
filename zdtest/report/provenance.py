"""The end of a report: what ran, whether the generator itself was sound, and how to do it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from zdtest.errors import ConfigError
from zdtest.judging.slo import Slo, shown
from zdtest.report.frame import CONTROL, Frame
from zdtest.report.headline import when
from zdtest.report.number import NOTHING, count, html, moment, ms, percent, plain, rate, real
from zdtest.report.tables import Show, facts, table


def health(frame: Frame) -> str:
    """Return the section that tells whether the measuring itself can be trusted."""
    trailer = frame.recording.trailer
    if trailer is None:
        why = frame.recording.cut or "the recorder did not close its file"
        alarm = f"{why[:1].upper()}{why[1:]}. What there is proves nothing on its own."
        body = f'<p class="alarm">{html(alarm)}</p>'
        return f"<section><h2>The load generator</h2>{body}{facts(_control(frame))}</section>"
    offered, reached = real(trailer.get("offered_rate")), real(trailer.get("reached_rate"))
    share = f" ({percent(int(reached * 1e3), int(offered * 1e3))})" if offered and reached else ""
    lag = [ms(trailer.get(f"lag_{name}_ms")) for name in ("p50", "p99", "max")]
    told = {
        "rate offered": rate(offered),
        "rate reached": f"{rate(reached)}{share}",
        "send lag": f"median {lag[0]}, p99 {lag[1]}, max {lag[2]} (sent after due)",
        "scheduled": count(trailer.get("scheduled")),
        "recorded": f"{count(trailer.get('count'))}, the control's among them",
        "not sent": f"{count(trailer.get('unsent'))} that the generator itself could not send",
        "interrupted": "yes, before its time" if trailer.get("interrupted") else "no",
        **_control(frame),
        **_suspect(frame),
    }
    return f"<section><h2>The load generator</h2>{facts(told)}</section>"


def _control(frame: Frame) -> dict[str, object]:
    control = frame.samples.channel == CONTROL
    sent, failed = int(control.sum()), int((control & frame.failed).sum())
    if not sent:
        return {"control server": "none: an ailing host would not be told from an ailing system"}
    share = f"{percent(sent - failed, sent)} ok"
    return {"control server": f"{count(failed)} of {count(sent)} failed ({share})"}


def _suspect(frame: Frame) -> dict[str, object]:
    """Return when the host or the generator was in trouble, as far as the judge told."""
    told = frame.verdict.get("suspect")
    if not isinstance(told, dict):
        return {}
    names = {"failed_s": "control failed", "slow_s": "control slow", "stalled_s": "it stalled"}
    found = {name: told.get(key) or () for key, name in names.items()}
    times = [
        f"{name} {count(len(spans))} times, first at {moment(spans[0][0])}"
        for name, spans in found.items()
        if spans
    ]
    if times and told.get("failed"):
        times.append(f"{count(told['failed'])} failures do not stand")
    return {"moments of doubt": "; ".join(times) or "none"}


def ran(frame: Frame) -> str:
    """Return the section that tells what ran where, and how to judge and run it again."""
    manifest = frame.recording.manifest
    host = manifest.get("host")
    told = {
        "run": manifest.get("run"),
        "when": when(manifest, frame.zero),
        "url": manifest.get("url"),
        "headers": _pairs(manifest.get("headers")),
        "topology": _joined(manifest.get("topology"), manifest.get("variant")),
        "strategy": manifest.get("strategy"),
        "versions": _joined(manifest.get("old_version"), manifest.get("new_version"), by=" → "),
        "command": _command(manifest.get("command")),
        # Somebody's own stack is run by whatever runs it, and not by what ran the load.
        "engine": _joined(manifest.get("engine"), manifest.get("emulated"))
        if manifest.get("topology")
        else None,
        "rate and seed": f"{rate(manifest.get('rate'))}, seed {manifest.get('seed', NOTHING)}",
        "SLO": _promises(frame.verdict.get("slo") or manifest.get("slo")),
        "host": _host(host) if isinstance(host, dict) else host,
        "zdtest": manifest.get("tool"),
        "git": _pairs(manifest.get("git")),
    }
    whole = json.dumps(manifest, indent=1, sort_keys=True, default=str)
    lines = "\n".join(html(line, 2000) for line in whole.splitlines()[:2000])
    return (
        f"<section><h2>What ran</h2>{facts(told)}{_images(manifest)}{_channels(manifest)}"
        f"<details><summary>manifest.json in full</summary><pre>{lines}</pre></details></section>"
    )


def again(frame: Frame) -> str:
    """Return the section with the commands that judge, draw and run this again."""
    folder = frame.recording.folder.resolve()
    run = shlex.quote(str(Path(folder.parent.name) / folder.name))
    manifest = frame.recording.manifest
    commands = [f"zdtest judge {run}{_otherwise(frame)}", f"zdtest report {run}"]
    given, secret = manifest.get("again"), manifest.get("headers")
    if isinstance(given, list) and given:
        words = [*given, "--seed", manifest.get("seed")]
        for name, value in secret.items() if isinstance(secret, dict) else ():
            words += ["--header", f"{name}: {value}"]
        command = _command(manifest.get("command"))
        commands.append(f"zdtest during {_command(words)}" + (f" -- {command}" if command else ""))
    shown = "\n".join(html(line, 2000) for line in commands)
    note = "The raw samples are in samples.arrows, so that other rules need no new run."
    return f'<section><h2>Again</h2><p class="note">{note}</p><pre>{shown}</pre></section>'


def _otherwise(frame: Frame) -> str:
    """Return the promises that it was judged by as an option, where they are not the run's own."""
    try:
        judged, own = (
            Slo.from_dict(told or {})
            for told in (frame.verdict.get("slo"), frame.recording.manifest.get("slo"))
        )
    except (AttributeError, ConfigError, TypeError):
        return ""  # of another version, which knows others
    return f" --slo {shlex.quote(judged.written())}" if judged != own else ""


def _images(manifest: Mapping[str, Any]) -> str:
    """Return what the containers were made of, nothing where there were none."""
    told = manifest.get("images")
    images = [one for one in told if isinstance(one, dict)] if isinstance(told, list) else []
    if not images:
        return ""
    columns: dict[str, tuple[str, Show]] = {
        "name": ("image", str),
        "version": ("version", str),
        "tag": ("tag", str),
        "id": ("digest", str),
        "size": ("size", _megabytes),
    }
    rows = pd.DataFrame(images, columns=list(columns), dtype=object)
    return "<h3>Images</h3>" + table(rows, columns, caption="What the containers were made of")


def _megabytes(value: object) -> str:
    number = real(value)
    return f"{number / 1e6:.0f} MB" if number else NOTHING


def _channels(manifest: Mapping[str, Any]) -> str:
    channels = manifest.get("channels")
    if not isinstance(channels, dict) or not channels:
        return ""
    rows = pd.DataFrame(
        [{"channel": n} | (c if isinstance(c, dict) else {}) for n, c in channels.items()],
        dtype=object,
    )
    columns: dict[str, tuple[str, Show]] = {
        "channel": ("channel", str),
        "method": ("method", str),
        "path": ("path", str),
        "rate": ("rate", rate),
        "think": ("think time", _seconds),
        "timeout": ("time limit", _seconds),
    }
    note = (
        '<p class="note">Rates of equal shares differ a little on purpose: channels in step with '
        "each other take turns for ever, and one might meet only one server of two.</p>"
    )
    shown = table(rows, columns, caption="What was sent on each channel")
    return f"<h3>Channels</h3>{note if len(rows) > 1 else ''}{shown}"


def _seconds(value: object) -> str:
    number = real(value)
    return ms(number * 1e3) if number else NOTHING


def _command(command: object) -> str:
    if isinstance(command, list):
        return shlex.join(str(word) for word in command)
    return str(command or "")


def _joined(*words: object, by: str = ", ") -> str:
    return by.join(str(word) for word in words if word)


def _pairs(told: object) -> str:
    if isinstance(told, dict):
        return ", ".join(f"{key} {plain(value)}" for key, value in told.items())
    return str(told or "")


def _promises(slo: object) -> str:
    """Return the promises that were made, and the names of those that were not."""
    if not isinstance(slo, dict) or not slo:
        return "the default"
    made = {
        name: shown(name, value) if isinstance(value, float) and real(value) is not None else value
        for name, value in slo.items()
        if value is not None
    }
    without = (str(name) for name, value in slo.items() if value is None)
    not_made = ", ".join(name for name in without if name != "channels")  # None means all of them
    return _pairs(made) + (f"; not promised: {not_made}" if not_made else "")


def _host(host: Mapping[str, Any]) -> str:
    memory = real(host.get("memory"))
    rest = {k: v for k, v in host.items() if k not in ("name", "cpus", "memory") and v is not None}
    size = f"{memory / 2**30:.1f} GiB" if memory else ""
    cpus = f"{host['cpus']} CPUs" if host.get("cpus") else ""
    return _joined(host.get("name"), cpus, size, _pairs(rest))
