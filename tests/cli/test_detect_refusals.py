"""``polyface detect`` on bad images and bad settings: what is said, what is still done, and the exit status."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from polyface.errors import ContractError


def truncated_jpeg():
    Image.effect_noise((200, 200), 50).save("whole.jpg")
    whole = Path("whole.jpg").read_bytes()
    Path("bad.jpg").write_bytes(whole[: len(whole) // 2])


def text_file():
    Path("bad.jpg").write_text("this is no image")


def empty_file():
    Path("bad.jpg").touch()


def header_alone():
    Image.new("RGB", (64, 64)).save("whole.jpg")
    Path("bad.jpg").write_bytes(Path("whole.jpg").read_bytes()[:300])


def empty_folder():
    Path("bad.jpg").mkdir()
    Path("bad.jpg/notes.txt").write_text("no image here")


def nothing():
    pass


def dangling_link():
    Path("bad.jpg").symlink_to("nowhere.jpg")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (text_file, "is not an image in a format that is read: its 16 bytes do not begin as an image does"),
        (empty_file, "is not an image in a format that is read: it is empty (0 bytes)"),
        (truncated_jpeg, "cannot be decoded: it is cut short: its last pixels are missing"),
        (header_alone, "cannot be decoded: "),
        (empty_folder, "the folder has no images"),
        (nothing, "there is no such file or folder"),
        (dangling_link, "there is no such file or folder"),
    ],
)
def test_a_bad_input_is_named_with_its_reason_and_the_rest_is_done(polyface, image, folder, make, reason):
    make()
    result = polyface("detect", "bad.jpg", image("good.png"), "--output", "out", "--json")
    assert result.exit_code == 1
    bad, good = map(json.loads, result.stdout.splitlines())
    assert bad["error"].startswith(reason)
    nothing = {"width": None, "height": None, "faces": [], "truncated": False, "drawing": None}
    assert bad == {"image": "bad.jpg", **nothing, "error": bad["error"]}
    assert result.stderr.startswith(f"bad.jpg: {bad['error']}")
    assert (len(good["faces"]), good["error"]) == (1, None)
    assert (folder / "out/faces.jsonl").read_text() == result.stdout
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["faces.jsonl", "good_out.jpg"]


def test_an_image_of_too_many_pixels_is_refused_with_the_option_that_reads_it(polyface):
    Image.new("RGB", (50, 41)).save("bomb.png")
    result = polyface("detect", "bomb.png", "--json", "--max-pixels", "2049")
    assert result.exit_code == 1
    error = json.loads(result.stdout)["error"]
    assert error.startswith("has too many pixels: 50x41: at most 2,049 are read")
    assert "to fix it: if you trust it: --max-pixels 2050" in result.stderr
    assert polyface("detect", "bomb.png", "--max-pixels", "2050").exit_code == 0


def test_a_draft_within_the_limit_is_looked_at_and_drawn_where_the_whole_is_beyond_it(polyface, folder):
    Image.new("RGB", (512, 384)).save("large.jpg")
    options = ("--max-side", "64", "--draft", "--output", "out", "--json")
    [line] = map(json.loads, polyface("detect", "large.jpg", "--max-pixels", "196607", *options).stdout.splitlines())
    assert (line["width"], line["height"], line["drawing"], line["error"]) == (512, 384, "large_out.jpg", None)


def test_an_image_that_pillow_only_warns_of_is_read_without_a_word(polyface, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.new("RGB", (40, 40)).save("large.png")
    result = polyface("detect", "large.png")
    assert (result.exit_code, result.stderr) == (0, "")


def test_a_folder_that_cannot_be_listed_is_named_and_the_rest_is_done(polyface, image, monkeypatch):
    image("in/a.png")
    image("in/closed/b.png")
    scandir = os.scandir

    def guarded(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    result = polyface("detect", "in", "--json")
    assert result.exit_code == 1
    assert [(line["image"], line["error"]) for line in map(json.loads, result.stdout.splitlines())] == [
        ("in/a.png", None),
        ("in/closed", "the folder cannot be listed: Permission denied"),
    ]


def test_the_current_folder_without_images_is_named(polyface):
    result = polyface("detect", ".")
    assert (result.exit_code, result.stderr) == (1, ".: the folder has no images\n")


def refuse(result, *words):
    """Usage and configuration: status 2, a message, nothing on standard output, no traceback."""
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--detector", "example-redbx"], ["no detector named 'example-redbx'; did you mean 'example-redbox'?"]),
        (["--backend", "nunpy"], ["no backend named 'nunpy'; did you mean 'numpy'?", "available: ", "To fix it: "]),
        (["--device", "cpi"], ["has no device 'cpi' (it has cpu); did you mean 'cpu'?", "--device cpu"]),
        (["--device", "cuda"], ["has no device 'cuda' (it has cpu)", "--device cpu"]),
        (["--device", "cpu:1"], ["cannot run on device 'cpu:1'", "found cpu: fp32"]),
        (["--precision", "fp3"], ["does not run in 'fp3'", "did you mean 'fp32'?", "--precision fp32"]),
        (["--precision", "fp16"], ["does not run in 'fp16'", "it has fp32"]),
        (["--weights", "wider"], ["'example-redbox' has no weights named 'wider'", "it has: none"]),
        (["--weights", "mine.pth"], ["no file of weights at ", "mine.pth"]),
        (["--score-threshold", "1.5"], ["score_threshold must be a number from 0 to 1, not '1.5' (option)."]),
        (["--iou-threshold", "much"], ["iou_threshold must be a number from 0 to 1, not 'much' (option)."]),
        (["--max-side", "0"], ["max_side must be a whole number from 1 to 65536, not '0' (option)."]),
        (["--pad-to", "3.5"], ["pad_to must be a whole number from 1 to 65536, not '3.5' (option)."]),
        (["--backend-options", "threds=2"], ["The backend 'numpy' has no option 'threds'"]),
        (["--config", "nowhere.toml"], ["nowhere.toml cannot be read."]),
        (["--detecter", "x"], ["No such option", "--detecter", "--detector"]),
    ],
)
def test_an_option_that_cannot_be_had_is_refused_and_the_nearest_offered(polyface, image, arguments, words):
    refuse(polyface("detect", image("a.png"), *arguments), *words)


def test_an_unknown_command_offers_the_nearest(polyface):
    refuse(polyface("detct", "a.png"), "No such command 'detct'; did you mean 'detect' or 'detectors' or 'fetch'?")


def test_detect_without_an_image_is_a_usage_error(polyface):
    refuse(polyface("detect"), "Missing argument")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("polyface.toml", "score_treshold = 0.5", ["no setting 'score_treshold'", "did you mean 'score_threshold'"]),
        ("polyface.toml", "pad_to = 'wide'", ["pad_to must be a whole number", "polyface.toml"]),
        ("polyface.toml", "pad_to =", ["polyface.toml is not valid TOML."]),
        ("pyproject.toml", "[tool.polyface]\nbackends = 'numpy'", ["no setting 'backends'", "did you mean 'backend'"]),
    ],
)
def test_a_bad_key_in_a_file_is_refused_and_the_file_named(polyface, image, name, text, words):
    Path(name).write_text(text)
    refuse(polyface("detect", image("a.png")), name, *words)


def test_a_bad_variable_is_refused_and_named(polyface, image):
    refuse(
        polyface("detect", image("a.png"), POLYFACE_DETECTORS="x"),
        "no setting POLYFACE_DETECTORS (environment); did you mean 'POLYFACE_DETECTOR'",
    )


def test_a_file_in_the_place_of_the_output_folder_is_refused_before_any_work(polyface, image):
    Path("out").write_text("in the way")
    refuse(polyface("detect", image("a.png"), "--output", "out"), "The output out cannot be written to.")
    refuse(polyface("detect", "a.png", "--output", "out/below"), "The output out/below cannot be written to.")
    assert Path("out").read_text() == "in the way"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_folder_without_permission_is_refused(polyface, image):
    Path("out").mkdir(mode=0o500)
    refuse(polyface("detect", image("a.png"), "--output", "out"), "The output out cannot be written to.")


def lines_of(folder):
    return [json.loads(line) for line in Path(folder, "faces.jsonl").read_text().splitlines()]


def test_a_drawing_that_cannot_be_written_fails_its_image_and_no_other(polyface, image):
    image("in/a/z.png")
    image("in/b.png")
    Path("out").mkdir()
    Path("out/a").write_text("in the way")
    result = polyface("detect", "in", "--output", "out")
    assert result.exit_code == 1
    assert "in/a/z.png: its faces cannot be drawn: " in result.stderr
    good, bad = lines_of("out")
    assert (good["image"], good["error"]) == ("in/b.png", None)
    assert (bad["image"], bad["width"], len(bad["faces"])) == ("in/a/z.png", 64, 1)
    assert bad["error"].startswith("its faces cannot be drawn: ")


def test_a_name_as_long_as_names_can_be_is_drawn(polyface, image):
    image(f"in/{'n' * 247}.png")
    assert polyface("detect", "in", "--output", "out").exit_code == 0
    assert Path(f"out/{'n' * 247}_out.jpg").is_file()


def test_a_full_disk_ends_the_run_with_its_reason(polyface, image, monkeypatch):
    image("in/a.png")

    def full(self, name=None):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("polyface.storage.places.Place.atomic_write", full)
    refuse(polyface("detect", "in", "--output", "out"), "Cannot write to out.", "No space left on device")


def test_a_drawing_never_takes_the_place_of_an_image(polyface, image):
    image("p/a.png")
    image("p/a_out.jpg")
    before = Path("p/a_out.jpg").read_bytes()
    assert polyface("detect", "p/a.png", "p/a_out.jpg", "--output", "p").exit_code == 0
    assert Path("p/a_out.jpg").read_bytes() == before
    assert [line["drawing"] for line in lines_of("p")] == ["a-2_out.jpg", "a_out_out.jpg"]


def test_a_pipe_in_a_folder_is_counted_and_not_waited_on(polyface, image):
    image("in/a.png")
    os.mkfifo("in/b.png")
    result = polyface("detect", "in", "--json")
    assert [json.loads(line)["image"] for line in result.stdout.splitlines()] == ["in/a.png"]
    assert "left out: pipes and devices (1)" in result.stderr


def test_an_empty_name_is_refused(polyface):
    refuse(polyface("detect", ""), "An empty text names no image.", "unset")


@pytest.mark.parametrize("output", ["loop", "~no-such-user/out", "a\0b"])
def test_an_output_folder_that_cannot_be_is_refused(polyface, image, output):
    image("a.png")
    Path("loop").symlink_to("loop")
    result = polyface("detect", "a.png", "--output", output)
    assert result.exit_code == 2
    assert "error: " in result.stderr


def test_control_characters_in_a_name_do_not_reach_the_terminal(polyface):
    Path("a\x1b[31m\n.png").write_bytes(b"")
    result = polyface("detect", "a\x1b[31m\n.png")
    assert result.stderr.startswith("a\\x1b[31m\\n.png: ")
    assert "\x1b" not in result.stdout + result.stderr


@pytest.mark.parametrize("output", ["in", "in/", "./in", "in/../in", "link"])
def test_the_input_folder_is_refused_as_the_output_folder(polyface, image, output):
    image("in/a.png")
    Path("link").symlink_to("in")
    refuse(polyface("detect", "in", "--output", output), "is the folder to read", "--output in/out")
    assert [path.name for path in Path("in").iterdir()] == ["a.png"]


def test_a_plugin_that_breaks_its_contract_ends_the_run_at_once(polyface, image, monkeypatch):
    def run(self, inputs):
        raise ContractError("The network returned nothing.")

    monkeypatch.setattr("polyface_example.backend.NumpySession.run", run)
    refuse(polyface("detect", image("a.png"), image("b.png"), "--json"), "error: The network returned nothing.")
