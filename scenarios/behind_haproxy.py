"""What client, HAProxy and app each wrote down of a run behind an HAProxy."""

from __future__ import annotations

from collections.abc import Iterable

from behind_nginx import Behind

from zdtest.records.sample import Outcome


class BehindHAProxy(Behind):
    """The three accounts of one run, which share the requests' ids."""

    @property
    def haproxy(self) -> dict[str, dict]:
        """HAProxy's line about each request."""
        return self.nginx

    def ends(self, requests: Iterable[str]) -> set[tuple[str, str]]:
        """The states in which HAProxy saw these end, with what it told their users."""
        lines = (self.haproxy[one] for one in requests)
        return {(line["end"], line["status"]) for line in lines}

    def logged(self, requests: set[str]) -> set[str]:
        """Those of the requests that HAProxy has a line about."""
        return requests & self.haproxy.keys()

    def outcomes(self, rows) -> set[str]:
        return {Outcome(code).name for code in set(self.samples.outcome[rows].tolist())}

    def answered_by_app(self) -> set[str]:
        """The requests that the app answered, as its own journal has it."""
        return {line["id"] for line in self.journal("answered")}
