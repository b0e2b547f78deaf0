"""How many requests a second each load generator manages on one core, side by side in one run.

The generator has one core, nginx another; every tool is asked in turn, in alternating order, and
the median is told. The others are closed loops and run flat out. Ours is an open loop, and a rate
beyond its reach measures its collapse, so it is first offered more and more until it falls behind,
and then takes part at the rate at which it completed most. ``--quick`` takes about two minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)]

from ground_truth import GroundTruth  # noqa: E402
from tiny_server import free_port  # noqa: E402
from tools import NOT_INSTALLED, TOOLS, Job, Told, chosen, host, installed, markdown  # noqa: E402

START = 2
"""Seconds that Locust may take off its run time before the first request."""
CONF = """daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 60s; tcp_nodelay on;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port} backlog=4096 reuseport;
    location / {{ add_header X-App-Version v1; return 200 "the whole truth\\n"; }} }}
}}
"""


@contextlib.contextmanager
def server(core: int | str, port: int = 0) -> Iterator[tuple[str, str]]:
    """Run nginx on `core`, or the ground truth server where there is none; give (name, URL).

    Several that are told the same `port` share what comes to it.
    """
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if nginx is None:
        print("nginx is not installed: the ground truth server stands in for it, and is slower")
        with GroundTruth(core=int(core)) as truth:
            yield "ground truth server", truth.url
        return
    with tempfile.TemporaryDirectory() as folder:
        port = port or free_port()
        conf = Path(folder) / "nginx.conf"
        conf.write_text(CONF.format(folder=folder, port=port))
        command = ["taskset", "-c", str(core), nginx, "-p", folder, "-c", str(conf)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            _await(port, process)
            yield "nginx", f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return once the port takes connections; RuntimeError when the server ends or never does."""
    until = time.monotonic() + 5
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.05)
    raise RuntimeError("nginx did not start: expected it to listen within 5 s")


def measure(
    names: list[str], repeats: int, seconds: int, rate: int
) -> tuple[str, dict[str, list[Told]]]:
    """Return the server's name and what each tool told of each repeat, its start taken off."""
    told: dict[str, list[Told]] = {name: [] for name in names}
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("only one core: generator and server share it, so compare the ratios only")
    with server(cores[-1]) as (name, url):
        job = Job(url, seconds, 0, cores[0], START)
        names = [tool for tool in names if installed(tool)]
        if "zdtest" in names:
            rate = rate or highest_rate(job)
        starts = {tool: _start(tool, job) for tool in names}
        for turn in range(repeats):
            for tool in names if turn % 2 == 0 else reversed(names):
                one = _run(tool, replace(job, rate=rate if tool == "zdtest" else 0))
                told[tool].append(replace(one, cpu=one.cpu - starts[tool]))
                print(f"  {tool}: {one.requests / one.seconds:,.0f} req/s", file=sys.stderr)
    return name, told


def highest_rate(job: Job) -> int:
    """Return the offered rate, to a fifth, at which our load completes most requests a second."""
    best, at, rate = 0.0, 0, 4000
    while rate < 200_000:
        one = _run("zdtest", replace(job, seconds=2, rate=rate))
        reached = one.requests / one.seconds
        print(f"  zdtest offered {rate:,}/s: completed {reached:,.0f}/s", file=sys.stderr)
        if reached > best:
            best, at = reached, rate
        elif reached < 0.7 * best or reached < 0.5 * rate:
            break
        rate = round(rate * 1.2)
    return at


def _start(tool: str, job: Job) -> float:
    """Return the CPU seconds that a start costs: those of a run with next to no requests."""
    slow = tool == "zdtest" or tool.startswith("Locust")
    return _run(tool, replace(job, seconds=1, rate=1)).cpu if slow else 0.0


def _run(tool: str, job: Job) -> Told:
    with tempfile.TemporaryDirectory() as folder:
        told = TOOLS[tool](job, Path(folder) / "run")
    if not told.seconds:
        raise RuntimeError(f"{tool}: nothing was answered")
    return told


def table(told: dict[str, list[Told]]) -> str:
    """Return the medians as Markdown, with their ratio to FastHttpUser."""
    speed = {
        name: statistics.median(each.requests / each.seconds for each in runs)
        for name, runs in told.items()
        if runs
    }
    base = speed.get("Locust FastHttpUser")
    rows = []
    for name, runs in told.items():
        if not runs:
            rows.append([name, NOT_INSTALLED, "–", "–", "–"])
            continue
        cpu = statistics.median(each.cpu / each.requests * 1e6 for each in runs)
        ratio = f"{speed[name] / base:.1f} ×" if base else "–"
        errors = sum(each.errors for each in runs)
        rows.append([name, f"{speed[name]:,.0f}", f"{cpu:.1f}", ratio, str(errors)])
    return markdown(
        ["generator", "req/s", "CPU µs a request", "to FastHttpUser", "errors"],
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one repeat of three seconds")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rate", type=int, default=0, help="what ours is offered; 0: find out")
    parser.add_argument("--tools", default="", help="some of: " + ", ".join(TOOLS))
    parser.add_argument("--json", type=Path, default=ROOT / "reports" / "bench-throughput.json")
    options = parser.parse_args()
    if options.quick:
        options.repeats, options.seconds = 1, 3
    measured_on = host()
    name, told = measure(chosen(options.tools), options.repeats, options.seconds, options.rate)
    print(f"\nAgainst {name}, median of {options.repeats}, {options.seconds} s each:\n")
    print(table(told))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    runs = {tool: [asdict(each) for each in all_of_it] for tool, all_of_it in told.items()}
    written = {"host": measured_on, "server": name, "offered": options.rate, "tools": runs}
    options.json.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()
