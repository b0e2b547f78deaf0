"""A proxy's log as columns: what nginx and HAProxy wrote, and what a damaged file holds."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_stack import answers, until
from tiny_server import free_port

from zdtest import topologies
from zdtest.records.proxylog import Attempt, Passage, Passed, ProxyLog

PAGE = Path(topologies.__file__).with_name("haproxy_log.md")
FORMAT = Path(topologies.__file__).with_name("nginx_log.conf")


class App(BaseHTTPRequestHandler):
    """Answers 200, but 500 or an internal redirect where it is asked for that."""

    def do_GET(self) -> None:
        self.send_response(500 if self.path == "/error" else 200)
        if self.path == "/redirect":
            self.send_header("X-Accel-Redirect", "/good")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def ports() -> Iterator[tuple[int, int, int]]:
    """Where nginx is, where an app listens, and where nobody does."""
    app = ThreadingHTTPServer(("127.0.0.1", 0), App)
    threading.Thread(target=app.serve_forever, daemon=True).start()
    yield free_port(), app.server_port, free_port()
    app.shutdown()
    app.server_close()


@pytest.fixture(scope="module")
def logged(
    tmp_path_factory: pytest.TempPathFactory, ports: tuple[int, int, int]
) -> dict[str, tuple[Passage, float]]:
    """What nginx wrote of one request to each path, and when it wrote that, on our clock."""
    front, app, dead = ports
    home = tmp_path_factory.mktemp("nginx")
    (home / "nginx.conf").write_text(f"""
        pid nginx.pid; error_log stderr; events {{}} master_process off; daemon off;
        http {{
          include {FORMAT};
          client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u;
          scgi_temp_path s; proxy_connect_timeout 1s;
          upstream pair {{ server 127.0.0.1:{dead} max_fails=0; server 127.0.0.1:{app} backup; }}
          upstream ashes {{ server 127.0.0.1:{dead} max_fails=0; server 127.0.0.1:{dead} backup; }}
          upstream none {{ server 127.0.0.1:{app} down; }}
          server {{
            listen 127.0.0.1:{front};
            location / {{ proxy_pass http://127.0.0.1:{app}; }}
            location /again {{ proxy_pass http://pair; }}
            location /dead {{ proxy_pass http://ashes; }}
            location /none {{ proxy_pass http://none; }}
            location /other {{ proxy_pass http://127.0.0.1:{dead}; error_page 502 = @other; }}
            location @other {{ proxy_pass http://127.0.0.1:{app}; }}
            location /static {{ proxy_pass http://127.0.0.1:{dead}; error_page 502 =200 /file; }}
            location = /file {{ return 200 "kept"; }}
          }}
        }}""")
    paths = ("/good", "/error", "/again", "/dead", "/none", "/other", "/static", "/redirect")
    clock = {"monotonic": time.monotonic(), "wall": time.time()}
    with (home / "proxy.log").open("ab") as log:
        nginx = subprocess.Popen(
            ["nginx", "-p", str(home), "-c", "nginx.conf"], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        until(lambda: answers(front))
        for seq, path in enumerate(paths):
            caller = http.client.HTTPConnection("127.0.0.1", front, timeout=5)
            caller.request("GET", path, headers={"X-Request-ID": f"r-{seq:08x}"})
            caller.getresponse().read()
            caller.close()
        until(lambda: (home / "proxy.log").read_bytes().count(b"r-0000") == len(paths))
    finally:
        nginx.terminate()
        nginx.wait(10)
    found = ProxyLog.read(home / "proxy.log", clock)
    assert found is not None
    passed = found.passed("r")
    assert sorted(passed.seq.tolist()) == [*range(len(paths))]
    assert passed.methods[0] == "GET"
    return {
        paths[seq]: (passed.passages[how], at)
        for seq, how, at in zip(passed.seq, passed.passage, passed.at, strict=True)
    }


needs_nginx = pytest.mark.skipif(not shutil.which("nginx"), reason="needs nginx on the path")


@needs_nginx
@pytest.mark.parametrize(
    ("path", "attempts", "status", "failed"),
    [
        ("/good", [("app", 200)], 200, 0),
        ("/error", [("app", 500)], 500, 0),
        ("/again", [("dead", 502), ("app", 200)], 200, 1),
        ("/dead", [("dead", 502), ("dead", 502)], 502, 1),
        ("/none", [], 502, 0),
        ("/other", [("dead", 502), ("app", 200)], 200, 1),
        ("/static", [("dead", 502)], 200, 1),
        ("/redirect", [("app", 200), ("app", 200)], 200, 0),
    ],
)
def test_each_attempt_of_a_real_nginx_is_told_with_its_server_and_its_status(
    logged: dict[str, tuple[Passage, float]],
    ports: tuple[int, int, int],
    path: str,
    attempts: list[tuple[str, int]],
    status: int,
    failed: int,
):
    servers = {"app": f"127.0.0.1:{ports[1]}", "dead": f"127.0.0.1:{ports[2]}"}
    how, _ = logged[path]
    assert how == Passage(tuple(Attempt(servers[who], got) for who, got in attempts), status)
    assert len(how.failed) == failed


@needs_nginx
def test_times_of_a_real_nginx_are_on_the_clock_of_the_run(logged):
    now = time.monotonic()
    for _, at in logged.values():
        assert now - 60 < at < now


CLOCK = {"monotonic": 100.0, "wall": 1_700_000_000.0}


def line(**about: Any) -> bytes:
    told = {
        "t": 1_700_000_001.5, "id": "r-00000001", "method": "GET", "uri": "/", "status": "200",
        "time": 0.1, "upstream_addr": "10.0.0.2:80", "upstream_status": "200", **about,
    }  # fmt: skip
    return json.dumps(told).encode() + b"\n"


def passed(*lines: bytes, clock: object = CLOCK) -> Passed:
    return ProxyLog(b"".join(lines), clock).passed("r")


def test_the_log_is_columns_of_this_runs_requests_in_the_files_order():
    found = passed(
        b'2023/11/14 22:13:20 [notice] 1#1: using the "epoll" event method\n',
        line(id="r-0000000a", method="POST", t=1_700_000_003),
        line(id="other-00000001"),
        line(id=""),
        line(id="r-zzzzzzzz"),
        line(upstream_addr="10.0.0.2:80, 10.0.0.3:80", upstream_status="504, 200"),
        b'{"t":1700000001.5,"id":"r-000000',
    )
    assert found.seq.tolist() == [10, 1]
    assert found.at.tolist() == [103.0, 101.5]
    assert [found.methods[code] for code in found.method] == ["POST", "GET"]
    assert found.attempts.tolist() == [1, 2]
    assert found.failed.tolist() == [0, 1]
    assert len(found) == len(found.once) == 2


@pytest.mark.parametrize(
    ("servers", "statuses", "status", "failed"),
    [
        ("a:1", "-", "499", 1),
        ("a:1, b:1", "502, -", "499", 2),
        ("a:1, b:1", "404, 200", "200", 1),
        ("a:1, b:1", "502", "200", 2),
        ("a:1", "404", "404", 0),
        ("unix:/run/a, unix:/run/b", "502, 200", "200", 1),
        ("a:1 : b:1, c:1", "502 : 504, 200", "200", 2),
        ("", "", "200", 0),
        ("-", "-", "200", 0),
        ("none", "502", "502", 0),
        ("none : a:1", "502 : 200", "200", 0),
        ("a:1", "²⁰⁰", "200", 1),
        ("a:1", "9" * 5000, "200", 1),
    ],
)
def test_an_attempt_failed_that_brought_nothing_or_an_error_that_the_user_did_not_get(
    servers: str, statuses: str, status: str, failed: int
):
    found = passed(line(upstream_addr=servers, upstream_status=statuses, status=status))
    assert found.failed.tolist() == [failed]


def test_a_line_that_is_cut_is_told_whatever_another_one_is_like():
    error, torn = b"[error] 7#7: connect() failed\n", line()[:30] + b"\n"
    assert ProxyLog(b"  " + line() + torn + error).unread == 1
    assert ProxyLog(torn + line().rstrip() + line() + error).unread == 2


def test_a_status_may_be_a_number():
    found = passed(line(), line(status=201, upstream_status=502))
    assert [how.status for how in found.passages] == [200, 201]
    assert found.failed.tolist() == [0, 1]


@pytest.mark.parametrize("clock", [None, {}, {"wall": 1.0}, {"wall": "x", "monotonic": 1.0}, 7])
def test_without_the_two_clocks_no_moment_is_known(clock: object):
    assert np.isnan(passed(line(), clock=clock).at).all()


@pytest.mark.parametrize("text", [b"", b"\n", b"{}\n", b"[error] no\n", line(id=None)])
def test_a_log_without_a_request_of_the_run_has_none(text: bytes):
    assert len(passed(text)) == 0
    assert len(passed(text).failed) == len(passed(text).once) == 0


def test_what_holds_no_account_of_a_request_is_no_log(tmp_path: Path):
    path = tmp_path / "proxy.log"
    assert ProxyLog.read(path) is None
    path.write_bytes(b'127.0.0.1 - - [14/Nov/2023:22:13:20 +0000] "GET / HTTP/1.1" 200 16\n')
    assert ProxyLog.read(path) is None
    for written in (line(), told()):
        path.write_bytes(written)
        assert ProxyLog.read(path) is not None


def test_a_log_is_read_without_pandas(tmp_path: Path):
    (tmp_path / "proxy.log").write_bytes(line() + b"[error]\n" + line(status=200))
    code = (
        "import sys; from pathlib import Path; from zdtest.records.proxylog import ProxyLog"
        f"; log = ProxyLog.read(Path({str(tmp_path / 'proxy.log')!r}))"
        "; assert len(log.passed('r')) == 2; sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


class Sick(BaseHTTPRequestHandler):
    """Hangs up, or says 503 where it is asked for that."""

    def do_GET(self) -> None:
        if self.path.endswith("/503"):
            self.send_response(503)
            self.end_headers()

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


def settings(which: str) -> str:
    """Return the lines of that section of the page about the log, for a configuration."""
    page = PAGE.read_text().split("```")[1]
    return page.split(f"{which}\n")[1].partition("\nfrontend" if which == "defaults" else "\nd")[0]


@pytest.fixture(scope="module")
def balanced(
    tmp_path_factory: pytest.TempPathFactory, ports: tuple[int, int, int]
) -> dict[str, tuple[Passage, float, float]]:
    """What HAProxy wrote of a request to each path: its passage, its end, and our time of that.

    In a round, whose turn it is depends on who was asked before: each backend is asked once.
    """
    _, app, dead = ports
    front = free_port()
    home = tmp_path_factory.mktemp("haproxy")
    sick = ThreadingHTTPServer(("127.0.0.1", 0), Sick)
    threading.Thread(target=sick.serve_forever, daemon=True).start()
    broken, good, none = (f"127.0.0.1:{port}" for port in (sick.server_port, app, dead))
    again = "retry-on conn-failure empty-response 503"
    backends = {
        "good": f"server good {good}",
        "error": f"server good {good}",
        "again": f"server none {none}\n  server good {good}",
        "stays": f"no option redispatch\n  retries 1\n  server none {none}",
        "dead": f"server none {none}\n  server none2 {none}",
        "none": f"server good {good} disabled",
        "empty": f"server broken {broken}",
        "emptied": f"{again}\n  server broken {broken}\n  server good {good}",
        "alone": f"{again}\n  server broken {broken}",
        "sick": f"{again}\n  server broken {broken}",
        "write": f"{again}\n  server broken {broken}\n  server good {good}",
        "itself": "http-request return status 200",
    }
    paths = {**{name: f"/{name}" for name in backends}, "sick": "/sick/503"}
    use = "".join(f"  use_backend {name} if {{ path_beg /{name} }}\n" for name in backends)
    text = (
        f"global\n{settings('global')}\n"
        f"defaults\n  mode http\n{settings('defaults')}\n  timeout connect 500ms\n"
        "  timeout client 5s\n  timeout server 5s\n  retries 2\n  option redispatch 1\n"
        f"frontend users\n  bind 127.0.0.1:{front}\n{settings('frontend users')}\n"
        f"  http-request disable-l7-retry if !METH_GET\n{use}"
        + "".join(f"backend {name}\n  {told}\n" for name, told in backends.items())
    )
    (home / "haproxy.cfg").write_text(text)
    clock = {"monotonic": time.monotonic(), "wall": time.time()}
    with (home / "proxy.log").open("ab") as log:
        haproxy = subprocess.Popen(
            ["haproxy", "-db", "-f", str(home / "haproxy.cfg")], stdout=log, stderr=log
        )
    ended = {}
    try:
        until(lambda: answers(front))
        for seq, (name, path) in enumerate(paths.items()):
            caller = http.client.HTTPConnection("127.0.0.1", front, timeout=5)
            method = "POST" if name == "write" else "GET"
            caller.request(method, path, headers={"X-Request-ID": f"r-{seq:08x}"})
            caller.getresponse().read()
            ended[name] = time.monotonic()
            caller.close()
        # A line is written once the reply is out: its client may know of that before.
        until(lambda: (home / "proxy.log").read_bytes().count(b"r-0000") == len(paths))
    finally:
        haproxy.terminate()
        haproxy.wait(10)
        sick.shutdown()
        sick.server_close()
    found = ProxyLog.read(home / "proxy.log", clock)
    assert found is not None
    passed = found.passed("r")
    assert sorted(passed.seq.tolist()) == [*range(len(paths))]
    names = list(paths)
    return {
        names[seq]: (passed.passages[how], at, ended[names[seq]])
        for seq, how, at in zip(passed.seq, passed.passage, passed.at, strict=True)
    }


needs_haproxy = pytest.mark.skipif(not shutil.which("haproxy"), reason="needs haproxy on the path")


@needs_haproxy
@pytest.mark.parametrize(
    ("name", "attempts", "status", "failed"),
    [
        ("good", [("good", 200)], 200, 0),
        ("error", [("good", 500)], 500, 0),
        ("again", [("", 0), ("good", 200)], 200, 1),
        ("stays", [("none", 0), ("none", 0)], 503, 2),
        ("dead", [("", 0), ("", 0), ("none", 0)], 503, 3),
        ("none", [], 503, 0),
        ("empty", [("broken", 0)], 502, 1),
        ("emptied", [("", 0), ("good", 200)], 200, 1),
        ("alone", [("broken", 0)] * 3, 502, 3),
        ("sick", [("broken", 0)] * 2 + [("broken", 503)], 503, 2),
        ("write", [("broken", 0)], 502, 1),
        ("itself", [], 200, 0),
    ],
)
def test_each_attempt_of_a_real_haproxy_is_told_with_its_status(
    balanced: dict[str, tuple[Passage, float, float]],
    name: str,
    attempts: list[tuple[str, int]],
    status: int,
    failed: int,
):
    how, _, _ = balanced[name]
    assert how == Passage(tuple(Attempt(who, got) for who, got in attempts), status)
    assert len(how.failed) == failed


@needs_haproxy
def test_a_real_haproxys_requests_end_when_they_ended(balanced):
    for name, (_, at, ended) in balanced.items():
        assert at - 0.02 < ended < at + 0.5, name


def told(**about: Any) -> bytes:
    """Return a line of HAProxy's."""
    every = {
        "t": 1_700_000_001.5, "id": "r-00000001", "method": "GET", "uri": "/", "status": "200",
        "backend": "app", "server": "a", "end": "--", "retries": "0", "Tq": 0, "Tw": 0, "Tc": 0,
        "Tr": 20, "Ta": 20, "Tt": 20, "bytes": 100, "pid": 7, **about,
    }  # fmt: skip
    return json.dumps(every, separators=(",", ":")).encode() + b"\n"


def test_haproxys_log_is_the_same_columns_and_its_times_are_brought_to_the_end():
    found = passed(
        b"[NOTICE]   (7) : New worker (9) forked\n",
        told(id="r-0000000a", method="POST", Tt=1500),
        told(id="-", method="<BADREQ>", status="400", server="<NOSRV>", end="PR"),
        told(id="other-00000001"),
        b'{"t":17000000{"t":1700000001.500,"id":"r-00000007"}\n',
        told(retries="+1"),
        told(id="r-00000002", Tt=None),
        told(id="r-00000003")[:-20] + b"\n",
        told(id="r-00000004", server="b", retries=2),
    )
    assert found.seq.tolist() == [10, 1, 2, 4]
    assert found.at.tolist()[:2] == pytest.approx([103.0, 101.52], abs=1e-6)
    assert np.isnan(found.at[2])
    assert [found.methods[code] for code in found.method] == ["POST", "GET", "GET", "GET"]
    assert found.attempts.tolist() == [1, 2, 1, 3]
    assert found.failed.tolist() == [0, 1, 0, 2]
    assert found.passages[found.passage[3]] == Passage(
        (Attempt("b", 0), Attempt("b", 0), Attempt("b", 200)), 200
    )


@pytest.mark.parametrize(
    ("server", "retries", "end", "status", "attempts"),
    [
        ("a", "0", "SH", "502", [("a", 0)]),
        ("a", "0", "PH", "502", [("a", 0)]),
        ("a", "0", "SD", "200", [("a", 200)]),
        ("a", "3", "sC", "503", [("a", 0)] * 4),
        ("a", "+1", "CH", "-1", [("", 0), ("a", 0)]),
        ("a", "+1", "sQ", "503", [("", 0), ("a", 0)]),
        ("<NOSRV>", "0", "SC", "503", []),
        ("<NOSRV>", "1", "SC", "503", [("", 0)]),
        ("<STATS>", "0", "LR", "200", []),
        ("a", "0", "", "200", [("a", 0)]),
        ("a", "many", "--", "200", [("a", 200)]),
        ("a", "9" * 5000, "--", "200", [("a", 200)]),
        ("", "0", "--", "200", []),
    ],
)
def test_what_haproxy_made_up_is_no_attempt_and_no_servers_status(
    server: str, retries: str, end: str, status: str, attempts: list[tuple[str, int]]
):
    found = passed(told(server=server, retries=retries, end=end, status=status))
    expected = tuple(Attempt(who, got) for who, got in attempts)
    assert found.passages == (Passage(expected, int(status) if status != "-1" else 0),)


@pytest.mark.parametrize("written", [line, told])
def test_two_hundred_thousand_lines_take_a_second_or_two(written: Callable[..., bytes]):
    many = [written(id=f"r-{seq:08x}") for seq in range(200_000)]
    text = b"".join([*many[:1000], b"[error] 7#7: connect() failed\n", *many[1000:]])
    began = time.process_time()
    assert len(ProxyLog(text).passed("r")) == 200_000
    assert time.process_time() - began < 3


def reloads(*workers: tuple[int, float, float], written: str = "nginx") -> list[float]:
    """Return the reloads in a log of who answered when, and how long it took."""
    text = b""
    for pid, ended, took in workers:
        wall = CLOCK["wall"] - CLOCK["monotonic"] + ended
        if written == "nginx":
            text += line(t=wall, time=took, worker=pid)
        else:
            # It was idle for a second before.
            text += told(t=wall - took - 1, Tt=1e3 * (took + 1), Ta=1e3 * took, pid=pid)
    return np.round(ProxyLog(text, CLOCK).reloads(), 3).tolist()


@pytest.mark.parametrize("written", ["nginx", "haproxy"])
def test_others_take_over_where_all_before_them_begin_nothing_more(written: str):
    old = [(1, 10.0, 0.1), (2, 10.5, 0.1), (1, 19.9, 0.1)]
    new = [(3, 20.0, 0.0), (4, 20.5, 0.1), (3, 30.0, 0.1), (4, 31.0, 0.1)]
    assert reloads(*old, *new, written=written) == [20.0]
    ends_late = [*old, *new, (1, 40.0, 19.5)]
    assert reloads(*ends_late, written=written) == [20.0], "what was under way is ended"
    goes_on = [*old, *new, (1, 40.0, 0.1)]
    assert reloads(*goes_on, written=written) == [], "one worker of several is new"
    again = [(5, 35.0, 0.1), (5, 36.0, 0.1)]
    assert reloads(*old, *new, *again, written=written) == [20.0, 35.0]
    assert reloads(*old, written=written) == reloads(written=written) == []
