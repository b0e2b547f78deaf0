"""What dockercloud/haproxy does in a swarm: asks the engine who is there, renders, reloads.

Told by the environment: BALANCE, and in seconds POLL (between two questions), WAIT (from a change
to the reload, and a tenth more, in case there is more to come) and INTER (between two checks of a
server). The engine answers at /var/run/docker.sock.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

ENGINE = "/var/run/docker.sock"
BALANCE = os.environ.get("BALANCE", "roundrobin")
POLL = float(os.environ.get("POLL", "5"))
WAIT = float(os.environ.get("WAIT", "1")) * 1.1
CHECK = f"check inter {round(float(os.environ.get('INTER', '2')) * 1000)} rise 2 fall 3"
TEMPLATE = Path(__file__).with_name("haproxy.cfg")
CONFIG = Path("/haproxy.cfg")
RUNNING = quote(json.dumps({"desired-state": {"running": True}}))


class Engine(http.client.HTTPConnection):
    """One question to the engine, by way of its socket."""

    def __init__(self) -> None:
        super().__init__("docker")

    def connect(self) -> None:
        """Go to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(ENGINE)


def asked(path: str) -> Any:
    """Return what the engine answers; raises OSError where it does not."""
    engine = Engine()
    try:
        engine.request("GET", path)
        reply = engine.getresponse()
        told = reply.read()
    except http.client.HTTPException as error:
        raise OSError(f"GET {path}: {error!r}") from error
    finally:
        engine.close()
    if reply.status != 200:
        raise OSError(f"GET {path}: {reply.status} {told[:200]!r}")
    return json.loads(told)


def whereabouts() -> tuple[str, set[str]]:
    """Return the service that this container is a task of, and the networks that it is in."""
    own = asked(f"/containers/{socket.gethostname()}/json")
    networks = own["NetworkSettings"]["Networks"]
    service = own["Config"]["Labels"]["com.docker.swarm.service.id"]
    return service, {one["NetworkID"] for name, one in networks.items() if name != "ingress"}


def servers(own: str, networks: set[str]) -> list[str]:
    """Return a line for each port of each task of other services in these networks.

    That it is wanted to run is all that is asked: it may not have started yet.
    """
    names = {one["ID"]: one["Spec"]["Name"] for one in asked("/services")}
    lines = []
    for task in asked(f"/tasks?filters={RUNNING}"):
        address = address_of(task, networks)
        if task["ServiceID"] != own and address:
            name = f"{names.get(task['ServiceID'], '')}.{task.get('Slot', 0)}.{task['ID']}"
            for port in ports(task["Spec"]["ContainerSpec"].get("Env", [])):
                lines.append(f"    server {name} {address}:{port} {CHECK}")
    return sorted(lines)


def address_of(task: dict[str, Any], networks: set[str]) -> str:
    """Return what the task is reached at in one of these networks, "" where it is in none."""
    for attached in task.get("NetworksAttachments", []):
        if attached["Network"]["ID"] in networks and attached.get("Addresses"):
            return str(attached["Addresses"][0].partition("/")[0])
    return ""


def ports(environment: Sequence[str]) -> list[str]:
    """Return what the task says in SERVICE_PORTS, with commas between."""
    told = dict(one.partition("=")[::2] for one in environment).get("SERVICE_PORTS", "")
    return [port.strip() for port in told.split(",") if port.strip()]


def reload(lines: Sequence[str], before: subprocess.Popen[bytes] | None) -> Any:
    """Return the process that has the new connections from now on: `before` if it is refused.

    The one before ends with its last connection. Nothing hands it the sockets: both listen for a
    moment, and a connection that was not accepted when the old one closes its own is lost.
    """
    told = {"balance": BALANCE, "servers": "\n".join(lines)}
    CONFIG.write_text(Template(TEMPLATE.read_text()).substitute(told))
    if before and subprocess.run(["haproxy", "-c", "-q", "-f", CONFIG]).returncode:
        say("the configuration is bad: not reloaded")
        return before
    finish = ["-sf", str(before.pid)] if before else []
    process = subprocess.Popen(["haproxy", "-f", CONFIG, "-db", *finish])
    names = ", ".join(line.split()[1] for line in lines)
    say(f"pid {process.pid} has {names or 'no server'}")
    return process


def say(text: str) -> None:
    """Print a line."""
    print(f"{time.time():.3f} {text}", flush=True)


def main() -> None:
    """Follow the engine until the container ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    where = whereabouts()
    processes: list[subprocess.Popen[bytes]] = []
    known: list[str] | None = None
    while True:
        try:
            if servers(*where) != known:
                time.sleep(WAIT if processes else 0)
                known = servers(*where)
                processes.append(reload(known, processes[-1] if processes else None))
        except OSError as error:
            say(f"the engine does not answer: {error}")
        processes = [one for one in processes if one.poll() is None]
        time.sleep(POLL)


if __name__ == "__main__":
    main()
