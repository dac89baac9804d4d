"""The tutorial, followed to the letter: its blocks run in their order, and print what stands below them."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess

import pytest
from click.testing import CliRunner

from polyface.cli import group

BLOCK = re.compile(r"(<!-- not run: [^\n]+ -->\n)?```(\w+)\n(.*?)```", flags=re.DOTALL)
TIME = re.compile(r"\d+\.\d+ s")


def run_console(text):
    """Run each command of a block, and return all that they wrote."""
    written = []
    for command in re.findall(r"^\$ (.+)$", text, flags=re.MULTILINE):
        name, *arguments = shlex.split(command)
        if name == "polyface":
            done = CliRunner().invoke(group, arguments)
            assert done.exit_code == 0, (command, done.output)
            written.append(done.output)
        else:
            subprocess.run(command, shell=True, check=True)  # noqa: S602 - a page of ours
    return "".join(written)


@pytest.fixture(scope="module")
def page(pytestconfig):
    return (pytestconfig.rootpath / "docs/tutorial.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def outputs(page, require, pytestconfig, tmp_path_factory):
    """What each block wrote, beside what the page says it writes."""
    require("onnxruntime", "openvino", "polyface_onnxruntime", "polyface_openvino", "polyface_retinaface")
    folder = tmp_path_factory.mktemp("tutorial")
    shutil.copytree(pytestconfig.rootpath / "examples", folder / "examples")
    found, values = [], {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for skipped, language, text in BLOCK.findall(page):
            if language == "console" and not skipped:
                found.append((text, run_console(text)))
            elif language == "python":
                lines = []
                patch.setitem(values, "print", lambda *words, to=lines: to.append(" ".join(map(str, words)) + "\n"))
                exec(compile(text, "tutorial.md", "exec"), values)  # noqa: S102 - that is the point
                found.append((text, "".join(lines)))
            elif language == "text":
                found.append((text, found.pop()[1]))
            elif language == "json":
                [line] = [line for line in open_lines(folder) if line["image"] == json.loads(text)["image"]]
                found.append((text, line))
    return folder, dict(found)


def open_lines(folder):
    return [json.loads(line) for line in (folder / "out/faces.jsonl").read_text(encoding="utf-8").splitlines()]


def test_each_block_prints_what_stands_below_it(page, outputs):
    shown = re.findall(r"```text\n(.*?)```", page, flags=re.DOTALL)
    assert len(shown) == 4
    for text in shown:
        printed = [TIME.sub("T", line).split() for line in outputs[1][text].splitlines()]
        for line in text.splitlines():
            assert TIME.sub("T", line).split() in printed


def test_the_line_of_results_is_the_one_that_detect_writes(outputs):
    [(text, line)] = [(text, line) for text, line in outputs[1].items() if isinstance(line, dict)]
    shown = json.loads(text)
    [face], [wanted] = line.pop("faces"), shown.pop("faces")
    assert line == shown
    assert face["box"] == pytest.approx(wanted["box"], abs=0.01)
    assert face["score"] == pytest.approx(wanted["score"], abs=1e-4)


def test_thresholds_and_scales_find_as_many_faces_as_the_page_says(page, outputs):
    said = [
        int(number) for number in re.findall(r"finds? (\d+)\b|these are (\d+)", page) for number in number if number
    ]
    counts = {text: out for text, out in outputs[1].items() if "detect examples/collage.jpg" in text}
    assert said == [17, 15, 23]
    for number, out in zip(said, counts.values(), strict=True):
        assert ["examples/collage.jpg", str(number)] in [line.split() for line in out.splitlines()]


def test_the_anonymised_folders_have_every_image(outputs):
    names = {path.name for path in (outputs[0] / "examples").glob("*.jpg")}
    for folder in ("nobody", "safe"):
        assert {path.name for path in (outputs[0] / folder).glob("*.jpg")} == names
