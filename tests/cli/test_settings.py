"""Every setting is an option, an environment variable, a key and a keyword; and ``polyface config`` shows them."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from polyface.cli import COMMANDS, group
from polyface.settings.loading import SETTINGS_RECORDS, load
from polyface.settings.record import settings

# Another value than the default, as Python has it and as it is typed.
VALUES = {
    "detector": ("acme", "acme"),
    "family": ("ssd", "ssd"),
    "family_options": (
        {"mean": [104, 117.5, 123], "anchors": [[16, 32], [64]]},
        "mean=[104,117.5,123],anchors=[[16,32],[64]]",
    ),
    "weights": ("wider", "wider"),
    "artifacts": ("graphs", "graphs"),
    "backend": ("onnxruntime", "onnxruntime"),
    "device": ("cuda:1", "cuda:1"),
    "precision": ("fp16", "fp16"),
    "score_threshold": (0.25, "0.25"),
    "iou_threshold": (0.75, "0.75"),
    "max_side": (640, "640"),
    "draft": (True, "true"),
    "formats": (["SGI", "ICO"], "SGI,ico"),
    "max_pixels": (1000, "1000"),
    "damaged": ("read", "read"),
    "infer_size": ([480, 640], "480x640"),
    "fit": ("stretch", "stretch"),
    "pad_to": (1, "1"),
    "view": ("plain", "plain"),
    "preset": ("widerface-1600", "widerface-1600"),
    "scales": ([0.5, 1.0, 2.0], "0.5,1,2"),
    "flip": (True, "true"),
    "tile": (640, "640"),
    "tile_overlap": (0.5, "0.5"),
    "merge": ("vote", "vote"),
    "clip": (True, "true"),
    "batch_size": (3, "3"),
    "run_pixels": (2_000_000, "2000000"),
    "threads": (2, "2"),
    "runs": (2, "2"),
    "workers": (0, "0"),
    "trim": (False, "false"),
    "backend_options": (
        {"threads": 2, "spin": False, "mode": "fast", "x": 1.0},
        "threads=2,spin=false,mode=fast,x=1.0",
    ),
    "timing": (True, "true"),
    "output": (["faces"], "faces"),
    "json": (True, "true"),
    "resume": (True, "true"),
    "follow_links": (False, "false"),
    "max_errors": (0, "0"),
}
NAMES = [key.name for key in settings(*SETTINGS_RECORDS)]


@pytest.fixture(autouse=True)
def without_the_toy(folder, monkeypatch):
    monkeypatch.delenv("POLYFACE_DETECTOR")
    monkeypatch.delenv("POLYFACE_BACKEND")


def shown(result):
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_every_setting_has_a_value_here():
    assert list(VALUES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_is_a_keyword(name):
    value = VALUES[name][0]
    [shown] = [
        record.as_dict()[name]
        for record in load(*SETTINGS_RECORDS, environ={}, overrides={name: value})
        if name in record.as_dict()
    ]
    assert shown == value


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_is_an_environment_variable(polyface, name):
    variable = f"POLYFACE_{name.upper()}"
    entry = shown(polyface("config", "--json", **{variable: VALUES[name][1]}))[name]
    assert entry == {"value": VALUES[name][0], "source": f"environment {variable}"}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "json"])
def test_a_setting_is_an_option(polyface, name):
    value, text = VALUES[name]
    option = f"--{name.replace('_', '-')}"
    flags = {True: [option], False: [option.replace("--", "--no-")]}
    given = flags[value] if isinstance(value, bool) else [option, text]
    entry = shown(polyface("config", "--json", *given))[name]
    assert entry == {"value": value, "source": "option"}


def test_the_option_of_the_output_may_be_given_several_times(polyface):
    entry = shown(polyface("config", "--json", "--output", "a", "--output", "b", POLYFACE_OUTPUT="c"))["output"]
    assert entry == {"value": ["a", "b"], "source": "option"}


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_is_an_option_of_detect(name):
    detect = group.get_command(click.Context(group), "detect")
    assert f"--{name.replace('_', '-')}" in {flag for parameter in detect.params for flag in parameter.opts}


def test_options_beat_the_environment_which_beats_pyproject_which_beats_polyface_toml(polyface):
    text = "detector = 'file'\nbackend = 'file'\ndevice = 'file'\nprecision = 'file'"
    Path("polyface.toml").write_text(text)
    Path("pyproject.toml").write_text("[tool.polyface]\nbackend = 'project'\ndevice = 'project'\nprecision = 'project'")
    environ = {"POLYFACE_DEVICE": "variable", "POLYFACE_PRECISION": "variable"}
    entries = shown(polyface("config", "--json", "--precision", "option", **environ))
    assert {name: entries[name]["value"] for name in ("detector", "backend", "device", "precision")} == {
        "detector": "file",
        "backend": "project",
        "device": "variable",
        "precision": "option",
    }
    assert entries["detector"]["source"].endswith("polyface.toml")
    assert entries["backend"]["source"].endswith("pyproject.toml [tool.polyface]")
    assert (entries["pad_to"], entries["clip"]) == (
        {"value": 32, "source": "default"},
        {"value": False, "source": "default"},
    )


def test_no_clip_undoes_the_clip_of_a_file(polyface):
    Path("polyface.toml").write_text("clip = true")
    assert shown(polyface("config", "--json", "--no-clip"))["clip"] == {"value": False, "source": "option"}


def test_config_names_the_file_to_read(polyface):
    Path("mine.toml").write_text("pad_to = 64")
    Path("polyface.toml").write_text("pad_to = 1")
    assert shown(polyface("config", "--json", "--config", "mine.toml"))["pad_to"]["value"] == 64


def test_the_table_shows_every_setting_with_its_value_and_source(polyface):
    rows = [line.split() for line in polyface("config", "--pad-to", "8").stdout.splitlines()]
    assert [row[0] for row in rows if row and row[0] in NAMES] == NAMES
    assert ["pad_to", "8", "option"] in rows
    assert ["clip", "false", "default"] in rows
    assert ["infer_size", "none", "default"] in rows
    assert ["score_threshold", "the", "detector's", "default"] in rows


@pytest.mark.parametrize(
    ("name", "text"), [("infer_size", "480x640"), ("scales", "0.5,1,2"), ("formats", "SGI,ICO"), ("output", "out")]
)
def test_lists_are_shown_as_they_are_typed(polyface, name, text):
    rows = [line.split() for line in polyface("config", f"--{name.replace('_', '-')}", text).stdout.splitlines()]
    assert [name, text, "option"] in rows


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_helps_and_every_option_has_a_help_text(polyface, name):
    result = polyface(name, "--help")
    assert result.exit_code == 0
    command = group.get_command(click.Context(group), name)
    assert command.short_help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            assert option.opts[0] in result.stdout


def test_the_help_of_the_group_lists_every_command_and_keeps_its_examples_apart(polyface):
    result = polyface("--help")
    assert result.exit_code == 0
    lines = [line.strip() for line in result.stdout.splitlines()]
    for name in COMMANDS:
        assert any(line.startswith(f"{name} ") for line in lines)
    assert any(line.startswith("polyface detect ") for line in lines)
    assert any(line.startswith("polyface matrix ") for line in lines)
    assert "\\b" not in result.stdout


def test_the_version_is_printed(polyface):
    assert polyface("--version").stdout == "polyface, version 0.2.0\n"
