"""Does the system answer at all? Asked before any load, of real sockets."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from zdtest.errors import ConfigError
from zdtest.sending.preflight import expect_answer, expect_words, path_of, split
from zdtest.status import statuses
from zdtest.traffic import Load

OK = statuses("2xx")


@contextlib.contextmanager
def replying(reply: bytes | None, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Yield the url of a server that sends `reply` once; None never sends, b"" just closes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def serve() -> None:
            link, _ = server.accept()
            with link, contextlib.suppress(ssl.SSLError):
                if tls is not None:
                    link = tls.wrap_socket(link, server_side=True)
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


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret@h/", "https://secret@h:1/a", "user:secret@h/", "ftp://u:secret@h/",
        "http://u:secret@h:99999/", "http://@h/", "http://u:se/cret@h/",
    ],
)  # fmt: skip
def test_a_url_with_a_password_in_it_is_refused_and_not_shown(url):
    with pytest.raises(ConfigError, match=r"^url ") as raised:
        split(url)
    assert "cret" not in str(raised.value)
    assert "\n" not in str(raised.value)
    if "se/" not in url:
        assert "--header 'Authorization: …'" in str(raised.value)


def test_an_at_in_a_path_is_none_of_a_user():
    assert path_of("http://h/@somebody?to=a@b") == "/@somebody?to=a@b"


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"version-header": "bad header"}, "--version-header 'bad header': expected a header's"),
        ({"instance-header": "X:"}, "--instance-header 'X:': expected a header's name"),
        ({"write-body": "{bad"}, "--write-body '{bad': expected JSON, or --header 'Content-Type"),
    ],
)
def test_options_that_mean_nothing_to_a_server_are_refused(told, said):
    with pytest.raises(ConfigError) as raised:
        expect_words(told, headers={})
    assert str(raised.value).startswith(said)
    with pytest.raises(ConfigError) as raised:
        Load(options=told)
    assert str(raised.value).startswith(said)


def test_what_is_posted_may_be_anything_where_its_type_is_told():
    expect_words({"write-body": "a=b"}, headers={"content-type": "text/plain"})
    expect_words({"write-body": "", "version-header": ""}, headers={})


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
        expect_answer(url, "/", OK, timeout=5 if reply is not None else 0.3)
    assert "\n" not in str(raised.value)


def test_an_answer_that_comes_byte_by_byte_has_no_more_time_than_any_other():
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def drip() -> None:
            link, _ = server.accept()
            with link, contextlib.suppress(OSError):
                link.recv(4096)
                for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000:
                    link.sendall(bytes([byte]))
                    if over.wait(0.05):
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        began = time.monotonic()
        with pytest.raises(ConfigError, match="timed out; expected the system to be up"):
            expect_answer(f"http://127.0.0.1:{server.getsockname()[1]}/", "/", OK, timeout=0.4)
        took = time.monotonic() - began
        over.set()
        thread.join()
    assert 0.4 <= took < 2


def test_a_name_that_is_looked_up_for_long_has_no_more_time_either(monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(5) and [])
    began = time.monotonic()
    with pytest.raises(ConfigError, match="timed out; expected the system to be up"):
        expect_answer("http://app.invalid/", "/", OK, timeout=0.2)
    over.set()
    assert time.monotonic() - began < 2


def test_nobody_there_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConfigError, match="Connection refused; expected the system to be up"):
        expect_answer(f"http://127.0.0.1:{port}/", "/", OK)


def test_a_name_nobody_knows_is_one_line():
    with pytest.raises(ConfigError, match=r"^nothing answers at http://no-such-host\.invalid/: "):
        expect_answer("http://no-such-host.invalid/", "/", OK)


def test_an_untrusted_certificate_is_one_line_that_names_the_option(tmp_path):
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    path = tmp_path / "server.pem"
    made = [*command.split(), "-keyout", path, "-out", path]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    with replying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", context) as url:
        secure = url.replace("http:", "https:")
        with pytest.raises(ConfigError) as raised:
            expect_answer(secure, "/", OK)
    assert str(raised.value).startswith(f"{secure} shows a certificate that is not trusted: self")
    assert str(raised.value).endswith("; expected one that is, or --insecure")


def test_a_server_without_tls_is_one_line():
    with replying(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        expected = pytest.raises(ConfigError, match="nothing answers at https://")
        with expected as raised:
            expect_answer(url.replace("http:", "https:"), "/", OK)
    assert "\n" not in str(raised.value)
