"""Where the faces of the made clips are, what counts as covered, and how it is counted; nothing is run for it."""

from __future__ import annotations

import collections
import itertools
import math

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def video(benchmark_script):
    return benchmark_script("video")


@pytest.fixture
def faces(video):
    return video.load_examples()[1]


def test_a_view_enlarges_and_turns_clockwise_about_its_anchor(video):
    view = video.View((10, 20), (100, 200), 2.0, 90.0)
    assert view.map(10, 20) == (100, 200)
    assert view.map(13, 20) == pytest.approx((100, 206))  # what was on the right is below
    assert view.map(10, 25) == pytest.approx((90, 200))  # what was below is on the left
    assert view.shrink(2).map(6.5, 10) == pytest.approx((100, 206))


def test_the_inverse_of_a_view_leads_back(video):
    view = video.View((10, 20), (100, 200), 2.0, 30.0)
    x, y = view.map(17, 4)
    a, b, c, d, e, f = view.inverse()
    assert (a * x + b * y + c, d * x + e * y + f) == pytest.approx((17, 4))


@pytest.mark.parametrize(
    ("angle", "box"),
    [
        (0, (70, 160, 130, 240)),
        (90, (60, 170, 140, 230)),
        (45, (100 - math.sqrt(1250), 200 - math.sqrt(1250), 100 + math.sqrt(1250), 200 + math.sqrt(1250))),
    ],
)
def test_the_box_of_a_turned_ellipse_is_the_one_around_it(video, angle, box):
    face, view = video.Face(10, 20, 50), video.View((10, 20), (100, 200), 2.0, angle)
    assert video.ellipse_box(face, view, 0.3, 0.4) == pytest.approx(box)  # half axes of 30 and 40 pixels


def test_the_inner_face_is_an_ellipse_of_a_half_and_six_tenths_of_the_height(video):
    view = video.look(video.Face(0, 0, 10), (320, 240), 200)
    inner = video.inner_face(video.Face(0, 0, 10), view, (640, 480))
    assert inner.sum() == pytest.approx(math.pi * 50 * 60, rel=0.005)
    down, across = np.nonzero(inner)
    assert (across.min(), across.max(), down.min(), down.max()) == (270, 369, 180, 299)


def test_the_drawn_face_is_where_the_truth_says(video):
    picture = Image.new("RGB", (600, 800), (0, 0, 0))
    picture.paste((255, 255, 255), (250, 340, 350, 460))  # as wide and as high as the inner face
    face = video.Face(300, 400, 200)
    for angle in (0, 35, -90):
        frame = video.Frame("it", (video.look(face, (300, 200), 100, angle),))
        image = video.draw(frame, picture)
        [truth] = video.find_truth(frame, [face])
        assert (image[truth.seen] > 200).mean() > 0.98
        down, across = np.nonzero(image[:, :, 0] > 128)
        assert (across.mean() + 0.5, down.mean() + 0.5) == pytest.approx((300, 200), abs=0.2)


def test_a_blurred_frame_is_the_mean_of_its_exposure_and_its_truth_the_middle(video):
    picture = Image.new("RGB", (40, 40), (200, 200, 200))
    picture.paste((0, 0, 0), (0, 0, 20, 40))
    views = tuple(video.View((20, 20), (20 + step, 20)) for step in (-1, 0, 1))
    frame = video.Frame("it", views)
    image = video.draw(frame, picture, (40, 40))
    assert image[20, 15:25, 0].tolist() == pytest.approx([0] * 4 + [67, 133] + [200] * 4, abs=14)
    assert frame.view.place == (20, 20)


def test_a_face_counts_that_lies_in_the_frame_and_is_no_smaller_than_32_pixels(video):
    face = video.Face(0, 0, 10)

    def count(place, height):
        return len(video.find_truth(video.Frame("it", (video.look(face, place, height),)), [face]))

    assert [count((x, 240), 100) for x in (24, 25, 615, 616)] == [0, 1, 1, 0]  # 25 pixels to either side
    assert [count((320, y), 100) for y in (29, 30, 450, 451)] == [0, 1, 1, 0]  # 30 above and below
    assert [count((320, 240), height) for height in (31.9, 32)] == [0, 1]


