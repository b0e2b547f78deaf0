"""The shape of the package: imports run one way, functions and modules stay small."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import zdtest

HOME = Path(zdtest.__file__).parent
# Artefacts that are run by hand have no part in the package's imports.
ARTEFACTS = ("documented", "hardened")

WORDS = {"channel", "duration", "errors", "percent", "status"}
"""What everybody may speak of."""

BELOW = {
    "engine": set(),
    "topology": {"engine"},
    "topologies": {"topology", "engine"},
    "strategies": {"topology", "engine"},
    "faults": {"topology", "engine", "records"},
    "records": set(),
    "sending": {"records", "judging", "blame"},
    "fleet": {"sending", "records"},
    "blame": {"records"},
    "history": {"records"},
    "judging": {"blame", "history", "records"},
    "results": {"judging"},
    "report": {"results", "judging", "records"},
}
"""What each package may import, besides itself and the words."""

ABOVE = {"cli"}
"""What may import everything, and what nothing imports, as the plugin."""

PURE = WORDS | {
    "blame", "history", "judging", "table",
    "fleet.clock", "records.crew", "records.numbering", "records.sample", "records.shown",
}  # fmt: skip
"""Neither clock nor IO nor engine: files are read for them by `records.recording`."""

FILES = {f"records.{one}" for one in ("beside", "journal", "memory", "proxylog", "recording")}
"""What the pure modules may ask besides each other."""

CLOCK_AND_IO = {
    "asyncio", "gevent", "http", "io", "locust", "os", "pathlib", "random", "select", "selectors",
    "shutil", "signal", "socket", "ssl", "subprocess", "sys", "tempfile", "threading", "time",
}  # fmt: skip

TOO_LONG: dict[str, int] = {}
"""Modules over the limit, with the lines they may have: shrink these, add none."""


def modules() -> dict[str, Path]:
    """Return every module of the package by its name below ``zdtest``, packages by theirs."""
    found = {}
    for path in HOME.rglob("*.py"):
        below = path.relative_to(HOME)
        if not set(ARTEFACTS) & set(below.parts):
            parts = below.parts[:-1] if below.name == "__init__.py" else below.with_suffix("").parts
            found[".".join(parts)] = path
    return found


MODULES = modules()


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text("utf-8"))


def imports(name: str, *, lazy: bool = True) -> set[str]:
    """Return what the module imports, ours by their names below ``zdtest.``.

    Without `lazy` only what is imported when it is: not inside functions or for types alone.
    """
    return {
        found
        for node in (ast.walk(tree(name)) if lazy else _at_once(tree(name)))
        for found in _named(node)
    }


def _at_once(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
        if not typing and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield child
            yield from _at_once(child)


def _named(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (_ours(alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        below = [f"{node.module}.{alias.name}" for alias in node.names]
        ours = [_ours(one) for one in below if _ours(one) in MODULES]
        yield from ours
        if node.module != "zdtest" and len(ours) < len(below):
            yield _ours(node.module)


def _ours(name: str) -> str:
    return name.removeprefix("zdtest.") if name.startswith("zdtest.") else name


def top(name: str) -> str:
    return name.partition(".")[0]


def foreign(name: str) -> set[str]:
    return {top(one) for one in imports(name) if one not in MODULES}


def importers(*packages: str) -> set[str]:
    return {name for name in MODULES if foreign(name) & set(packages)}


def reached(*names: str) -> set[str]:
    """Return every module of ours that these come to import, themselves included."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            waiting += imports(name) & MODULES.keys()
    return found


def untangled(needed: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return what is left of `needed` once all that needs nothing is taken away, again and again.

    That is those who need each other, and who needs them: nothing where there is no circle.
    """
    left = dict(needed)
    while free := {name for name, needs in left.items() if not needs & left.keys()}:
        left = {name: needs for name, needs in left.items() if name not in free}
    return left


def test_the_names_these_rules_use_exist():
    """A rule about a module that was renamed would hold for ever."""
    tops = {top(name) for name in MODULES}
    assert tops | MODULES.keys() >= PURE | FILES
    assert tops >= WORDS | BELOW.keys() | ABOVE | set().union(*BELOW.values())
    assert tops >= {"during", "load", "plugin", "scenario"}
    assert set(TOO_LONG) <= {*MODULES}


@pytest.mark.parametrize("name", sorted(one for one in MODULES if {one, top(one)} & PURE))
def test_a_pure_module_has_neither_clock_nor_io_nor_engine(name):
    assert foreign(name) & CLOCK_AND_IO == set()
    for one in imports(name) & MODULES.keys():
        assert {one, top(one)} & (PURE | FILES), one


def test_locust_and_gevent_are_never_reached_from_pytest_or_the_command():
    """They change the interpreter that imports them: the load is a process of its own."""
    theirs = importers("locust", "gevent")
    assert "load" in theirs
    assert reached("plugin", "cli", "scenario", "during", "report") & theirs == set()


def test_pandas_and_matplotlib_are_only_under_report():
    assert {top(name) for name in importers("pandas", "matplotlib")} == {"report"}


def test_docker_is_only_under_engine():
    assert {top(name) for name in importers("docker", "testcontainers")} <= {"engine"}


def test_nothing_imports_the_plugin_or_the_command():
    for name in MODULES:
        allowed = {"cli"} if name == "__main__" else set()
        if top(name) not in ABOVE:
            assert {top(one) for one in imports(name)} & {*ABOVE, "plugin"} <= allowed, name


def test_every_package_has_its_place():
    packages = {path.parent.name for path in HOME.glob("*/__init__.py")}
    assert packages <= BELOW.keys() | ABOVE


def test_the_map_in_the_docs_is_this_one():
    text = (HOME.parent / "docs" / "extending.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z]+)` \| .* \| ((?:`[a-z]+` ?)+|–) \|$", text, re.M)
    told = {package: set(re.findall("[a-z]+", below)) for package, below in rows}
    assert told == {name: below for name, below in BELOW.items() if name != "topology"}


@pytest.mark.parametrize("package", BELOW)
def test_imports_run_one_way(package):
    for name in MODULES:
        if top(name) == package:
            found = {top(one) for one in imports(name) & MODULES.keys()}
            assert found <= {package} | BELOW[package] | WORDS, name


def test_no_two_packages_know_of_each_other():
    known: dict[str, set[str]] = {top(name): set() for name in MODULES}
    for name in MODULES:
        known[top(name)] |= {top(one) for one in imports(name)} - {top(name)}
    assert untangled(known) == {}


def test_no_two_modules_need_each_other_to_be_imported():
    assert untangled({name: imports(name, lazy=False) - {name} for name in MODULES}) == {}


def test_no_function_is_over_fifty_lines():
    for name in MODULES:
        for node in ast.walk(tree(name)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                assert length <= 50, f"{name}.{node.name} has {length} lines"


def test_no_module_is_over_four_hundred_lines():
    for name, path in MODULES.items():
        lines = len(path.read_text("utf-8").splitlines())
        assert lines <= TOO_LONG.get(name, 400), f"{name} has {lines} lines"


def test_nothing_is_asserted_in_the_package():
    """``python -O`` would drop it."""
    for name in MODULES:
        assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree(name))), name
