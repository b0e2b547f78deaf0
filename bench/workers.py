"""The highest rate that two workers on two cores keep, beside one process on one core.

Server and generator share a machine here, so the server is counted in: on one core a generator and
its server, on two cores two workers, their master and the same server. The row with the server on
the other core is what one process reaches with a core to itself: two cores as well, in other use.

A rate is kept when every request was answered and the load did its part by its own judgement, so
what it fell behind with counts against it. In each turn each setup is searched anew for the highest
one, and the turns alternate; the ratio is that within a turn. ``--rates`` names one rate for each
instead, so that a claim can be put to the test. CPU a request is that of each part, its start taken
off.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)]

from throughput import START, server  # noqa: E402
from tiny_server import free_port  # noqa: E402
from tools import host, markdown  # noqa: E402

from zdtest.summary import REACHED  # noqa: E402

STEP = 1.04
"""From one rate of the search to the next: what a figure may be short of the truth."""
STEPS = 18
"""From the rate that a setup keeps for certain to one, twice as high, that it cannot keep."""
TRIES = 2
"""What else the machine does can only take away, so a rate that was not kept is tried again."""
TICK = os.sysconf("SC_CLK_TCK")
LOCUST = [sys.executable, "-m", "locust", "-f", str(ROOT / "zdtest" / "load.py")]


@dataclass(frozen=True, slots=True)
class Setup:
    """Which process runs on which cores, as taskset writes them, and a rate it keeps for certain."""

    name: str
    least: int
    workers: tuple[str, ...]
    master: str
    server: str


@dataclass(frozen=True, slots=True)
class Told:
    """What came of one run: CPU seconds by part, requests completed, and how many failed."""

    rate: float
    requests: int
    errors: int
    seconds: float
    cpu: dict[str, float]
    lag_p99_ms: float
    notes: list[str] = field(default_factory=list)

    @property
    def reached(self) -> float:
        return self.requests / self.seconds

    @property
    def kept(self) -> bool:
        """Whether the rate was sent and answered, all of it."""
        return not self.errors and not self.notes and self.reached >= REACHED * self.rate


def setups(cores: list[int]) -> list[Setup]:
    one, two = str(cores[0]), str(cores[1])
    return [
        Setup("one process, its server on the same core", 12_000, (one,), "", one),
        Setup("one process, its server on another core", 18_000, (one,), "", two),
        Setup(
            "two workers and a master, their server on the same two cores",
            22_000,
            (one, two),
            f"{one},{two}",
            f"{one},{two}",
        ),
    ]


def run(setup: Setup, url: str, pid: int, rate: float, seconds: int) -> Told:
    """Send at `rate` for so long and return what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        before = _cpu(pid)
        cpu = _processes(setup, url, rate, seconds + START, out, Path(folder))
        return _told(out, rate, {**cpu, "server": _cpu(pid) - before})


def _processes(
    setup: Setup, url: str, rate: float, seconds: int, out: Path, folder: Path
) -> dict[str, float]:
    """Run the load to its end and return the CPU seconds of its parts."""
    how = ["--headless", "--only-summary", "--loglevel", "ERROR", "--seed", "1"]
    how += ["--host", url, "--rate", str(rate), "--channels", "reused=1"]
    how += ["--run-time", f"{seconds}s", "--zd-out", str(out)]
    commands = [("generator", setup.workers[0], [*LOCUST, *how])]
    if setup.master:
        port = str(free_port())
        bound = ["--master-bind-host", "127.0.0.1", "--master-bind-port", port]
        master = [*LOCUST, *how, "--master", *bound, "--expect-workers", str(len(setup.workers))]
        worker = [*LOCUST, "--worker", "--master-port", port, "--loglevel", "ERROR"]
        commands = [("generator", cores, worker) for cores in setup.workers]
        commands.append(("master", setup.master, master))
    with (folder / "log").open("w") as log:
        running = [
            (part, subprocess.Popen(["taskset", "-c", cores, *argv], stdout=log, stderr=log))
            for part, cores, argv in commands
        ]
        try:
            return _ended(running, time.monotonic() + seconds + 60)
        finally:
            for _, process in running:
                if process.returncode is None:
                    process.kill()
                    process.wait()


def _ended(running: list[tuple[str, subprocess.Popen[bytes]]], deadline: float) -> dict[str, float]:
    cpu = {"generator": 0.0, "master": 0.0}
    for part, process in running:
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the {part} did not end in time")
            time.sleep(0.02)
        process.returncode = os.waitstatus_to_exitcode(ended[1])
        cpu[part] += ended[2].ru_utime + ended[2].ru_stime
    return cpu


def _told(out: Path, rate: float, cpu: dict[str, float]) -> Told:
    from zdtest.fleet.crew import faults
    from zdtest.recording import Recording
    from zdtest.sample import Outcome

    recording = Recording.read(out)
    if recording.trailer is None:
        raise RuntimeError("the load left no closed recording")
    samples, trailer = recording.samples, recording.trailer
    ok = samples.outcome == Outcome.ok
    seconds = float(samples.done[ok].max() - trailer["began"]) if ok.any() else 1.0
    errors = int((~ok).sum())
    return Told(rate, int(ok.sum()), errors, seconds, cpu, trailer["lag_p99_ms"], faults(trailer))