def test_what_a_bar_hides_is_not_judged(video):
    face = video.Face(0, 0, 10)
    view = video.look(face, (320, 240), 100)

    def seen(bar):
        return [truth.seen for truth in video.find_truth(video.Frame("it", (view,), bar), [face])]

    [free], [half] = seen(None), seen((0, 0, 320, 480))
    assert half.sum() * 2 == free.sum()
    assert not half[:, :320].any()
    # A chord 15 pixels below the middle, of 30: acos(0.5) - 0.5 * sqrt(0.75) = 0.614 of pi is below it, 19.6 %.
    assert len(seen((0, 0, 640, 254))) == 1
    assert seen((0, 0, 640, 255)) == []


def test_a_bar_is_drawn_over_the_pixels_that_it_touches(video):
    frame = video.Frame("it", (video.View((0, 0), (0, 0)),), (1.5, 2, 3.2, 9))
    image = video.draw(frame, Image.new("RGB", (6, 6), (9, 9, 9)), (6, 6))
    assert video.edges(frame.bar, (6, 6)) == (1, 2, 4, 6)
    assert np.argwhere(image[:, :, 0] == 60).tolist() == [[y, x] for y in range(2, 6) for x in range(1, 4)]


def test_the_faces_of_the_examples_are_where_a_person_sees_them(video, faces):
    assert [(face.x, face.y, face.height) for face in faces["astronaut"]] == [(224, 115, 130)]
    heights = [face.height for face in faces["collage"]]
    assert heights == [200] * 3 + [120] * 4 + [72] * 5 + [48] * 6 + [26] * 6
    # The first print is round(1.64 * 200) = 328 pixels wide; the last 43, at the lower right, 48 from either side.
    assert (faces["collage"][0].x, faces["collage"][0].y) == (212, 212)
    assert (faces["collage"][-1].x, faces["collage"][-1].y) == (1210.5, 890.5)


@pytest.mark.parametrize("kind", ["bar", "bar, swinging"])
def test_bars_lie_over_each_face_for_1_to_10_frames_with_20_on_each_side(video, faces, kind):
    clips = video.make_clips(faces)[kind]
    ways = [(clip.title.split()[0], len(clip.hidden)) for clip in clips]
    assert ways == [(bar, count) for bar in ("eyes", "mouth", "side") for count in range(1, 11)]
    for clip in clips:
        with_bar = [number for number, frame in enumerate(clip.frames) if frame.bar is not None]
        assert with_bar == list(clip.hidden)
        assert (clip.hidden.start, len(clip.frames) - clip.hidden.stop) == (20, 20)
        truths = [video.find_truth(frame, faces[frame.picture]) for frame in clip.frames]
        assert {len(found) for found in truths} == {1}  # hidden in part, and never so far that it does not count
        near = truths[19 : clip.hidden.stop + 1]
        assert near[1][0].seen.sum() < 0.4 * near[0][0].seen.sum()


def test_a_face_that_moves_slowly_is_3_pixels_further_in_each_frame(video):
    clip = video.hide("it", video.Face(50, 60, 40), "eyes", 2)
    assert [clip.frames[number].view.place for number in (0, 20, 41)] == [(200, 240), (260, 240), (323, 240)]
    # The face's box is 86.4 pixels wide, from 216.8 to 303.2, and 120 high, from 180 to 300: hidden is a width more on
    # both sides, and from 0.6 of the height above it to 0.62 of it.
    assert clip.frames[20].bar == pytest.approx((130.4, 108, 389.6, 254.4))
    assert clip.title == "eyes of it, 120 pixels high, as it moves, frames: 2"


def test_a_face_swings_100_pixels_to_either_side_in_40_frames_and_is_highest_in_the_middle(video):
    clip = video.swing("it", video.Face(50, 60, 40), 80, "side", 1, turning=False)
    places = [frame.view.place for frame in clip.frames]
    assert places[20] == pytest.approx((320, 220))
    assert places[25] == pytest.approx((320 + 100 / math.sqrt(2), 240))  # an eighth of the swing later
    assert places[30] == pytest.approx((420, 260))
    assert places[40] == pytest.approx((320, 220))
    assert places[10] == pytest.approx((220, 260))
    # The face's box is 57.6 pixels wide, from 291.2 to 348.8, and 80 high, from 180 to 260: hidden is from 0.8 of the
    # width before it to 0.62 of it, and a height more above and below.
    assert clip.frames[20].bar == pytest.approx((245.12, 100, 326.912, 340))
    assert clip.title == "side of it, 80 pixels high, as it is fastest, frames: 1"


