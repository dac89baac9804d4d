"""What the page about the architecture says is what the code is."""

from __future__ import annotations

import importlib
import re
import tomllib

import pytest


@pytest.fixture(scope="module")
def page(pytestconfig):
    return (pytestconfig.rootpath / "docs/architecture.md").read_text(encoding="utf-8")


def test_the_floors_are_those_of_the_contract(page, pytestconfig):
    project = tomllib.loads((pytestconfig.rootpath / "pyproject.toml").read_text(encoding="utf-8"))
    [contract] = [one for one in project["tool"]["importlinter"]["contracts"] if one["type"] == "layers"]
    floors = [re.split(r" [:|] ", layer) for layer in contract["layers"]]
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", page, flags=re.MULTILINE)
    assert [(int(number), re.findall(r"`(\w+)`", names)) for number, names in rows] == [
        (len(floors) - 1 - index, floor) for index, floor in enumerate(floors)
    ]
    apart = [set(layer.split(" | ")) for layer in contract["layers"] if "|" in layer]
    assert apart == [{"sources", "writers"}, {"graphs", "pipeline"}]


def test_every_module_that_is_named_is_there(page):
    packages = "cli|graphs|images|jobs|machine|measure|pipeline|plugins|settings|sources|storage|writers"
    names = set(re.findall(rf"`((?:{packages})\.\w+)(?:\.\w+)*`", page))
    assert len(names) > 20
    for name in names:
        importlib.import_module(f"polyface.{name}")
