"""Videos with their faces covered or drawn: whatever happens, no frame with a face leaves uncovered."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import attrs
import numpy as np
import pytest

from polyface.errors import ConfigError, ImageError
from polyface.images.reading import Decoded
from polyface.results import Detections, Item, Result
from polyface.storage.places import Place

av = pytest.importorskip("av", reason="needs PyAV: pip install polyface-video")

from polyface_video.reading import read_frames  # noqa: E402
from polyface_video.videos import AnonymizedVideo, DrawnVideo  # noqa: E402

SIDE = 24
COUNT = 40
FILL = {"how": "fill", "shape": "box"}


def place_of(number):
    """Where the face is: x and y of its top-left pixel."""
    return 20 + 2 * number, 40


def picture(number, *more):
    """A grey image with white faces: that which moves, and further ones."""
    image = np.full((120, 160, 3), 90, np.uint8)
    for x, y in (place_of(number), *more):
        image[y : y + SIDE, x : x + SIDE] = 255
    return image


def box_at(x, y):
    return [x, y, x + SIDE, y + SIDE]


@pytest.fixture
def clip(make_clip):
    return make_clip("clip.mp4", images=[picture(number) for number in range(COUNT)])


def results_of(source, *, missed=(), boxes=lambda number: [box_at(*place_of(number))], **columns):
    """What a detector would say of each frame that can be decoded."""
    for frame in read_frames(source):
        found = [] if frame.number in missed else boxes(frame.number)
        extra = {"video": str(source), "frame": frame.number, "time": frame.time}
        name = f"{source}#{frame.number}"
        yield Result(
            name=name,
            width=frame.image.shape[1],
            height=frame.image.shape[0],
            faces=Detections(
                boxes=np.array(found, float).reshape(-1, 4),
                scores=np.ones(len(found)),
                extra={key: value[: len(found)] for key, value in columns.items()},
            ),
            extra=extra,
            item=Item(name=name, image=frame.image, extra=extra),
            image=Decoded(pixels=frame.image),
        )


def write(target, results, *, kind=AnonymizedVideo, finish=True, **options):
    with Place(target, folder=False) as place:
        writer = kind(place, **options)
        try:
            for result in results:
                if not (hasattr(writer, "has") and writer.has(result.name)):
                    writer.write(result)
            if finish:
                writer.finish()
        finally:
            writer.close()
            writer.close()
    return target


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def frames_of(path):
    with av.open(str(path)) as opened:
        return [(one.to_ndarray(format="rgb24"), one.pts * one.time_base) for one in opened.decode(video=0)]


def audio_of(path):
    with av.open(str(path)) as opened:
        return [(bytes(one), one.pts, one.duration) for one in opened.demux(audio=0) if one.size]


def seen(path):
    """The numbers of frames in which a face is seen."""
    return [number for number, (image, _) in enumerate(frames_of(path)) if (image > 170).any()]


def dark(path):
    """The numbers of frames that are covered whole."""
    return [number for number, (image, _) in enumerate(frames_of(path)) if (image < 40).all()]


def test_the_faces_of_the_clip_are_seen(clip):
    assert seen(clip) == list(range(COUNT))
    assert dark(clip) == []


@pytest.mark.parametrize("missed", [(), range(10, 11), range(10, 20), range(3), range(35, COUNT), range(1, COUNT, 2)])
def test_covers_faces_where_they_were_missed_and_keeps_all_else(missed, clip, tmp_path):
    made = write(tmp_path / "safe.mp4", results_of(clip, missed=missed), **FILL)
    assert (seen(made), dark(made)) == ([], [])
    assert [seconds for _, seconds in frames_of(made)] == [seconds for _, seconds in frames_of(clip)]
    assert audio_of(made) == audio_of(clip)
    for (image, _), number in zip(frames_of(made), range(COUNT), strict=True):
        left = place_of(number)[0]
        away = np.concatenate([image[:, : max(left - 40, 0)], image[:, left + SIDE + 40 :]], axis=1)
        assert np.abs(away.astype(int) - 90).max() < 12


def test_covers_at_variable_rates_and_where_frames_are_turned(make_clip, tmp_path):
    times = [3 * number + number % 2 + 40 * (number > 20) for number in range(COUNT)]
    clip = make_clip(
        "clip.mp4", images=[picture(n) for n in range(COUNT)], times=times, base=Fraction(1, 600), rotation=90
    )

    def turned(number):
        x, y = place_of(number)
        return [[120 - y - SIDE, x, 120 - y, x + SIDE]]

    made = write(tmp_path / "safe.mp4", results_of(clip, missed=range(12, 22), boxes=turned), **FILL)
    assert (seen(made), dark(made)) == ([], [])
    assert frames_of(made)[0][0].shape == (160, 120, 3)
    assert [seconds for _, seconds in frames_of(made)] == [seconds for _, seconds in frames_of(clip)]
    assert audio_of(made) == audio_of(clip)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda one: attrs.evolve(one, error=ImageError("it is damaged"), image=None, faces=Detections.from_dicts([])),
        lambda one: attrs.evolve(one, error=ImageError("another writer failed")),
        lambda one: attrs.evolve(one, faces=attrs.evolve(one.faces[:0], truncated=True)),
        lambda one: attrs.evolve(one, faces=one.faces[:0], extra={**one.extra, "damaged": True}),
        lambda _: None,
    ],
    ids=["error", "error of another writer", "truncated", "damaged", "missing"],
)
def test_covers_whole_what_was_not_examined_wholly(spoil, clip, tmp_path):
    results = [one if one.extra["frame"] not in (7, 8) else spoil(one) for one in results_of(clip)]
    made = write(tmp_path / "safe.mp4", filter(None, results), **FILL)
    assert (seen(made), dark(made)) == ([], [7, 8])


def passed(result):
    return attrs.evolve(result, faces=result.faces[:0], extra={**result.extra, "examined": False})


def test_covers_faces_in_frames_that_were_passed_over(clip, tmp_path):
    results = [one if one.extra["frame"] % 8 == 3 else passed(one) for one in results_of(clip)]
    made = write(tmp_path / "safe.mp4", results, hold=0.0, **FILL)
    assert (seen(made), dark(made)) == ([], [])


def test_covers_what_somebody_wrote_into_frames_that_were_passed_over(make_clip, tmp_path):
    other = (100, 90)
    clip = make_clip("clip.mp4", images=[picture(number, *([other] if number == 5 else [])) for number in range(20)])
    lines = [one.to_dict() if one.extra["frame"] % 3 == 0 else passed(one).to_dict() for one in results_of(clip)]
    lines[5]["faces"] = [{"box": box_at(*other), "score": 1.0}]
    faces = tmp_path / "faces.jsonl"
    faces.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert seen(write(tmp_path / "safe.mp4", [], faces=str(faces), **FILL)) == []


def test_covers_whole_what_was_passed_over_beside_a_frame_that_failed(clip, tmp_path):
    results = []
    for one in results_of(clip):
        frame = one.extra["frame"]
        failed = attrs.evolve(one, error=ImageError("it is damaged"), image=None, faces=one.faces[:0])
        results.append(failed if frame == 16 else one if frame % 8 == 0 else passed(one))
    made = write(tmp_path / "safe.mp4", results, **FILL)
    assert (seen(made), dark(made)) == ([], list(range(9, 24)))


def test_a_run_that_is_cut_off_makes_nothing_and_is_gone_on_with(clip, tmp_path):
    target = tmp_path / "safe.mp4"
    results = list(results_of(clip, missed=range(15, 25)))
    write(target, results[:20], finish=False, **FILL)
    assert not target.exists()
    journal = (tmp_path / "safe.mp4.journal").read_text()
    assert [json.loads(line)["frame"] for line in journal.splitlines()] == list(range(20))
    write(target, results, **FILL)
    assert (seen(target), len(frames_of(target))) == ([], COUNT)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_a_run_that_is_killed_leaves_no_file_of_that_name(clip, tmp_path):
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_videos as own
import polyface_video.videos as videos
from pathlib import Path
count = 0
write = videos.VideoWriter.write
def kill(self, image, seconds):
    global count
    count += 1
    if count == 30:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, image, seconds)
videos.VideoWriter.write = kill
kind = getattr(videos, sys.argv[1])
own.write(Path({str(tmp_path)!r}) / sys.argv[2], own.results_of(Path({str(clip)!r})), kind=kind)
"""
    for kind, name in (("AnonymizedVideo", "safe.mp4"), ("DrawnVideo", "boxes.mp4")):
        done = subprocess.run([sys.executable, "-c", script, kind, name], capture_output=True, timeout=60, check=False)
        assert done.returncode == -9, done.stderr.decode()
        assert not (tmp_path / name).exists()
        assert all(
            path.name.startswith(".") or path.suffix == ".journal" for path in tmp_path.iterdir() if path != clip
        )
    made = write(tmp_path / "safe.mp4", results_of(clip), **FILL)
    assert (seen(made), audio_of(made)) == ([], audio_of(clip))


