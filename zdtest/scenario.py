"""A `Scenario` is what a test has in its hands as ``zd``: a raised topology under load."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zdtest import duration, mutant, outside, topology
from zdtest.engine import Containers, Instance
from zdtest.errors import (
    ConfigError,
    Inconclusive,
    SloViolation,
    unknown,
)
from zdtest.judging.slo import Slo
from zdtest.run import Run, failure, fresh, judged, run
from zdtest.sending.preflight import path_of, split
from zdtest.strategies import Strategy, expect_strategy
from zdtest.topology import Commanded, Emulates, Stack, Topology
from zdtest.traffic import Load

if TYPE_CHECKING:
    from zdtest.engine.offer import Docker
    from zdtest.faults import Fault, When
    from zdtest.judging.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Setting:
    """What the test's markers and the command line say of a scenario."""

    name: str
    reports: Path
    seed: int
    topology: str
    variant: str = "documented"
    version: str = "v1"
    parameters: Mapping[str, object] = dataclasses.field(default_factory=dict)
    claim: Mapping[str, object] = dataclasses.field(default_factory=dict)
    keep: bool = False
    mutant: str = ""
    """The fault that is put into the variant on purpose, "" for none."""
    url: str = ""
    """Where a stack runs that is not ours to raise, "" where the topology is."""

    @property
    def called(self) -> str:
        """What a table calls the system."""
        return self.url or f"{self.topology} {self.variant}"


