"""A Docker Engine's socket for who may only look: GET, and only what tells who is there.

usage: read_only.py ENGINE_SOCKET OWN_SOCKET
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import socketserver
import sys
from http.server import BaseHTTPRequestHandler

ALLOWED = re.compile(
    r"/(v[0-9.]+/)?(_ping|version|info|tasks|services|networks|containers/[0-9a-f]+/json)(\?.*)?"
)


class Engine(http.client.HTTPConnection):
    """One question to the engine, by way of its socket."""

    def __init__(self) -> None:
        super().__init__("docker", timeout=30)

    def connect(self) -> None:
        """Go to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(sys.argv[1])


class Handler(BaseHTTPRequestHandler):
    """One question of who may only look: what is no GET is 501, what is not allowed 403."""

    def do_GET(self) -> None:
        """Pass it on."""
        if not ALLOWED.fullmatch(self.path):
            return self.send_error(403, "not allowed")
        with contextlib.closing(Engine()) as engine:
            try:
                engine.request("GET", self.path)
                reply = engine.getresponse()
                body = reply.read()
            except (OSError, http.client.HTTPException) as error:
                return self.send_error(502, str(error))
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.headers.get("Content-Type", "text/plain"))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: it is asked all the time."""

    def address_string(self) -> str:
        """Return nothing: who comes by a Unix socket has no address."""
        return ""


class Server(socketserver.ThreadingUnixStreamServer):
    """A thread a question."""

    daemon_threads = True


if __name__ == "__main__":
    with contextlib.suppress(FileNotFoundError):
        os.unlink(sys.argv[2])
    with Server(sys.argv[2], Handler) as server:
        os.chmod(sys.argv[2], 0o666)
        server.serve_forever()