def test_is_made_anew_with_other_options_without_looking_for_faces_again(clip, tmp_path):
    target = write(tmp_path / "safe.mp4", results_of(clip), **FILL)
    before = target.read_bytes()
    write(target, [], how="fill", shape="box", regions="0,0,30,20; 100,90,160,120")
    assert target.read_bytes() != before
    for image, _ in frames_of(target):
        assert image[:18, :28].max() < 40
        assert image[93:, 103:].max() < 40
        assert image[30, 150].min() > 70


def test_begins_with_faces_that_were_found_before(clip, tmp_path):
    faces = tmp_path / "faces.jsonl"
    lines = [one.to_dict() for one in results_of(clip, missed=range(10, 20))]
    faces.write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = write(tmp_path / "safe.mp4", [], faces=str(faces), **FILL)
    assert (seen(made), dark(made)) == ([], [])
    assert faces.read_text() == (tmp_path / "safe.mp4.journal").read_text()


def test_takes_edited_faces_in_the_place_of_those_of_the_run_before(clip, tmp_path):
    lines = [one.to_dict() for one in results_of(clip)]
    none = write_lines(tmp_path / "none.jsonl", [{**line, "faces": []} for line in lines])
    made = write(tmp_path / "safe.mp4", [], faces=none, **FILL)
    assert len(seen(made)) == COUNT
    write(made, [], faces=write_lines(tmp_path / "faces.jsonl", lines), **FILL)
    assert seen(made) == []
    assert (tmp_path / "safe.mp4.journal").read_text() == (tmp_path / "faces.jsonl").read_text()


