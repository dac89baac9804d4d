"""``polyface detect``: what it reads, writes and prints."""

from __future__ import annotations

import itertools
import json
import os
import pty
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

import polyface.jobs.run
import polyface.pipeline.timing
from polyface.pipeline.detector import FaceDetector

# The toy's cell is pure red: its box is the cell, its logits are -4 and 4, and 1 / (1 + exp(-8)) is 0.999665.
FACE = {"box": [16, 8, 24, 16], "score": 0.99966}


def lines(text):
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_an_image_gives_one_line_with_these_keys_in_this_order(polyface, image):
    result = polyface("detect", image("a.png"), "--json")
    assert result.exit_code == 0
    [line] = lines(result.stdout)
    assert list(line) == ["image", "width", "height", "faces", "truncated", "error"]
    kept = {"faces": [FACE], "truncated": False, "error": None}
    assert line == {"image": "a.png", "width": 64, "height": 48, **kept}


def test_an_image_without_faces_has_an_empty_list(polyface):
    Image.new("RGB", (40, 30)).save("black.png")
    [line] = lines(polyface("detect", "black.png", "--json").stdout)
    nothing = {"faces": [], "truncated": False, "error": None}
    assert line == {"image": "black.png", "width": 40, "height": 30, **nothing}


def test_size_and_boxes_are_those_of_the_image_as_it_is_shown(polyface, image):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # shown after a quarter turn clockwise: (x, y) comes to (48 - y, x)
    image("turned.png", exif=exif)
    [line] = lines(polyface("detect", "turned.png", "--json").stdout)
    assert (line["width"], line["height"]) == (48, 64)
    assert [face["box"] for face in line["faces"]] == [[32, 16, 40, 24]]


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_at_a_fixed_size_boxes_stay_in_pixels_of_the_image(polyface, image, fit):
    # 64x48 becomes 128x96, of the letterbox or of all: a face of four red cells for the one of before, twice as fine.
    result = polyface("detect", image("a.png"), "--json", "--infer-size", "96x128", "--fit", fit)
    [line] = lines(result.stdout)
    assert (line["width"], line["height"]) == (64, 48)
    # Enlarging blurs the edges, which moves the boxes by a tenth of a pixel.
    boxes = [[16, 8, 20, 12], [20, 8, 24, 12], [16, 12, 20, 16], [20, 12, 24, 16]]
    np.testing.assert_allclose([face["box"] for face in line["faces"]], boxes, atol=0.2)


@pytest.mark.parametrize(
    "options",
    [
        ("--flip",),
        ("--flip", "--merge", "vote"),
        ("--tile", "32", "--tile-overlap", "0.5"),
        ("--preset", "widerface-original"),
    ],
    ids=" ".join,
)
def test_a_test_time_strategy_finds_the_same_face(polyface, image, options):
    [line] = lines(polyface("detect", image("a.png"), "--json", "--score-threshold", "0.9", *options).stdout)
    assert line["faces"] == [FACE]


@pytest.fixture
def ticking(monkeypatch):
    """A clock that is a second later each time one looks."""
    clock = types.SimpleNamespace(perf_counter=itertools.count(0.0).__next__)
    monkeypatch.setattr(polyface.jobs.run, "time", clock)
    monkeypatch.setattr(polyface.pipeline.timing, "time", clock)


# Decoding and NMS have two spans each.
SECONDS = {"read": 1, "prepare": 1, "network": 1, "trim": 0, "decode": 2, "nms": 2}


def test_with_timing_each_line_has_the_seconds_of_each_stage(polyface, image, ticking):
    result = polyface("detect", image("a.png"), "broken.png", "--json", "--timing", "--output", "out", "--workers", 0)
    line, broken = lines(result.stdout)
    assert list(line) == ["image", "width", "height", "faces", "truncated", "drawing", "error", "timing"]
    assert list(line["timing"].items()) == [*SECONDS.items(), ("write", 2)]  # the drawing, and the line in the file
    assert "timing" not in broken


def test_with_timing_a_table_says_where_the_time_went(polyface, image, ticking):
    result = polyface(
        "detect", image("a.png"), image("b.png"), "broken.png", "--timing", "--output", "out", "--workers", 0
    )
    table = result.stdout[result.stdout.index("Where the time went") :]
    rows = [line.split() for line in table.splitlines() if " s " in line]
    # Two images go through the network together; decoding them has a span for both and one for each.
    assert rows == [
        ["read", "2.000", "s", "1000.00", "ms", "13.3%"],
        ["prepare", "1.000", "s", "500.00", "ms", "6.7%"],
        ["network", "1.000", "s", "500.00", "ms", "6.7%"],
        ["trim", "0.000", "s", "0.00", "ms", "0.0%"],
        ["decode", "3.000", "s", "1500.00", "ms", "20.0%"],
        ["NMS", "4.000", "s", "2000.00", "ms", "26.7%"],
        ["write", "4.000", "s", "2000.00", "ms", "26.7%"],
        ["all", "15.000", "s", "7500.00", "ms", "100.0%"],
    ]