def test_the_bar_comes_where_the_face_turns_or_is_fastest(video):
    face = video.Face(50, 60, 40)
    turning, fast = (video.swing("it", face, 60, "mouth", 9, turning=turning) for turning in (True, False))
    assert turning.frames[24].view.place == pytest.approx((420, 260))  # the fifth of nine, from 20 to 28
    assert fast.frames[24].view.place == pytest.approx((320, 220))

    def sway(clip):
        return clip.frames[28].view.place[0] - clip.frames[20].view.place[0]

    assert sway(turning) == pytest.approx(0, abs=1e-9)
    assert sway(fast) == pytest.approx(200 * math.sin(math.radians(36)))  # from 36 degrees before to 36 after
    even = video.swing("it", face, 60, "mouth", 2, turning=True)
    assert even.frames[20].view.place[0] == pytest.approx(320 + 100 * math.cos(math.radians(4.5)))
    assert even.frames[21].view.place == pytest.approx(even.frames[20].view.place)


def test_each_length_of_bar_is_there_as_a_face_turns_and_as_one_is_fastest(video, faces):
    clips = video.make_clips(faces)["bar, swinging"]
    ways = [(clip.title.split()[0], "turns" in clip.title, len(clip.hidden)) for clip in clips]
    assert {way[1:] for way in ways} == set(itertools.product((True, False), range(1, 11)))
    assert set(collections.Counter(way[:2] for way in ways).values()) == {5}
    shown = {
        (name, round(faces[name][0].height * clip.frames[0].view.scale))
        for clip in clips
        for name in [clip.frames[0].picture]
    }
    assert shown == set(itertools.product(("astronaut", "grace_hopper"), (60, 80, 100, 120)))


def test_scenes_alike_show_one_head_after_the_other_before_the_same_wall(video):
    portraits = [("one", video.Face(50, 50, 40)), ("other", video.Face(80, 90, 60))]
    places = (100.0, 200.0), (400.0, 240.0)
    clip = video.cut_alike(portraits, places, (3, 2, 1))
    assert [frame.picture for frame in clip.frames] == ["one"] * 3 + ["other"] * 2 + ["one"]
    one, other = [(100, 200), (101, 200), (102, 200)], [(400, 240), (401, 240)]
    assert [frame.view.place for frame in clip.frames] == [*one, *other, (100, 200)]
    assert [frame.view.scale for frame in clip.frames] == [3] * 3 + [2] * 2 + [3]  # 120 pixels high
    image = video.draw(clip.frames[3], Image.new("RGB", (200, 200), (9, 9, 9)))
    down, across = np.nonzero((image == 9).all(axis=2))
    # Half axes of 0.6 and 0.75 of 120 pixels, 72 and 90, about (400, 240).
    assert (across.min(), across.max(), down.min(), down.max()) == (328, 471, 150, 329)
    assert len(down) == pytest.approx(math.pi * 72 * 90, rel=0.005)
    assert np.unique(image[(image != 9).any(axis=2)], axis=0).tolist() == [list(video.WALL)]


def test_a_bar_hides_the_eyes_before_and_after_each_cut_and_not_where_the_clip_begins_and_ends(video):
    face = video.Face(50, 50, 40)
    clip = video.cut_alike([("one", face), ("other", face)], ((100.0, 200.0), (100.0, 200.0)), (6, 5, 5), hidden=2)
    bars = [frame.bar for frame in clip.frames]
    assert "".join("-#"[bar is not None] for bar in bars) == "----##" + "##-##" + "##---"
    # The face's box is 86.4 pixels wide, from 60.8 to 147.2, and from 140 to 260 high.
    assert bars[4] == pytest.approx((-25.6, 68, 233.6, 214.4))


def test_cuts_alike_are_at_the_same_place_or_apart_and_leave_most_of_the_picture_as_it_is(video, faces):
    pictures, _ = video.load_examples()
    clips = video.make_clips(faces)
    for kind, least, most in (("cuts, alike", 12, 40), ("cuts, alike, hidden", 12, 40), ("cuts, alike, short", 2, 12)):
        shifts = []
        for clip in clips[kind]:
            places = [frame.view.place for frame in clip.frames]
            cuts = [at for at in range(1, len(places)) if clip.frames[at].picture != clip.frames[at - 1].picture]
            bounds = [0, *cuts, len(places)]
            lengths = [stop - start for start, stop in itertools.pairwise(bounds)]
            assert (min(lengths), max(lengths)) == (least, most)
            shifts.append(abs(places[cuts[0]][0] - places[0][0]))
            before, after = (
                video.draw(clip.frames[at], pictures[clip.frames[at].picture]) for at in (cuts[0] - 1, cuts[0])
            )
            assert video.changed(before, after).mean() < 0.35
        assert shifts == [0, 260]


