"""README and the guides as a sceptical user reads them: code runs, a file of settings loads, lists are complete."""

from __future__ import annotations

import json
import os
import re

import pytest
from click.testing import CliRunner

from polyface.cli import group
from polyface.plugins.manager import installed_plugins
from polyface.plugins.records import BackendSpec, DetectorSpec
from polyface.settings.loading import load_config
from polyface.writers.plugin import polyface_writers


@pytest.fixture(scope="module")
def read(pytestconfig):
    """Return a document's text, by its path in the repository."""
    return lambda path: (pytestconfig.rootpath / path).read_text(encoding="utf-8")


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture
def run_python(read, require, pytestconfig, tmp_path, monkeypatch):
    """Run the Python of a document, beside the examples, and return the variables."""
    require("onnxruntime", "polyface_onnxruntime", "polyface_retinaface")
    (tmp_path / "examples").symlink_to(pytestconfig.rootpath / "examples")
    monkeypatch.chdir(tmp_path)

    def run(path):
        values = {}
        for code in blocks(read(path), "python"):
            exec(compile(code, path, "exec"), values)  # noqa: S102 - that is the point
        return values

    return run


def test_the_readme_has_at_most_900_words(read):
    assert len(read("README.md").split()) <= 900


def test_the_python_of_the_readme_runs_as_printed(run_python, capsys):
    values = run_python("README.md")
    assert values["faces"].landmarks.shape == (1, 5, 2)
    assert values["blurred"].shape == (512, 512, 3)
    (spec,) = values["polyface_detectors"]()
    assert spec.name == "my-net"
    face, *streamed = capsys.readouterr().out.splitlines()
    assert face.startswith("[177.9")
    assert streamed == ["examples/collage.jpg 17 None", "missing.jpg 0 does not exist"]


def test_the_guide_to_python_runs_as_printed(run_python, capsys, tmp_path):
    values = run_python("docs/guides/python.md")
    assert values["faces"].boxes.shape == (1, 4)
    assert values["faces"].landmarks.shape == (1, 5, 2)
    assert values["faces"].to_array().shape == (1, 5)
    assert values["aligned"].shape == (1, 112, 112, 3)
    face, both, *streamed = capsys.readouterr().out.splitlines()
    assert face.startswith("[177.9")
    assert both.startswith("[0, ")
    assert streamed == [
        "examples/astronaut.jpg: 512x512 pixels, faces: 1",
        "missing.jpg failed: does not exist",
        "grey: 640x480 pixels, faces: 0",
    ]
    assert (tmp_path / "astronaut_out.jpg").stat().st_size > 10_000


def test_the_json_line_is_the_one_that_detect_writes(read, require, make_faces_jsonl):
    require("onnxruntime", "polyface_onnxruntime", "polyface_retinaface")
    (printed,) = (json.loads(block) for block in blocks(read("docs/guides/jobs.md"), "json"))
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
    def lines(path):
        monkeypatch.chdir(pytestconfig.rootpath)
        options = ["--json", "--backend", "onnxruntime", "--output", str(tmp_path)]
        result = CliRunner().invoke(group, ["detect", path, *options])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return lines


def test_the_file_of_settings_loads(read, tmp_path):
    (text,) = blocks(read("docs/guides/settings.md"), "toml")
    path = tmp_path / "polyface.toml"
    path.write_text(text)
    config = load_config(path, environ={})
    assert (config.backend, config.score_threshold, config.max_side) == ("openvino", 0.6, 2048)


def test_a_value_is_the_same_however_it_is_written(read, tmp_path):
    cell = r" `([^`]+)`(?:, `[^`]+`)? \|"
    rows = re.findall(rf"^\| [^|]+ \|{4 * cell}$", read("docs/guides/settings.md"), flags=re.MULTILINE)
    assert len(rows) == 5
    for keyword, line, variable, option in rows:
        [(key, wanted)] = eval(f"dict({keyword})").items()  # noqa: S307 - a page of ours
        path = tmp_path / "polyface.toml"
        path.write_text(line)
        name, _, value = variable.partition("=")
        shown = CliRunner().invoke(group, ["config", "--json", "--config", os.devnull, *option.split()]).stdout
        given = json.loads(shown)[key]["value"]
        assert getattr(load_config(os.devnull, environ={}, **{key: wanted}), key) == wanted
        assert getattr(load_config(path, environ={}), key) == wanted
        assert getattr(load_config(os.devnull, environ={name: value}), key) == wanted
        assert (tuple(given) if isinstance(given, list) else given) == wanted


def test_the_test_command_is_the_one_that_ci_runs(read):
    command = "pip install tox && tox run"
    assert f"$ {command}\n" in read("README.md")
    assert f"\n{command}\n" in read(".ci/run")


def test_every_installed_detector_and_backend_of_ours_is_in_the_tables(read):
    tables = read("docs/guides/detectors.md"), read("docs/guides/backends.md")
    names = [*installed_plugins().by_name(DetectorSpec), *installed_plugins().by_name(BackendSpec)]
    for name in {*names} - {"example-redbox", "numpy"}:
        assert f"`{name}`" in tables[1]
    for name in {*installed_plugins().by_name(DetectorSpec)} - {"example-redbox"}:
        assert f"`{name}`" in tables[0]


def test_every_writer_of_core_is_in_the_table_with_its_ending(read):
    guide = read("docs/guides/jobs.md")
    for spec in polyface_writers():
        assert f"| `{spec.name}` | {' '.join(f'`{end}`' for end in spec.endings)} | ".replace("|  |", "| |") in guide


def test_what_a_backend_says_is_unproven_the_table_says_too(read):
    table = read("docs/guides/backends.md")
    for name, spec in installed_plugins().by_name(BackendSpec).items():
        for capability in spec.capabilities:
            if capability.note:
                assert re.search(rf"^\|.*`{name}`.*\({capability.device}\)", table, flags=re.MULTILINE)
                assert f"**{capability.note}**" in table