def test_a_table_of_images_that_could_not_be_drawn_divides_by_all_that_were_timed(polyface):
    Image.new("RGB", (66_000, 12)).save("wide.png")  # a JPEG has at most 65,500 pixels a side
    result = polyface("detect", "wide.png", "--timing", "--output", "out", "--max-side", "64")
    assert (result.exit_code, result.stderr.partition(":")[0]) == (1, "wide.png")
    assert "Where the time went" in result.stdout


def test_without_timing_there_is_no_such_table(polyface, image):
    assert "Where the time went" not in polyface("detect", image("a.png")).stdout


def test_an_unknown_preset_is_an_error_of_usage(polyface, image):
    result = polyface("detect", image("a.png"), "--preset", "widerface")
    assert result.exit_code == 2
    assert "There is no preset 'widerface'; did you mean 'widerface-1600'" in result.stderr


def test_folders_are_walked_in_order_and_files_are_taken_as_named(polyface, image):
    for name in ("shots/b.png", "shots/a.PNG", "shots/sub/c.webp", "shots/sub/deep/d.bmp", "z.png", "y.dat"):
        image(name, format="PNG")
    (image("shots/notes.png").with_name("notes.txt")).write_text("not an image")
    result = polyface("detect", "z.png", "shots", "y.dat", "--json")
    assert result.exit_code == 0
    assert [line["image"] for line in lines(result.stdout)] == [
        "z.png",
        "shots/a.PNG",
        "shots/b.png",
        "shots/notes.png",
        "shots/sub/c.webp",
        "shots/sub/deep/d.bmp",
        "y.dat",
    ]


def test_output_holds_a_drawing_of_each_image_and_the_lines(polyface, image, folder):
    image("shots/a.png")
    image("shots/sub/b.png", 80, 56)
    result = polyface("detect", "shots", "--output", "out", "--json")
    assert result.exit_code == 0
    assert files(folder / "out") == ["a_out.jpg", "faces.jsonl", "sub/b_out.jpg"]
    assert (folder / "out/faces.jsonl").read_text(encoding="utf-8") == result.stdout
    with Image.open("out/sub/b_out.jpg") as drawing:
        assert (drawing.format, drawing.size) == ("JPEG", (80, 56))
        red, green, _ = drawing.convert("RGB").getpixel((16, 12))  # on the left edge of the box
        assert green > red + 60


def test_the_folder_of_the_output_is_made_with_its_parents(polyface, image, folder):
    assert polyface("detect", image("a.png"), "--output", "some/where/new").exit_code == 0
    assert files(folder / "some/where/new") == ["a_out.jpg", "faces.jsonl"]


def test_images_of_one_name_lose_nothing(polyface, image, folder):
    for name in ("in/a.jpg", "in/a.png", "in/A.bmp", "in/a-2.png", "in/sub/a.jpg", "more/A.jpg"):
        image(name)
    assert polyface("detect", "in", "more", "--output", "out").exit_code == 0
    drawings = [name for name in files(folder / "out") if name.endswith("_out.jpg")]
    assert len(drawings) == 6
    assert len({name.casefold() for name in drawings}) == 6
    assert "sub/a_out.jpg" in drawings
    assert len(lines((folder / "out/faces.jsonl").read_text())) == 6


def test_an_output_folder_inside_the_input_is_not_read_again(polyface, image):
    image("in/a.png")
    first = polyface("detect", "in", "--output", "in/out", "--json")
    image("in/b.png")
    second = polyface("detect", "in", "--output", "in/out", "--json", "--resume")
    assert [line["image"] for line in lines(first.stdout)] == ["in/a.png"]
    assert [line["image"] for line in lines(second.stdout)] == ["in/b.png"]


def test_json_prints_the_lines_and_nothing_else(polyface, image):
    broken = image("b.png").with_name("broken.png")
    broken.write_bytes(b"no")
    result = polyface("detect", image("a.png"), broken, "--json")
    assert [line["image"] for line in lines(result.stdout)] == ["a.png", "broken.png"]
    assert "2 images, 1 failed" in result.stderr


