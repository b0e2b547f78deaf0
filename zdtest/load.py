"""The load, as a Locust file: ``locust -f zdtest/load.py --host http://127.0.0.1:8080``.

Open loop at ``--rate``, on the channels of ``--channels``, with every request recorded. Locust
brings its command line, its web page and its life cycle; the requests are those of
`zdtest.sending.wire`, because Locust's own clients wait for a reply before they send again, and one
of them resends in silence.

With ``--master`` and ``--worker`` several processes, on as many machines, send the one schedule and
the master records it; see `zdtest.fleet`.

The exit code says who failed: 0 every request was answered, 1 some were not, 2 the options mean
nothing, 3 the load itself could not be driven as asked. The recording's trailer says the same to
programs.
"""

from __future__ import annotations

import inspect
import signal
import sys
import time
from typing import Any

import gevent
from gevent.event import Event
from locust import User, argument_parser, constant, events, task
from locust.runners import MasterRunner, WorkerRunner

from zdtest import channel
from zdtest.errors import LoadFailed, ZdError
from zdtest.fleet.fleet import Fleet
from zdtest.fleet.master import Master
from zdtest.fleet.worker import Worker
from zdtest.sending.board import Board
from zdtest.sending.headers import given
from zdtest.sending.local import Local
from zdtest.sending.plan import Plan
from zdtest.sending.summary import of_folder

_WRITE_BODY = '{"item": 1, "quantity": 1}'
_ANY_HOST = "http://localhost"

_EARLY = 0.1

_load: Local | Fleet | None = None
_master: Master | None = None
_worker: Worker | None = None
_began = 0.0


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _options(parser: Any) -> None:
    add = parser.add_argument
    add("--rate", type=float, default=100.0, env_var="ZD_RATE", help="Requests a second, in all")
    add("--channels", default=channel.DEFAULT, env_var="ZD_CHANNELS", help="Kinds of client")
    add("--path", default="", env_var="ZD_PATH", help="Path where a channel names none")
    add("--seed", type=int, default=None, env_var="ZD_SEED", help="Seed of the schedule's phases")
    add("--timeout", default="5s", env_var="ZD_TIMEOUT", help="Longest a request may take")
    add("--expect-status", default="2xx", env_var="ZD_EXPECT_STATUS", help="Statuses asked for")
    add("--expect-body", default="", env_var="ZD_EXPECT_BODY", help="Text that must be in a body")
    add("--expect-version", default="", env_var="ZD_EXPECT_VERSION", help="The one right version")
    add("--version-header", default="X-App-Version", env_var="ZD_VERSION_HEADER")
    add("--instance-header", default="X-App-Instance", env_var="ZD_INSTANCE_HEADER")
    add("--write-body", default=_WRITE_BODY, env_var="ZD_WRITE_BODY", help="Body of a POST")
    told = {"action": "append", "default": given(), "include_in_web_ui": False}
    add("--header", **told, metavar="'NAME: VALUE'", help="Sent with every request, repeatable")
    add("--insecure", action="store_true", env_var="ZD_INSECURE", help="Accept any certificate")
    add("--control", default="", env_var="ZD_CONTROL", help="URL of an untouched echo server")
    add("--zd-out", default="", env_var="ZD_OUT", include_in_web_ui=False, help="Run folder")
    add("--zd-run", default="", env_var="ZD_RUN", include_in_web_ui=False, help="Run name")
    add("--zd-news", default="", include_in_web_ui=False, help="File that says how it goes")


@events.init.add_listener  # type: ignore[untyped-decorator]
def _check(environment: Any, **_: Any) -> None:
    """Refuse options that mean nothing before anything runs; a web page may still name the host."""
    global _master, _worker
    _interrupt_where_it_is_awaited()
    options = environment.parsed_options
    if isinstance(environment.runner, WorkerRunner):
        # What it sends is the master's to say.
        _worker = Worker(environment)
        # Added last, so heard first: before Locust tells the master that we are gone.
        environment.events.quitting.add_listener(_leave)
        return
    try:
        Plan.of(options, environment.host or ("" if options.headless else _ANY_HOST))
    except ZdError as error:
        print(f"zdtest: {error}", file=sys.stderr)
        sys.exit(2)
    if isinstance(environment.runner, MasterRunner):
        _master = Master(environment, argument_parser.default_args_dict())
        environment.events.quitting.add_listener(_quit)
    # Locust reads its own source before it says that a test stops: now, not while we still send.
    inspect.stack()
    # Importing all this took seconds that the loop's clock has not seen; timers would run early.
    gevent.get_hub().loop.update_now()


