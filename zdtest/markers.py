"""What a test's markers say of its scenario, and that they mean something."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from zdtest.errors import ConfigError, unknown

if TYPE_CHECKING:
    from zdtest.scenario import Setting

TEXTS = (
    "claim(id, source, says): the documented claim that a scenario checks",
    "topology(name, variant='documented', version='v1', mutant='', **parameters): what to raise",
    "stack(url='', version=''): what runs already, and is not raised; without url zd_url tells it",
    "full: runs with --zd-full only",
)
_CLAIM = ("source", "says")
_STACK = ("url", "version")


def expect_sense(item: pytest.Item) -> None:
    """Return where the test's markers can be meant so; raises UsageError in one line."""
    for marker in item.iter_markers("claim"):
        _check_claim(item, marker)
    if "zd" in getattr(item, "fixturenames", ()):
        _check_setting(item)
        _check_expected(item)


def _check_claim(item: pytest.Item, marker: pytest.Mark) -> None:
    for word in marker.kwargs:
        if word not in _CLAIM:
            raise _refused(item, unknown("word of claim", word, _CLAIM))
    if len(marker.args) != 1:
        raise pytest.UsageError(f"{item.nodeid}: claim needs its id, such as claim('4a', …)")


def _check_setting(item: pytest.Item) -> None:
    from zdtest.scenario import expect_setting

    if marker := item.get_closest_marker("stack"):
        for word in marker.kwargs:
            if word not in _STACK:
                raise _refused(item, unknown("word of stack", word, _STACK))
        if item.get_closest_marker("topology"):
            raise pytest.UsageError(f"{item.nodeid}: expected one of topology and stack, not both")
        if not url(item):
            return
    try:
        expect_setting(setting(item, 0))
    except ConfigError as error:
        raise _refused(item, error) from error


def _check_expected(item: pytest.Item) -> None:
    """Refuse to take all that may go wrong, such as no stack at all, for a broken promise."""
    for marker in item.iter_markers("xfail"):
        if not (_broken_only(marker) or _never(marker)):
            raise pytest.UsageError(
                f"{item.nodeid}: expected xfail(raises=SloViolation, …): whatever else goes wrong "
                "is no promise that breaks"
            )


def _broken_only(marker: pytest.Mark) -> bool:
    """Tell whether it takes nothing but broken promises, alone or as a tuple of them."""
    from zdtest.errors import SloViolation

    raises = marker.kwargs.get("raises")
    each = raises if isinstance(raises, tuple) else (raises,)
    return bool(each) and all(one is SloViolation for one in each)


def _never(marker: pytest.Mark) -> bool:
    """Tell whether it takes nothing: the test is not run, or the mark's conditions are False."""
    given = marker.kwargs
    conditions = (given["condition"],) if "condition" in given else marker.args
    never = bool(conditions) and all(one is False for one in conditions)
    return never or not given.get("run", True)


def _refused(item: pytest.Item, error: ConfigError) -> pytest.UsageError:
    return pytest.UsageError(f"{item.nodeid}: {error}")


def setting(item: pytest.Item, seed: int) -> Setting:
    """Return what the markers and the command line say of the test."""
    from zdtest.scenario import Setting

    config = item.config
    marker = item.get_closest_marker("topology")
    claim = item.get_closest_marker("claim")
    told = dict(marker.kwargs) if marker else {}
    if stack := item.get_closest_marker("stack"):
        told = {"variant": "", "version": str(stack.kwargs.get("version", ""))}
    return Setting(
        url=url(item),
        name=item.name.removeprefix("test_"),
        reports=config.getoption("--zd-report-dir"),
        seed=seed,
        topology=str(marker.args[0]) if marker and marker.args else "",
        variant=str(told.pop("variant", "documented")),
        version=str(told.pop("version", "v1")),
        mutant=str(told.pop("mutant", "")),
        parameters=told,
        claim={"id": claim.args[0], **claim.kwargs} if claim else {},
        keep=config.getoption("--zd-keep"),
    )


def place(item: pytest.Item) -> str:
    """Return the test's module and classes: in others there may be one of the same name."""
    module = item.getparent(pytest.Module)
    inside = [node.name for node in item.listchain() if isinstance(node, pytest.Class)]
    return ".".join([module.obj.__name__, *inside]) if module else ""


def url(item: pytest.Item) -> str:
    """Return where the test's own stack runs, "" where its marker does not tell."""
    stack = item.get_closest_marker("stack")
    return str(stack.args[0] if stack.args else stack.kwargs.get("url", "")) if stack else ""