def detect_on_a_terminal(*arguments):
    """Return what comes on standard output, and what is shown on the terminal that standard error is."""
    bar, terminal = pty.openpty()
    command = [sys.executable, "-m", "polyface", "detect", *map(str, arguments)]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal, text=True, check=True)
    os.close(terminal)
    shown = os.read(bar, 10_000)
    os.close(bar)
    return result.stdout, shown


def test_a_progress_bar_on_a_terminal_stays_out_of_the_json(image):
    stdout, shown = detect_on_a_terminal(image("a.png"), "--json")
    assert [line["faces"] for line in lines(stdout)] == [[FACE]]
    assert b"1/1" in shown
    assert b"/s, 0:00:00 left" in shown


def test_a_progress_bar_counts_what_was_done_before(polyface, image):
    polyface("detect", image("a.png"), "--output", "faces.jsonl")
    _, shown = detect_on_a_terminal("a.png", image("b.png"), "--output", "faces.jsonl", "--resume")
    assert b"2/2" in shown


def test_where_the_json_is_on_the_terminal_there_is_no_progress_bar(image):
    screen, terminal = pty.openpty()
    command = [sys.executable, "-m", "polyface", "detect", str(image("a.png")), "--json"]
    subprocess.run(command, stdout=terminal, stderr=terminal, check=True)
    os.close(terminal)
    shown = os.read(screen, 10_000)
    os.close(screen)
    assert b'"faces": [{"box"' in shown
    assert b"1/1" not in shown


def test_a_table_of_images_and_faces_ends_the_run(polyface, image):
    image("shots/a.png")
    Image.new("RGB", (40, 30)).save("shots/b.png")
    result = polyface("detect", "shots")
    table = [line.split() for line in result.stdout.splitlines() if line.strip(" ─")]
    assert table[0] == ["example-redbox", "on", "numpy,", "cpu,", "fp32"]
    assert table[1] == ["Image", "Faces"]
    assert table[2:4] == [["shots/a.png", "1"], ["shots/b.png", "0"]]
    assert (table[4][:2], table[4][-2:]) == (["2", "images,"], ["s", "1"])
    assert result.stderr == ""


def test_a_table_that_is_piped_folds_nothing(polyface, image):
    name = "x" * 150 + ".png"
    assert name in polyface("detect", image(name)).stdout


def test_a_long_run_is_summed_up(polyface, image):
    for index in range(23):
        image(f"shots/{index:02}.png")
    output = polyface("detect", "shots").stdout
    assert "shots/19.png" in output
    assert "shots/20.png" not in output
    assert "... and 3 more" in output
    assert "23 images" in output


def test_boxes_reach_beyond_the_image_unless_clip_is_asked_for(polyface, image):
    cut = image("cut.png", width=20)
    # The left half of the cell at (16, 8) is red, the right half grey padding. So the logits are equal, and the box
    # moves left by 2 pixels, a quarter of a cell.
    plain = lines(polyface("detect", cut, "--json", "--score-threshold", "0.4").stdout)
    assert plain[0]["faces"] == [{"box": [14, 8, 22, 16], "score": 0.5}]
    clipped = lines(polyface("detect", cut, "--json", "--score-threshold", "0.4", "--clip").stdout)
    assert clipped[0]["faces"] == [{"box": [14, 8, 20, 16], "score": 0.5}]


def test_a_score_threshold_above_every_score_leaves_no_face(polyface, image):
    [line] = lines(polyface("detect", image("a.png"), "--json", "--score-threshold", "0.9999").stdout)
    assert line["faces"] == []


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 4000), (4000, 1)])
def test_an_image_of_a_single_line_or_pixel_is_read(polyface, width, height, folder):
    Image.new("RGB", (width, height)).save("thin.png")
    result = polyface("detect", "thin.png", "--output", "out", "--json")
    assert result.exit_code == 0
    [line] = lines(result.stdout)
    assert (line["width"], line["height"], line["faces"]) == (width, height, [])
    with Image.open("out/thin_out.jpg") as drawing:
        assert drawing.size == (width, height)


def test_a_name_that_is_not_utf8_is_escaped_in_json_and_drawn_under_its_own(polyface, image, folder):
    name = os.fsdecode(b"caf\xe9-\xc3\xa9.png")
    try:
        image("plain.png").rename(name)
    except OSError:
        pytest.skip("this file system wants names in UTF-8")
    result = polyface("detect", name, "--output", "out", "--json")
    assert result.exit_code == 0
    assert '"caf\\udce9-é.png"' in result.stdout
    assert (folder / "out" / os.fsdecode(b"caf\xe9-\xc3\xa9_out.jpg")).is_file()
    assert lines((folder / "out/faces.jsonl").read_text(encoding="utf-8"))[0]["image"] == name
    assert "caf\\udce9-é.png" in polyface("detect", name).stdout


