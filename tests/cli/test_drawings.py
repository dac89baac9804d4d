"""What `polyface detect` leaves in its output folder: whole, by one run at a time, and never through a link."""

from __future__ import annotations

import csv
import json
import resource
import subprocess
import sys
from pathlib import Path, PurePath

import numpy as np
import pytest
from PIL import Image

from polyface.errors import ImageError
from polyface.images.reading import Decoded
from polyface.pipeline.detector import FaceDetector
from polyface.results import Detections, Item, Result
from polyface.storage.places import LOCK, Place
from polyface.writers.images import Drawings
from polyface.writers.jsonl import JsonLines

ONE_BY_ONE = ("--batch-size", 1, "--workers", 0)
"""The second image is looked at once the first is written."""

LINES = Path("out/faces.jsonl")


def lines():
    text = LINES.read_bytes()
    assert text == b"" or text.endswith(b"\n")
    return [json.loads(line) for line in text.splitlines()]


def images():
    return [line["image"] for line in lines()]


def files():
    return sorted(path.relative_to("out").as_posix() for path in Path("out").rglob("*") if path.is_file())


def detect(polyface, *inputs, status=0):
    result = polyface("detect", *inputs, "--output", "out")
    assert result.exit_code == status, result.output
    return result


class TestLinesOfARunBefore:
    def test_are_refused_without_a_word_of_what_to_do_with_them(self, polyface, image):
        detect(polyface, image("a.png"))
        before = LINES.read_bytes()
        result = detect(polyface, image("b.png"), status=2)
        assert result.stderr == (
            f"error: {LINES.resolve()} has the results of a run before.\n"
            "To fix it: to go on with them: --resume; or: choose another --output\n"
        )
        assert LINES.read_bytes() == before
        assert files() == ["a_out.jpg", "faces.jsonl"]

    def test_are_no_lines_where_the_file_is_empty(self, polyface, image):
        Path("out").mkdir()
        LINES.touch()
        detect(polyface, image("a.png"))
        assert images() == ["a.png"]

    def test_stay_when_the_run_is_resumed_and_the_new_ones_follow(self, polyface, image):
        detect(polyface, image("one/a.png"))
        detect(polyface, image("two/b.png"), "--resume")
        assert images() == ["one/a.png", "two/b.png"]
        assert files() == ["a_out.jpg", "b_out.jpg", "faces.jsonl"]

    def test_keep_their_images_from_being_done_again_failed_ones_among_them(self, polyface, image):
        detect(polyface, image("a.png"), "b.png", status=1)
        before = LINES.read_bytes()
        image("a.png", 80, 56)
        image("b.png")
        result = detect(polyface, "a.png", "b.png", image("c.png"), "--resume", status=1)
        assert LINES.read_bytes().startswith(before)
        assert [(line["image"], line["width"]) for line in lines()] == [("a.png", 64), ("b.png", None), ("c.png", 64)]
        assert "1 image, 2 done before (1 of them failed), " in result.stdout

    def test_may_be_all_there_is_to_do(self, polyface, image):
        detect(polyface, image("a.png"))
        before = LINES.read_bytes()
        assert "0 images, 1 done before, " in detect(polyface, "a.png", "--resume").stdout
        assert LINES.read_bytes() == before

    def test_need_not_be_there_to_resume(self, polyface, image):
        detect(polyface, image("a.png"), "--resume")
        assert images() == ["a.png"]

    def test_lose_the_half_that_a_killed_run_left_and_no_whole_one_without_its_end(self, polyface, image):
        Path("out").mkdir()
        for rest, images_before in (('{"image": "b.p', ["a.png"]), ('{"image": "b.png"}', ["a.png", "b.png"])):
            LINES.write_text('{"image": "a.png"}\n' + rest)
            detect(polyface, image("c.png"), "--resume")
            assert images() == [*images_before, "c.png"]

    @pytest.mark.parametrize("line", ["precious", "[]", '{"file": "a.png"}', '{"image": 1}', "[" * 100_000, ""])
    def test_of_somebody_else_are_not_touched(self, polyface, image, line):
        Path("out").mkdir()
        LINES.write_text(line + "\n")
        result = detect(polyface, image("a.png"), "--resume", status=2)
        assert f"Line 1 of {LINES.resolve()} is not one that polyface writes." in result.stderr
        assert LINES.read_text() == line + "\n"
        assert files() == ["faces.jsonl"]

    def test_that_a_backup_shares_stay_in_the_backup(self, polyface, image):
        detect(polyface, image("a.png"))
        Path("backup").hardlink_to(LINES)
        before = LINES.read_bytes()
        detect(polyface, image("b.png"), "--resume")
        assert Path("backup").read_bytes() == before
        assert images() == ["a.png", "b.png"]


