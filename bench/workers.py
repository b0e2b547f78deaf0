"""The highest rate that two workers on two cores keep, beside one process on one core.

Server and generator share a machine here, so the server is counted in: on one core a generator and
its server, on two cores two workers, their master and the same server, a process of it on each core
as on the one. The other rows tell what else two cores can be used for: one process whose server has
the other core, and two workers whose server is a single process that has to be on both cores.

A rate is kept when every request was answered and the load did its part by its own judgement, so
what it fell behind with counts against it; a run in which others had more than a few percent of the
machine is repeated, whatever came of it. In each turn each setup is searched anew for the highest
one, and the turns alternate; the ratio is that within a turn. ``--rate`` names one rate a process
instead. CPU a request is that of each part, its start taken off.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)]

from throughput import START, server  # noqa: E402
from tiny_server import free_port  # noqa: E402
from tools import host, markdown  # noqa: E402

from zdtest.sending.summary import REACHED  # noqa: E402

STEP = 1.05
"""From one rate of the search to the next: what a figure may be short of the truth."""
STEPS = 31
"""From the rate that a setup keeps for certain to one, four times as high, that it cannot."""
QUIET = 0.08
"""What others may have of the machine, by the kernel's account, for a run to count."""
TRIES = 6
"""How often a run is repeated that others took a part in, whatever came of it."""
TICK = os.sysconf("SC_CLK_TCK")
LOCUST = [sys.executable, "-m", "locust", "-f", str(ROOT / "zdtest" / "load.py")]


@dataclass(frozen=True, slots=True)
class Setup:
    """Which process runs on which cores, as taskset writes them; a rate it keeps for certain."""

    name: str
    least: int
    workers: tuple[str, ...]
    master: str
    servers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Server:
    """What answers: its URL, and its processes."""

    url: str
    pids: tuple[int, ...]

    @property
    def cpu(self) -> float:
        """The CPU seconds of it so far."""
        return sum(map(_cpu, self.pids))


@dataclass(frozen=True, slots=True)
class Told:
    """What came of one run: CPU seconds by part, requests completed, and how many failed.

    `others` is the share of the machine that went to anybody else meanwhile.
    """

    rate: float
    requests: int
    errors: int
    seconds: float
    cpu: dict[str, float]
    lag_p99_ms: float
    others: float
    notes: list[str] = field(default_factory=list)

    @property
    def reached(self) -> float:
        return self.requests / self.seconds

    @property
    def kept(self) -> bool:
        """Whether the rate was sent and answered, all of it."""
        return not self.errors and not self.notes and self.reached >= REACHED * self.rate


def setups(cores: list[int]) -> dict[str, Setup]:
    """Return the setups by the name that the command line knows them by; the first is the base."""
    one, two = str(cores[0]), str(cores[1])
    both = f"{one},{two}"
    return {
        "one": Setup("one process and its server on one core", 12_000, (one,), "", (one,)),
        "two": Setup(
            "two workers, a master and that server on two cores",
            22_000,
            (one, two),
            both,
            (one, two),
        ),
        "single": Setup(
            "the same, the server a single process on both", 22_000, (one, two), both, (both,)
        ),
        "apart": Setup("one process, its server on the other core", 18_000, (one,), "", (two,)),
    }


@contextlib.contextmanager
def served(setup: Setup) -> Iterator[Server]:
    """Run the server as the setup has it."""
    port = free_port()
    with contextlib.ExitStack() as stack:
        for number, cores in enumerate(setup.servers, 1):
            _, url = stack.enter_context(server(cores, port))
            # What answers is the first one, which says nothing of the others.
            pids = _listeners(port, number)
        with contextlib.suppress(OSError):
            # As our load does where it may: on shared cores it would starve its server otherwise.
            for pid in pids:
                os.setpriority(os.PRIO_PROCESS, pid, -10)
        yield Server(url, pids)