def _cpu(pid: int) -> float:
    """Return the CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def highest(setup: Setup, url: str, pid: int, seconds: int) -> Told:
    """Return what came of the highest rate that the setup keeps, to a step."""
    best, low, high = None, 0, STEPS
    while low < high or best is None:
        middle = (low + high + 1) // 2
        told = attempt(setup, url, pid, round(setup.least * STEP**middle), seconds)
        if told.kept:
            best, low = told, middle
        elif high == 0:
            raise SystemExit(f"{setup.name} does not keep {told.rate:,.0f}/s: expected it to")
        else:
            high = middle - 1
    if low == STEPS:
        raise SystemExit(f"{setup.name} keeps {best.rate:,.0f}/s: expected that to be too much")
    return best


def attempt(setup: Setup, url: str, pid: int, rate: float, seconds: int) -> Told:
    """Return what came of the first try that kept the rate, or of the last one."""
    for _ in range(TRIES):
        told = run(setup, url, pid, rate, seconds)
        verdict = "kept" if told.kept else f"not kept, {told.errors} errors"
        said = f"offered {rate:,.0f}/s, completed {told.reached:,.0f}/s"
        print(f"  {setup.name}: {said}: {verdict}", file=sys.stderr)
        if told.kept:
            break
    return told


def measure(
    repeats: int, seconds: int, rates: list[float]
) -> tuple[str, list[Setup], dict[str, list[Told]]]:
    """Return the server's name, the setups, and what each told of each turn."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise SystemExit("only one core: expected two")
    chosen = setups(cores)
    told: dict[str, list[Told]] = {setup.name: [] for setup in chosen}
    named = dict(zip(told, rates, strict=True)) if rates else {}
    with server(cores[0]) as (name, url):
        pid = _listener(int(url.rpartition(":")[2].strip("/")))
        with contextlib.suppress(OSError):
            # As our load does where it may: on shared cores it would starve its server otherwise.
            os.setpriority(os.PRIO_PROCESS, pid, -10)
        starts = {}
        for setup in chosen:
            _move(pid, setup.server)
            starts[setup.name] = run(setup, url, pid, 1, 1)
        for turn in range(repeats):
            for setup in chosen if turn % 2 == 0 else reversed(chosen):
                _move(pid, setup.server)
                if rate := named.get(setup.name):
                    one = run(setup, url, pid, rate, seconds)
                else:
                    one = highest(setup, url, pid, seconds)
                for part, start in starts[setup.name].cpu.items():
                    one.cpu[part] -= start
                told[setup.name].append(one)
                print(f"{setup.name}: {one.reached:,.0f}/s", file=sys.stderr)
    return name, chosen, told


def _move(pid: int, cores: str) -> None:
    os.sched_setaffinity(pid, {int(core) for core in cores.split(",")})


def _listener(port: int) -> int:
    """Return the process that listens on that port of 127.0.0.1."""
    import psutil

    for one in psutil.net_connections("tcp4"):
        if one.status == "LISTEN" and one.laddr.port == port and one.pid:
            return int(one.pid)
    raise RuntimeError(f"nobody listens on {port}")


def table(chosen: list[Setup], told: dict[str, list[Told]]) -> str:
    """Return the medians of the turns as Markdown, and how far the turns lie apart."""
    rows = []
    base = [one.reached for one in told[chosen[0].name]]
    for setup in chosen:
        runs = told[setup.name]
        reached = [one.reached for one in runs]
        ratios = [here / there for here, there in zip(reached, base, strict=True)]
        cpu = [
            statistics.median(one.cpu.get(part, 0.0) / one.requests * 1e6 for one in runs)
            for part in ("generator", "master", "server")
        ]
        row = [setup.name, spread(reached, ",.0f"), spread(ratios, ".2f")]
        row += [f"{each:.1f}" if each else "–" for each in cpu]
        rows.append([*row, str(sum(one.errors for one in runs))])
    head = ["setup", "requests/s", "ratio"]
    head += ["CPU µs a request: generator", "master", "server", "errors"]
    return markdown(head, rows)


def spread(values: list[float], how: str) -> str:
    """Return the median, and the least and the most of them."""
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:{how}} ({least:{how}}–{most:{how}})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one turn of three seconds a rate")
    parser.add_argument("--repeats", type=int, default=5, help="turns")
    parser.add_argument("--seconds", type=int, default=4, help="of each rate")
    parser.add_argument("--rates", default="", help="offer each this: A,B,C")
    parser.add_argument("--json", type=Path, default=ROOT / "reports" / "bench-workers.json")
    options = parser.parse_args()
    if options.quick:
        options.repeats, options.seconds = 1, 3
    measured_on = host()
    name, chosen, told = measure(
        options.repeats, options.seconds, [float(rate) for rate in options.rates.split(",") if rate]
    )
    print(
        f"\nAgainst {name}, median (least–most) of {options.repeats} turns, {options.seconds} s a rate:\n"
    )
    print(table(chosen, told))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    runs = {setup: [asdict(each) for each in all_of_it] for setup, all_of_it in told.items()}
    written = {"host": measured_on, "server": name, "setups": runs}
    options.json.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()