def test_every_kind_of_clip_has_faces_that_count(video, faces):
    clips = video.make_clips(faces)
    bars, cuts = ["bar", "bar, swinging"], ["cuts", "cuts, alike", "cuts, alike, short", "cuts, alike, hidden"]
    assert list(clips) == ["pan", "zoom", "rotation", *bars, "blur", *cuts, "crowd"]

    def count(clip):
        return [len(video.find_truth(frame, faces[frame.picture])) for frame in clip.frames]

    for kind in ("zoom", "rotation", "blur", *cuts):
        assert {number for clip in clips[kind] for number in count(clip)} == {1}, kind
    first, *_, last = pan = count(clips["pan"][0])
    assert (first, max(pan), last) == (0, 1, 0)
    assert sum(count(clips["crowd"][0])) > 300


def test_a_pixel_has_changed_by_32_levels_of_some_channel(video):
    before = np.full((1, 4, 3), 100, np.uint8)
    after = before.copy()
    after[0, :, 1] = 100, 131, 132, 68
    assert video.changed(before, after).tolist() == [[False, False, True, True]]


def test_pixels_that_are_too_dark_to_tell_are_not_judged(video):
    before = np.array([[[200] * 3, [200] * 3, [0, 0, 64], [63] * 3, [200] * 3]], np.uint8)
    seen = np.array([[True, True, True, True, False]])
    differs = np.array([[True, False, True, False, False]])
    assert video.part_covered(before, differs, seen) == pytest.approx(2 / 3)
    assert video.part_covered(np.zeros_like(before), differs, seen) == 1


