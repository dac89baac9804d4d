"""``polyface anonymize`` and the drawings of ``polyface detect`` on videos, from the command to the file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

av = pytest.importorskip("av", reason="needs PyAV: pip install polyface-video")

import polyface_video.plugin  # noqa: E402
import polyface_video.videos  # noqa: E402

COUNT = 30
HIDDEN = range(12, 22)
"""Frames in which the toy detector finds nothing: half of the square is covered by a bar."""


def square(number):
    """A black image with a red square of 8 pixels, which is what the toy detector takes for a face."""
    image = np.zeros((96, 160, 3), np.uint8)
    image[40:48, 64:72] = 255, 0, 0
    if number in HIDDEN:
        image[40:48, 64:69] = 0, 0, 255
    return image


@pytest.fixture
def clip(make_clip):
    return make_clip("clip.mkv", codec="ffv1", images=[square(number) for number in range(COUNT)])


FILL = ("--how", "fill", "--shape", "box")


def red(path):
    """The numbers of frames in which there is red, and how many frames there are."""
    with av.open(str(path)) as opened:
        frames = [one.to_ndarray(format="rgb24").astype(int) for one in opened.decode(video=0)]
    return [number for number, image in enumerate(frames) if (image[:, :, 0] - image[:, :, 1] > 100).any()], len(frames)


def test_the_toy_detector_misses_what_is_half_hidden(polyface_command, clip):
    assert polyface_command("detect", "clip.mkv", "--output", "faces.jsonl").exit_code == 0
    counts = [len(json.loads(line)["faces"]) for line in Path("faces.jsonl").read_text().splitlines()]
    assert counts == [int(number not in HIDDEN) for number in range(COUNT)]
    assert red(clip) == (list(range(COUNT)), COUNT)


@pytest.mark.parametrize("options", [(), ("--track",), ("--every", 5), ("--fps", 8, "--track"), ("--batch-size", 4)])
def test_anonymize_leaves_no_face_in_any_frame(options, polyface_command, clip, tmp_path):
    done = polyface_command("anonymize", "clip.mkv", "--output", "safe.mkv", *FILL, *options)
    assert done.exit_code == 0, done.output
    assert "making safe.mkv of what was found" in done.output
    assert red("safe.mkv") == ([], COUNT)


def test_anonymize_of_a_part_writes_that_part(polyface_command, clip, tmp_path):
    part = ("--start", 0.195, "--end", 0.995, "--every", 3)
    done = polyface_command("anonymize", "clip.mkv", "--output", "safe.mkv", "--output", "faces.jsonl", *part, *FILL)
    assert done.exit_code == 0, done.output
    assert red("safe.mkv") == ([], 20)
    assert len(Path("faces.jsonl").read_text().splitlines()) == 20


def test_anonymize_reuses_the_faces_that_detect_found(polyface_command, clip, tmp_path, monkeypatch):
    assert polyface_command("detect", "clip.mkv", "--track", "--output", "faces.jsonl").exit_code == 0
    given = ("anonymize", "clip.mkv", "--faces", "faces.jsonl", "--resume", *FILL)
    done = polyface_command(*given, "--output", "safe.mkv")
    assert done.exit_code == 0, done.output
    assert "30 done before" in done.output
    assert red("safe.mkv") == ([], COUNT)
    assert polyface_command(*given, "--output", "kept.mkv", "--keep-ids", "1").exit_code == 0
    assert red("kept.mkv") == (list(range(COUNT)), COUNT)
    assert polyface_command(*given, "--output", "other.mkv", "--keep-ids", "2").exit_code == 0
    assert red("other.mkv") == ([], COUNT)


def test_anonymize_that_is_interrupted_makes_no_file_and_goes_on(polyface_command, clip, tmp_path, monkeypatch):
    write = polyface_video.videos.AnonymizedVideo.write

    def interrupt(self, result):
        if result.extra["frame"] == 15:
            raise KeyboardInterrupt
        write(self, result)

    monkeypatch.setattr(polyface_video.videos.AnonymizedVideo, "write", interrupt)
    assert polyface_command("anonymize", "clip.mkv", "--output", "safe.mkv", *FILL).exit_code == 130
    assert not (tmp_path / "safe.mkv").exists()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    refused = polyface_command("anonymize", "clip.mkv", "--output", "safe.mkv", *FILL)
    assert refused.exit_code == 2
    done = polyface_command("anonymize", "clip.mkv", "--output", "safe.mkv", "--resume", *FILL)
    assert "15 done before" in done.output
    assert red("safe.mkv") == ([], COUNT)


def test_anonymize_of_a_damaged_video_ends_where_that_ends_or_makes_no_file(polyface_command, make_clip, tmp_path):
    clip = make_clip("clip.mkv", codec="ffv1", images=[square(number % COUNT) for number in range(90)])
    data = clip.read_bytes()
    clip.write_bytes(data[: len(data) * 2 // 3])
    done = polyface_command("anonymize", "clip.mkv", "--output", "safe.mkv", "--max-errors", 0, *FILL)
    assert done.exit_code == 1
    assert not (tmp_path / "safe.mkv").exists()
    done = polyface_command("anonymize", "clip.mkv", "--output", "tail.mkv", *FILL)
    assert done.exit_code == 1
    frames, count = red("tail.mkv")
    assert frames == []
    assert 50 < count < 65


def test_anonymize_of_a_video_whose_name_ffmpeg_would_take_for_an_address(polyface_command, clip, tmp_path):
    (tmp_path / "clip.mkv").rename("12:30.mkv")
    done = polyface_command("anonymize", "12:30.mkv", "--output", "safe.mkv", *FILL)
    assert done.exit_code == 0, done.output
    assert red("safe.mkv") == ([], COUNT)


def test_anonymize_makes_a_video_of_numbered_images(polyface_command, tmp_path):
    (tmp_path / "shots").mkdir()
    for number in range(COUNT):
        Image.fromarray(square(number)).save(tmp_path / f"shots/{number + 100:05}.png")
    given = ("anonymize", "frames:shots/%05d.png", "--output", "safe.mkv", *FILL)
    done = polyface_command(*given, "--output", "faces.jsonl")
    assert done.exit_code == 0, done.output
    assert red("safe.mkv") == ([], COUNT)
    with av.open("safe.mkv") as opened:
        assert [float(one.time) for one in opened.decode(video=0)] == pytest.approx([n / 25 for n in range(COUNT)])
    found = [json.loads(line) for line in Path("faces.jsonl").read_text().splitlines()]
    assert [line["image"] for line in found] == [f"frames:shots/%05d.png#{number}" for number in range(COUNT)]
    Path("safe.mkv").unlink()
    (tmp_path / "shots/00100.png").unlink()
    done = polyface_command(*given, "--resume")
    assert "is not what was examined" in done.output
    assert not Path("safe.mkv").exists()


def test_detect_draws_a_video_of_numbered_images(polyface_command, tmp_path):
    for number in range(3):
        Image.fromarray(square(number)).save(tmp_path / f"{number}.png")
    assert polyface_command("detect", "frames:%d.png", "--output", "boxes.mkv").exit_code == 0
    assert red("boxes.mkv")[1] == 3


def test_anonymize_says_what_cannot_be_written_before_it_begins(polyface_command, clip, tmp_path):
    for options, message in (
        (("--codec", "nothing"), "cannot have the codec 'nothing'"),
        (("--regions", "1,2"), "regions must be x1,y1,x2,y2"),
        (("--crf", 99), "must be at most 63"),
    ):
        done = polyface_command("anonymize", "clip.mkv", "--output", "safe.mkv", *options)
        assert (done.exit_code, message in " ".join(done.output.split())) == (2, True), done.output
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mkv"]


def test_detect_draws_a_video(polyface_command, clip, tmp_path):
    done = polyface_command("detect", "clip.mkv", "--every", 5, "--output", "boxes.mp4", "--output", "faces.jsonl")
    assert done.exit_code == 0, done.output
    assert red("boxes.mp4")[1] == COUNT
    with av.open("boxes.mp4") as opened:
        assert [one.type for one in opened.streams] == ["video", "audio"]
        frames = [one.to_ndarray(format="rgb24").astype(int) for one in opened.decode(video=0)]
    green = [number for number, image in enumerate(frames) if (image[:, :, 1] - image[:, :, 0] > 100).any()]
    assert green == [*range(11), *range(25, COUNT)]  # not between two frames of which one was missed


def test_an_ending_selects_the_writer_of_the_command(polyface_command, clip, tmp_path):
    assert polyface_command("detect", "clip.mkv", "--end", 0.2, "--output", "a.mp4", "--how", "fill").exit_code == 2
    assert polyface_command("anonymize", "clip.mkv", "--end", 0.2, "--output", "b.mp4").exit_code == 0
    assert (tmp_path / "b.mp4.journal").exists()
