"""``polyface tune``: what is shown, what is chosen and written, and what is refused."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest

from polyface.errors import Fix
from polyface.measure.rounds import Measurement
from polyface.plugins.manager import PluginManager
from polyface.results import Detections

OFFSETS = {"fp32": 0.0, "bf16": 1.0, "fp16": 0.05}
"""Pixels by which a face is moved in each precision."""

LINES = '\ndetector = "example-redbox"\nbackend = "numpy"\nprecision = "fp16"\n'


@pytest.fixture(autouse=True)
def only_the_toy(polyface):
    """The toy claims fp32 alone; what else is asked for is measured by the stand-in below."""
    polyface.plugins = PluginManager.discover({"POLYFACE_PLUGINS": "example"})


@pytest.fixture
def seconds(monkeypatch):
    """Have the rows take these seconds, find one face, and start no process; ``None`` is a row that fails."""

    def given(*rows, interrupted=False):
        def measure(contenders, *, rounds, advance):
            found = []
            for one, taken in zip(contenders, rows, strict=True):
                assert one.keep
                precision = one.make.args[0].precision
                left = 10 + OFFSETS[precision]
                face = Detections(boxes=[[left, 10.0, left + 20, 30.0]], scores=[0.9])
                failed = {"why": "no such thing", "fix": Fix(command="pip install thing")}
                figures = {"seconds": (taken,) * rounds, "results": ([face],) * rounds}
                facts = {"device": "cpu", "score_threshold": 0.5, "iou_threshold": 0.4}
                found.append(Measurement(contender=one, facts=facts, **(figures if taken else failed)))
            return found, interrupted

        monkeypatch.setattr("polyface.measure.tune.measure", measure)

    return given


def tune(polyface, *options, precisions=("fp32", "bf16", "fp16")):
    """Run it on those precisions, all of them to choose from by default."""
    asked = [word for precision in precisions for word in ("--precision", precision)]
    return polyface("tune", "example-redbox", "--rounds", "4", *asked, *options)


def cells(line):
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_the_toy_is_measured_on_the_images_and_its_faces_are_held_against_fp32(polyface, image):
    image("shots/a.png")
    result = polyface("tune", "example-redbox", "shots", "--rounds", "2", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["detector"], report["images"], report["rounds"]) == ("example-redbox", "1 image", 2)
    settings = {"detector": "example-redbox", "backend": "numpy", "precision": "fp32"}
    assert report["chosen"] == {"label": "numpy:fp32", "settings": settings}
    [trial] = report["trials"]
    assert (trial["faces"]["expected"], trial["faces"]["matched"], trial["faces"]["box"]) == (1, 1, 0)
    assert len(trial["seconds"]) == 2
    assert not Path("polyface.toml").exists()


def test_the_table_says_what_each_costs_and_which_is_slower_than_fp32(polyface, seconds):
    seconds(0.2, 0.1, 0.4)
    result = tune(polyface, precisions=["bf16", "fp16"])
    assert result.exit_code == 0
    assert result.stdout.startswith("example-redbox, random noise (seed 0), 4 rounds\n")
    head, *rows = [line for line in map(cells, result.stdout.splitlines()) if len(line) > 5]
    assert head == ["Row", "Image", "To fp32", "To fastest", "Faces", "Pixels", "Score", "Remarks"]
    assert rows == [
        ["numpy:fp32", "200.0 ms", "-", "0.50 x", "1 of 1", "0", "0", "reference; not asked for"],
        ["numpy:bf16", "100.0 ms", "2.00 x", "1.00 x", "1 of 1", "1", "0", "chosen"],
        ["numpy:fp16", "400.0 ms", "0.50 x", "0.25 x", "1 of 1", "0.05", "0", "slower than fp32"],
    ]
    assert result.stdout.endswith(
        "The rule: the fastest in a precision asked for (bf16, fp16) whose faces lie within its tolerances.\n"
        "Chosen is numpy:bf16. For polyface.toml:\n"
        '\ndetector = "example-redbox"\nbackend = "numpy"\nprecision = "bf16"\n'
    )


def test_a_row_that_cannot_run_has_the_reason_and_the_command_that_mends_it(polyface, seconds):
    seconds(0.2, None)
    result = tune(polyface, precisions=["fp32", "fp16"])
    assert result.exit_code == 0
    assert ["numpy:fp16", "no such thing"] in map(cells, result.stdout.splitlines())
    assert "For numpy:fp16:\n  pip install thing\n" in result.stdout


def test_where_nothing_can_be_chosen_the_status_says_so_and_nothing_is_written(polyface, seconds):
    seconds(None)
    result = polyface("tune", "example-redbox", "--write")
    assert result.exit_code == 1
    assert result.stdout.endswith("None is chosen.\n")
    assert not Path("polyface.toml").exists()


def test_a_precision_that_was_not_asked_for_is_not_chosen_and_named(polyface, seconds):
    seconds(0.2, 0.3)
    result = tune(polyface, precisions=["bf16"])
    assert "Faster, but not chosen: numpy:fp32 (reference; not asked for).\n" in result.stdout
    assert "Chosen is numpy:bf16." in result.stdout


class TestWriting:
    @pytest.fixture(autouse=True)
    def fp16_wins(self, seconds, monkeypatch):
        seconds(0.3, 0.2, 0.1)
        for variable in ("POLYFACE_DETECTOR", "POLYFACE_BACKEND"):  # which are stronger than a file
            monkeypatch.delenv(variable)

    def test_the_choice_goes_to_a_new_polyface_toml(self, polyface):
        result = tune(polyface, "--write")
        assert (result.exit_code, "Written to polyface.toml.\n" in result.stderr) == (0, True)
        comment, lines = Path("polyface.toml").read_text().split("\n", 1)
        assert comment.startswith("# polyface tune example-redbox, 20")
        assert f"\n{lines}" == LINES
        sources = {row["source"] for row in json.loads(polyface("config", "--json").stdout).values()}
        assert any(source.endswith("polyface.toml") for source in sources)

    def test_the_file_in_use_is_changed_where_it_lies(self, polyface, monkeypatch):
        Path("polyface.toml").write_text('backend = "torch" # mine\nclip = true\n')
        Path("below").mkdir()
        monkeypatch.chdir("below")
        assert tune(polyface, "--write").exit_code == 0
        assert not Path("polyface.toml").exists()
        assert Path("../polyface.toml").read_text().endswith('\nbackend = "numpy" # mine\nclip = true\n')

    def test_a_named_file_is_the_one(self, polyface):
        Path("own.toml").write_text("clip = true\n")
        result = tune(polyface, "--write", "--config", "own.toml")
        assert (result.exit_code, "all the same" in result.stderr) == (0, False)
        assert Path("own.toml").read_text().endswith(f"{LINES}\nclip = true\n")
        assert not Path("polyface.toml").exists()

    def test_what_is_stronger_than_the_file_is_named(self, polyface, monkeypatch):
        monkeypatch.setenv("POLYFACE_PRECISION", "fp32")
        result = tune(polyface, "--write")
        assert "note: precision is fp32 all the same, by environment POLYFACE_PRECISION\n" in result.stderr

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            (
                "pyproject.toml",
                "[tool.polyface]\nclip = true\n",
                "pyproject.toml is a project's: nothing is written to it.",
            ),
            (
                "polyface.toml",
                'backend = "torch"\n[backend_options]\nthreads = 1\n',
                "Nothing is written: backend_options are those of 'torch' (",
            ),
            (
                "polyface.toml",
                'detector = "centerface"\n',
                "the settings in use are of 'centerface', not of 'example-redbox'",
            ),
        ],
        ids=["a project's", "with options of another backend", "of another detector"],
    )
    def test_a_file_is_refused_before_anything_is_measured(self, polyface, seconds, name, text, message):
        seconds()
        Path(name).write_text(text)
        result = tune(polyface, "--write")
        assert result.exit_code == 2
        assert message in result.stderr
        assert Path(name).read_text() == text

    def test_a_file_that_is_not_used_is_not_made_one_that_is(self, polyface, seconds):
        seconds()
        Path("polyface.toml").symlink_to("nowhere.toml")
        result = tune(polyface, "--write")
        assert result.exit_code == 2
        assert "Nothing can be written to polyface.toml: the settings there are not used." in result.stderr
        assert not Path("nowhere.toml").exists()

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no owners")
    def test_a_file_of_somebody_who_is_not_trusted_stays_theirs(self, polyface, seconds, monkeypatch):
        seconds()
        Path("polyface.toml").write_text("clip = true\n")
        monkeypatch.setattr("polyface.settings.files._distrust", lambda status, _: "it" * stat.S_ISREG(status.st_mode))
        result = tune(polyface, "--write")
        assert (result.exit_code, Path("polyface.toml").read_text()) == (2, "clip = true\n")
        assert "the settings there are not used" in result.stderr

    def test_after_an_interruption_nothing_is_written(self, polyface, seconds):
        seconds(0.3, 0.2, 0.1, interrupted=True)
        result = tune(polyface, "--write")
        assert (result.exit_code, Path("polyface.toml").exists()) == (130, False)
        assert "numpy:fp16" in result.stdout
        assert json.loads(tune(polyface, "--json").stdout)["interrupted"] is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backend", "nunpy"], "did you mean 'numpy'"),
        (["--precision", "fp3"], "There is no tolerance for the precision 'fp3'."),
        (["--threads", "1,none"], "--threads 1,none: each must be a whole number from 1 to 1024"),
        (["--size", "640"], "--size 640: each must be a height and a width from 1 to 65536"),
        (["nowhere"], "INPUT nowhere: not one image could be read."),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_measured(polyface, seconds, options, message):
    seconds()  # to measure would be an error
    result = polyface("tune", "example-redbox", *options)
    assert result.exit_code == 2
    assert message in result.stderr