def drawn(names):
    """The drawings of images of these names below folders of one letter or more."""
    pixels = np.zeros((16, 16, 3), np.uint8)
    image, faces = Decoded(pixels=pixels, shape=(16, 16)), Detections.from_dicts([])
    with Place(Path("out").absolute(), folder=True) as place:
        writer = Drawings(place)
        return [
            writer.write(
                Result(
                    name=name,
                    width=16,
                    height=16,
                    faces=faces,
                    image=image,
                    item=Item(name=name, relative=PurePath(*PurePath(name).parts[1:])),
                )
            )["drawing"]
            for name in names
        ]


class TestDrawings:
    def test_each_line_names_its_own(self, polyface, image):
        image("one/0001.jpg", 80, 56)
        image("two/0001.jpg", 96, 64)
        image("three/sub/0001.png")
        detect(polyface, "one/0001.jpg", "two/0001.jpg", "three", "missing.png", status=1)
        assert [(line["image"], line["drawing"]) for line in lines()] == [
            ("one/0001.jpg", "0001_out.jpg"),
            ("two/0001.jpg", "0001-2_out.jpg"),
            ("three/sub/0001.png", "sub/0001_out.jpg"),
            ("missing.png", None),
        ]
        for line in lines()[:3]:
            with Image.open(Path("out", line["drawing"])) as drawing:
                assert drawing.size == (line["width"], line["height"])

    def test_of_an_earlier_run_are_not_overwritten_by_another_image_of_that_name(self, polyface, image):
        detect(polyface, image("one/a.png", 80, 56))
        detect(polyface, image("two/a.png"), "--resume")
        LINES.unlink()  # so that both are done again
        detect(polyface, "two/a.png", "one/a.png")
        assert [(line["image"], line["drawing"]) for line in lines()] == [
            ("two/a.png", "a-2_out.jpg"),
            ("one/a.png", "a_out.jpg"),
        ]
        with Image.open("out/a_out.jpg") as drawing:
            assert drawing.size == (80, 56)
        assert files() == ["a-2_out.jpg", "a_out.jpg", "faces.jsonl"]

    def test_go_where_this_run_says_whatever_a_line_claims(self, polyface, image):
        Path("out").mkdir()
        LINES.write_text('{"image": "b.png", "drawing": "../precious_out.jpg"}\n')
        detect(polyface, image("a.png"), image("b.png"), "--resume")
        assert (files(), lines()[1]["drawing"]) == (["a_out.jpg", "faces.jsonl"], "a_out.jpg")
        assert not Path("precious_out.jpg").exists()

    def test_of_an_image_that_is_named_twice_are_one(self, polyface, image):
        image("a.png")
        detect(polyface, "a.png", "a.png")
        assert (images(), files()) == (["a.png"], ["a_out.jpg", "faces.jsonl"])

    def test_whose_names_differ_in_case_or_in_the_form_of_an_accent_have_names_of_their_own(self):
        names = ["1/caf\u00e9.png", "2/cafe\u0301.png", "3/CAF\u00c9.png"]
        for _ in range(2):  # and have them again in the next run
            assert drawn(names) == ["caf\u00e9_out.jpg", "cafe\u0301-2_out.jpg", "CAF\u00c9-3_out.jpg"]

    def test_thousands_of_one_name_are_named_in_no_time(self):
        names = [f"{index}/0001.jpg" for index in range(2000)]
        for _ in range(2):
            assert drawn(names)[-1] == "0001-2000_out.jpg"
        assert len(files()) == 2000

    def test_are_found_again_whatever_the_order(self):
        names = [f"{index}/a.jpg" for index in range(5)]
        first = dict(zip(names, drawn(names), strict=True))
        assert dict(zip(reversed(names), drawn(names[::-1]), strict=True)) == first

    @pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xfe", b"no JPEG", "an image"])
    def test_do_not_take_the_place_of_a_file_of_somebody_else(self, polyface, image, content):
        image("out/a_out.jpg")
        if content != "an image":
            Path("out/a_out.jpg").write_bytes(content)
        Path("link.png").symlink_to("out/a_out.jpg")
        before = Path("out/a_out.jpg").read_bytes()
        for _ in range(2):
            polyface("detect", image("a.png"), "link.png", "--output", "out")
            assert lines()[0]["drawing"] == "a-2_out.jpg"
            LINES.unlink()
        assert Path("out/a_out.jpg").read_bytes() == before


