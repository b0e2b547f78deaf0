"""Which requests a balancer that keeps no access log says that it gave to no server."""

from __future__ import annotations

from pathlib import Path

from zdtest.records.jsonlines import objects


def unasked(path: Path) -> frozenset[str]:
    """Return the ids of those in the log at `path`; none where there is no such log.

    Its lines for them are ``{"event": "failed", "target": null, "id": …}``: it had no server that
    it could have asked, by its own account, whatever any server says of itself.
    """
    if not path.exists():
        return frozenset()
    return frozenset(
        line["id"]
        for line in objects(path.read_bytes().splitlines())
        if line.get("event") == "failed"
        and line.get("target", "") is None
        and isinstance(line.get("id"), str)
    )
