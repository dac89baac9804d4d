"""The guide, followed to the letter: its files make a package that installs, is found, runs and passes its tests."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from polyface.cli import group
from polyface.plugins.kinds import HOOKS
from polyface.testing import (
    BackendConformance,
    DetectorConformance,
    FamilyConformance,
    PluginConformance,
    SourceConformance,
    WriterConformance,
)

FACES = (PluginConformance, BackendConformance, DetectorConformance)
TEXT = (PluginConformance, WriterConformance)
KIT = (*FACES, FamilyConformance, WriterConformance, SourceConformance)


@pytest.fixture(scope="module")
def project(pytestconfig, tmp_path_factory):
    """The files of the guide in one folder, and the two packages installed beside it."""
    folder = tmp_path_factory.mktemp("guide")
    guide = (pytestconfig.rootpath / "plugins/README.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```(?:python|toml)\n# file: (\S+)\n(.*?)```", guide, flags=re.DOTALL)
    assert len(snippets) >= 11
    for name, text in snippets:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    target = folder / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(folder), str(folder / "acme-text")], check=True)
    return folder


def run(project, *arguments, where=""):
    path = os.pathsep.join([str(project / "installed"), os.environ.get("PYTHONPATH", "")])
    environ = {**os.environ, "PYTHONPATH": path.rstrip(os.pathsep)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=project / where, env=environ, capture_output=True, text=True, check=False
    )


def test_the_detector_and_the_backend_are_found(project):
    result = run(project, "-m", "polyface", "plugins")
    assert result.returncode == 0, result.stderr
    assert "detectors: acme-spots" in result.stdout
    assert "families: acme-cells" in result.stdout
    assert "backends: acme-" in result.stdout
    assert "failed" not in result.stdout


def test_the_tests_of_the_guide_pass(project):
    result = run(project, "-m", "pytest", "-q", "tests", "-p", "no:cacheprovider")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"\n{count(FACES) + 1} passed" in result.stdout


def test_the_tests_of_the_writer_pass(project):
    result = run(project, "-m", "pytest", "-q", "tests", "-p", "no:cacheprovider", where="acme-text")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"\n{count(TEXT)} passed" in result.stdout


def count(kinds):
    return sum(len(kind.checks()) for kind in kinds)


def test_the_writer_writes_the_faces_of_the_detector(project):
    image = np.zeros((64, 96, 3), np.uint8)
    image[16:32, 48:64] = 255
    Image.fromarray(image).save(project / "a spot.png")
    detect = "detect", "a spot.png", "none.png", "--detector", "acme-spots", "--backend", "acme-runtime"
    result = run(project, "-m", "polyface", *detect, "--output", "faces.txt")
    assert result.returncode == 1, result.stderr
    assert (project / "faces.txt").read_text() == (
        '"a spot.png" 0.99966 48.0 16.0 64.0 32.0\n"none.png" error "there is no such file or folder"\n'
    )


@pytest.fixture(scope="module")
def generated(pytestconfig):
    """What the site reads from the code."""
    path = pytestconfig.rootpath / "docs/generated.py"
    spec = importlib.util.spec_from_file_location("docs_generated", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_site_lists_every_check_with_why_it_is_made(pytestconfig, generated):
    text = "\n".join(generated.WRITERS["checks"]())
    for kind in KIT:
        rows = "".join(f"- `{name}`: {why}\n" for name, why in kind.checks().items())
        assert f"## `{kind.__name__}`\n\n{rows}" in text
    assert "```{generated} checks\n```" in (pytestconfig.rootpath / "docs/plugins/conformance.md").read_text("utf-8")


def test_the_site_lists_every_hook_with_its_signature_and_when_its_code_is_called(pytestconfig, generated):
    head, line, *rows = "\n".join(generated.WRITERS["hooks"]()).splitlines()
    assert head.count("|") == line.count("|") == 4
    assert [re.match(r"\| `(\w+)\(\)", row)[1] for row in rows] == [*HOOKS]
    assert rows[0].startswith("| `polyface_detectors() -> Iterable[DetectorSpec \\| FamilySpec]` | the detectors ")
    assert rows[3] == (
        "| `polyface_writers() -> Iterable[WriterSpec]` | the writers a plugin provides. "
        "| The factory is called when a job writes to its place: once for each output. |"
    )
    assert "```{generated} hooks\n```" in (pytestconfig.rootpath / "docs/plugins/reference.md").read_text("utf-8")


def test_the_guide_shows_what_polyface_new_writes(pytestconfig, tmp_path, require):
    require("polyface_example")
    result = CliRunner().invoke(group, ["new", "detector", "my-net", "--folder", str(tmp_path)])
    assert result.exit_code == 0, result.output
    guide = (pytestconfig.rootpath / "plugins/README.md").read_text(encoding="utf-8")
    [tree] = re.findall(r"```text\n(polyface-my-net/\n.*?)```", guide, flags=re.DOTALL)
    shown = [line.strip() for line in tree.splitlines()]
    assert sorted(shown) == sorted(
        f"{path.name}/" if path.is_dir() else path.name
        for path in tmp_path.rglob("*")
        if "__pycache__" not in str(path)
    )
    project = tmp_path / "polyface-my-net"
    assert {path.name for path in project.rglob("*.py") if "Replace:" in path.read_text(encoding="utf-8")} == {
        "plugin.py",
        "graph.py",
        "net.py",
        "head.py",
        "test_detector.py",
    }
    importing = {path.name for path in project.rglob("*.py") if "my_net.graph import" in path.read_text("utf-8")}
    assert importing == {"head.py", "net.py", "test_detector.py"}


def test_the_change_that_the_guide_begins_with_finds_green_squares(pytestconfig, tmp_path, require):
    require("polyface_example")
    CliRunner().invoke(group, ["new", "detector", "my-net", "--folder", str(tmp_path)])
    guide = (pytestconfig.rootpath / "plugins/README.md").read_text(encoding="utf-8")
    [change] = re.findall(r"```python\n(redness = .*)\n```", guide)
    path = tmp_path / "polyface-my-net/src/polyface_my_net/graph.py"
    text, count = re.subn(r"redness = .*", change, path.read_text(encoding="utf-8"))
    assert count == 1
    names = {}
    exec(compile(text, str(path), "exec"), names)  # noqa: S102 - that is the point
    image = np.full((1, 3, 8, 24), -1, np.float32)  # red, green and black
    image[0, 0, :, :8] = 1
    image[0, 1, :, 8:16] = 1
    np.testing.assert_array_equal(names["build"]()({"image": image})["logits"][0, :, 1], [-8, 4, -4])


def test_the_code_of_the_guide_has_no_gaps(project):
    for path in sorted(project.glob("**/acme_*/*.py")):
        compile(path.read_text(), str(path), "exec")


def test_the_family_describes_a_file(project):
    code = """
from polyface.plugins.manager import installed_plugins
from polyface.plugins.protocols import GraphTensor, Interface
from polyface.plugins.records import FamilySpec, WeightsFile

weights = WeightsFile(name="mine", filename="mine.onnx", sha256="0" * 64, size=1, license="mine", urls=["file:///mine"])
image, cells = GraphTensor(name="x", dims=(1, 3, "h", "w")), GraphTensor(name="y", dims=(1, "p", 1))
file = Interface(family="acme-cells", name="mine", weights=weights, inputs=(image,), outputs=(cells,), opset=18)
spec = installed_plugins().get(FamilySpec, "acme-cells").describe.load()(file, cell=8)
print(spec.input.dims, spec.outputs[0].dims, spec.make_head().priors(16, 24).shape)
"""
    result = run(project, "-c", code)
    assert result.stdout == "(1, 3, 'h', 'w') (1, 'p0', 1) (6, 4)\n", result.stderr
