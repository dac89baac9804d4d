"""What the pages and wheels of the plugins say beside their code; read off the sources, without building any."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))

each_plugin = pytest.mark.parametrize("plugin", PLUGINS, ids=lambda path: path.name)


def project(folder):
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_folder_of_a_plugin_has_a_project():
    assert [plugin.name for plugin in PLUGINS] == sorted(path.name for path in ROOT.glob("plugins/polyface-*"))
    assert ROOT / "plugins/polyface-example" in PLUGINS


@each_plugin
def test_a_plugin_names_its_licence_and_takes_the_text_along(plugin):
    said = project(plugin)
    assert said["license"] == "MIT"
    assert "LICENSE" in said["license-files"]
    assert (plugin / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@each_plugin
def test_a_plugin_takes_the_licences_of_the_weights_in_its_wheel_along(plugin):
    folders = {path.parent for ending in ("onnx", "safetensors") for path in plugin.glob(f"src/**/*.{ending}")}
    notices = [folder / "NOTICE.md" for folder in sorted(folders)]
    assert project(plugin)["license-files"][1:] == [str(notice.relative_to(plugin)) for notice in notices]
    for notice in notices:
        assert "Permission is hereby granted, free of charge" in notice.read_text(encoding="utf-8")


def test_there_are_wheels_with_weights():
    carrying = [plugin.name for plugin in PLUGINS if len(project(plugin)["license-files"]) > 1]
    assert carrying == ["polyface-centerface", "polyface-retinaface"]


@each_plugin
def test_a_plugin_has_the_authors_and_classifiers_of_core_and_leads_to_it(plugin):
    core, said = project(ROOT), project(plugin)
    assert (said["authors"], said["classifiers"]) == (core["authors"], core["classifiers"])
    assert said["urls"] == {"polyface": f"https://pypi.org/project/{core['name']}/"}


@each_plugin
def test_no_link_of_a_plugins_page_needs_the_repository_around_it(plugin):
    text = (plugin / project(plugin)["readme"]).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert [link for link in links if not link.startswith(("https://", "http://", "#"))] == []
