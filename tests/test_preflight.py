"""Does the system answer at all? Asked before any load, of real sockets."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from zdtest.errors import ConfigError
from zdtest.sending.preflight import expect_answer, path_of, split
from zdtest.status import statuses

OK = statuses("2xx")


@contextlib.contextmanager
def replying(reply: bytes | None) -> Iterator[str]:
    """Yield the url of a server that sends `reply` once; None never sends, b"" just closes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def serve() -> None:
            link, _ = server.accept()
            with link:
                link.recv(4096)
                if reply is None:
                    done.wait(10)
                else:
                    link.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        finally:
            done.set()
            thread.join()


@pytest.mark.parametrize(
    "url",
    [
        "", "x", "127.0.0.1:80", "ftp://127.0.0.1/", "http://", "http:///x", "http://h:0/",
        "http://h:99999/", "http://h:x/", "http://[::1", "http://h/ü", "http://h/a b", "http://h/\n",
    ],
)  # fmt: skip
def test_a_url_that_means_nothing_is_refused_in_one_line(url):
    with pytest.raises(ConfigError, match=r"^url .*: expected http://") as raised:
        split(url)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "path"),
    [("http://h", "/"), ("https://h:1/a/b", "/a/b"), ("http://h/?q=%20", "/?q=%20")],
)
def test_the_path_of_a_url_is_what_it_asks_for(url, path):
    assert path_of(url) == path


def test_an_expected_answer_lets_it_go_on():
    with replying(b"HTTP/1.1 204 No Content\r\n\r\n") as url:
        expect_answer(url, "/", OK)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answers 404 to GET /"),
        (b"HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n", "answers 301 to GET /"),
        (b"220 mail.example ESMTP\r\n", "nothing answers at"),
        (b"", "nothing answers at"),
        (None, "timed out; expected the system to be up"),
    ],
)
def test_any_other_answer_is_one_line(reply, said):
    with replying(reply) as url, pytest.raises(ConfigError, match=said) as raised:
        expect_answer(url, "/", OK, timeout=0.3)
    assert "\n" not in str(raised.value)


def test_nobody_there_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConfigError, match="Connection refused; expected the system to be up"):
        expect_answer(f"http://127.0.0.1:{port}/", "/", OK)


def test_a_name_nobody_knows_is_one_line():
    with pytest.raises(ConfigError, match=r"^nothing answers at http://no-such-host\.invalid/: "):
        expect_answer("http://no-such-host.invalid/", "/", OK)


def test_an_untrusted_certificate_is_one_line():
    """A server that does not speak TLS at all is told the same way."""
    with replying(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        expected = pytest.raises(ConfigError, match="nothing answers at https://")
        with expected as raised:
            expect_answer(url.replace("http:", "https:"), "/", OK)
    assert "\n" not in str(raised.value)