def test_two_boxes_overlap_by_what_is_common_of_what_is_in_either(video):
    assert video.overlap((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert video.overlap((0, 0, 10, 10), (10, 0, 20, 10)) == 0
    assert video.is_found((0, 0, 10, 10), [(50, 50, 60, 60), (0, 0, 10, 4)])
    assert not video.is_found((0, 0, 10, 10), [(0, 0, 10, 3.9)])


def clip_of_one(video, columns):
    """Truth and frames of a face of 20 pixels, each frame black in so many of its columns of 2 pixels."""
    before = np.full((4, 25, 3), 180, np.uint8)
    seen = np.zeros((4, 25), bool)
    seen[1:3, :10] = True
    pairs = []
    for black in columns:
        after = before.copy()
        after[1:3, :black] = 0
        pairs.append((before, after))
    return [[video.Truth((0, 1, 10, 3), seen)]] * len(columns), pairs


def test_faces_are_counted_as_uncovered_and_as_seen_whole(video):
    truths, pairs = clip_of_one(video, [10, 9, 8, 1, 0])  # 100, 90, 80, 10 and 0 % of the inner face
    face = (0.0, 1.0, 10.0, 3.0)
    found = [[face], [face, face], [], [], [(0.0, 1.0, 3.0, 3.0)]]
    count = video.count_clip(truths, found, pairs)
    assert (count.clips, count.frames, count.faces) == (1, 5, 5)
    assert (count.missed, count.uncovered, count.whole) == (3, 3, 1)
    assert count.area == pytest.approx((20 + 18 + 16 + 2 + 0) / 100)


def test_a_tool_that_does_not_say_what_it_found_is_not_said_to_have_missed_any(video):
    truths, pairs = clip_of_one(video, [10, 0])
    count = video.count_clip(truths, None, pairs)
    assert (count.faces, count.missed, count.uncovered) == (2, None, 1)
    total = video.Count(missed=None) + count + count
    assert (total.clips, total.faces, total.missed, total.whole) == (2, 4, None, 2)
    assert video.row("bar", "it", total) == "| bar | it | 2 | 4 | - | 2 | 2 | 10.0% |"


def test_frames_that_are_missing_in_the_output_are_no_count(video):
    images = [np.zeros((4, 4, 3), np.uint8)] * 2
    assert len(list(video.pair_frames(images, images))) == 2
    with pytest.raises(ValueError, match="The output ends after 1 frames"):
        list(video.pair_frames(images, images[:1]))
    with pytest.raises(ValueError, match="The input ends after 0 frames"):
        list(video.pair_frames([], images))
    truths, pairs = clip_of_one(video, [10, 10])
    with pytest.raises(ValueError, match="shorter"):
        video.count_clip(truths, None, pairs[:1])


def test_a_clip_counts_if_every_detector_found_the_face_on_both_sides_of_the_bar(video):
    face = (0.0, 1.0, 10.0, 3.0)
    truths, _ = clip_of_one(video, [0] * 6)
    clip = video.Clip("bar", (), range(2, 4))
    both = [[], [face], [], [], [face], []]
    late = [[face], [], [], [], [face], [face]]
    poor = [[], [face], [], [], [(0.0, 1.0, 3.0, 3.0), (20.0, 1.0, 30.0, 3.0)], []]  # 6 of 20 pixels
    assert video.find_reasons(clip, truths, {"one": both, "other": both}) == []
    assert video.find_reasons(clip, truths, {"one": both, "late": late, "poor": poor}) == [
        "late: 0 boxes just before, an IoU of 0.00 at most",
        "poor: 2 boxes just after, an IoU of 0.30 at most",
    ]
    assert video.find_reasons(video.Clip("pan", ()), truths, {"late": late}) == []


def test_a_cover_is_cells_more_than_half_of_whose_pixels_became_black(video):
    before = np.full((20, 24, 3), 150, np.uint8)
    before[:, 16:] = 10  # black before: nothing became of it
    after = before.copy()
    after[0:8, 0:8] = 0
    after[8:12, 0:8] = 0  # half of a cell
    after[8:16, 8:16] = 90  # changed, and not black
    assert video.find_covers(before, after).tolist() == [[True, False, False], [False, False, False]]


def test_areas_are_connected_by_their_sides(video):
    cells = np.array([[1, 1, 0, 0], [1, 0, 0, 1], [0, 1, 0, 1]], bool)
    assert video.find_areas(cells) == [(0, 0, 2, 2), (1, 2, 2, 3), (3, 1, 4, 3)]
    assert video.find_areas(np.zeros((2, 2), bool)) == []


def test_a_flicker_is_a_place_that_is_covered_before_and_after_and_not_between(video):
    def cover(*rows):
        return np.array([[mark == "#" for mark in row] for row in rows])

    whole, none = cover("##..", "##.."), cover("....", "....")
    assert video.count_flickers([whole, none, whole]) == (2, 1)
    assert video.count_flickers([whole, whole, whole]) == (3, 0)
    assert video.count_flickers([whole, none, none, whole]) == (2, 0)
    assert video.count_flickers([whole, none, cover("..##", "..##")]) == (2, 0)
    assert video.count_flickers([whole, cover("#...", "#..."), whole]) == (3, 0)  # half is there
    assert video.count_flickers([whole, cover("#...", "...."), whole]) == (3, 1)  # a quarter
    # Boxes of 2 and of 3 columns have an IoU of 2/3: one face that moved; of 2 and of 4, of 1/2: two faces.
    assert video.count_flickers([whole, none, cover("###.", "###.")]) == (2, 1)
    assert video.count_flickers([whole, none, cover("####", "####")]) == (2, 0)


def test_a_ratio_is_the_median_of_those_of_each_turn(video):
    assert video.median_ratio([3, 8, 10], [1, 4, 2]) == 3  # 3, 2 and 5


def test_real_clips_are_the_videos_of_the_shared_folder(video, tmp_path, monkeypatch):
    (tmp_path / "video").mkdir()
    for name in ("b.mp4", "a.gif", "c.mkv", "README.md"):
        (tmp_path / "video" / name).touch()
    monkeypatch.setenv("POLYFACE_SHARED", str(tmp_path))
    assert list(video.find_real()) == ["a.gif", "b.mp4", "c.mkv"]
    monkeypatch.delenv("POLYFACE_SHARED")
    assert video.find_real() == {}


def test_deface_is_refused_where_it_is_not(video, tmp_path):
    with pytest.raises(ValueError, match="cannot be run"):
        video.deface(str(tmp_path / "python"))
