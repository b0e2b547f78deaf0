"""The load generators that are compared: how each is started and what its report says.

Each runs as a user would run it, as one process; what could not be had is said and not guessed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).parent.parent
USERS = Path(__file__).parent / "locustfiles" / "users.py"
CONNECTIONS = 20
NOT_INSTALLED = "not installed"


@dataclass(frozen=True, slots=True)
class Told:
    """What a tool reported of one run, and what it cost."""

    requests: int
    errors: int
    seconds: float
    cpu: float
    p99_ms: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One run of one tool: against which URL, how long, how fast (0: as fast as it can).

    `start` is what Locust may take off its run time before the first request.
    """

    url: str
    seconds: int
    rate: int
    core: int | None = None
    start: int = 0
    environ: dict[str, str] = field(default_factory=dict)

    def run(self, command: Sequence[str]) -> tuple[str, float]:
        """Run `command` to its end and return what it printed and the CPU seconds it used.

        RuntimeError with its last words when it can't have run.
        """
        pin = [] if self.core is None else ["taskset", "-c", str(self.core)]
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            environ = {**os.environ, **self.environ}
            process = subprocess.Popen([*pin, *command], stdout=out, stderr=err, env=environ)
            deadline = time.monotonic() + self.seconds + 40
            while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
                if time.monotonic() > deadline:
                    process.kill()
                time.sleep(0.02)
            process.returncode = os.waitstatus_to_exitcode(ended[1])
            out.seek(0)
            err.seek(0)
            told = out.read()
            if not told + (last_words := err.read()) or process.returncode == 2:
                raise RuntimeError(f"exit {process.returncode}: {last_words[-300:]}")
        return told, ended[2].ru_utime + ended[2].ru_stime


def zdtest(job: Job, folder: Path) -> Told:
    """Run our load, every request recorded; what is told is read from its recording."""
    from zdtest.records.recording import Recording
    from zdtest.records.sample import Outcome

    options = f"-m locust -f {ROOT / 'zdtest' / 'load.py'} --headless --only-summary --seed 1"
    options += f" --host {job.url} --rate {job.rate} --channels reused=1"
    options += f" --run-time {job.seconds + job.start}s --zd-out {folder}"
    _, cpu = job.run([sys.executable, *options.split()])
    recording = Recording.read(folder)
    samples = recording.samples
    if recording.trailer is None or not len(samples):
        raise RuntimeError("zdtest left no closed recording")
    failed = ~((samples.outcome == Outcome.ok) | (samples.outcome == Outcome.unsent))
    answered = samples.done[samples.outcome == Outcome.ok]
    seconds = float(answered.max() - recording.trailer["began"]) if len(answered) else 0.0
    return Told(
        requests=int((samples.outcome != Outcome.unsent).sum()),
        errors=int(failed.sum()),
        seconds=seconds,
        cpu=cpu,
        p99_ms=_percentile(samples.latency.tolist(), 99) * 1e3,
        note=_outages(recording.samples),
    )


def _outages(samples: object) -> str:
    """Say how long the outages and brownouts (over 250 ms) were, as our judge has them."""
    from zdtest.judging.outage import brownouts, episodes
    from zdtest.records.recording import Samples

    assert isinstance(samples, Samples)
    found = [("down", each) for each in episodes(samples, samples.outcome != 0)]
    found += [("slow", each) for each in brownouts(samples, samples.latency > 0.25)]
    return "; ".join(f"{what} {one.min * 1e3:.0f}–{one.max * 1e3:.0f} ms" for what, one in found)


