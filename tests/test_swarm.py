"""Clusters of the run's own: raised in containers, seen to work, and gone with the run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from docker_engine import lent

from zdtest.engine import nesting, probe, reaper, remains, subnet
from zdtest.engine.offer import Docker
from zdtest.engine.process import ProcessEngine
from zdtest.engine.swarmtask import Task, unsettled
from zdtest.errors import ConfigError, EngineError
from zdtest.topologies.services import Services, swarm

if TYPE_CHECKING:
    from zdtest.engine.docker import DockerEngine
    from zdtest.engine.swarm import Cluster

SWARM = pytest.mark.docker

WEB = """
version: "3.8"
services:
  web:
    image: shop/web:${TAG}
    environment:
      HOST: 0.0.0.0
      PORT: 8080
      APP_VERSION: ${TAG}
      APP_INSTANCE: "{{.Node.Hostname}}"
    networks: [net]
    ports:
      - {target: 8080, published: 8080, mode: host}
    healthcheck:
      test: ["CMD", "curl", "-fsS", "http://127.0.0.1:8080/ready"]
      interval: 200ms
      start_period: 60s
    deploy:
      mode: global
      endpoint_mode: dnsrr
      update_config: {parallelism: 1, monitor: 200ms}
networks:
  net:
"""

NEIGHBOURS = """
import socket, urllib.request
try:
    found = {entry[4][0] for entry in socket.getaddrinfo("tasks.web", 8080)}
except OSError as unknown:
    found = set()
    print(unknown)
for address in found:
    try:
        with urllib.request.urlopen(f"http://{address}:8080/api", timeout=5) as reply:
            print(reply.headers["X-App-Instance"])
    except OSError as refused:
        print(f"{address}:", refused)
"""

OWNER = """
import sys
from contextlib import ExitStack
from pathlib import Path
from zdtest.engine.docker import DockerEngine
from zdtest.engine.images import Images
from zdtest.engine.process import ProcessEngine
from zdtest.engine.swarm import Cluster
run, folder, address = sys.argv[1:]
with ExitStack() as tidy:
    host = tidy.enter_context(ProcessEngine(run, Path(folder)))
    engine = tidy.enter_context(DockerEngine(host, address, Images(address)))
    cluster = tidy.enter_context(Cluster(engine, 1))
    cluster.docker("network", "create", "-d", "overlay", "net")
    cluster.docker(
        "service", "create", "-d", "--name", "web", "--mode", "global", "--network", "net",
        "--endpoint-mode", "dnsrr", engine.image("app"),
    )
    cluster.settle("web")
    print(cluster.manager.instance.pid, flush=True)
    sys.stdin.read()
"""


@dataclass
class Raised:
    """A cluster that is up, and how long that took with its images at hand."""

    cluster: Cluster
    engine: DockerEngine
    seconds: float


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    with lent() as found:
        yield found


def raised(docker: Docker, folder: Path, tidy: ExitStack) -> DockerEngine:
    from zdtest.engine.docker import DockerEngine

    for image in ("app", "node"):
        docker.images.get(image)
    host = tidy.enter_context(ProcessEngine(f"test-{uuid.uuid4().hex[:8]}", folder))
    return tidy.enter_context(DockerEngine(host, docker.address, docker.images))


def cluster_of(docker: Docker, folder: Path, tidy: ExitStack, nodes: int) -> Raised:
    from zdtest.engine.swarm import Cluster

    engine = raised(docker, folder, tidy)
    began = time.monotonic()
    cluster = tidy.enter_context(Cluster(engine, nodes, publish=[8080]))
    return Raised(cluster, engine, time.monotonic() - began)


@pytest.fixture(scope="module")
def one(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Raised]:
    with ExitStack() as tidy:
        yield cluster_of(docker, tmp_path_factory.mktemp("one"), tidy, 1)


@pytest.fixture(scope="module")
def three(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Raised]:
    with ExitStack() as tidy:
        yield cluster_of(docker, tmp_path_factory.mktemp("three"), tidy, 3)


@pytest.fixture(scope="module")
def web(three: Raised) -> str:
    """The stack's service, settled at v1 on all nodes."""
    cluster = three.cluster
    cluster.tag("app", "shop/web:v1", "shop/web:v2")
    (name,) = cluster.deploy("shop", stack(three), env={"TAG": "v1"})
    assert cluster.settle(name) == {name: ""}
    return name


