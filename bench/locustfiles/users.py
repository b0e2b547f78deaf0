"""The two users that Locust offers, asking for ``/`` again and again.

``BENCH_PACE`` is how many requests a second each may begin (0: as many as it can), the way its
manual paces users: `constant_throughput`.
"""

from __future__ import annotations

import os

from locust import FastHttpUser, HttpUser, constant, constant_throughput, task

_PACE = float(os.environ.get("BENCH_PACE", "0"))
_WAIT = constant_throughput(_PACE) if _PACE else constant(0)


class Fast(FastHttpUser):
    wait_time = _WAIT

    @task
    def get(self) -> None:
        self.client.get("/")


class Plain(HttpUser):
    wait_time = _WAIT

    @task
    def get(self) -> None:
        self.client.get("/")
