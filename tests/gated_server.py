"""A server for those who log in: who shows no ``Authorization: Bearer let-me-in`` is told 401."""

from __future__ import annotations

import os

from tiny_server import Link, TinyServer

SECRET = "let-me-in"
_SHOWN = b"\r\nauthorization: bearer " + SECRET.encode() + b"\r\n"
_REFUSED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"


class GatedServer(TinyServer):
    """Answers those who log in, and keeps the head of every request in the file `heads`."""

    def __init__(self, port: int, heads: str) -> None:
        super().__init__(port)
        self._heads = os.open(heads, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def _request(self, link: Link, head: bytes) -> None:
        os.write(self._heads, head)
        if _SHOWN in head.lower():
            super()._request(link, head)
        else:
            self.write(link, _REFUSED)
