"""The gallery's images are made by the commands that stand beside them, and show what its text says."""

from __future__ import annotations

import importlib.util
import json

import click
import pytest
from click.testing import CliRunner
from PIL import Image

from polyface.cli import group


@pytest.fixture(scope="module")
def page(pytestconfig):
    return (pytestconfig.rootpath / "docs/gallery.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script(pytestconfig):
    spec = importlib.util.spec_from_file_location("docs_gallery", pytestconfig.rootpath / "docs/gallery.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def steps(page, script):
    found = script.read_steps(page)
    assert sum(step.words[:2] == ("-m", "polyface") for step in found) == page.count("\n$ ") > 8
    assert sum(step.words[0] == "-c" for step in found) == page.count("```python\n") > 0
    assert sum(len(step.images) for step in found) == page.count("<img ") > 30
    return found


def test_the_folder_holds_the_images_of_the_page_and_no_others(steps, script):
    shown = [image.name for step in steps for image in step.images]
    files = [path.relative_to(script.IMAGES).as_posix() for path in script.IMAGES.rglob("*") if path.is_file()]
    assert sorted(shown) == sorted(files)


def test_an_image_lies_in_a_folder_that_a_command_above_it_writes(steps):
    written = set()
    for step in steps:
        if "--output" in step.words:
            written.add(step.words[step.words.index("--output") + 1])
        for image in step.images:
            assert image.name.endswith(".svg") or f"{image.name.partition('/')[0]}/" in written


def test_each_command_is_one_that_polyface_knows(steps):
    for step in steps:
        if step.words[0] == "-m":
            _, _, name, *options = step.words
            command = group.get_command(click.Context(group), name)
            command.make_context(name, options)


def test_images_are_light_and_no_larger_than_the_page_needs(steps, script):
    images = [image for step in steps for image in step.images]
    assert sum((script.IMAGES / image.name).stat().st_size for image in images) < 1_500_000
    for image in images:
        if not image.name.endswith(".svg"):
            with Image.open(script.IMAGES / image.name) as shown:
                assert shown.width <= round(script.DENSITY * image.width)


def test_a_printed_table_keeps_its_colours_and_has_the_command_as_its_title(script, tmp_path):
    script.draw("\x1b[32mready\x1b[0m\n", "polyface matrix", tmp_path / "table.svg")
    table = (tmp_path / "table.svg").read_text(encoding="utf-8")
    assert ">polyface&#160;matrix</text>" in table
    assert ">ready" in table
    assert "fill: #98a84b" in table  # green, in rich's theme


def test_as_many_faces_are_found_as_the_page_says(page, steps, require, pytestconfig, tmp_path, monkeypatch):
    require("onnxruntime", "polyface_onnxruntime", "polyface_retinaface")
    (tmp_path / "examples").symlink_to(pytestconfig.rootpath / "examples")
    monkeypatch.chdir(tmp_path)
    counts = {}
    for step in steps:
        if step.words[0] == "-c":
            exec(compile(step.text, "gallery.md", "exec"), {})  # noqa: S102 - that is the point
        elif step.words[2] == "detect" and "--backend" not in step.words:
            command = [*step.words[2:], "--json", "--detector", "retinaface-mobilenet025", "--backend", "onnxruntime"]
            done = CliRunner().invoke(group, command)
            assert done.exit_code == 0, done.output
            counts[step.words[-1]] = len(json.loads(done.stdout)["faces"])
    assert (counts["found/"], counts["whole/"]) == (13, 1)
    assert counts["plain/"] > 1
    assert f"finds {counts['tiny/']} faces" in page
