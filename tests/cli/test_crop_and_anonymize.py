"""`polyface crop` and `polyface anonymize`: the same job as `polyface detect`, with writers of their own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polyface.images.reading import read_image


def lines(path="out/faces.jsonl"):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def files(folder="out"):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def run(polyface, *arguments, status=0):
    result = polyface(*arguments)
    assert result.exit_code == status, result.output
    return result


class TestCrop:
    def test_writes_each_face_and_the_lines_that_name_it(self, polyface, image):
        image("in/a.png")
        image("in/sub/b.png")
        Image.new("RGB", (64, 48)).save("in/c.png")
        run(polyface, "crop", "in", "--output", "out")
        assert [(line["image"], line["crops"]) for line in lines()] == [
            ("in/a.png", ["a-1.jpg"]),
            ("in/c.png", []),
            ("in/sub/b.png", ["sub/b-1.jpg"]),
        ]
        assert files() == ["a-1.jpg", "faces.jsonl", "sub/b-1.jpg"]

    def test_takes_a_margin(self, polyface, image):
        run(polyface, "crop", image("a.png"), "--output", "bare/")
        run(polyface, "crop", "a.png", "--output", "wide/", "--margin", "0.5")
        left, top, right, bottom = lines("bare/faces.jsonl")[0]["faces"][0]["box"]
        side = max(right - left, bottom - top)
        bare, wide = (read_image(f"{folder}/a-1.jpg").shape[:2] for folder in ("bare", "wide"))
        assert bare == pytest.approx((bottom - top, right - left), abs=2)
        assert wide == pytest.approx((bottom - top + side, right - left + side), abs=2)

    def test_alignment_by_a_detector_without_the_landmarks_is_refused_before_anything_is_read(self, polyface, image):
        result = run(polyface, "crop", image("a.png"), "--output", "out", "--align", "112", status=2)
        assert "These faces cannot be aligned." in result.stderr
        assert "wanted are left_eye, right_eye, nose, mouth_left and mouth_right, in this order" in result.stderr

    def test_is_resumed(self, polyface, image):
        image("in/a.png")
        run(polyface, "crop", "in", "--output", "out")
        image("in/b.png")
        run(polyface, "crop", "in", "--output", "out", status=2)
        run(polyface, "crop", "in", "--output", "out", "--resume")
        assert [line["crops"] for line in lines()] == [["a-1.jpg"], ["b-1.jpg"]]

    def test_has_other_outputs_as_well(self, polyface, image):
        run(polyface, "crop", image("a.png"), "--output", "crops:faces/", "--margin", "1", "--output", "a.jsonl")
        assert files("faces") == ["a-1.jpg", "faces.jsonl"]
        assert lines("faces/faces.jsonl") == lines("a.jsonl")
        assert lines("a.jsonl")[0]["crops"] == ["a-1.jpg"]
        assert min(read_image("faces/a-1.jpg").shape[:2]) > 15

    @pytest.mark.parametrize("output", [(), ("--output", "a.jsonl")])
    def test_without_a_folder_is_refused(self, polyface, image, output):
        result = run(polyface, "crop", image("a.png"), *output, status=2)
        assert "No output is a folder, which the writer 'crops' would fill." in result.stderr
        assert "--output crops/" in result.stderr

    def test_a_margin_that_is_none_is_refused(self, polyface, image):
        result = run(polyface, "crop", image("a.png"), "--output", "out", "--margin", "-1", status=2)
        assert "crops: margin must be at least 0, not -1" in result.stderr


class TestAnonymize:
    def test_writes_each_image_without_its_faces_and_the_lines_that_name_it(self, polyface, image):
        exif = Image.Exif()
        exif[0x0112], exif[0x010F] = 3, "Acme"
        image("in/a.png", exif=exif)
        image("in/sub/b.bmp")
        run(polyface, "anonymize", "in", "--output", "out", "--how", "fill", "--grow", "0")
        assert [(line["image"], line["anonymized"]) for line in lines()] == [
            ("in/a.png", "a.png"),
            ("in/sub/b.bmp", "sub/b.bmp"),
        ]
        assert files() == ["a.png", "faces.jsonl", "sub/b.bmp"]
        for before, after in (("in/a.png", "out/a.png"), ("in/sub/b.bmp", "out/sub/b.bmp")):
            assert (read_image(before)[:, :, 0] == 255).sum() == 64
            assert read_image(after).shape == (48, 64, 3)
            assert (read_image(after)[:, :, 0] == 255).sum() == 4 * 3  # the corners of the square
        assert b"Acme" in Path("in/a.png").read_bytes()
        assert b"Acme" not in Path("out/a.png").read_bytes()
        with Image.open("out/a.png") as written:
            assert written.getexif()[0x0112] == 3

    def test_has_the_options_of_its_writer(self, polyface, image):
        Image.new("RGB", (4, 4), (0, 255, 0)).save("cover.png")
        options = "--how", "image", "--replacement", "cover.png", "--shape", "box", "--grow", "0.5"
        run(polyface, "anonymize", image("a.png"), "--output", "out", *options)
        green = (read_image("out/a.png") == (0, 255, 0)).all(axis=2)
        assert green.sum() >= 16 * 16
        assert green[np.any(green, axis=1)][:, np.any(green, axis=0)].all()

    def test_what_could_not_be_examined_is_not_written_unless_it_is_asked_for(self, polyface, image):
        image("in/a.png")
        Path("in/b.png").write_bytes(Path("in/a.png").read_bytes()[:-40])
        Image.new("RGB", (8, 8)).save("in/c.gif", save_all=True, append_images=[Image.new("RGB", (8, 8), "red")])
        result = run(polyface, "anonymize", "in", "--output", "out", status=1)
        assert files() == ["a.png", "faces.jsonl"]
        assert [line["anonymized"] for line in lines()[:2]] == ["a.png", None]
        assert "in/c.gif: it was not examined wholly: it is an animation of several frames" in result.stderr
        run(polyface, "anonymize", "in", "--output", "all", "--copy-unreadable", status=1)
        assert files("all") == ["a.png", "b.png", "c.gif", "faces.jsonl"]
        for name in ("b.png", "c.gif"):
            assert Path("all", name).read_bytes() == Path("in", name).read_bytes()
        written = [(line["anonymized"], line.get("copied")) for line in lines("all/faces.jsonl")]
        assert written == [("a.png", None), (None, "b.png"), (None, "c.gif")]

    def test_a_replacement_without_the_way_that_wants_it_is_refused(self, polyface, image):
        Image.new("RGB", (4, 4)).save("cover.png")
        result = run(polyface, "anonymize", image("a.png"), "--output", "o", "--replacement", "cover.png", status=2)
        assert result.stderr.startswith("error: A replacement is given, and how is 'blur'.")