def test_replaces_nothing_that_is_somebody_elses_by_faces(clip, tmp_path):
    faces = write_lines(tmp_path / "faces.jsonl", [one.to_dict() for one in results_of(clip)])
    (tmp_path / "safe.mp4").write_bytes(b"somebody's")
    with pytest.raises(ConfigError, match="cannot be gone on with"):
        write(tmp_path / "safe.mp4", [], faces=faces)
    (tmp_path / "other.mp4.journal").write_bytes(b"somebody's\n")
    with pytest.raises(ConfigError, match="is not one that polyface writes"):
        write(tmp_path / "other.mp4", [], faces=faces)
    assert (tmp_path / "safe.mp4").read_bytes() == b"somebody's"
    assert (tmp_path / "other.mp4.journal").read_bytes() == b"somebody's\n"


@pytest.mark.parametrize(
    ("spoil", "mistake"),
    [
        (lambda line: {**line, "video": None}, "it lacks the image's or the video's name"),
        (
            lambda line: {**line, "frame": "3"},
            "it lacks the frame's number, from 0 to 10000000, or its time in seconds",
        ),
        (lambda line: {**line, "frame": 10**9}, "it lacks the frame's number, from 0 to 10000000, or its time"),
        (lambda line: {**line, "width": 1.5}, "its width and height are no whole numbers"),
        (lambda line: {**line, "faces": None}, "it has no list of faces"),
        (lambda line: {**line, "faces": [{"box": [1, 2, 3]}]}, "its face 1 has no box of four numbers"),
        (lambda line: {**line, "faces": [{"box": [1, 2, 3, float("nan")]}]}, "its face 1 has no box of four numbers"),
        (lambda line: {**line, "faces": [{"box": [1, 2, 3, 1e300]}]}, "its face 1 has no box of four numbers"),
        (lambda line: {**line, "faces": [*line["faces"], {}]}, "its face 2 has no box of four numbers"),
        (
            lambda line: {**line, "faces": [{"box": [1, 2, 3, 4], "track_id": "2"}]},
            "the track_id of its face 1 is no whole number from 1 to 10000000",
        ),
    ],
)
def test_says_which_line_of_edited_faces_is_wrong_and_begins_nothing_with_it(spoil, mistake, clip, tmp_path):
    lines = [one.to_dict() for one in results_of(clip)]
    faces = write_lines(tmp_path / "faces.jsonl", [*lines[:7], spoil(lines[7]), *lines[8:]])
    with pytest.raises(ConfigError, match=f"faces.jsonl is no file of a video's faces.\n  - line 8: {mistake}"):
        write(tmp_path / "safe.mp4", [], faces=faces)
    assert not (tmp_path / "safe.mp4.journal").exists()