class Scenario:
    """A topology raised at its first version. `load` it, `deploy` to it, then `expect` of it."""

    def __init__(self, setting: Setting, found: Topology, one: Run, stack: Stack) -> None:
        self.setting = setting
        self.stack = stack
        self.version = setting.version
        self.verdict: Verdict | None = None
        self._topology = found
        self._run = one

    @property
    def url(self) -> str:
        """Where users come in."""
        return self.stack.url

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self._run.folder

    @property
    def generator(self) -> Instance:
        """The load's own process, for a control that disturbs the measuring itself."""
        if self._run.traffic is None:
            raise ConfigError("no load yet: expected zd.generator inside `with zd.load():`")
        return self._run.traffic.process

    def mark(self, name: str, /, **about: object) -> None:
        """Note that it is now."""
        self._run.mark(name, **about)

    def about(self, **more: object) -> None:
        """Tell more of the run in its manifest; what has been told of it stays, or is told anew."""
        self._run.about(**more)

    @contextmanager
    def load(
        self,
        *,
        rate: float = 200.0,
        channels: str | None = None,
        baseline: str | float = "3s",
        settle: str | float = "2s",
        timeout: str | float = "5s",
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[None]:
        """Keep load on the topology while the block runs; every client that it can carry.

        There is a quiet `baseline` before the block and a quiet `settle` after it. `headers` are
        sent with every request.
        """
        load = Load(
            rate=rate,
            channels=channels or self._topology.channels[self.setting.variant],
            timeout=duration.seconds(timeout, what="timeout"),
            seed=self.setting.seed,
            headers=headers or {},
            path=path_of(self.url),
        )
        if isinstance(self.stack, Commanded):
            load.expect_answers(self.url)
        before = duration.seconds(baseline, what="baseline")
        after = duration.seconds(settle, what="settle")
        with self._run.load(self.url, load, baseline=before, settle=after):
            yield

    def deploy(self, version: str, strategy: Strategy) -> None:
        """Replace what runs by `version`; raises what the strategy does.

        A stack of one's own whose replies tell no version has the version "".
        """
        name = expect_strategy(strategy)
        versions = {"old_version": self.version or None, "new_version": version or None}
        self._run.about(strategy=name, **versions)
        self.mark("deploy.begin", version=version, strategy=name)
        try:
            strategy(self.stack, version, self.mark)
        except Exception as error:
            self.mark("deploy.end", version=version, **failure(error))
            raise
        self.mark("deploy.end", version=version)
        self.version = version

    @contextmanager
    def fault(
        self,
        fault: Fault,
        *,
        at: str | When = "now",
        heal_after: str | float | None = None,
        most: str | float = "60s",
    ) -> Iterator[None]:
        """Let `fault` fire while the block runs, on that phase of the deploy in it or after it.

        It has proven that it took effect, and that it is gone, or FaultError is raised.
        """
        from zdtest.faults import armed, plan

        one = plan(fault, at, heal_after=heal_after, most=most)
        with armed(self.stack, self._run.mark, [one], seed=self.setting.seed):
            yield

    def wait(self, time: str | float) -> None:
        """Let the load go on for so long."""
        self._run.wait("deploy", duration.seconds(time, what="wait"))

    def judge(self, slo: Slo | None = None) -> Verdict:
        """Return the verdict by `slo`, having written it and the report."""
        slo = slo or Slo()
        self._run.about(slo=slo.as_dict())
        self.verdict = judged(self.folder, slo)
        return self.verdict

    def expect(self, slo: Slo | None = None) -> Verdict:
        """Return the verdict where the promises hold.

        Raises SloViolation where one is broken and Inconclusive where the run proves nothing: two
        different answers, and neither of them a skip.
        """
        __tracebackhide__ = True
        verdict = self.judge(slo)
        text = f"{_fact(verdict)}\n{verdict.summary()}\nevidence: {self.folder / 'report.html'}"
        if verdict.verdict == "broken":
            raise SloViolation(text)
        if verdict.verdict == "inconclusive":
            raise Inconclusive(text)
        return verdict


def _fact(verdict: Verdict) -> str:
    """Return the line that a test runner's summary keeps."""
    first = verdict.reasons[0] if verdict.reasons else "every promise was kept"
    return first.removeprefix("inconclusive: ")


def expect_setting(setting: Setting) -> Topology:
    """Return the topology that is asked for; raises ConfigError when it cannot be raised so."""
    if setting.url:
        split(setting.url)
        return outside.at(setting.url)
    if not setting.topology:
        raise ConfigError(
            "zd needs @pytest.mark.topology(NAME): expected the topology to raise, "
            "or @pytest.mark.stack(URL)"
        )
    found = topology.find(setting.topology)
    if setting.mutant:
        mutant.find(setting.mutant, found.name)
    if setting.variant not in found.variants:
        raise unknown(f"variant of {found.name}", setting.variant, found.variants)
    for name in setting.parameters:
        if name not in found.parameters:
            known = ("variant", "version", "mutant", *found.parameters)
            raise unknown(f"parameter of {found.name}", name, known)
    return found


@contextmanager
def scenario(setting: Setting, docker: Docker | None = None) -> Iterator[Scenario]:
    """Yield the scenario with its topology up; nothing of it is left afterwards, unless kept.

    It runs in containers of `docker`, as plain processes without.
    """
    found = expect_setting(setting)
    about = {
        "topology": found.name,
        "variant": setting.variant,
        "mutant": setting.mutant,
        "old_version": setting.version or None,
        "parameters": setting.parameters,
        "claim": setting.claim,
        "test": setting.name,
    }
    folder = fresh(setting.reports, _label(setting))
    with ExitStack() as tidy:
        one = tidy.enter_context(run(folder, about=about, keep=setting.keep, docker=docker))
        if setting.mutant:
            found = mutant.find(setting.mutant, found.name).made(folder / "mutant")
        raised = found.raised(setting.variant, setting.version, one.system, **setting.parameters)
        stack = tidy.enter_context(raised)
        topology.expect_stack(stack, found.name)
        one.about(journal=stack.journal is not None)
        if isinstance(one.system, Containers):
            one.about(images=one.system.used())
        if isinstance(stack, Emulates) and stack.emulated:
            one.about(emulated=stack.emulated)
        if setting.keep:
            one.engine.leave(url=stack.url, topology=found.name, variant=setting.variant)
        yield Scenario(setting, found, one, stack)


def _label(setting: Setting) -> str:
    """Return the test's name as a folder's."""
    words = "".join(letter if letter.isalnum() else "-" for letter in setting.name)
    return "-".join(filter(None, words.split("-")))[:80]