def test_brackets_in_names_are_no_markup(polyface, image):
    assert "[red]a.png" in polyface("detect", image("[red]a.png")).stdout


def test_every_image_is_read_with_exit_status_0_even_if_it_has_no_face(polyface):
    Image.new("L", (32, 32)).save("grey.png")
    assert polyface("detect", "grey.png").exit_code == 0


# 12,000 x 9,000 RGB pixels are 324 MB. Pillow holds them in 4 bytes each while they are copied out: 2.33 times as much,
# and some for the interpreter.
DECODED = 12_000 * 9_000 * 3
PEAK = """
import re, sys
from pathlib import Path
from polyface.cli import main
try:
    main(sys.argv[1:])
finally:
    print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1], file=sys.stderr)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from Linux's /proc")
def test_an_image_of_108_megapixels_takes_less_than_three_times_its_pixels(folder):
    Image.new("RGB", (12_000, 9_000), "navy").save("huge.jpg")
    command = [sys.executable, "-c", PEAK, "detect", "huge.jpg", "--max-side", "1024", "--output", "out", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    [line] = lines(result.stdout)
    assert (line["width"], line["height"], line["error"]) == (12_000, 9_000, None)
    assert int(result.stderr.split()[-1]) * 1024 < 3 * DECODED
    assert files(folder / "out") == ["faces.jsonl", "huge_out.jpg"]


@pytest.mark.parametrize("output", [(), ("--output", "out")])
def test_a_draft_is_looked_at_and_drawn_and_the_whole_image_is_described(polyface, folder, monkeypatch, output):
    pixels = np.zeros((384, 512, 3), np.uint8)
    pixels[64:128, 128:192] = 255, 0, 0
    Image.fromarray(pixels).save("large.jpg", quality=100, subsampling=0)
    seen = []
    read = FaceDetector.read
    monkeypatch.setattr(FaceDetector, "read", lambda *args: seen.append(read(*args)) or seen[-1])
    [line] = lines(polyface("detect", "large.jpg", "--max-side", 64, "--draft", "--json", *output).stdout)
    assert [image.pixels.shape for image in seen] == [(96, 128, 3)]
    assert (line["width"], line["height"], line["error"]) == (512, 384, None)
    [face] = line["faces"]
    # The network's pixels are 8 of the image's.
    assert np.abs(np.subtract(face["box"], [128, 64, 192, 128])).max() <= 8
    if output:
        with Image.open(folder / "out/large_out.jpg") as drawn:
            assert drawn.size == (128, 96)
            # The box, in the draft's pixels, is drawn round the red square there.
            assert drawn.getpixel((round(face["box"][0] / 4), round(face["box"][3] / 4) - 4))[1] > 150


@pytest.mark.parametrize(("preset", "count"), [((), 1000), (("--preset", "widerface-original"), 750)])
def test_a_thousand_faces_come_back_and_a_limit_that_cuts_them_is_told(polyface, preset, count):
    Image.new("RGB", (320, 200), (255, 0, 0)).save("crowd.png")  # 40 x 25 cells, a face each
    result = polyface("detect", "crowd.png", "--output", "faces.jsonl", *preset)
    [line] = lines(Path("faces.jsonl").read_text())
    cut = count < 1000
    assert (len(line["faces"]), line["truncated"]) == (count, cut)
    said = f"crowd.png: note: a limit cut the faces at {count}; there were more over the threshold"
    assert (said in result.stderr) is cut


def test_without_memory_for_one_image_the_rest_is_done(polyface, image, monkeypatch):
    detect = FaceDetector._detect_window

    def hungry(self, images, *args):
        if any(image.shape[1] == 800 for image in images.values()):
            raise MemoryError
        return detect(self, images, *args)

    monkeypatch.setattr(FaceDetector, "_detect_window", hungry)
    result = polyface("detect", image("a.png", 800), image("b.png"), "--json")
    assert result.exit_code == 1
    first, second = lines(result.stdout)
    assert first["error"] == "does not fit into memory"
    assert result.stderr.startswith("a.png: does not fit into memory; to fix it: ")
    assert (second["faces"], second["error"]) == ([FACE], None)