def test_says_so_of_faces_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.jsonl cannot be read.\n  - .*No such file"):
        write(tmp_path / "safe.mp4", [], faces=str(tmp_path / "none.jsonl"))


def test_takes_the_line_that_says_why_a_video_ended(clip, tmp_path):
    end = {"image": "clip.mp4", "video": str(clip), "error": "it is cut short"}
    faces = write_lines(tmp_path / "faces.jsonl", [*(one.to_dict() for one in results_of(clip)), end])
    made = write(tmp_path / "safe.mp4", [], faces=faces, **FILL)
    assert (seen(made), dark(made), len(frames_of(made))) == ([], [], COUNT)


def test_takes_edited_faces_that_lack_what_nobody_needs(clip, tmp_path):
    wanted = "image", "video", "frame", "time", "faces"
    lines = [{key: one.to_dict()[key] for key in wanted} for one in results_of(clip)]
    faces = write_lines(tmp_path / "faces.jsonl", lines)
    Path(faces).write_text(Path(faces).read_text().replace("\n", "\n\n", 1) + "\n")
    assert seen(write(tmp_path / "safe.mp4", [], faces=faces, **FILL)) == []


def test_covers_a_face_that_somebody_moved_in_frames_that_were_passed_over(make_clip, tmp_path):
    """The face leaves its straight way between the two frames that were examined, and somebody says so."""
    away = range(3, 6)
    images = [picture(0) if number not in away else picture(0, (100, 80)) for number in range(9)]
    source = make_clip("clip.mp4", images=images)
    lines = [one.to_dict() for one in results_of(source, boxes=lambda _: [box_at(*place_of(0))])]
    for line in lines[1:8]:
        line["examined"] = False
        line["faces"][0]["interpolated"] = True
    assert seen(write(tmp_path / "a.mp4", [], faces=write_lines(tmp_path / "a.jsonl", lines), **FILL)) == [*away]
    for number in away:
        lines[number]["faces"][0]["box"] = box_at(100, 80)
    made = write(tmp_path / "b.mp4", [], faces=write_lines(tmp_path / "b.jsonl", lines), **FILL)
    assert seen(made) == []
    made = write(tmp_path / "c.mp4", [], faces=write_lines(tmp_path / "c.jsonl", lines), keep_ids="1", **FILL)
    assert seen(made) == [*range(9)]  # the kept face stays where it was interpolated
    assert not (frames_of(made)[4][0][80:, 100:124] > 170).any()


def test_believes_the_numbers_that_are_given_where_others_are_not(make_clip, tmp_path):
    """Somebody adds a face, and no number: those of the others stay."""
    still = 100, 80
    source = make_clip("clip.mp4", images=[picture(number, still) for number in range(COUNT)])
    boxes = lambda number: [box_at(*place_of(number)), box_at(*still)]  # noqa: E731
    lines = [one.to_dict() for one in results_of(source, boxes=boxes, track_id=np.array([2, 1]))]
    lines[0]["faces"].insert(0, {"box": box_at(120, 0)})
    faces = write_lines(tmp_path / "faces.jsonl", lines)
    for keep, (x, y) in (("1", still), ("2", place_of(30))):
        image = frames_of(write(tmp_path / f"{keep}.mp4", [], faces=faces, keep_ids=keep, **FILL))[30][0]
        white = np.argwhere(image.min(axis=2) > 170)
        assert np.abs([*white.min(axis=0)[::-1] - (x, y), *white.max(axis=0)[::-1] - (x + 23, y + 23)]).max() <= 1


