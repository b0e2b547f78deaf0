"""A proxy's log as columns: what a real nginx wrote, and what a made-up or damaged file holds."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_stack import answers, until
from tiny_server import free_port

from zdtest import topologies
from zdtest.proxylog import Attempt, Passage, Passed, ProxyLog

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
    path.write_bytes(line())
    assert ProxyLog.read(path) is not None


def test_a_log_is_read_without_pandas(tmp_path: Path):
    (tmp_path / "proxy.log").write_bytes(line() + b"[error]\n" + line(status=200))
    code = (
        "import sys; from pathlib import Path; from zdtest.proxylog import ProxyLog"
        f"; log = ProxyLog.read(Path({str(tmp_path / 'proxy.log')!r}))"
        "; assert len(log.passed('r')) == 2; sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_two_hundred_thousand_lines_take_a_second_or_two():
    many = [line(id=f"r-{seq:08x}") for seq in range(200_000)]
    text = b"".join([*many[:1000], b"[error] 7#7: connect() failed\n", *many[1000:]])
    began = time.process_time()
    assert len(ProxyLog(text).passed("r")) == 200_000
    assert time.process_time() - began < 3
