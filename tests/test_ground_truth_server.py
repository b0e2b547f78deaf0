"""The ground truth is only as good as its own word: each kind of outage, met by a bare socket."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ground_truth import KINDS, GroundTruth, Outage

GET = b"GET %s HTTP/1.1\r\nHost: truth\r\nX-Request-ID: %s\r\n\r\n"
BEFORE = 0.2
"""When every script below begins its outage, counted from the first request."""


@contextlib.contextmanager
def connected(truth: GroundTruth) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", truth.port), timeout=3) as sock:
        yield sock


def ask(sock: socket.socket, path: bytes = b"/", id: bytes = b"a") -> bytes:
    sock.sendall(GET % (path, id))
    return sock.recv(4096)


def once(truth: GroundTruth, path: bytes = b"/", id: bytes = b"a") -> bytes:
    with connected(truth) as sock:
        return ask(sock, path, id)


def begin(truth: GroundTruth, seconds: float = BEFORE + 0.1) -> None:
    """Start the script by its first request and come back inside the outage."""
    assert once(truth, id=b"first").startswith(b"HTTP/1.1 200")
    time.sleep(seconds)


def script(kind: str, seconds: float = 1.0, **more: float) -> list[dict[str, object]]:
    return [{"kind": kind, "at": BEFORE, "for": seconds, **more}]


def test_without_a_script_it_answers_every_request_of_a_kept_connection() -> None:
    with GroundTruth() as truth, connected(truth) as sock:
        replies = [ask(sock, id=b"%d" % n) for n in range(50)]
    assert all(reply.endswith(b"\r\n\r\nthe whole truth\n") for reply in replies)
    assert b"X-App-Version: v1" in replies[0]
    assert truth.outages == []
    assert (truth.account["requests"], truth.account["connections"]) == (50, 1)


def test_it_takes_a_whole_post_even_in_pieces_and_closes_when_asked_to() -> None:
    post = b"POST /orders HTTP/1.1\r\nContent-Length: 4\r\nConnection: close\r\n\r\n"
    with GroundTruth() as truth, connected(truth) as sock:
        sock.sendall(post)
        sock.sendall(b"ha")
        sock.sendall(b"lf")
        reply = b"".join(iter(lambda: sock.recv(4096), b""))
    assert reply.startswith(b"HTTP/1.1 200")
    assert truth.account["requests"] == 1


def test_a_number_for_a_path_is_how_many_milliseconds_the_answer_takes() -> None:
    with GroundTruth() as truth:
        asked = time.monotonic()
        once(truth, b"/150")
        assert 0.15 <= time.monotonic() - asked < 1


def test_a_stream_sends_a_message_each_period() -> None:
    with GroundTruth() as truth, connected(truth) as sock:
        asked = time.monotonic()
        got = ask(sock, b"/events?every=20")
        while b"data: 5\n" not in got:
            got += sock.recv(4096)
        assert 0.1 <= time.monotonic() - asked < 1


def test_refused_resets_what_is_connected_and_is_back_on_the_same_port() -> None:
    with GroundTruth(script("refused")) as truth, connected(truth) as kept:
        ask(kept, id=b"first")
        with pytest.raises(ConnectionResetError):
            kept.recv(1)
        asked, refused = [], []
        while True:
            asked.append(time.monotonic())
            try:
                once(truth)
                break
            except ConnectionRefusedError:
                refused.append(time.monotonic())
    (outage,) = truth.outages
    assert outage["begin"] <= refused[0], "refused before it began"
    assert asked[len(refused) - 1] <= outage["end"] + 1e-3, "it must be back without delay"
    assert 1 <= outage["end"] - outage["begin"] < 2


def test_refused_tells_which_requests_it_killed_in_service() -> None:
    with (
        GroundTruth(script("refused", 0.01)) as truth,
        connected(truth) as sock,
        pytest.raises(ConnectionResetError),
    ):
        ask(sock, b"/500", b"slow-one")
    assert truth.outages[0]["ids"] == ["slow-one"]


def test_http_503_answers_503_and_counts_whom() -> None:
    with GroundTruth(script("http_503")) as truth, connected(truth) as kept:
        begin(truth)
        assert ask(kept, id=b"hit-1").startswith(b"HTTP/1.1 503")
        assert once(truth, b"/1500", b"hit-2").startswith(b"HTTP/1.1 503")
        time.sleep(1.6)
        assert ask(kept).startswith(b"HTTP/1.1 200")
    assert truth.outages[0]["ids"] == ["hit-1", "hit-2"]
    assert 1 <= truth.outages[0]["end"] - truth.outages[0]["begin"] < 2


def test_a_hang_answers_everything_late_and_nothing_wrong() -> None:
    with GroundTruth(script("hang")) as truth, connected(truth) as kept:
        begin(truth)
        assert ask(kept, id=b"kept").startswith(b"HTTP/1.1 200")
        answered = time.monotonic()
        assert ask(kept, id=b"after").startswith(b"HTTP/1.1 200")
    (outage,) = truth.outages
    assert outage["ids"] == ["kept"]
    assert 0 <= answered - outage["end"] < 0.5
    assert 1 <= outage["end"] - outage["begin"] < 1.5


def test_a_black_hole_never_answers_what_it_swallowed() -> None:
    with GroundTruth(script("black_hole")) as truth, connected(truth) as kept:
        begin(truth)
        kept.settimeout(1.2)
        with pytest.raises(TimeoutError):
            ask(kept, id=b"lost")
        assert once(truth).startswith(b"HTTP/1.1 200")
    assert truth.outages[0]["ids"] == ["lost"]


def test_a_black_hole_swallows_the_messages_of_streams() -> None:
    with GroundTruth(script("black_hole", 0.3)) as truth, connected(truth) as sock:
        got, gap, last = ask(sock, b"/events?every=10"), 0.0, time.monotonic()
        while b"data: 60\n" not in got:
            got += sock.recv(4096)
            now = time.monotonic()
            gap, last = max(gap, now - last), now
    assert 0.29 <= gap < 1
    assert truth.outages[0]["ids"] == []


def test_reset_answers_with_rst_on_fresh_and_kept_connections() -> None:
    with GroundTruth(script("reset")) as truth, connected(truth) as kept:
        begin(truth)
        with pytest.raises(ConnectionResetError):
            ask(kept, id=b"kept")
        with pytest.raises(ConnectionResetError):
            once(truth, id=b"fresh")
    assert truth.outages[0]["ids"] == ["kept", "fresh"]


def test_reset_in_flight_kills_only_what_is_in_service() -> None:
    with GroundTruth(script("reset_in_flight")) as truth, connected(truth) as idle:
        ask(idle)
        with connected(truth) as busy, pytest.raises(ConnectionResetError):
            ask(busy, b"/300", b"in-service")
        assert ask(idle).startswith(b"HTTP/1.1 200")
    assert truth.outages[0]["ids"] == ["in-service"]
    assert truth.outages[0]["end"] - truth.outages[0]["begin"] < 0.01


def test_partial_fails_every_third_request_of_each_sort() -> None:
    with GroundTruth(script("partial")) as truth, connected(truth) as kept:
        begin(truth)
        ask(kept)
        on_kept = [ask(kept).startswith(b"HTTP/1.1 503") for _ in range(9)]
        on_fresh = [once(truth).startswith(b"HTTP/1.1 503") for _ in range(9)]
    assert (sum(on_kept), sum(on_fresh)) == (3, 3)
    assert truth.outages[0]["hits"] == 6


def test_truncated_ends_in_the_middle_of_the_body() -> None:
    with GroundTruth(script("truncated")) as truth, connected(truth) as sock:
        begin(truth)
        assert ask(sock).endswith(b"\r\n\r\nthe whol")
        assert sock.recv(1) == b""


def test_bad_body_is_a_200_with_another_body() -> None:
    with GroundTruth(script("bad_body")) as truth:
        begin(truth)
        reply = once(truth)
    assert reply.startswith(b"HTTP/1.1 200")
    assert reply.endswith(b"\nhturt elohw eht")


def test_slow_answers_well_but_late() -> None:
    with GroundTruth(script("slow", ms=150)) as truth:
        begin(truth)
        asked = time.monotonic()
        assert once(truth).startswith(b"HTTP/1.1 200")
        assert 0.15 <= time.monotonic() - asked < 1


def test_close_first_attempt_resets_kept_connections_so_that_a_retry_hides_it() -> None:
    with GroundTruth(script("close_first_attempt")) as truth, connected(truth) as kept:
        ask(kept, id=b"first")
        time.sleep(BEFORE + 0.1)
        with pytest.raises(ConnectionResetError):
            ask(kept, id=b"tried-twice")
        assert once(truth, id=b"tried-twice").startswith(b"HTTP/1.1 200")
    assert truth.outages[0]["ids"] == ["tried-twice"]
    assert truth.account["repeated"] == {"tried-twice": 1}


def test_several_outages_are_played_in_turn_at_their_instants() -> None:
    wanted = [{"kind": "http_503", "at": 0.1 + n * 0.4, "for": 0.05} for n in range(4)]
    with GroundTruth(wanted) as truth:
        begin(truth, 2.5)
    began = truth.account["began"]
    late = [o["begin"] - began - w["at"] for o, w in zip(truth.outages, wanted, strict=True)]
    assert min(late) >= 0
    # A machine that stands still for half a second makes two of them late, never three.
    assert sorted(late)[1] < 0.3


def test_it_answers_two_thousand_fresh_connections_a_second() -> None:
    with GroundTruth() as truth:
        started = time.process_time()
        threads = [threading.Thread(target=_hammer, args=(truth, 500)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ours = time.process_time() - started
        used = _cpu_seconds(truth.process.pid)
    assert truth.account["connections"] == 1000
    assert used < 0.5, f"1,000 connections took {used:.2f} s of the server ({ours:.2f} s of ours)"


def _hammer(truth: GroundTruth, times: int) -> None:
    for _ in range(times):
        once(truth)


def _cpu_seconds(pid: int) -> float:
    """Return what the process has used, its start included (about 0.1 s)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_an_unknown_kind_is_refused_with_the_known_ones_named() -> None:
    with pytest.raises(ValueError, match="black_hole"):
        Outage.of({"kind": "blackhole", "at": 1})


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_explained_to_its_reader(kind: str) -> None:
    import ground_truth

    assert f"\n| {kind} |" in (ground_truth.__doc__ or "")


def test_it_runs_by_hand_and_prints_the_truth_when_its_input_ends() -> None:
    command = [sys.executable, str(Path(__file__).with_name("ground_truth.py")), "[]"]
    ended = subprocess.run(command, input="", capture_output=True, text=True, timeout=10)
    assert [json.loads(line)["event"] for line in ended.stdout.splitlines()] == [
        "listening",
        "stopped",
    ]