class TestLinksInIt:
    """A folder of a stranger may hold links to the user's files."""

    @pytest.fixture(autouse=True)
    def precious(self):
        Path("precious").write_text("precious")
        Path("mine").mkdir()
        Path("out").mkdir()
        yield
        assert Path("precious").read_text() == "precious"
        assert list(Path("mine").iterdir()) == []

    def test_lines_that_are_a_link_are_refused(self, polyface, image):
        LINES.symlink_to("../precious")
        result = detect(polyface, image("a.png"), status=2)
        assert "The output out cannot be written to." in result.stderr
        assert "it is a link" in result.stderr

    def test_a_subfolder_that_is_a_link_fails_its_images_and_no_others(self, polyface, image):
        Path("out/sub").symlink_to("../mine")
        image("in/a.png")
        image("in/sub/b.png")
        result = detect(polyface, "in", status=1)
        assert "in/sub/b.png: its faces cannot be drawn: " in result.stderr
        assert [(line["image"], line["drawing"]) for line in lines()] == [
            ("in/a.png", "a_out.jpg"),
            ("in/sub/b.png", None),
        ]

    def test_a_link_in_the_place_of_a_drawing_is_somebody_elses(self, polyface, image):
        Path("out/a_out.jpg").symlink_to("../precious")
        detect(polyface, image("a.png"))
        assert Path("out/a_out.jpg").is_symlink()
        assert [line["drawing"] for line in lines()] == ["a-2_out.jpg"]