def test_says_so_where_no_track_has_a_number_that_is_kept(clip, tmp_path, caplog):
    write(tmp_path / "safe.mp4", results_of(clip), keep_ids="1,7,9")
    assert caplog.messages == ["safe.mp4: no track has the number 7, 9"]


def test_of_a_part_of_the_faces_found_writes_that_part_alone(clip, tmp_path):
    faces = write_lines(tmp_path / "faces.jsonl", [one.to_dict() for one in results_of(clip)])
    made = write(tmp_path / "part.mp4", [], faces=faces, start=0.4, end=0.8, **FILL)
    assert [float(seconds) for _, seconds in frames_of(made)] == pytest.approx([n / 25 for n in range(10, 20)])
    assert seen(made) == []


def test_covers_a_face_that_is_missed_while_the_size_of_frames_changes(make_clip, tmp_path):
    """As where a stream adapts to the network: the second half has frames of half the size."""
    whole = [picture(number) for number in range(COUNT)]
    first = make_clip("first.ts", images=whole[:20], sound=False)
    second = make_clip("second.ts", images=[image[::2, ::2] for image in whole[20:]], sound=False)
    joined = tmp_path / "clip.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())

    def boxes(number):
        return [np.array(box_at(*place_of(number))) / (1 if number < 20 else 2)]

    made = write(tmp_path / "safe.mp4", results_of(joined, missed=range(15, 25), boxes=boxes), **FILL)
    assert [image.shape for image, _ in frames_of(made)] == [(120, 160, 3)] * COUNT
    assert seen(made) == []


def test_says_how_the_video_was_called_before(clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, *rest = results_of(Path("clip.mp4"))
    with pytest.raises(OSError, match=r"./clip.mp4#1 is of the video that was called clip.mp4 before: call it so"):
        write(
            tmp_path / "safe.mp4",
            [first, attrs.evolve(rest[0], name="./clip.mp4#1", extra={**rest[0].extra, "video": "./clip.mp4"})],
        )


def test_previews_regions_and_what_would_be_covered_whole(clip, tmp_path):
    results = [attrs.evolve(one, extra={**one.extra, "damaged": one.extra["frame"] == 5}) for one in results_of(clip)]
    made = frames_of(write(tmp_path / "look.mp4", results, preview=True, regions="100,80,140,110"))
    green = [image[..., 1].astype(int) - image[..., 0] > 60 for image, _ in made]  # as of all that will be covered
    assert all(drawn[109:111, 105:135].any(axis=0).all() and drawn[100:108, 138:142].any() for drawn in green)
    assert [number for number, drawn in enumerate(green) if drawn[117:, 10:150].any(axis=0).all()] == [5]


def test_refuses_faces_of_several_videos(clip, tmp_path):
    lines = [one.to_dict() for one in results_of(clip)]
    faces = tmp_path / "faces.jsonl"
    write_lines(faces, [*lines, {**lines[0], "video": "other.mp4"}])
    with pytest.raises(ConfigError, match="cannot be gone on with"):
        write(tmp_path / "safe.mp4", [], faces=str(faces))
    with pytest.raises(ConfigError, match="cannot be read"):
        write(tmp_path / "other.mp4", [], faces=str(tmp_path / "none.jsonl"))


def test_refuses_faces_of_a_copy_of_another_size(clip, tmp_path):
    faces = tmp_path / "faces.jsonl"
    lines = [{**one.to_dict(), "width": 80, "height": 60} for one in results_of(clip)]
    faces.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ImageError, match="is not what was examined"):
        write(tmp_path / "safe.mp4", [], faces=str(faces))
    assert not (tmp_path / "safe.mp4").exists()


