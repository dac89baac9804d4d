"""Images that are cut short: refused, or read as far as they go where somebody asks for that, who is told so."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polyface import read_image

OUTPUTS = ("faces.jsonl", "faces.csv", "faces.coco.json", "faces.wider.txt")
FIX = "to fix it: for what can be read of it: --damaged read"


@pytest.fixture
def cut():
    """Write a JPEG with a bright red square at its top, and noise below, of which the last part is missing."""
    pixels = np.random.default_rng(1).integers(0, 40, (96, 128, 3), np.uint8)
    pixels[:48] = 0
    pixels[8:16, 16:24] = 255, 0, 0
    Image.fromarray(pixels).save("cut.jpg", quality=95, subsampling=0)
    data = Path("cut.jpg").read_bytes()
    Path("cut.jpg").write_bytes(data[:-500])
    return "cut.jpg"


def test_are_refused_and_what_to_do_is_said(polyface, cut):
    result = polyface("detect", cut)
    assert result.exit_code == 1
    assert result.stderr == f"cut.jpg: cannot be decoded: it is cut short: its last pixels are missing; {FIX}\n"


def test_are_read_where_that_is_asked_for_and_every_output_says_so(polyface, cut, image):
    whole = image("whole.png")
    outputs = [word for output in OUTPUTS for word in ("--output", output)]
    result = polyface("detect", cut, whole, "--damaged", "read", *outputs, "--output", "out")
    assert result.exit_code == 0
    assert result.stderr == "note: 'cut.jpg' is cut short, and read as far as it goes\n"
    damaged, other = (json.loads(line) for line in Path("faces.jsonl").read_text().splitlines())
    assert (damaged["image"], damaged["damaged"], damaged["error"], len(damaged["faces"])) == (cut, True, None, 1)
    assert "damaged" not in other
    rows = list(csv.DictReader(Path("faces.csv").read_text().splitlines()))
    assert [(row["image"], row["damaged"]) for row in rows] == [(cut, "true"), ("whole.png", "")]
    images = json.loads(Path("faces.coco.json").read_text())["images"]
    assert [one.get("damaged") for one in images] == [True, None]
    assert Path("out/cut_out.jpg").is_file()


def test_are_cropped(polyface, cut):
    assert polyface("crop", cut, "--damaged", "read", "--output", "faces").exit_code == 0
    assert Path("faces/cut-1.jpg").is_file()


@pytest.mark.parametrize("option", [[], ["--damaged", "read"]])
def test_are_never_written_as_anonymised(polyface, cut, option):
    result = polyface("anonymize", cut, *option, "--output", "nobody")
    assert result.exit_code == 1
    assert sorted(path.name for path in Path("nobody").iterdir()) == ["faces.jsonl"]
    line = json.loads(Path("nobody/faces.jsonl").read_text())
    assert line["anonymized"] is None
    assert "cut short" in line["error"]


def test_are_written_as_far_as_they_were_read_where_even_that_is_asked_for(polyface, cut):
    result = polyface("anonymize", cut, "--damaged", "read", "--copy-unreadable", "--output", "nobody")
    assert result.exit_code == 0
    assert Path("nobody/cut.jpg").read_bytes() != Path(cut).read_bytes()
    assert json.loads(Path("nobody/faces.jsonl").read_text())["damaged"] is True
    pixels, read = read_image("nobody/cut.jpg"), read_image(cut, damaged="read")
    assert pixels.shape == (96, 128, 3)
    assert read[8:16, 16:24, 0].min() > 200 > pixels[8:16, 16:24, 0].min()  # the face, which was of one colour


@pytest.mark.parametrize("command", ["detect", "crop", "anonymize"])
def test_the_help_names_what_bounds_reading(polyface, command):
    text = polyface(command, "--help").stdout
    for option in ("--damaged", "--max-pixels", "--max-errors", "--follow-links / --no-follow-links", "-q, --quiet"):
        assert option in text
