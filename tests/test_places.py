"""Tests of one name in several modules or classes are several scenarios, and never one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import synthetic

from zdtest import markers
from zdtest.judging.slo import Slo
from zdtest.results.compare import compare
from zdtest.results.foreseen import foreseen
from zdtest.results.release import Release, scenarios
from zdtest.results.releases import Releases
from zdtest.results.result import Result
from zdtest.run import judged
from zdtest.scenario import Setting

LENIENT = Slo(p99_ratio=None, p99_over=None, slow=None)
BROKEN = {"verdict": "broken", "failed": 50}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The result of a run that holds, of a stack of somebody's own."""
    return Result.read(run(tmp_path_factory.mktemp("one"), "one", "test_cart"))


def run(parent: Path, name: str, place: str, **about: Any) -> Path:
    told = {"topology": "", "variant": "", "test": "rolling", "place": place} | about
    folder = synthetic.run(parent / name, requests=1000, manifest=told)
    judged(folder, LENIENT)
    return folder


def release(one: Result, *changes: dict[str, Any], label: str = "r") -> Release:
    return Release(label, tuple(dataclasses.replace(one, **each) for each in changes), {}, {})


CART, SHOP = {"place": "test_cart"}, {"place": "test_shop"}
A, B = {"place": "test_cls.TestA"}, {"place": "test_cls.TestB"}


def test_where_another_of_the_same_name_breaks_it_is_seen(one: Result) -> None:
    old = release(one, CART | BROKEN, SHOP, A, B)
    new = release(one, CART, SHOP | BROKEN, A, B)
    found = compare(old, new)
    assert [change.scenario for change in found.worsened] == ["rolling (test_shop)"] * 2
    assert {change.scenario for change in found.better} == {"rolling (test_cart)"}
    assert found.same == 2
    gone = compare(old, release(one, CART, SHOP, A))
    assert gone.unheld == ("gone: rolling (test_cls.TestB)",)


def test_the_only_one_of_its_name_is_called_by_its_name(one: Result) -> None:
    (change,) = compare(release(one, CART), release(one, CART | {"verdict": "broken"})).worse
    assert change.scenario == "rolling"


def test_another_one_of_its_name_is_not_it_even_where_each_release_has_one(one: Result) -> None:
    found = compare(release(one, CART), release(one, SHOP))
    assert (found.only_old, found.only_new) == (("rolling (test_cart)",), ("rolling (test_shop)",))
    assert found.nothing


def test_a_release_that_tells_no_place_is_compared_with_the_only_one_there_is(one: Result) -> None:
    before = release(one, {"place": ""})
    assert compare(before, release(one, CART)).same == 1
    several = compare(before, release(one, CART, SHOP))
    assert several.only_old == ("rolling",)
    assert several.only_new == ("rolling (test_cart)", "rolling (test_shop)")


def test_a_history_has_a_row_for_each_of_them(one: Result, tmp_path: Path) -> None:
    release(one, {"place": "", "began": 1.0}, label="a").write(tmp_path)
    release(one, CART | {"began": 2.0}, label="b").write(tmp_path)
    rows = Releases.read(tmp_path).scenarios()
    assert {name: list(map(len, runs)) for name, runs in rows.items()} == {"rolling": [1, 1]}
    release(one, CART | {"began": 3.0}, SHOP, label="c").write(tmp_path)
    rows = Releases.read(tmp_path).scenarios()
    assert {name: list(map(len, runs)) for name, runs in rows.items()} == {
        "rolling": [1, 0, 0],
        "rolling (test_cart)": [0, 1, 1],
        "rolling (test_shop)": [0, 0, 1],
    }


def test_how_each_of_them_was_measured_is_kept_apart(tmp_path: Path) -> None:
    def measured(name: str, rate: float) -> Release:
        cart = run(tmp_path / name, "a", "test_cart", rate=20.0)
        return Release.of(name, [cart, run(tmp_path / name, "b", "test_shop", rate=rate)])

    old, new = measured("old", 50.0), measured("new", 80.0)
    for one in (old, Release.read(old.write(tmp_path))):
        told = {"rolling (test_shop)": {"rate": ("50.0", "80.0")}}
        assert compare(one, new).configuration == told


def test_a_file_from_before_places_were_told_is_read_and_compared_as_it_was(tmp_path: Path) -> None:
    path = Release.of("old", [run(tmp_path, "a", "test_shop", rate=50.0)]).write(tmp_path)
    told = json.loads(path.read_text())
    del told["runs"][0]["place"]
    told["configuration"] = {"rolling": told["configuration"].popitem()[1]}
    path.write_text(json.dumps(told))
    new = Release.of("new", [run(tmp_path, "b", "test_shop", rate=80.0)])
    found = compare(Release.read(path), new)
    assert (found.same, found.unheld) == (1, ())
    assert found.configuration == {"rolling": {"rate": ("50.0", "80.0")}}


def test_what_is_known_beforehand_of_each_of_them_is_added_up_apart(one: Result) -> None:
    known = {"expected": ("dead",), "causes": {"dead": 5}}
    rows = foreseen(release(one, CART | known, SHOP | known, SHOP | known).results)
    assert [(row.scenario, row.runs) for row in rows] == [
        ("rolling (test_cart)", 1),
        ("rolling (test_shop)", 2),
    ]


def test_repeats_of_a_test_stand_in_one_place(one: Result) -> None:
    told = release(one, *(CART | {"test": f"rolling[repeat{n}]"} for n in (1, 2)), SHOP).results
    (named,) = scenarios(told)
    assert list(map(len, named.values())) == [2, 1]


def test_a_test_tells_its_module_and_its_class(pytester: pytest.Pytester) -> None:
    path = pytester.makepyfile(
        """
        def test_rolling(): ...
        class TestA:
            class TestInside:
                def test_rolling(self): ...
        class TestB(TestA): ...
        """
    )
    items, _ = pytester.inline_genitems(path)
    module = path.stem
    assert [markers.place(item) for item in items] == [
        module,
        f"{module}.TestA.TestInside",
        f"{module}.TestB.TestInside",
    ]


def test_a_run_tells_where_its_test_stands(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, object] = {}

    @contextmanager
    def raised(setting: Setting, docker: object) -> Iterator[SimpleNamespace]:
        told["name"] = setting.name
        yield SimpleNamespace(about=told.update, folder=pytester.path, verdict=None)

    monkeypatch.setattr("zdtest.scenario.scenario", raised)
    pytester.makepyfile(
        test_cart="""
        import pytest

        @pytest.mark.stack("http://127.0.0.1:9/")
        class TestA:
            def test_rolling(self, zd): ...
        """
    )
    pytester.inline_run("-p", "no:cacheprovider").assertoutcome(passed=1)
    assert told == {"name": "rolling", "place": "test_cart.TestA"}