def stack(three: Raised) -> Path:
    file = three.engine.folder / "stack.yml"
    file.write_text(WEB)
    return file


def versions(cluster: Cluster) -> list[str]:
    """What each node's port of 127.0.0.1 answers."""
    found = []
    for node in cluster.nodes:
        reply = probe.ask(node.at(8080), "/api", timeout=10)
        found.append(reply.version if isinstance(reply, probe.Reply) else reply)
    return found


# What the tasks tell.


def service(replicas: int = 2, update: str = "", **template: object) -> dict[str, Any]:
    """A service as the manager tells it."""
    told: dict[str, Any] = {
        "Spec": {
            "Name": "web",
            "TaskTemplate": {"ContainerSpec": {"Image": "web:2"}, "Runtime": "container"},
            "Mode": {"Replicated": {"Replicas": replicas}},
        }
    }
    told["Spec"]["TaskTemplate"].update(template)
    return {**told, "UpdateStatus": {"State": update}} if update else told


def task(image: str = "web:2", state: str = "running", node: str = "n1") -> dict[str, Any]:
    wanted = "running" if image == "web:2" else "shutdown"
    return {
        "Spec": {"ContainerSpec": {"Image": image}},
        "Status": {"State": state},
        "DesiredState": wanted,
        "NodeID": node,
    }


def test_a_service_is_settled_when_all_its_tasks_run_as_specified() -> None:
    assert unsettled(service(2), [task(), task()], ["n1"]) == ""
    assert unsettled(service(2, "completed"), [task(), task()], ["n1"]) == ""
    assert unsettled(service(0), [], ["n1"]) == ""


@pytest.mark.parametrize(
    ("update", "tasks", "lacks"),
    [
        ("", [task()], "1 of 2 tasks run as specified"),
        ("", [task(), task(state="starting")], "1 of 2"),
        ("", [task(), task(node="gone")], "1 of 2"),
        ("updating", [task(), task("web:1")], "1 of 2 tasks run as specified updating"),
        ("", [task(), task(), task("web:1")], "1 earlier tasks still run"),
        ("updating", [task(), task()], "web: updating"),
        ("rollback_started", [task(), task()], "web: rollback_started"),
    ],
)
def test_a_service_that_is_not_settled_tells_what_it_lacks(
    update: str, tasks: list[dict[str, Any]], lacks: str
) -> None:
    assert lacks in unsettled(service(2, update), tasks, ["n1"])


def test_what_has_ended_or_runs_on_a_node_that_is_gone_keeps_nobody_waiting() -> None:
    old = [task("web:1", "shutdown"), task("web:1", node="gone")]
    assert unsettled(service(2), [task(), task(), *old], ["n1"]) == ""


def test_a_service_on_every_node_waits_for_its_first_task() -> None:
    everywhere = service()
    everywhere["Spec"]["Mode"] = {"Global": {}}
    assert "0 of 1" in unsettled(everywhere, [], ["n1"])
    assert "1 of 2" in unsettled(everywhere, [task(), task(state="pending")], ["n1"])
    assert unsettled(everywhere, [task(), task()], ["n1"]) == ""


def test_another_template_is_another_task_unless_only_the_place_differs() -> None:
    assert unsettled(service(1, Placement={"Constraints": []}), [task()], ["n1"]) == ""
    assert unsettled(service(1, ForceUpdate=1), [task()], ["n1"]) != ""


def test_every_right_is_asked_for_as_a_whole_where_none_lacks_and_else_by_name() -> None:
    assert nesting.rights(0b1111, 3) == {"privileged": True}
    fewer = nesting.rights(0b1101, 3)
    assert "privileged" not in fewer
    assert fewer["cap_add"] == ["CHOWN", "DAC_READ_SEARCH", "FOWNER"]


