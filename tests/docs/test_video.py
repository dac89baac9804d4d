"""The page about videos, followed to the letter: all that it shows runs as printed, and does what it says."""

from __future__ import annotations

import functools
import importlib.util
import json
import re

import numpy as np
import pytest
from click.testing import CliRunner

from polyface.cli import group

MISSED = range(41, 48)
"""Frames in which the pillar hides too much of the face on the left: 7, as the page says."""


@pytest.fixture(scope="module")
def page(pytestconfig):
    return (pytestconfig.rootpath / "docs/guides/video.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script(pytestconfig, require):
    require("av", "onnxruntime", "polyface_onnxruntime", "polyface_retinaface", "polyface_video")
    spec = importlib.util.spec_from_file_location("docs_video", pytestconfig.rootpath / "docs/guides/video.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(page, script, tmp_path_factory):
    """Where all was done, in the page's order; the camera is the clip, which is seen once."""
    from polyface_video import source

    place = tmp_path_factory.mktemp("video")
    script.make_clip(place / "clip.mp4")
    steps = script.read_steps(page)
    assert sum(step[:2] == ["-m", "polyface"] for step in steps) == page.count("$ ")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(source, "_device", lambda _: {"path": "clip.mp4"})
        patch.setattr(source, "FIRST_PAUSE", 60.0)  # which goes beyond --duration
        for step in steps:
            if step[0] == "-c":
                exec(compile(step[1], "video.md", "exec"), {})  # noqa: S102 - that is the point
            else:
                done = CliRunner().invoke(group, step[2:])
                assert done.exit_code == 0, (step, done.output)
    return place


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@functools.cache
def frames(script, path):
    return list(script.VIDEO.read_video(path))


def covered(script, path, face, number):
    """Which part of a face's inner pixels, those beside the pillar, a video covers in a frame.

    Faces are where the portraits hang: ``face`` is the middle of one in the first frame, in pixels.
    """
    video = script.VIDEO
    view = video.View((0, 0), (-script.WALL * number, 0))
    seen = video.inner_face(video.Face(*face, script.FACE), view, script.SIZE)
    left = round(400 - script.PILLAR * number)
    seen[:, max(left - 2, 0) : max(left + 62, 0)] = False
    before, after = (frames(script, one)[number] for one in (path.with_name("clip.mp4"), path))
    return video.part_covered(before, video.changed(before, after), seen)


LEFT, RIGHT = (198, 102), (478, 110)


def test_everything_that_the_page_names_is_there_with_all_frames(page, folder, script):
    named = set(re.findall(r"`(\w+\.mp4)`", page)) | set(re.findall(r"--output (\w+\.mp4)", page))
    assert named == {f"{name}.mp4" for name in ("clip", "safe", "boxes", "quick", "preview", "kept", "mended")}
    assert {name: len(frames(script, folder / name)) for name in named} == dict.fromkeys(named, 80)


def test_the_json_line_is_the_one_that_detect_writes(page, folder):
    (printed,) = (json.loads(text) for text in re.findall(r"```json\n(.*?)```", page, flags=re.DOTALL))
    actual = lines(folder / "faces.jsonl")[printed["frame"]]
    (face,), (shown,) = actual.pop("faces"), printed.pop("faces")
    assert actual == printed
    assert list(face) == list(shown)
    assert face["track_id"] == shown["track_id"]
    assert face["box"] == pytest.approx(shown["box"], abs=0.5)


def test_behind_the_pillar_a_face_is_missed_in_seven_frames_and_covered_in_each(folder, script):
    found = lines(folder / "faces.jsonl")
    missed = [line["frame"] for line in found if all(face["track_id"] != 1 for face in line["faces"])]
    assert missed == [*MISSED]
    assert {face["track_id"] for line in found for face in line["faces"]} == {1, 2}
    assert min(covered(script, folder / "safe.mp4", LEFT, number) for number in range(80)) > 0.9


def test_a_face_that_is_kept_is_seen_and_the_other_is_not(folder, script):
    assert covered(script, folder / "kept.mp4", RIGHT, 46) < 0.1
    assert covered(script, folder / "kept.mp4", LEFT, 46) > 0.9
    assert covered(script, folder / "safe.mp4", RIGHT, 46) > 0.9
    assert covered(script, folder / "preview.mp4", RIGHT, 46) < 0.1


def test_the_name_on_the_uniform_is_covered_between_the_frames_that_have_its_box(folder, script):
    clip, kept, mended = (frames(script, folder / name) for name in ("clip.mp4", "kept.mp4", "mended.mp4"))
    for number in (13, 46, 65):
        left = round(385 - 1.5 * number)
        name = np.s_[238:251, left + 4 : left + 39]
        assert script.VIDEO.changed(clip[number], kept[number])[name].mean() < 0.1
        # A black uniform and a grey plate blur to a grey; what was bright is gone.
        assert mended[number][name].max() < clip[number][name].max()


def test_the_live_camera_is_tracked(folder):
    found = lines(folder / "door.jsonl")
    assert found
    assert {line["video"].rpartition("@")[0] for line in found} == {"rtsp://192.168.1.20/door"}
    assert all("track_id" in face for line in found for face in line["faces"])
