"""Whether anything was deployed at all, by the versions that replies tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from zdtest.judging.evidence import Evidence
from zdtest.judging.phase import BASELINE

_SHOWN = 5
"""How many versions are named."""


def version(evidence: Evidence) -> Iterator[str]:
    """A version that is named has to be seen, and not already before."""
    new, old = evidence.new_version, evidence.recording.manifest.get("old_version")
    seen = f"seen: {named(evidence.told)}" if evidence.told else "no reply told a version"
    if new is None:
        return
    if new == old:
        yield f"old and new version are both {new}: the switch cannot be observed"
    elif not evidence.replies(new) and evidence.slo.deploy != "aborted":
        yield f"the new version {new} was never observed; {seen}"
    elif evidence.replies(new, BASELINE) == _told(evidence) > 0:
        yield f"the new version {new} already answered every request before the deploy"


def named(versions: Mapping[str, int]) -> str:
    """Return versions as ``v1, v2``, the first few of many."""
    shown, more = list(versions)[:_SHOWN], len(versions) - _SHOWN
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def unchanged(evidence: Evidence) -> Iterator[str]:
    """Where one version alone was told all along, nothing shows that there was a deploy.

    Whoever promises nothing of who answers in the end has said that it may be the same one.
    """
    only = evidence.unchanged
    expected = evidence.slo.deploy != "aborted" and evidence.slo.stale is not None
    if only and expected and evidence.deploys and evidence.new_version is None:
        yield (
            f"all {evidence.told[only]} replies that told a version told {only}, before and after: "
            f"nothing shows that anything was deployed. Where the version changes, --new-version "
            f"names it; where it stays, as after a reload, promise stale=none"
        )


def unchecked(evidence: Evidence) -> str:
    """Return that nobody looked whether anything was deployed, "" where somebody did."""
    aborted = evidence.slo.deploy == "aborted"
    if not evidence.deploys or aborted or evidence.new_version is not None:
        return ""
    if not evidence.told and any(map(evidence.ok, evidence.seen)):
        return "no reply told its version: that something was deployed is not checked"
    if (only := evidence.unchanged) and evidence.slo.stale is None:
        return f"every version told was {only}: that something was deployed is not checked"
    return ""


def _told(evidence: Evidence) -> int:
    """Return how many replies before the deploy told any version."""
    unknown = evidence.samples.versions.index("")
    return int(np.delete(evidence.versions[BASELINE], unknown).sum())
