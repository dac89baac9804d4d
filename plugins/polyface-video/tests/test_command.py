"""``polyface detect`` on videos, from the file to the lines."""

from __future__ import annotations

import csv
import functools
import itertools
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="needs PyAV: pip install polyface-video")

import polyface_video.plugin
import polyface_video.source
from polyface_video.reading import read_frames


@pytest.fixture
def detect(polyface_command):
    """Run ``polyface detect`` with the toy detector."""
    return functools.partial(polyface_command, "detect")


def square(x):
    """A black image with one red square of 8 pixels."""
    image = np.zeros((96, 128, 3), np.uint8)
    image[40:48, x : x + 8] = 255, 0, 0
    return image


@pytest.fixture
def clip(make_clip):
    """A square that moves by 8 pixels a frame, without loss of colour."""
    return make_clip("clip.mkv", codec="ffv1", images=[square(8 * number) for number in range(13)], sound=False)


def lines(name="faces.jsonl"):
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


def boxes(found):
    return [face["box"] for line in found for face in line["faces"]]


def test_each_frame_has_its_line(detect, clip):
    result = detect(clip, "--output", "faces.jsonl")
    assert result.exit_code == 0, result.stderr
    found = lines()
    assert [line["image"] for line in found] == [f"{clip}#{number}" for number in range(13)]
    assert [line["frame"] for line in found] == list(range(13))
    assert [line["time"] for line in found] == pytest.approx([0.04 * number for number in range(13)], abs=1e-3)
    assert boxes(found) == [[8 * number, 40, 8 * number + 8, 48] for number in range(13)]


def test_between_frames_that_are_examined_faces_are_where_they_would_be(detect, make_clip):
    clip = make_clip("clip.mkv", codec="ffv1", images=[square(number // 4 * 8) for number in range(13)], sound=False)
    assert detect(clip, "--every", 4, "--track", "--output", "faces.jsonl", "--output", "faces.csv").exit_code == 0
    found = lines()
    np.testing.assert_allclose(boxes(found), [[2 * n, 40, 2 * n + 8, 48] for n in range(13)], atol=0.02)
    assert [line.get("examined", True) for line in found] == [number % 4 == 0 for number in range(13)]
    assert [line["faces"][0]["interpolated"] for line in found] == [number % 4 != 0 for number in range(13)]
    with Path("faces.csv").open(newline="") as file:
        assert [row["track_id"] for row in csv.DictReader(file)] == ["1"] * 13


def test_after_a_kill_a_run_ends_as_one_that_was_not(detect, clip):
    detect(clip, "--every", 4, "--track", "--output", "faces.jsonl")
    whole = Path("faces.jsonl").read_bytes()
    Path("faces.jsonl").write_bytes(b"".join(whole.splitlines(keepends=True)[:6]))
    assert detect(clip, "--every", 4, "--track", "--resume", "--output", "faces.jsonl").exit_code == 0
    assert Path("faces.jsonl").read_bytes() == whole


def test_resume_adds_what_a_camera_sees_now(detect, clip, monkeypatch):
    def see(**_):
        yield from itertools.islice(read_frames(clip), 3)

    monkeypatch.setattr(polyface_video.source, "_device", lambda _: {})
    monkeypatch.setitem(polyface_video.source.Camera.__init__.__kwdefaults__, "read", see)
    times = iter([datetime(2026, 11, 27, 2, 50, second, tzinfo=UTC) for second in (10, 20)])
    monkeypatch.setitem(polyface_video.source.Camera.__init__.__kwdefaults__, "today", times.__next__)
    assert detect("camera:0", "--track", "--output", "faces.jsonl").exit_code == 0
    assert detect("camera:0", "--track", "--output", "faces.jsonl", "--resume").exit_code == 0
    assert [line["image"] for line in lines()] == [
        f"camera:0@2026-11-27T02:50:{second}.000Z#{number}" for second in (10, 20) for number in range(3)
    ]


@pytest.mark.parametrize(
    "address",
    [
        "tcp://me:se@cret@127.0.0.1:1",
        "rtsp://127.0.0.1:secret/cret@127.0.0.1",
        "rtsp://127.0.0.1:1/?user=me&password=secret",
        "rtmp://me:secret@127.0.0.1:1/door",
    ],
)
@pytest.mark.parametrize("options", [(), ("--live", "--json")])
def test_a_password_is_neither_in_results_nor_in_messages(detect, capfd, caplog, address, options):
    done = detect(address, "--output", "faces.jsonl", "--output", "faces.csv", *options)
    assert done.exit_code == 1
    written = [Path(f"faces.{kind}").read_text() for kind in ("jsonl", "csv")]
    told = (done.output, *capfd.readouterr(), caplog.text, *written)
    assert "cannot be read as a video" in told[0]
    assert not any("cret" in text for text in told)


def test_drawings_have_the_number_of_their_frame(detect, clip):
    assert detect(clip, "--end", 0.1, "--output", "out/").exit_code == 0
    assert sorted(path.name for path in Path("out/clip").iterdir()) == [f"{n:06}_out.jpg" for n in range(3)]
    assert [line["drawing"] for line in lines("out/faces.jsonl")] == [f"clip/{n:06}_out.jpg" for n in range(3)]


def test_a_tail_that_is_cut_off_is_an_error_after_what_comes_before(detect, make_clip):
    noise = np.random.default_rng(1).integers(0, 255, (30, 96, 128, 3), np.uint8)
    clip = make_clip("clip.mkv", codec="ffv1", images=[*noise], sound=False)
    os.truncate(clip, clip.stat().st_size // 2)
    result = detect(clip, "--output", "faces.jsonl")
    assert result.exit_code == 1
    *found, last = lines()
    assert len(found) > 8
    assert not any(line["error"] for line in found)
    assert "it is cut short" in last["error"]


def test_two_rhythms_are_refused(detect, clip):
    refused = detect(clip, "--every", 2, "--fps", 2)
    assert refused.exit_code == 2
    assert "said twice" in refused.stderr