def _interrupt_where_it_is_awaited() -> None:
    """Have Ctrl-C end Locust's own waiting, never a request half sent: that would count as lost."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        gevent.signal_handler(signal.SIGINT, gevent.kill, gevent.getcurrent(), KeyboardInterrupt)


class ZeroDowntime(User):  # type: ignore[misc]
    """Locust's handle on the load: one user a process, whatever number the page asks for."""

    fixed_count = 1
    wait_time = constant(0)

    @task  # type: ignore[untyped-decorator]
    def drive(self) -> None:
        """Start the load and stay until Locust ends the test; in a worker the master starts it."""
        if _worker is None:
            self._start()
        Event().wait()

    def _start(self) -> None:
        global _load
        environment = self.environment
        try:
            plan = Plan.of(environment.parsed_options, environment.host or self.host or "")
            _load = Local(plan, Board(environment.stats).show)
            _load.start()
            _stop_in_time(_load, environment.parsed_options.run_time)
        except (ZdError, OSError) as error:
            _give_up(environment, str(error))
        except Exception as error:
            # Locust would only log it, and try again at once, for ever.
            _give_up(environment, f"the load broke: {error!r}")


def _stop_in_time(load: Local, run_time: float | None) -> None:
    """Stop sending just before Locust does: it holds the loop up before it says so."""
    if run_time:
        # The loop's own clock stood still while the load was set up.
        gevent.get_hub().loop.update_now()
        left = _began + run_time - _EARLY - time.monotonic()
        gevent.spawn_later(max(left, 0), load.stop)


def _lead(environment: Any) -> None:
    """Have the workers send the load, and stay until all of them know when to begin."""
    global _load
    if _master is None:
        return
    try:
        plan = Plan.of(environment.parsed_options, environment.host or "")
        _load = fleet = _master.muster(plan, Board(environment.stats).show)
        fleet.start()
    except LoadFailed as error:
        _give_up(environment, str(error), 3)
    except (ZdError, OSError) as error:
        _give_up(environment, str(error))
    except Exception as error:
        _give_up(environment, f"the load broke: {error!r}")


def _give_up(environment: Any, reason: str, code: int = 2) -> None:
    """End the test, with the reason where its user looks."""
    print(f"zdtest: {reason}", file=sys.stderr)
    environment.runner.log_exception("local", reason, "")
    environment.process_exit_code = code
    runner = environment.runner
    gevent.spawn(runner.quit if environment.parsed_options.headless else runner.stop)


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def _forget(environment: Any, **_: Any) -> None:
    """A test that cannot start must not end the one before it again."""
    global _load, _began
    _load = None
    _began = time.monotonic()
    if _master is not None:
        gevent.spawn(_lead, environment)


@events.test_stopping.add_listener  # type: ignore[untyped-decorator]
def _stop(**_: Any) -> None:
    """Stop sending before Locust begins to tidy up, which holds the loop for a while."""
    if _load is not None:
        _load.stop()


@events.test_stop.add_listener  # type: ignore[untyped-decorator]
def _end(environment: Any, **_: Any) -> None:
    """Close the recording and say in a few lines what was seen."""
    _close(environment, interrupted=False)


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def _quit(environment: Any, **_: Any) -> None:
    """A signal comes here first; a test that ended by itself has been closed before."""
    _close(environment, interrupted=bool(environment.parsed_options.run_time))


def _leave(**_: Any) -> None:
    """A worker that is told to go tells the master what it has."""
    if _worker is not None:
        _worker.leave()


def _close(environment: Any, *, interrupted: bool) -> None:
    global _load
    load = _load
    if load is None:
        return
    load.close(interrupted=interrupted)
    if _load is load:
        _load = None
    ledger = load.ledger
    environment.process_exit_code = ledger.exit_code
    if ledger.trouble:
        print(f"zdtest: {ledger.trouble}", file=sys.stderr)
    if not ledger.plan.options.zd_news:
        print(of_folder(ledger.plan.folder, ledger.recorder.count), flush=True)