def test_no_two_networks_are_lent_the_same_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    # None of those that a cluster elsewhere on this machine may have.
    monkeypatch.setattr(subnet, "_TESTS", IPv4Network("203.0.113.0/24"))
    with subnet.lent() as only:
        assert only == "203.0.113.0/24"
        with pytest.raises(EngineError, match="no free subnet"), subnet.lent():
            pass
    with subnet.lent() as again:
        assert again == only


def test_addresses_that_lead_somewhere_are_not_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subnet, "routed", lambda: [IPv4Network("198.18.0.0/15")])
    with pytest.raises(EngineError, match="no free subnet"), subnet.lent():
        pass


# One node.


@SWARM
def test_a_cluster_of_one_is_ready_in_twenty_seconds_and_its_host_is_no_member(
    one: Raised, docker: Docker
) -> None:
    assert one.seconds < 20
    assert one.cluster.manager.joined()["ControlAvailable"]
    import docker as client

    outer = client.DockerClient(base_url=docker.address)
    assert outer.info()["Swarm"]["LocalNodeState"] == "inactive"
    outer.close()


@SWARM
def test_a_script_of_this_machine_talks_to_the_manager(one: Raised) -> None:
    script = ["docker", "node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}"]
    told = one.engine.run("nodes", script, env=one.cluster.environment)
    assert one.engine.logs(told) == "node1 Leader"


@SWARM
def test_ipvs_is_there_when_the_kernel_says_so_and_else_the_report_does(one: Raised) -> None:
    cluster = one.cluster
    there = cluster.manager.execute("sh", "-c", "ls /proc/net | grep -cx ip_vs || :").strip()
    assert cluster.ipvs == (there == "1")
    assert cluster.emulated == ("" if cluster.ipvs else "emulated: no IPVS")


@SWARM
def test_an_image_that_nobody_has_ends_the_wait_with_the_tasks_errors(one: Raised) -> None:
    cluster = one.cluster
    cluster.docker("service", "create", "-d", "--name", "bad", "nosuch/image:1")
    # A registry that is asked takes its time.
    probe.until(
        "an error",
        lambda: "" if any(one.error for one in cluster.tasks("bad")) else "no",
        timeout=60,
    )
    with pytest.raises(EngineError, match=r"(?s)bad settled: not within.*No such image: nosuch/im"):
        cluster.settle("bad", timeout=2)
    cluster.docker("service", "rm", "bad")


@SWARM
def test_an_update_that_pauses_ends_the_wait_at_once(one: Raised) -> None:
    cluster = one.cluster
    image = one.engine.image("app")
    cluster.docker("service", "create", "-d", "--name", "web", "--update-monitor", "1s", image)
    assert cluster.settle("web") == {"web": ""}
    cluster.docker("service", "update", "-d", "--image", "nosuch/image:2", "web")
    with pytest.raises(EngineError, match=r"(?s)web: paused.*No such image: nosuch/image:2"):
        cluster.settle("web", timeout=30)
    cluster.docker("service", "rm", "web")


@SWARM
def test_a_service_that_is_not_there_is_named(one: Raised) -> None:
    with pytest.raises(EngineError, match="no service nosuch in the swarm: there is none"):
        one.cluster.settle("nosuch")


# What runs in the tasks.

TASKS = """
version: "3.8"
services:
  web:
    image: shop/web:v1
    environment: {HOST: 0.0.0.0, PORT: 8080}
    healthcheck:
      test: ["CMD", "curl", "-fsS", "http://127.0.0.1:8080/ready"]
      interval: 300ms
      timeout: 1s
      retries: 2
      start_period: 60s
    stop_grace_period: 1s
    deploy:
      replicas: 2
      endpoint_mode: dnsrr
      restart_policy: {delay: 200ms}
      update_config: {parallelism: 1, monitor: 300ms, order: start-first}
"""


class Marks(list[tuple[str, dict[str, Any]]]):
    """What was marked."""

    def __call__(self, name: str, /, **about: object) -> None:
        self.append((name, about))

    def of(self, name: str) -> list[dict[str, Any]]:
        return [about for marked, about in self if marked == name]