class TestAFullDisk:
    """A limit on the size of a file fails as a full disk does: it takes a part, and then refuses."""

    def run(self, limit, output="out"):
        return subprocess.run(
            [sys.executable, "-m", "polyface", "detect", "in", "--output", output],
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )

    @pytest.fixture(autouse=True)
    def images(self):
        for index in range(4):
            Path("in").mkdir(exist_ok=True)
            Image.effect_noise((300, 200), 80).convert("RGB").save(f"in/{index}.png")

    def test_leaves_no_half_of_a_drawing_and_ends_the_run(self):
        result = self.run(4096)
        assert result.returncode == 2, result.stderr
        assert "error: Cannot write to out." in result.stderr
        assert "0 of 4 images were done; what was written is whole" in result.stderr
        assert (files(), lines()) == (["faces.jsonl"], [])

    def test_leaves_no_half_of_a_line_and_says_what_was_done(self):
        assert self.run(4096, str(LINES)).returncode == 0
        whole = LINES.read_bytes().splitlines(keepends=True)
        LINES.unlink()
        result = self.run(len(whole[0]) + len(whole[1]) // 2, str(LINES))
        assert result.returncode == 2
        assert LINES.read_bytes() == whole[0]
        assert f"error: Cannot write to {LINES}." in result.stderr
        assert "1 of 4 images were done; what was written is whole" in result.stderr
        assert files() == ["faces.jsonl"]


def test_a_drawing_whose_name_is_too_long_is_named_in_its_error(polyface, image):
    detect(polyface, image(f"{'a' * 251}.png"), status=1)
    [line] = lines()
    assert "File name too long" in line["error"]
    assert f"{'a' * 251}_out.jpg" in line["error"]
    assert ".part" not in line["error"]


class TestAFolderThatGoesMeanwhile:
    def meanwhile(self, monkeypatch, act):
        """Have something done to the folder while the second image is looked at."""
        original, calls = FaceDetector._detect_window, []

        def acting(self, *args):
            calls.append(args)
            if len(calls) == 2:
                act()
            return original(self, *args)

        monkeypatch.setattr(FaceDetector, "_detect_window", acting)

    @pytest.mark.parametrize("again", [False, True], ids=["gone", "another in its place"])
    def test_moved_is_noticed_and_nothing_is_made_anew(self, polyface, image, monkeypatch, again):
        def act():
            Path("out").rename("there")
            if again:
                Path("out").mkdir()

        self.meanwhile(monkeypatch, act)
        result = detect(polyface, image("a.png"), image("b.png"), image("c.png"), *ONE_BY_ONE, status=2)
        assert "was removed, moved or replaced while it was written to" in result.stderr
        assert "1 of 3 images were done" in result.stderr
        assert [json.loads(line)["image"] for line in Path("there/faces.jsonl").read_text().splitlines()] == ["a.png"]
        assert not Path("there", LOCK).exists()
        assert list(Path("out").iterdir()) == [] if again else not Path("out").exists()

    @pytest.mark.parametrize("act", [LINES.unlink, lambda: Path("new").touch() or Path("new").replace(LINES)])
    def test_lines_that_are_removed_or_replaced_are_noticed(self, polyface, image, monkeypatch, act):
        self.meanwhile(monkeypatch, act)
        result = detect(polyface, image("a.png"), image("b.png"), *ONE_BY_ONE, status=2)
        assert "faces.jsonl was removed or replaced while it was written to" in result.stderr


def test_a_second_run_at_the_same_time_is_refused_and_the_first_goes_on(polyface, image):
    image("a.png")
    with Place(LINES.absolute(), folder=False) as lines_place, Place(Path("out").absolute(), folder=True):
        first = JsonLines(lines_place)
        first.write(Result(name="b.png"))
        result = detect(polyface, "a.png", "--resume", status=2)
        assert result.stderr.startswith(f"error: Another run writes to the folder {Path('out').resolve()}.\n")
        result = polyface("detect", "a.png", "--output", LINES, "--resume")
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(f"error: Another run writes to {LINES.resolve()}.\n")
        first.write(Result(name="c.png"))
        first.close()
    assert (images(), files()) == (["b.png", "c.png"], ["faces.jsonl"])


def test_where_no_file_can_be_locked_that_is_said(polyface, image, monkeypatch):
    monkeypatch.setattr("polyface.storage.places._lock", lambda _: False)
    result = detect(polyface, image("a.png"))
    assert result.stderr == "note: out lies where no file can be locked; one run at a time!\n"


def test_a_name_that_leads_out_is_refused():
    with pytest.raises(ImageError, match="its faces cannot be drawn") as caught:
        drawn(["1/../x.png"])
    assert "it leads out of the folder" in caught.value.why[0]


def test_an_output_folder_that_holds_a_folder_in_the_place_of_the_lines_is_refused(polyface, image):
    LINES.mkdir(parents=True)
    result = detect(polyface, image("a.png"), status=2)
    assert "The output out cannot be written to." in result.stderr


class TestOutputs:
    def test_are_chosen_by_their_endings_and_may_be_several(self, polyface, image):
        result = polyface("detect", image("a.png"), "--output", "faces.jsonl")
        assert result.exit_code == 0
        assert sorted(path.name for path in Path().iterdir() if path.is_file()) == ["a.png", "faces.jsonl"]
        assert json.loads(Path("faces.jsonl").read_text())["image"] == "a.png"

    def test_that_no_writer_makes_are_refused_before_any_work(self, polyface, image):
        result = polyface("detect", image("a.png"), "--output", "faces.jsnl")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "No writer makes a file '.jsnl'; did you mean '.jsonl'?" in result.stderr
        assert "--output faces.jsnl/" in result.stderr

    def test_are_folders_where_the_name_ends_so_or_the_folder_is_there(self, polyface, image):
        Path("run.2").mkdir()
        for output in ("run.1/", "run.2"):
            assert polyface("detect", image("a.png"), "--output", output).exit_code == 0
            assert Path(output, "faces.jsonl").is_file()

    def test_that_are_none_have_nothing_to_resume(self, polyface, image):
        result = polyface("detect", image("a.png"), "--resume")
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == (
            "error: There is nothing to resume.\n"
            "  - a file of results says what a run before has done, and no output is one\n"
            "To fix it: add one: --output jsonl:faces.jsonl\n"
        )

    def test_name_each_images_drawing(self, polyface, image):
        beside = ("--output", "out/faces.csv", "--output", "out/faces.coco.json")
        detect(polyface, image("one/a.png"), image("two/a.png"), "b.png", *beside, status=1)
        drawings = ["a_out.jpg", "a-2_out.jpg"]
        assert [line["drawing"] for line in lines()] == [*drawings, None]
        with Path("out/faces.csv").open(newline="", encoding="utf-8") as stream:
            assert [row["drawing"] for row in csv.DictReader(stream)] == [*drawings, ""]
        images = json.loads(Path("out/faces.coco.json").read_text())["images"]
        assert [image["drawing"] for image in images] == drawings

    def test_may_name_their_writer(self, polyface, image):
        assert polyface("detect", image("a.png"), "--output", "jsonl:faces.txt").exit_code == 0
        assert polyface("detect", image("a.png"), "--output", "images:drawn").exit_code == 0
        assert json.loads(Path("faces.txt").read_text())["image"] == "a.png"
        assert sorted(path.name for path in Path("drawn").iterdir()) == ["a_out.jpg", "faces.jsonl"]
        [line] = map(json.loads, Path("drawn/faces.jsonl").read_text().splitlines())
        assert (line["image"], line["drawing"]) == ("a.png", "a_out.jpg")
