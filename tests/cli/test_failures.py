"""What is said of images that fail, and with -q of nothing else; how fast it goes, and when it ends."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest
from PIL import Image

from polyface.cli.progress import Failures, pace
from polyface.errors import ImageError
from polyface.results import Result

MISSING = "there is no such file or folder"
FURTHER = "... further images that fail for that reason are counted at the end"


@pytest.fixture
def missing():
    return lambda count: [f"{number}.png" for number in range(count)]


class TestFailures:
    def test_that_are_few_are_all_told_at_once_and_that_is_all(self, polyface, missing):
        result = polyface("detect", *missing(5))
        assert result.exit_code == 1
        assert result.stderr.splitlines() == [f"{name}: {MISSING}" for name in missing(5)]

    def test_that_are_many_are_counted_by_reason_and_the_first_are_named(self, polyface, missing):
        for number in range(3):
            Path(f"bad-{number}.jpg").write_bytes(b"x" * (number + 1))
        result = polyface("detect", *missing(7), *(f"bad-{number}.jpg" for number in range(3)), "--json")
        assert result.exit_code == 1
        bad = "is not an image in a format that is read: its 1 bytes do not begin as an image does"
        assert result.stderr.splitlines()[:10] == [
            *(f"{number}.png: {MISSING}" for number in range(5)),
            FURTHER,
            f"bad-0.jpg: {bad}",
            f"bad-1.jpg: {bad.replace('its 1', 'its 2')}",
            f"bad-2.jpg: {bad.replace('its 1', 'its 3')}",
            "example-redbox on numpy, cpu, fp32",
        ]
        assert result.stderr.splitlines()[-3:] == [
            "failed: 10 images",
            f"  7: {MISSING} (0.png, 1.png, 2.png, ...)",
            f"  3: {bad} (bad-0.jpg, bad-1.jpg, bad-2.jpg)",
        ]
        assert [json.loads(line)["error"] for line in result.stdout.splitlines()][:7] == [MISSING] * 7

    def test_are_all_told_by_v(self, polyface, missing):
        assert [line for line in polyface("detect", *missing(9), "-v").stderr.splitlines() if MISSING in line] == [
            *(f"{name}: {MISSING}" for name in missing(9)),
            f"  9: {MISSING} (0.png, 1.png, 2.png, ...)",
        ]

    def test_for_which_something_must_be_installed_name_the_command_once_and_in_the_summary(
        self, polyface, monkeypatch
    ):
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        for number in range(8):
            Path(f"{number}.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
        result = polyface("detect", ".")
        command = "to fix it: pip install pillow-heif"
        assert result.stderr.count(command) == 2
        lines = result.stderr.splitlines()
        assert lines[0].endswith(f"it is a HEIC image, which Pillow alone does not read; {command}")
        assert lines[-1].endswith(f"does not read (0.heic, 1.heic, 2.heic, ...); {command}")

    def test_for_more_reasons_than_are_told_apart_are_counted_together(self, capsys):
        failures = Failures()
        for first in "abcdefgh":
            for second in "abcdefgh":
                failures.tell(Result(name=first + second, error=ImageError(f"it is {first}{second}")))
        failures.sum_up()
        lines = capsys.readouterr().err.splitlines()
        assert lines[49:57] == ["gb: it is gb", *(f"g{x}: it is g{x}" for x in "cdefg"), FURTHER, "failed: 64 images"]
        assert lines[57:59] == ["  14: other reasons (gc, gd, ge, ...)", "  1: it is aa (aa)"]
        assert len(lines) == 57 + 51

    def test_that_others_wrote_words_for_cannot_steer_the_terminal(self, polyface):
        names = [f"{number}\x1b[31m\n.png" for number in range(7)]
        result = polyface("detect", *names)
        assert "\x1b" not in result.stdout + result.stderr
        assert "0\\x1b[31m\\n.png, 1\\x1b[31m\\n.png" in result.stderr


class TestQuiet:
    def test_says_nothing_where_nothing_is_wrong(self, polyface, image):
        image("in/a.png")
        Path("in/.b.png").touch()
        Image.new("RGBA", (64, 64)).save("in/transparent.png")
        result = polyface("detect", "in", "-q", "--output", "out")
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
        assert len(Path("out/faces.jsonl").read_text().splitlines()) == 2

    @pytest.mark.parametrize("command", ["detect", "crop", "anonymize"])
    def test_says_what_is_wrong(self, polyface, image, command):
        result = polyface(command, image("a.png"), "b.png", "--quiet", "--output", "out")
        assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"b.png: {MISSING}\n")

    def test_leaves_json_and_the_settings_that_are_wrong(self, polyface, image):
        result = polyface("detect", image("a.png"), "-q", "--json")
        assert json.loads(result.stdout)["image"] == "a.png"
        assert result.stderr == ""
        assert polyface("detect", "a.png", "-q", "--pad-to", "0").stderr.startswith("error: pad_to must be ")

    def test_says_no_note_of_the_settings(self, polyface, image, folder, monkeypatch):
        (folder / "polyface.toml").write_text("pad_to = 64\n")
        image("inner/a.png")
        monkeypatch.chdir("inner")
        assert polyface("detect", "a.png").stderr.startswith("note: settings from ")
        assert polyface("detect", "a.png", "-q", POLYFACE_HOUSE="1").stderr == ""

    def test_and_v_contradict_each_other(self, polyface, image):
        for arguments in (["-v", "detect", "-q"], ["detect", "-q", "-v"]):
            result = polyface(*arguments, image("a.png"))
            assert result.exit_code == 2
            assert "-q and -v contradict each other" in result.stderr

    def test_leaves_the_level_of_the_log_as_the_caller_had_it(self, polyface, image):
        polyface("detect", image("a.png"), "-q")
        assert [logging.getLogger(name).level for name in ("polyface", "polyface.settings")] == [logging.NOTSET] * 2


class TestMaxErrors:
    """Of six images the second, the third and the fifth fail."""

    @pytest.fixture
    def named(self, image):
        for name in "adf":
            image(f"{name}.png")
        return [f"{name}.png" for name in "abcdef"]

    @pytest.mark.parametrize(("most", "done"), [(0, "ab"), (1, "abc"), (2, "abcde"), (3, "abcdef")])
    def test_more_of_them_end_the_run_and_what_was_written_is_whole(self, polyface, named, most, done):
        outputs = ["--output", "faces.jsonl", "--output", "faces.csv", "--batch-size", "2"]
        result = polyface("detect", *named, *outputs, "--max-errors", most)
        assert result.exit_code == 1
        lines = [json.loads(line) for line in Path("faces.jsonl").read_text().splitlines()]
        assert [line["image"] for line in lines] == [f"{name}.png" for name in done]
        rows = Path("faces.csv").read_text().splitlines()
        assert [row.partition(",")[0] for row in rows[1:]] == [f"{name}.png" for name in done]
        stopped = (
            f"stopped after {len(done)} of 6: more than {most} failed (--max-errors); what was written is whole, "
            "and --resume goes on from there"
        )
        assert (stopped in result.stderr.splitlines()) == (most < 3)

    def test_those_of_a_run_before_do_not_stop_it_and_count_for_the_exit_status(self, polyface, named):
        assert polyface("detect", *named, "--output", "undisturbed.csv").exit_code == 1
        for _ in range(3):
            polyface("detect", *named, "--output", "faces.csv", "--max-errors", "0", "--resume")
        result = polyface("detect", *named, "--output", "faces.csv", "--max-errors", "0", "--resume")
        assert (result.exit_code, "stopped" in result.stderr) == (1, False)
        assert Path("faces.csv").read_bytes() == Path("undisturbed.csv").read_bytes()

    def test_without_a_file_of_results_nothing_is_said_of_going_on(self, polyface, named):
        result = polyface("detect", *named, "--max-errors", "0", "-q")
        assert result.exit_code == 1
        assert result.stderr.endswith("more than 0 failed (--max-errors); what was written is whole\n")


@pytest.mark.parametrize(
    ("done", "seconds", "left", "text"),
    [
        (10, 4.0, 100, "2.5/s, 0:00:40 left"),
        (1, 8.0, 3600, "0.125/s, 8:00:00 left"),
        (3000, 2.0, 1_000_000, "1500/s, 0:11:07 left"),
        (5, 2.0, None, "2.5/s"),
        (1, 0.0, 0, "1000000/s, 0:00:00 left"),
    ],
)
def test_the_pace_is_images_a_second_and_the_time_that_is_left(done, seconds, left, text):
    assert pace(done, seconds, left) == text
