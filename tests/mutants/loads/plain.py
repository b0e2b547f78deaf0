"""zdtest's load without Locust around it, which costs a second of processor time for each load.

What sends, times and records is the very same; a mutant replaces one thing of it and calls `main`.
"""

from __future__ import annotations

import argparse
import signal
import sys

import gevent
from gevent.event import Event

from zdtest.sending.local import Local
from zdtest.sending.plan import Plan

DEFAULTS = {
    "expect_status": "2xx",
    "expect_body": "",
    "expect_version": "",
    "version_header": "X-App-Version",
    "instance_header": "X-App-Instance",
    "write_body": '{"item": 1, "quantity": 1}',
    "header": [],
    "insecure": False,
}
OPTIONS = ("host", "channels", "path", "timeout", "seed", "control", "zd-out", "zd-run", "zd-news")


def main() -> None:
    """Send until SIGTERM, then close the recording."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in OPTIONS:
        parser.add_argument(f"--{name}")
    parser.add_argument("--rate", type=float)
    parser.set_defaults(**DEFAULTS)
    options, _ = parser.parse_known_args()
    load = Local(Plan.of(options, options.host), lambda rows: None)
    told = Event()
    gevent.signal_handler(signal.SIGTERM, told.set)
    # The imports took time that the loop's clock has not seen.
    gevent.get_hub().loop.update_now()
    load.start()
    told.wait()
    load.close()
    sys.exit(load.ledger.exit_code)


if __name__ == "__main__":
    main()
