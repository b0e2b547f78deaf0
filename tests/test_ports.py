from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from zdtest.engine import ports
from zdtest.errors import EngineError

ROOT = Path(__file__).parent.parent
HOLDER = (
    "from zdtest.engine import ports; import sys; print(ports.lease().port, flush=True); input()"
)


def test_a_port_lies_outside_the_range_of_outgoing_connections() -> None:
    lease = ports.lease()
    assert lease.port not in ports.ephemeral()
    lease.release()


@pytest.mark.parametrize(
    ("ephemeral", "first", "last"),
    [
        (range(32768, 61000), 15_000, 32767),
        (range(1024, 60000), 60_000, 65_535),
        (range(1024, 65536), 15_000, 32767),
    ],
    ids=["below", "above", "nowhere else"],
)
def test_ports_are_taken_below_the_ephemeral_range_or_where_there_is_room(
    ephemeral: range, first: int, last: int
) -> None:
    span = ports.span_outside(ephemeral)
    assert (span[0], span[-1]) == (first, last)


def test_no_two_leases_are_the_same() -> None:
    leases = [ports.lease() for _ in range(50)]
    assert len({lease.port for lease in leases}) == 50
    for lease in leases:
        lease.release()


def test_a_leased_port_goes_to_no_other_process_until_its_holder_dies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    argv = [sys.executable, "-c", HOLDER]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as holder:
        assert holder.stdout
        port = int(holder.stdout.readline())
        monkeypatch.setattr(ports, "span_outside", lambda _: range(port, port + 1))
        with pytest.raises(EngineError, match="no free port"):
            ports.lease()
        holder.kill()
    lease = ports.lease()
    assert lease.port == port
    lease.release()


def test_a_port_that_somebody_serves_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not ports.is_free(port)
    assert ports.is_free(port)


def test_a_port_with_a_connection_in_time_wait_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        served, _ = server.accept()
        served.close()
        client.recv(1)
        client.close()
    assert not ports.is_free(port)