def run(setup: Setup, to: Server, rate: float, seconds: int) -> Told:
    """Send at `rate` for so long and return what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        server, machine, began = to.cpu, _busy(), time.monotonic()
        cpu = _processes(setup, to.url, rate, seconds + START, out, Path(folder))
        cpu["server"] = to.cpu - server
        lasted = (time.monotonic() - began) * (os.cpu_count() or 1)
        others = (_busy() - machine - sum(cpu.values())) / lasted
        return _told(out, rate, cpu, others)


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


def _told(out: Path, rate: float, cpu: dict[str, float], others: float) -> Told:
    from zdtest.records.crew import faults
    from zdtest.records.recording import Recording
    from zdtest.records.sample import Outcome

    recording = Recording.read(out)
    if recording.trailer is None:
        raise RuntimeError("the load left no closed recording")
    samples, trailer = recording.samples, recording.trailer
    ok = samples.outcome == Outcome.ok
    seconds = float(samples.done[ok].max() - trailer["began"]) if ok.any() else 1.0
    errors = int((~ok).sum())
    why, lag = faults(trailer), trailer["lag_p99_ms"]
    return Told(rate, int(ok.sum()), errors, seconds, cpu, lag, others, why)


def _busy() -> float:
    """Return the CPU seconds that all processes of the machine had so far, and those stolen."""
    fields = [int(one) for one in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _, _, irq, softirq, steal = fields[:8]
    # What the network's interrupts cost counts as the interrupted process's own too.
    return (user + nice + system + irq + softirq + steal) / TICK


def _cpu(pid: int) -> float:
    """Return the CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def highest(setup: Setup, to: Server, seconds: int) -> Told:
    """Return what came of the highest rate that the setup keeps, to a step."""
    best, low, high = None, 0, STEPS
    while low < high or best is None:
        middle = (low + high + 1) // 2
        told = attempt(setup, to, round(setup.least * STEP**middle), seconds)
        if told.kept:
            best, low = told, middle
        elif high == 0:
            raise SystemExit(f"{setup.name} does not keep {told.rate:,.0f}/s: expected it to")
        else:
            high = middle - 1
    if low == STEPS:
        raise SystemExit(f"{setup.name} keeps {best.rate:,.0f}/s: expected that to be too much")
    return best


def attempt(setup: Setup, to: Server, rate: float, seconds: int) -> Told:
    """Return what came of the first try that nobody disturbed."""
    for _ in range(TRIES):
        told = run(setup, to, rate, seconds)
        verdict = "kept" if told.kept else f"not kept, {told.errors} errors"
        said = f"offered {rate:,.0f}/s, completed {told.reached:,.0f}/s: {verdict}"
        print(f"  {setup.name}: {said}; others {told.others:.1%}", file=sys.stderr)
        if told.others <= QUIET:
            return told
    raise SystemExit(f"others took {told.others:.0%} of the machine: expected it to be ours")


def measure(chosen: list[Setup], repeats: int, seconds: int, rate: float) -> dict[str, list[Told]]:
    """Return what each setup told of each turn."""
    told: dict[str, list[Told]] = {setup.name: [] for setup in chosen}
    starts: dict[str, dict[str, float]] = {}
    for turn in range(repeats):
        for setup in chosen if turn % 2 == 0 else reversed(chosen):
            with served(setup) as to:
                start = starts.get(setup.name) or run(setup, to, 1, 1).cpu
                starts[setup.name] = start
                if rate:
                    one = attempt(setup, to, rate * len(setup.workers), seconds)
                else:
                    one = highest(setup, to, seconds)
            for part, spent in start.items():
                one.cpu[part] -= spent
            told[setup.name].append(one)
            print(f"{setup.name}: {one.reached:,.0f}/s", file=sys.stderr)
    return told


def _listeners(port: int, count: int) -> tuple[int, ...]:
    """Return the processes that listen on that port of 127.0.0.1, once there are so many."""
    import psutil

    until = time.monotonic() + 5
    while time.monotonic() < until:
        found = psutil.net_connections("tcp4")
        pids = {one.pid for one in found if one.status == "LISTEN" and one.laddr.port == port}
        if len(pids) >= count:
            return tuple(sorted(pid for pid in pids if pid))
        time.sleep(0.02)
    raise RuntimeError(f"expected {count} servers to listen on port {port} within 5 s")


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
        row.append(spread([one.lag_p99_ms for one in runs], ".1f"))
        row += [f"{each:.1f}" if each else "–" for each in cpu]
        rows.append([*row, str(sum(one.errors for one in runs))])
    head = ["setup", "requests/s", "ratio", "lag p99 ms"]
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
    parser.add_argument("--rate", type=float, default=0.0, help="offer each process this")
    parser.add_argument("--setups", default="one,two,single,apart", help="which of these")
    parser.add_argument("--json", type=Path, default=ROOT / "reports" / "bench-workers.json")
    options = parser.parse_args()
    if options.quick:
        options.repeats, options.seconds = 1, 3
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise SystemExit("only one core: expected two")
    if shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
        raise SystemExit("no nginx: expected it, as what stands in for it is slower than a worker")
    measured_on = host()
    chosen = [setups(cores)[name] for name in options.setups.split(",")]
    told = measure(chosen, options.repeats, options.seconds, options.rate)
    turns = f"median (least–most) of {options.repeats} turns, {options.seconds} s a rate"
    print(f"\nAgainst nginx, {turns}:\n")
    print(table(chosen, told))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    runs = {setup: [asdict(each) for each in all_of_it] for setup, all_of_it in told.items()}
    options.json.write_text(json.dumps({"host": measured_on, "setups": runs}, indent=2) + "\n")


if __name__ == "__main__":
    main()