@pytest.fixture(scope="module")
def followed(
    docker: Docker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Services, Marks]]:
    """Two tasks of a service that is followed, at v1; v2 is there as well."""
    from zdtest.engine.docker import DockerEngine

    marks, folder = Marks(), tmp_path_factory.mktemp("followed")
    for image in ("app", "node"):
        docker.images.get(image)
    with (
        ProcessEngine(f"test-{uuid.uuid4().hex[:8]}", folder, on_event=marks) as host,
        DockerEngine(host, docker.address, docker.images, on_event=marks) as engine,
        swarm(engine, 1, {"s_web": "web.{slot}"}) as (cluster, history),
    ):
        for version in ("v1", "v2"):
            cluster.release("shop/web", version)
        file = folder / "stack.yml"
        file.write_text(TASKS)
        cluster.deploy("s", file)
        cluster.settle("s_web")
        yield Services(engine, cluster, history, "s_web"), marks


def until(what: str, true: Callable[[], object]) -> None:
    probe.until(what, lambda: "" if true() else "not yet", timeout=20)


def states(services: Services, **about: object) -> list[dict[str, Any]]:
    """The lines of the history about that."""
    lines = (services.engine.folder / "tasks.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if about.items() <= line.items()]


@SWARM
def test_the_tasks_are_instances_with_the_version_of_their_image(
    followed: tuple[Services, Marks],
) -> None:
    services, _ = followed
    assert services.instances == ("web.1", "web.2")
    for name in services.instances:
        services.ready(name)
        one = services.instance(name)
        assert (one.name, one.version) == (name, "v1")
        assert reaper.began(one.pid) == one.began
        assert services.engine.fate(one) == ""
    with pytest.raises(EngineError, match=r"web\.9 runs: not within .*(?s:.)*wants no web\.9"):
        services.ready("web.9", timeout=0.1)


@SWARM
def test_an_update_is_in_the_history_and_its_marks_in_order(
    followed: tuple[Services, Marks],
) -> None:
    services, marks = followed
    old = [services.instance(name) for name in services.instances]
    argv = ["docker", "service", "update", "--quiet", "--image", "shop/web:v2", "s_web"]
    services.script(argv, cwd=services.engine.folder, timeout=60)
    assert services.cluster.settle("s_web") == {"s_web": "completed"}
    for name in services.instances:
        services.ready(name)
    assert [services.instance(name).version for name in services.instances] == ["v2", "v2"]
    assert all(services.engine.wait(one, 10) for one in old)
    # Those who hear of it are threads: whoever has ended may not have been said to have.
    for what in ("app.term", "app.stopped"):
        until(what, lambda what=what: len(marks.of(what)) >= 2)
    for name in services.instances:
        begun = [one for one in marks.of("app.started") if one["instance"] == name]
        assert [one["version"] for one in begun] == ["v1", "v2"]
        (told,) = [one for one in marks.of("app.term") if one["instance"] == name]
        (ended,) = [one for one in marks.of("app.stopped") if one["instance"] == name]
        # Start-first, and the swarm leaves a task without users for two seconds before it ends it.
        assert begun[1]["happened"] + 2 < told["happened"] <= ended["happened"]
        assert ended["exit"] == "exited 143"
    until("told", lambda: len(states(services, state="shutdown")) == 2)
    done = states(services, state="shutdown")
    assert {line["image"] for line in done} == {"shop/web:v1"}
    running = states(services, state="running", image="shop/web:v2", wanted="running")
    assert {line["instance"] for line in running} == {"web.1", "web.2"}


@SWARM
def test_a_task_that_is_killed_comes_back_as_another_instance(
    followed: tuple[Services, Marks],
) -> None:
    services, marks = followed
    one = services.instance("web.1")
    services.engine.kill(one)
    assert services.engine.fate(one) == "exited 137"
    services.ready("web.1")
    assert services.instance("web.1") != one
    until("told", lambda: marks.of("swarm.task.failed"))
    (failed,) = marks.of("swarm.task.failed")
    assert failed["instance"] == "web.1"
    assert "non-zero exit (137)" in failed["error"]


@SWARM
def test_a_task_that_stands_still_is_found_ill_and_replaced(
    followed: tuple[Services, Marks],
) -> None:
    """As the engine has not paused it, it goes on asking how it is."""
    services, marks = followed
    one = services.instance("web.2")
    services.engine.signal(one, "STOP")
    until("frozen", lambda: services.engine.frozen(one))
    assert services.engine.wait(one, 60)
    ill = marks.of("engine.container.health_status.unhealthy")
    assert [about["instance"] for about in ill] == ["web.2"]
    services.ready("web.2")
    assert services.instance("web.2") != one


@SWARM
def test_which_tasks_there_are_is_the_swarms_to_say(followed: tuple[Services, Marks]) -> None:
    with pytest.raises(EngineError, match="the swarm starts its tasks"):
        followed[0].start("web.1", "v2")


@pytest.mark.parametrize(
    ("stamp", "seconds"),
    [("1970-01-01T00:00:01Z", 1.0), ("1970-01-01T00:01:00.5000001Z", 60.5000001)],
)
def test_a_managers_stamp_is_read_to_the_nanosecond(stamp: str, seconds: float) -> None:
    from zdtest.engine.swarmhistory import _seconds

    assert _seconds(stamp) == pytest.approx(seconds, abs=1e-9)


# Three.


@SWARM
def test_a_cluster_of_three_is_ready_in_forty_five_seconds(three: Raised) -> None:
    assert three.seconds < 45
    told = three.cluster.docker("node", "ls", "--format", "{{.Hostname}} {{.Status}}")
    assert sorted(told.split("\n")[:-1]) == ["node1 Ready", "node2 Ready", "node3 Ready"]
    addresses = [IPv4Address(node.address) for node in three.cluster.nodes]
    (network,) = [one for one in subnet.routed() if addresses[0] in one]
    assert len(set(addresses) & set(network.hosts())) == 3


@SWARM
def test_a_service_runs_on_every_node_and_each_ones_port_answers_here(
    three: Raised, web: str
) -> None:
    tasks = three.cluster.tasks(web)
    assert sorted((one.node, one.state, one.image) for one in tasks) == [
        (f"node{number}", "running", "shop/web:v1") for number in (1, 2, 3)
    ]
    assert versions(three.cluster) == ["v1"] * 3


@SWARM
def test_tasks_find_and_reach_each_other_across_the_nodes(three: Raised, web: str) -> None:
    """That all run is the manager's word; names spread from node to node by gossip, later.

    What a datagram lost is made good by libnetwork's next exchange of everything, each 30 s.
    """
    cluster = three.cluster
    inside: dict[str, Task] = {one.node: one for one in cluster.tasks(web)}
    for node in cluster.nodes:
        ask = ("docker", "exec", inside[node.name].container, "python3", "-c", NEIGHBOURS)
        probe.until(
            f"{node.name} finds all",
            lambda node=node, ask=ask: not_all_found(node.execute(*ask)),
            timeout=40,
        )


def not_all_found(told: str) -> str:
    return "" if sorted(told.split()) == ["node1", "node2", "node3"] else f"found {told.split()}"


@SWARM
def test_a_name_that_no_container_has_is_unknown_at_once(three: Raised, web: str) -> None:
    inside = next(one for one in three.cluster.tasks(web) if one.node == "node1")
    began = time.monotonic()
    with pytest.raises(EngineError, match="exited 2"):
        three.cluster.docker("exec", inside.container, "getent", "hosts", "tasks.nosuch")
    assert time.monotonic() - began < 4


@SWARM
def test_three_nodes_with_a_service_each_need_less_than_a_gigabyte_and_a_half(
    three: Raised, web: str, docker: Docker
) -> None:
    import docker as client

    outer = client.APIClient(base_url=docker.address)
    names = [three.engine.container(node.instance) for node in three.cluster.nodes]
    told = [outer.stats(name, stream=False, one_shot=True)["memory_stats"] for name in names]
    outer.close()
    # As `docker stats` counts: without what the kernel only keeps in case somebody reads it again.
    idle = [one["stats"].get("total_inactive_file", 0) for one in told]
    used = sum(one["usage"] for one in told) - sum(idle)
    assert 50e6 * len(names) < used < 1.5e9


@SWARM
def test_an_update_rolls_over_all_nodes(three: Raised, web: str) -> None:
    cluster = three.cluster
    update = ["--image", "shop/web:v2", "--env-add", "APP_VERSION=v2", web]
    cluster.docker("service", "update", "-d", *update)
    assert cluster.settle(web) == {web: "completed"}
    assert versions(cluster) == ["v2"] * 3
    ended = [one for one in cluster.tasks(web) if one.image == "shop/web:v1"]
    assert [one.state for one in ended] == ["shutdown"] * 3


@SWARM
def test_a_stack_file_that_the_nodes_cannot_see_is_refused(three: Raised, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a stack file in"):
        three.cluster.deploy("x", tmp_path / "stack.yml")


# Ends.


@SWARM
def test_a_node_that_does_not_answer_is_an_error_in_time(docker: Docker, tmp_path: Path) -> None:
    from zdtest.engine.swarmnode import Node

    with ExitStack() as tidy:
        engine = raised(docker, tmp_path, tidy)
        node = tidy.enter_context(Node(engine, "node1", engine.network("nodes"), []))
        engine.signal(node.instance, "STOP")
        with pytest.raises(EngineError, match="node1 ready: not within 500ms"):
            node.ready(timeout=0.5)
        engine.signal(node.instance, "CONT")
        engine.kill(node.instance)
        with pytest.raises(EngineError, match="node1 exited 137 before it was ready"):
            node.ready()


@SWARM
def test_killing_the_owner_leaves_nothing(docker: Docker, tmp_path: Path) -> None:
    docker.images.get("node")
    run = f"test-{uuid.uuid4().hex[:8]}"
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, run, str(tmp_path), docker.address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout
        pid = int(owner.stdout.readline())
        space, groups, link = namespace(pid), list(cgroups(pid)), outer_link(pid)
        assert len(processes(space)) > 4
        assert groups
        kinds = [one.kind for one in remains.remnants(docker.address, run)]
        assert sorted(kinds) == ["container", "network", "volume"]
        os.kill(owner.pid, signal.SIGKILL)

    def left() -> str:
        there = [one.kind for one in remains.remnants(docker.address, run)]
        there += [f"pid {pid}" for pid in (*processes(space), *reapers(run))]
        there += [str(path) for path in (*groups, link) if path.exists()]
        return " ".join(there)

    probe.until("nothing left", left, timeout=30)


def namespace(pid: int) -> str:
    """Return the cgroup namespace of the process: a node's, in which its dockerd is too."""
    return os.readlink(f"/proc/{pid}/ns/cgroup")


def processes(space: str) -> list[int]:
    """Return the processes in the cgroup namespace."""
    found = []
    for process in reaper.processes():
        with suppress(OSError):
            if namespace(process.pid) == space:
                found.append(process.pid)
    return found


def reapers(run: str) -> list[int]:
    """Return who is still at it: what a swarm's network is may be half gone until then."""
    found = []
    for process in reaper.processes():
        with suppress(OSError):  # it ended between the listing and the reading
            if run.encode() in Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0"):
                found.append(process.pid)
    return found


def outer_link(pid: int) -> Path:
    """Return this machine's end of the cable that leads into the process's network."""
    end = Path(f"/proc/{pid}/root/sys/class/net/eth0/iflink").read_text()
    for link in Path("/sys/class/net").glob("veth*"):
        with suppress(OSError):  # another one's, gone between the listing and the reading
            if (link / "ifindex").read_text() == end:
                return link
    raise AssertionError(f"no interface {end.strip()} here")


def cgroups(pid: int) -> Iterator[Path]:
    """Yield the cgroups that the process is in, as this machine sees them."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        name = controllers.removeprefix("name=") or "unified"
        for top in (Path("/sys/fs/cgroup", name), Path("/sys/fs/cgroup")):
            if path != "/" and (top / path.lstrip("/")).exists():
                yield top / path.lstrip("/")
                break
