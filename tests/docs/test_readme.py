"""The README as a sceptical user reads it: its code runs, its configuration loads, its lists are complete."""

from __future__ import annotations

import inspect
import json
import re

import pytest

from polyface.cli import COMMANDS
from polyface.plugins import hookspecs
from polyface.plugins.kinds import HOOKS
from polyface.plugins.manager import installed_plugins
from polyface.plugins.records import BackendSpec, DetectorSpec
from polyface.settings.loading import SETTINGS_RECORDS, load_config
from polyface.settings.record import settings
from polyface.writers.plugin import polyface_writers


@pytest.fixture(scope="module")
def readme(pytestconfig):
    return (pytestconfig.rootpath / "README.md").read_text(encoding="utf-8")


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_the_python_examples_run_as_printed(readme, require, pytestconfig, tmp_path, monkeypatch, capsys):
    require("onnxruntime", "polyface_onnxruntime", "polyface_retinaface")
    (tmp_path / "examples").symlink_to(pytestconfig.rootpath / "examples")
    monkeypatch.chdir(tmp_path)
    values = {}
    for code in blocks(readme, "python"):
        exec(compile(code, "README.md", "exec"), values)  # noqa: S102 - that is the point
    assert values["faces"].boxes.shape == (1, 4)
    assert values["faces"].landmarks.shape == (1, 5, 2)
    assert values["faces"].to_array().shape == (1, 5)
    face, both, *streamed = capsys.readouterr().out.splitlines()
    assert face.startswith("[177.9")
    assert both.startswith("[0, ")
    assert streamed == [
        "examples/astronaut.jpg: 512x512 pixels, faces: 1",
        "missing.jpg failed: does not exist",
        "grey: 640x480 pixels, faces: 0",
    ]
    assert (tmp_path / "astronaut_out.jpg").stat().st_size > 10_000


def test_the_json_line_is_the_one_that_detect_writes(readme, require, pytestconfig, make_faces_jsonl):
    require("onnxruntime", "polyface_onnxruntime", "polyface_retinaface")
    (printed,) = (json.loads(block) for block in blocks(readme, "json"))
    actual = make_faces_jsonl("examples/astronaut.jpg")
    assert list(actual) == list(printed)
    assert {key: actual[key] for key in ("image", "width", "height", "drawing", "error")} == {
        "image": "examples/astronaut.jpg",
        "width": 512,
        "height": 512,
        "drawing": "astronaut_out.jpg",
        "error": None,
    }
    (face,), (shown,) = actual["faces"], printed["faces"]
    assert list(face) == list(shown)
    assert face["box"] == pytest.approx(shown["box"], abs=0.01)
    assert face["score"] == pytest.approx(shown["score"], abs=1e-4)


@pytest.fixture
def make_faces_jsonl(pytestconfig, monkeypatch, tmp_path):
    from click.testing import CliRunner

    from polyface.cli import group

    def lines(path):
        monkeypatch.chdir(pytestconfig.rootpath)
        options = ["--json", "--backend", "onnxruntime", "--output", str(tmp_path)]
        result = CliRunner().invoke(group, ["detect", path, *options])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return lines


def test_the_configuration_file_loads(readme, tmp_path):
    (text,) = blocks(readme, "toml")
    path = tmp_path / "polyface.toml"
    path.write_text(text)
    config = load_config(path, environ={})
    assert (config.backend, config.score_threshold, config.max_side) == ("torch", 0.6, 2048)


def test_every_setting_and_every_command_is_named(readme):
    for key in settings(*SETTINGS_RECORDS):
        assert f"`{key.name}`" in readme
    for command in COMMANDS:
        assert f"`polyface {command}" in readme


def test_the_test_command_is_the_one_that_ci_runs(readme, pytestconfig):
    command = "pip install tox && tox run"
    assert f"$ {command}\n" in readme
    assert f"\n{command}\n" in (pytestconfig.rootpath / ".ci/run").read_text()


def test_every_installed_detector_and_backend_of_ours_is_in_the_table(readme):
    names = [*installed_plugins().by_name(DetectorSpec), *installed_plugins().by_name(BackendSpec)]
    for name in names:
        if name not in ("example-redbox", "numpy"):
            assert f"`{name}`" in readme


def test_every_writer_of_core_is_in_the_table_with_its_ending(readme):
    for spec in polyface_writers():
        assert f"| `{spec.name}` | {' '.join(f'`{end}`' for end in spec.endings)} | ".replace("|  |", "| |") in readme


def test_the_guide_documents_every_hook_with_its_exact_signature(pytestconfig):
    guide = (pytestconfig.rootpath / "plugins/README.md").read_text(encoding="utf-8")
    for name in HOOKS:
        signature = str(inspect.signature(getattr(hookspecs, name))).replace("'", "").replace("|", "\\|")
        assert f"`{name}{signature}`" in guide


def test_what_a_backend_says_is_unproven_the_table_says_too(readme):
    for name, spec in installed_plugins().by_name(BackendSpec).items():
        for capability in spec.capabilities:
            if capability.note:
                assert re.search(rf"^\|.*`{name}`.*\({capability.device}\)", readme, flags=re.MULTILINE)
                assert f"**{capability.note}**" in readme