def test_takes_no_file_of_somebody_else_for_its_own(clip, tmp_path):
    faces = tmp_path / "faces.jsonl"
    faces.write_text("".join(json.dumps(one.to_dict()) + "\n" for one in results_of(clip)))
    (tmp_path / "safe.mp4").write_text("precious")
    with pytest.raises(ConfigError, match="cannot be gone on with"):
        write(tmp_path / "safe.mp4", [], faces=str(faces))
    assert (tmp_path / "safe.mp4").read_text() == "precious"


def test_of_a_frame_with_several_lines_covers_all_and_any_failure_whole(clip, tmp_path):
    lines = []
    for one in results_of(clip):
        line = one.to_dict()
        x1, y1, x2, y2 = line["faces"][0]["box"]
        inside_out = {**line, "faces": [{**line["faces"][0], "box": [x2, y2, x1, y1]}]}
        lines += [{**line, "error": "bad"}, line] if one.extra["frame"] == 5 else [inside_out, {**line, "faces": []}]
    faces = tmp_path / "faces.jsonl"
    faces.write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = write(tmp_path / "safe.mp4", [], faces=str(faces), **FILL)
    assert (seen(made), dark(made)) == ([], [5])


def test_keeps_the_faces_of_chosen_tracks_alone(make_clip, tmp_path):
    other = (100, 90)
    clip = make_clip("clip.mp4", images=[picture(number, other) for number in range(20)])

    def boxes(number):
        return [box_at(*other), box_at(*place_of(number))]

    tracked = list(results_of(clip, boxes=boxes, track_id=np.array([5, 9])))
    kept = write(tmp_path / "kept.mp4", tracked, keep_ids="5", grow=0.0, **FILL)
    for number, (image, _) in enumerate(frames_of(kept)):
        x, y = place_of(number)
        assert image[y : y + SIDE, x : x + SIDE].max() < 60
        assert image[95:110, 105:120].min() > 200
    # Without numbers of a tracker, they are those that one gives, in the order of appearance.
    plain = write(tmp_path / "plain.mp4", results_of(clip, boxes=boxes), keep_ids="2", grow=0.0, **FILL)
    assert frames_of(plain)[10][0][95:110, 105:120].max() < 60
    assert seen(plain) == list(range(20))


def test_previews_what_would_be_covered(clip, tmp_path):
    made = write(tmp_path / "preview.mp4", results_of(clip), preview=True)
    assert seen(made) == list(range(COUNT))
    assert all((image[:, :, 1].astype(int) - image[:, :, 0] > 80).any() for image, _ in frames_of(made))


@pytest.mark.parametrize(
    "change",
    [
        lambda images: [image[:, ::-1] for image in images],
        lambda images: images[::-1],
        lambda images: images[:30],
        lambda images: [*images[:10], *images[:-10]],
    ],
    ids=["mirrored", "backwards", "shortened", "delayed"],
)
def test_refuses_a_source_that_has_changed(change, clip, make_clip, tmp_path):
    images = [picture(number) for number in range(COUNT)]
    for number, image in enumerate(images):
        image[100:, : 4 * number] = 0
    clip = make_clip("clip.mp4", images=images)
    results = list(results_of(clip))
    make_clip("clip.mp4", images=change(images))
    with pytest.raises(ImageError):
        write(tmp_path / "safe.mp4", results)
    assert not (tmp_path / "safe.mp4").exists()


@pytest.mark.parametrize("told", [True, False], ids=["told", "not told"])
def test_covers_what_comes_before_a_damaged_tail(told, make_clip, tmp_path):
    clip = make_clip("clip.mkv", images=[picture(number) for number in range(COUNT)])
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 2 // 3])
    given = []
    with contextlib.suppress(ImageError):  # the source makes it the problem of one more item
        given.extend(results_of(clip))
    number = len(given)
    extra = {"video": str(clip), "frame": number, "time": number / 25}
    tail = [Result(name=f"{clip}#{number}", error=ImageError("it is cut short"), extra=extra)] if told else []
    made = write(tmp_path / "safe.mkv", [*given, *tail], **FILL)
    assert (seen(made), dark(made)) == ([], [])
    assert [seconds for _, seconds in frames_of(made)] == [seconds for _, seconds in frames_of(clip)]
    assert 10 < len(frames_of(made)) < COUNT


