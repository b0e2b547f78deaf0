"""What befalls the swarm of the shop, and how it is undone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zdtest.engine import probe
from zdtest.errors import EngineError, FaultError
from zdtest.faults.proof import Heal, proven

FIREWALL = ("INPUT", "-i", "eth0"), ("OUTPUT", "-o", "eth0"), ("FORWARD", "-i", "eth0")
GOSSIP = 7946
IN_BACKEND = (
    '{{range .NetworksAttachments}}{{if eq .Network.Spec.Name "backend"}}'
    '{{join .Addresses " "}}{{end}}{{end}}'
)


@dataclass(frozen=True)
class Disturbance:
    """Something happens to the swarm; it is over once the swarm has healed itself."""

    act: Callable

    @property
    def name(self) -> str:
        return self.act.__name__

    def inject(self, stack):
        """Return once it has happened, which is what `act` does; the heal awaits the swarm's."""
        before = stack.instance("product.1")
        self.act(stack)

        def heal() -> None:
            if stack.engine.fate(before) or stack.engine.frozen(before):
                probe.until(
                    "another product.1",
                    lambda: "not yet" if stack.instance("product.1") == before else "",
                    timeout=60,
                )
            stack.cluster.settle(timeout=90)

        return Heal(heal)


def product_killed(stack) -> None:
    stack.engine.kill(stack.instance("product.1"))


def product_frozen(stack) -> None:
    stack.engine.signal(stack.instance("product.1"), "STOP")


def node_of(stack, name: str):
    """A worker on which a task of that stack runs."""
    service = f"{name}_app"
    on = {one.node for one in stack.cluster.tasks(service) if one.wanted == "running"}
    return next(one for one in stack.cluster.nodes[1:] if one.name in on)


def node_killed(stack) -> None:
    stack.engine.kill(node_of(stack, "front").instance)


def node_cut_off(stack) -> None:
    node = node_of(stack, "front")
    rules = " && ".join(f"iptables -I {' '.join(rule)} -j DROP" for rule in FIREWALL)
    node.execute("sh", "-c", rules)


def node_drained(stack) -> None:
    name = node_of(stack, "front").name
    stack.cluster.docker("node", "update", "--availability", "drain", name)


def manages_only(stack) -> None:
    """The manager has no tasks any more, as its handbook advises; what it had runs elsewhere."""
    name = stack.cluster.manager.name
    stack.cluster.docker("node", "update", "--availability", "drain", name)
    stack.cluster.settle(timeout=90)
    stack.served()


@dataclass(frozen=True)
class ManagerKilled:
    """The manager's node ends as by a loss of power; its heal starts it again, with its disk."""

    name: str = "kill the manager"

    def inject(self, stack):
        manager = stack.cluster.manager
        # A machine that boots finds none; here the next engine would take itself for another one.
        manager.execute("rm", "-f", "/run/docker.pid", "/run/docker/containerd/containerd.pid")
        stack.engine.kill(manager.instance)

        def heal() -> None:
            container = stack.engine.container(manager.instance)
            stack.engine.run("boot", ["docker", "start", container])
            manager.instance = stack.engine.attach(manager.name)
            manager.ready()
            probe.until("every node is ready", lambda: unready(stack.cluster), timeout=60)

        return Heal(heal)


def unready(cluster) -> str:
    """What the manager says of its nodes, "" when it hears from all of them."""
    try:
        told = cluster.docker("node", "ls", "--format", "{{.Hostname}} {{.Status}}").splitlines()
    except EngineError as error:
        return str(error)
    return ", ".join(line for line in told if not line.endswith(" Ready"))


def update_goes_on(stack) -> None:
    """The front's update, which had stood still, is completed."""
    state = ("service", "inspect", "-f", "{{.UpdateStatus.State}}", "front_app")

    def missing() -> str:
        told = stack.cluster.docker(*state).strip()
        return "" if told == "completed" else told

    probe.until("the update completed", missing, timeout=90)


@dataclass(frozen=True)
class Unheard:
    """The two workers do not hear each other's gossip; the manager and tasks' data get through."""

    name: str = "cut the gossip"

    def inject(self, stack):
        here, there = stack.cluster.nodes[1:]
        rules = [
            f"{chain} {way} {here.address} -p {kind} --dport {GOSSIP} -j UNHEARD"
            for chain, way in (("INPUT", "-s"), ("OUTPUT", "-d"))
            for kind in ("tcp", "udp")
        ]
        cut = ["-N UNHEARD", "-A UNHEARD -j DROP", *(f"-I {rule}" for rule in rules)]
        # A chain that a rule leads to is not deleted.
        mended = [*(f"-D {rule}" for rule in rules), "-F UNHEARD", "-X UNHEARD"]
        iptables(there, *cut)
        try:
            proven(f"{self.name} in effect", lambda: undropped(there), within=10)
        except FaultError:
            iptables(there, *mended)
            raise

        def heal() -> None:
            iptables(there, *mended)
            probe.until("the names are told", lambda: mistold(stack), timeout=90)

        return Heal(heal)


def iptables(node, *acts: str) -> None:
    """Each of these is done on the node."""
    node.execute("sh", "-ec", "\n".join(f"iptables -w {act}" for act in acts))


def undropped(node) -> str:
    """What is lacking of gossip that is dropped: both ends send some several times a second."""
    told = node.execute("iptables", "-w", "-nvxL", "UNHEARD").splitlines()
    return "" if int(told[-1].split()[0]) else "nothing was dropped"


def mistold(stack) -> str:
    """Which of the front's tasks the users' node names wrongly, or not at all."""
    named, there = known(stack), addresses(stack)
    return "" if named == there else f"told {sorted(named)}, there is {sorted(there)}"


def known(stack) -> set[str]:
    """The addresses that the name server of the node by which users come in tells of the front."""
    node = stack.cluster.nodes[1]
    products = stack.cluster.tasks("prod_app")
    one = next(task for task in products if (task.node, task.state) == (node.name, "running"))
    told = node.execute("docker", "exec", one.container, "getent", "ahostsv4", "tasks.front_app")
    return {line.split()[0] for line in told.splitlines()}


def addresses(stack) -> set[str]:
    """The addresses of the front's tasks that the swarm wants to run."""
    tasks = [one.id for one in stack.cluster.tasks("front_app") if one.wanted == "running"]
    told = stack.cluster.docker("inspect", "--type", "task", "--format", IN_BACKEND, *tasks)
    return {address.partition("/")[0] for address in told.split()}
