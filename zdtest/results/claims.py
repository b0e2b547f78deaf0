"""What the five documents claim, in our words; scenarios and pages speak of them by their ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

DOCUMENTS: Mapping[str, str] = {
    "000": "HAProxy and a Docker Swarm",
    "001": "nginx in front of two servers, and the restart in place before it",
    "002": "a shop on a Docker Swarm of three nodes",
    "003": "nginx and Docker Compose, blue and green",
    "004": "a hand-written load balancer",
}
"""The documents by their numbers."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim of a document."""

    id: str
    source: str
    """The document's number."""
    words: str
    of_failures: bool = False
    """Whether it speaks of what fails: then it is judged by runs in which something does, too."""


CLAIMS: Mapping[str, Claim] = {
    claim.id: claim
    for claim in (
        Claim(
            "0a", "000", "HAProxy notices who joins and who leaves: no interruption in an update"
        ),
        Claim("0b", "000", "one at a time, ten seconds apart, leaves enough of them running"),
        Claim("0c", "000", "a request a second shows that it works"),
        Claim("1a", "001", "replaced in place, the service is down for about ten seconds"),
        Claim("1b", "001", "switched by nginx, it is down only as long as a switch takes"),
        Claim("1c", "001", "a new version that fails does not hurt users", True),
        Claim("1d", "001", "the way back to the old version is instant"),
        Claim("2a", "002", "a rolling update has no interruption by default"),
        Claim("2b", "002", "an old task stops only once its successor is healthy"),
        Claim("2c", "002", "a version that fails its health checks is rolled back", True),
        Claim("2d", "002", "what dies is replaced, and scaling interrupts nothing", True),
        Claim("3a", "003", "nginx knows both colours and leaves out the one that is down", True),
        Claim(
            "3b", "003", "the script makes sure of the new colour before it removes the old", True
        ),
        Claim("3c", "003", "where the new colour fails, the old one stays", True),
        Claim("4a", "004", "a server is out after three missed pings, so rolling works"),
        Claim("4b", "004", "a server that answers again is in again", True),
        Claim("4c", "004", "blue/green never shows two versions at once"),
        Claim("4d", "004", "a canary limits who sees a bad version, and goes back fast", True),
    )
}
"""All claims by their ids, in the documents' order."""
