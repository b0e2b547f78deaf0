"""What each load generator reports of an outage that is known exactly, side by side.

Each tool meets each scripted outage once, on a server of its own that fails for just that long in
the middle of the run. ``python bench/outages.py --quick`` takes three of the outages.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)]

from ground_truth import GroundTruth  # noqa: E402
from tools import NOT_INSTALLED, TOOLS, Job, chosen, host, installed, markdown  # noqa: E402

from zdtest.errors import ZdError  # noqa: E402

AT = 1.5
AFTER = 3
"""Seconds of each run beyond the outage: before it and after it."""
START = 2
"""Seconds that Locust may take off its run time before the first request."""
SCRIPT = (
    ("refused", 0.03),
    ("refused", 0.1),
    ("refused", 0.5),
    ("refused", 3.0),
    ("http_503", 0.05),
    ("hang", 2.0),
    ("black_hole", 2.0),
    ("reset", 0.05),
    ("close_first_attempt", 0.05),
    ("partial", 2.0),
)
QUICK = (("refused", 0.03), ("hang", 2.0), ("reset", 0.05))


def meet(tool: str, kind: str, seconds: float, rate: int) -> dict[str, Any]:
    """Let one tool meet one outage and return what it told beside the truth."""
    script = [{"kind": kind, "at": AT, "for": seconds}]
    with GroundTruth(script) as truth, tempfile.TemporaryDirectory() as folder:
        job = Job(truth.url, round(AFTER + seconds), rate, start=START)
        told = TOOLS[tool](job, Path(folder) / "run")
        if not truth.outages:
            raise RuntimeError(f"{tool} ended before the {kind} began")
        (outage,) = truth.outages
        ended = outage["end"] or 0.0
        lasted = (ended - outage["begin"]) * 1e3
        sent = truth.account["requests"]
    return {
        **asdict(told),
        "truth_ms": lasted,
        "fatal": kind != "hang",
        "hits": outage["hits"],
        "received": sent,
    }


def cell(result: dict[str, Any]) -> str:
    """Say in a few words what the tool reported, and what the server did to it."""
    if result["note"]:
        return f"{result['errors']} errors: {result['note']}"
    p99 = f", p99 {result['p99_ms']:,.0f} ms" if result["p99_ms"] is not None else ""
    hidden = ""
    if result["fatal"] and result["hits"] > result["errors"]:
        hidden = f" (the server broke {result['hits']})"
    return f"{result['errors']:,} of {result['requests']:,}{p99}{hidden}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="three of the outages")
    parser.add_argument("--rate", type=int, default=200, help="requests a second")
    parser.add_argument("--tools", default="", help="some of: " + ", ".join(TOOLS))
    parser.add_argument("--json", type=Path, default=ROOT / "reports" / "bench-outages.json")
    options = parser.parse_args()
    names = chosen(options.tools)
    measured_on, rows, results = host(), [], []
    for kind, seconds in QUICK if options.quick else SCRIPT:
        row = [f"{kind.replace('_', ' ')} {seconds * 1e3:.0f} ms"]
        for tool in names:
            result, told = None, NOT_INSTALLED
            if installed(tool):
                try:
                    result = meet(tool, kind, seconds, options.rate)
                    told = cell(result)
                except (RuntimeError, ValueError, ZdError) as error:
                    told = f"did not run: {str(error).splitlines()[-1]}"
            results.append({"tool": tool, "kind": kind, "seconds": seconds, "result": result})
            row.append(told)
            print(f"  {row[0]}, {tool}: {row[-1]}", file=sys.stderr)
        rows.append(row)
    print(markdown(["truth", *names], rows))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    written = {"host": measured_on, "rate": options.rate, "results": results}
    options.json.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()