def _percentile(values: Sequence[float], percent: int) -> float:
    """Return the value at the nearest rank."""
    return sorted(values)[max(0, -(-percent * len(values) // 100) - 1)]


def fast_http_user(job: Job, folder: Path) -> Told:
    """Run Locust's FastHttpUser."""
    return _locust(job, "Fast")


def http_user(job: Job, folder: Path) -> Told:
    """Run Locust's HttpUser."""
    return _locust(job, "Plain")


def _locust(job: Job, user: str) -> Told:
    options = f"-m locust -f {USERS} {user} --headless --json --host {job.url}"
    options += f" -u {CONNECTIONS} -r {CONNECTIONS} -t {job.seconds + job.start}s"
    pace = {"BENCH_PACE": str(job.rate / CONNECTIONS)}
    paced = replace(job, environ=pace)
    told, cpu = paced.run([sys.executable, *options.split()])
    entries = json.loads(told)
    if not entries:
        raise RuntimeError("locust sent no request")
    (entry,) = entries
    times = [float(ms) for ms, n in entry["response_times"].items() for _ in range(n)]
    return Told(
        requests=entry["num_requests"],
        errors=entry["num_failures"],
        seconds=max(entry["last_request_timestamp"] - entry["start_time"], 1e-3),
        cpu=cpu,
        p99_ms=_percentile(times, 99) if times else None,
    )


def hey(job: Job, folder: Path) -> Told:
    """Run hey, on one core (`-cpus 1`)."""
    pace = ["-q", str(job.rate // CONNECTIONS)] if job.rate else []
    timed = ["-z", f"{job.seconds}s", "-c", str(CONNECTIONS), "-cpus", "1"]
    told, cpu = job.run(["hey", *timed, *pace, f"{job.url}/"])
    ok = sum(int(n) for n in re.findall(r"\[2\d\d\]\s+(\d+) responses", told))
    answered = sum(int(n) for n in re.findall(r"\[\d{3}\]\s+(\d+) responses", told))
    broken = told.partition("Error distribution")[2]
    errors = sum(int(n) for n in re.findall(r"^\s*\[(\d+)\]", broken, re.MULTILINE))
    p99 = re.search(r"99% in ([\d.]+) secs", told)
    total = re.search(r"Total:\s+([\d.]+) secs", told)
    return Told(
        requests=answered + errors,
        errors=answered - ok + errors,
        seconds=float(total[1]) if total else float(job.seconds),
        cpu=cpu,
        p99_ms=float(p99[1]) * 1e3 if p99 else None,
    )


def wrk(job: Job, folder: Path) -> Told:
    """Run wrk, one thread; it has no rate of its own and always goes as fast as it can."""
    timed = ["-t1", f"-c{CONNECTIONS}", f"-d{job.seconds}s", "--latency"]
    told, cpu = job.run(["wrk", *timed, f"{job.url}/"])
    sent = re.search(r"(\d+) requests in ([\d.]+)(m?s|m)", told)
    if sent is None:
        raise RuntimeError(f"wrk printed something else than expected: {told[:200]}")
    broken = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", told
    )
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", told)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", told)
    errors = sum(map(int, broken.groups())) if broken else 0
    unit = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3}
    return Told(
        requests=int(sent[1]),
        errors=errors + (int(wrong[1]) if wrong else 0),
        seconds=float(sent[2]) * unit[sent[3]] / 1e3,
        cpu=cpu,
        p99_ms=float(p99[1]) * unit[p99[2]] if p99 else None,
    )


TOOLS: dict[str, Callable[[Job, Path], Told]] = {
    "zdtest": zdtest,
    "Locust FastHttpUser": fast_http_user,
    "Locust HttpUser": http_user,
    "hey": hey,
    "wrk": wrk,
}


def installed(name: str) -> bool:
    """Tell whether the tool can be run here."""
    return name not in ("hey", "wrk") or shutil.which(name) is not None


def chosen(names: str) -> list[str]:
    """Return the tools in a comma separated list, all for an empty one; SystemExit for others."""
    wanted = [name.strip() for name in names.split(",") if name.strip()] or list(TOOLS)
    for name in wanted:
        if name not in TOOLS:
            raise SystemExit(f"unknown tool {name!r}: expected some of {', '.join(TOOLS)}")
    return wanted


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def host() -> dict[str, object]:
    """Return what the figures were measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "unknown",
    )
    release = os.uname().release
    load = os.getloadavg()[0]
    return {"cpus": os.cpu_count(), "cpu": model, "kernel": release, "load_before": load}