def test_of_a_part_writes_that_part_alone(clip, tmp_path):
    made = write(tmp_path / "safe.mp4", [one for one in results_of(clip) if 10 <= one.extra["frame"] < 20], **FILL)
    assert seen(made) == []
    assert [float(seconds) for _, seconds in frames_of(made)] == pytest.approx([n / 25 for n in range(10, 20)])


@pytest.mark.parametrize("kind", [AnonymizedVideo, DrawnVideo])
def test_ends_the_job_for_another_video_and_for_what_is_none(kind, clip, make_clip, tmp_path):
    other = make_clip("other.mp4", count=3)
    failed = Result(name="a.png", error=ImageError("it is damaged"))
    with pytest.raises(OSError, match="is of another video than"):
        write(tmp_path / "a.out.mp4", [*results_of(clip), failed, *results_of(other)], kind=kind)
    with pytest.raises(OSError, match="is no frame of a video"):
        write(tmp_path / "b.out.mp4", [Result(name="a.png", width=1, height=1)], kind=kind)
    assert not list(tmp_path.glob("?.out.mp4"))


def test_ends_the_job_for_a_source_that_cannot_be_read_again(clip, tmp_path):
    [live, *_] = results_of(clip)
    live = attrs.evolve(live, extra={**live.extra, "video": "rtsp://127.0.0.1/stream"})
    with pytest.raises(OSError, match="cannot be read a second time"):
        write(tmp_path / "safe.mp4", [live])


@pytest.mark.parametrize("kind", [AnonymizedVideo, DrawnVideo])
def test_of_no_frame_is_no_file(kind, tmp_path):
    with pytest.raises(ConfigError, match="has no frame"):
        write(tmp_path / "a.mp4", [Result(name="b.mp4", error=ImageError("no video"))], kind=kind)
    assert not (tmp_path / "a.mp4").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"keep_ids": "one"},
        {"keep_ids": "1,0"},
        {"regions": "1,2,3"},
        {"regions": "30,20,10,40"},
        {"regions": "0,0,nan,5"},
        {"how": "none"},
        {"codec": "nothing"},
        {"codec": "mpeg4", "crf": 20.0},
    ],
)
def test_refuses_options_before_anything_is_done(options, tmp_path):
    with pytest.raises(ConfigError):
        write(tmp_path / "safe.mp4", [], **options)
    assert list(tmp_path.iterdir()) == []


def test_refuses_at_the_first_frame_a_container_that_cannot_hold_the_sound(clip, tmp_path):
    for kind in (AnonymizedVideo, DrawnVideo):
        with pytest.raises(OSError, match="cannot have the audio"):
            write(tmp_path / "safe.webm", results_of(clip), kind=kind)


class TestDrawing:
    def test_draws_boxes_and_keeps_all_else(self, clip, tmp_path):
        made = write(tmp_path / "boxes.mp4", results_of(clip), kind=DrawnVideo)
        assert [seconds for _, seconds in frames_of(made)] == [seconds for _, seconds in frames_of(clip)]
        assert audio_of(made) == audio_of(clip)
        for number, (image, _) in enumerate(frames_of(made)):
            x, y = place_of(number)
            edge = image[y + 12, x - 1 : x + 3].astype(int)
            assert (edge[:, 1] - edge[:, 0]).max() > 60
            assert image[y + 8 : y + 16, x + 8 : x + 16].min() > 200

    def test_is_made_of_a_whole_run_alone(self, clip, tmp_path):
        write(tmp_path / "boxes.mp4", results_of(clip), kind=DrawnVideo, finish=False)
        assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]

    def test_leaves_out_what_cannot_be_decoded(self, clip, tmp_path):
        results = [
            attrs.evolve(one, error=ImageError("bad"), image=None) if one.extra["frame"] == 5 else one
            for one in results_of(clip)
        ]
        assert len(frames_of(write(tmp_path / "boxes.mp4", results, kind=DrawnVideo))) == COUNT - 1
