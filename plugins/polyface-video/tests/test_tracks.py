"""Faces over time: by numbers worked by hand, and by what must hold for any video."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyface_video import tracks
from polyface_video.tracks import Cover, Linker, Track

SIDE = 40.0


def box(x=100.0, y=50.0, side=SIDE):
    return np.array([[x, y, x + side, y + side]])


NONE = np.empty((0, 4))


def seconds(count, rate=30.0):
    return np.arange(count) / rate


def covered(examined, count, **rest):
    """By frame what is covered."""
    times = rest.pop("times", seconds(count))
    return by_frame(tracks.cover(examined, times, **rest), count)


def by_frame(covers, count):
    return [np.array([box for _, box in live]).reshape(-1, 4) for live in tracks.list_covers(covers, count)]


def scenes_of(cuts, count):
    """The scenes of frames where a new one begins with each cut."""
    return np.searchsorted(sorted(cuts), np.arange(count), side="right")


def holds(boxes, inner, slack=1e-6):
    """Whether one of the boxes holds another."""
    inner = np.asarray(inner, float).reshape(4)
    low = (boxes[:, :2] <= inner[:2] + slack).all(axis=1)
    return bool((low & (boxes[:, 2:] >= inner[2:] - slack).all(axis=1)).any())


class TestLinking:
    def test_numbers_faces_in_the_order_in_which_they_begin(self):
        linker = Linker()
        two = np.concatenate([box(0), box(200)])
        assert linker.link(0, two).tolist() == [1, 2]
        assert linker.link(1, two[::-1]).tolist() == [2, 1]
        assert linker.link(2, np.concatenate([box(400), two])).tolist() == [3, 1, 2]

    def test_follows_a_face_that_moves_by_its_side_each_frame_once_its_motion_is_known(self):
        linker = Linker()
        at = [0, 25, 60, 100, 140, 180]
        assert [linker.link(frame, box(x)).tolist() for frame, x in enumerate(at)] == [[1]] * 6

    def test_finds_a_face_again_that_was_missed_while_it_moved_on(self):
        linker = Linker()
        for frame in range(3):
            linker.link(frame, box(10.0 * frame))
        for frame in range(3, 13):
            assert linker.link(frame, NONE).tolist() == []
        assert linker.link(13, box(130.0)).tolist() == [1]

    def test_keeps_two_faces_apart_that_pass_each_other(self):
        linker = Linker()
        found = [
            linker.link(frame, np.concatenate([box(8.0 * frame, 0), box(160 - 8.0 * frame, 30)])).tolist()
            for frame in range(20)
        ]
        assert found == [[1, 2]] * 20

    @pytest.mark.parametrize(("missed", "number"), [(3, 1), (4, 2)])
    def test_forgets_a_face_after_the_gap(self, missed, number):
        linker = Linker(gap=3)
        linker.link(0, box())
        for frame in range(1, missed + 1):
            linker.link(frame, NONE)
        assert linker.link(missed + 1, box()).tolist() == [number]

    def test_counts_the_gap_in_frames_that_were_examined(self):
        linker = Linker(gap=3)
        numbers = [linker.link(frame, faces).tolist() for frame, faces in ((0, box()), (50, NONE), (100, box()))]
        assert numbers == [[1], [], [1]]

    def test_begins_anew_with_a_scene_and_goes_on_where_it_comes_back(self):
        linker = Linker()
        assert linker.link(0, box()).tolist() == [1]
        assert linker.link(1, box(), scene=1).tolist() == [2]
        assert linker.link(2, box()).tolist() == [1]

    @pytest.mark.parametrize("other", [box(300.0), box(100.0, 50.0 + 3 * SIDE, 3 * SIDE)])
    def test_takes_no_face_far_away_or_of_another_size_for_the_same(self, other):
        linker = Linker()
        linker.link(0, box())
        assert linker.link(1, other).tolist() == [2]

    def test_believes_numbers_that_are_given(self):
        examined = {0: np.concatenate([box(0), box(300)]), 1: np.concatenate([box(0), box(300)])}
        found = tracks.link(examined, numbers={0: np.array([7, 9]), 1: np.array([9, 7])})
        assert {one.number: one.boxes[:, 0].tolist() for one in found} == {7: [0, 300], 9: [300, 0]}

    def test_parts_a_given_number_where_it_was_long_away_or_stands_twice_in_a_frame(self):
        examined = dict.fromkeys(range(9), NONE) | {0: box(), 8: np.concatenate([box(), box(300)])}
        given_numbers = dict.fromkeys(range(9), np.array([], int)) | {0: np.array([5]), 8: np.array([5, 5])}
        found = tracks.link(examined, gap=3, numbers=given_numbers)
        assert [(one.number, one.frames.tolist()) for one in found] == [(5, [0]), (5, [8]), (5, [8])]


class TestBridging:
    def test_runs_evenly_over_the_frames(self):
        track = Track(1, 0, np.array([2, 6]), np.array([[0.0, 0, 10, 10], [40, 80, 70, 110]]))
        made = tracks.bridge(track, seconds(10))
        assert (made.start, made.stop) == (2, 7)
        assert made.boxes == pytest.approx(
            np.array([[0, 0, 10, 10], [10, 20, 25, 35], [20, 40, 40, 60], [30, 60, 55, 85], [40, 80, 70, 110]])
        )

    def test_runs_evenly_over_time_where_the_rate_varies(self):
        track = Track(1, 0, np.array([0, 2]), np.array([[0.0, 0, 10, 10], [100, 0, 110, 10]]))
        assert tracks.bridge(track, np.array([0.0, 0.9, 1.0])).boxes[1] == pytest.approx([90, 0, 100, 10])

    def test_covers_the_straight_way_and_the_curved_one_where_a_face_turns_back(self):
        """It moved right by 10 a frame, was missed for three, and moves left by 10: the curve goes on and comes back.

        Hermite's cubic from 20 to 20 with tangents of 40 and -40 over the gap: at a quarter 20 + 40 * 3/16, in the
        middle 20 + 40 * 1/4.
        """
        frames = np.array([0, 1, 2, 6, 7, 8])
        left = np.array([0.0, 10, 20, 20, 10, 0])
        boxes = np.stack([left, np.zeros(6), left + 40, np.full(6, 40.0)], axis=1)
        made = tracks.bridge(Track(1, 0, frames, boxes), seconds(9)).boxes
        assert made[3:6, 0].tolist() == [20, 20, 20]
        assert made[3:6, 2] == pytest.approx([67.5, 70, 67.5])
        assert made[[0, 1, 2, 6, 7, 8]].tolist() == boxes.tolist()

    @pytest.mark.parametrize(("phase", "missed"), [(phase, missed) for phase in range(40) for missed in (3, 6, 10)])
    def test_holds_the_middle_of_a_face_that_swings(self, phase, missed):
        """By 100 pixels to each side, in 40 frames: a face of 60 pixels moves by up to 16 a frame."""
        places = 300 + 100 * np.sin(2 * np.pi * (np.arange(50) + phase) / 40)
        gone = range(20, 20 + missed)
        found = {frame: NONE if frame in gone else box(places[frame], 50, 60) for frame in range(50)}
        made = covered(found, 50, times=seconds(50, 25))
        for frame in range(50):
            assert holds(made[frame], np.array([places[frame] + 15, 65, places[frame] + 45, 95]))

    @pytest.mark.parametrize("times", [np.zeros(3), np.array([0, np.nan, 1]), np.array([2.0, 1.0, 0.0]), np.zeros(1)])
    def test_counts_frames_where_times_tell_nothing(self, times):
        track = Track(1, 0, np.array([0, 2]), np.array([[0.0, 0, 10, 10], [100, 0, 110, 10]]))
        assert tracks.bridge(track, times).boxes[1] == pytest.approx([50, 0, 60, 10])


class TestHolding:
    def test_holds_what_does_not_move_where_it_is(self):
        made = tracks.hold(Cover((1,), 5, np.repeat(box(), 3, axis=0)), 3, 10)
        assert (made.start, made.stop) == (3, 10)
        assert made.boxes.tolist() == np.repeat(box(), 7, axis=0).tolist()

    def test_holds_the_way_of_what_moves_up_to_its_side(self):
        boxes = np.concatenate([box(0.0), box(10.0), box(20.0)])
        made = tracks.hold(Cover((1,), 5, boxes), 4, 14)
        assert made.boxes[0].tolist() == [-10, 50, 40, 90]
        assert made.boxes[-6].tolist() == [20, 50, 70, 90]
        assert made.boxes[-1].tolist() == [20, 50, 100, 90]


class TestSmoothing:
    def test_is_the_mean_of_what_is_outermost(self):
        jump = Cover((1,), 0, np.concatenate([box(0.0, 0.0, 10)] * 2 + [box(6.0, 0.0, 10)] + [box(0.0, 0.0, 10)] * 2))
        # The right edge: 10 10 16 10 10; its highest within a frame: 10 16 16 16 10; of these the mean within a frame.
        assert tracks.smooth(jump, 1).boxes[:, 2] == pytest.approx([13, 14, 16, 14, 13])
        assert tracks.smooth(jump, 1).boxes[:, 0] == pytest.approx([0, 0, 0, 0, 0])

    @given(
        st.lists(st.tuples(*[st.floats(-1e4, 1e4)] * 2, st.floats(0, 1e4)), min_size=1, max_size=12), st.integers(0, 4)
    )
    def test_uncovers_nothing(self, places, reach):
        given_boxes = np.concatenate([box(*place) for place in places])
        made = tracks.smooth(Cover((1,), 0, given_boxes), reach)
        assert (made.boxes[:, :2] <= given_boxes[:, :2]).all()
        assert (made.boxes[:, 2:] >= given_boxes[:, 2:]).all()


class TestCovering:
    @pytest.mark.parametrize("missed", range(1, 11))
    @pytest.mark.parametrize("speed", [0.0, 7.0, -12.5])
    def test_holds_a_face_that_is_missed_between_two_frames(self, missed, speed):
        truth = [box(400 + speed * frame) for frame in range(20)]
        gone = range(5, 5 + missed)
        found = {frame: NONE if frame in gone else truth[frame] for frame in range(20)}
        made = covered(found, 20, seconds=0.0)
        assert [frame for frame in range(20) if not holds(made[frame], truth[frame])] == []

    @given(st.data())
    def test_holds_every_face_found_and_every_face_missed_for_ten_frames(self, data):
        """Whatever else is found, whatever is taken for a cut, and whatever the rate: if it moves at all evenly."""
        count = data.draw(st.integers(3, 30))
        x, y, side = data.draw(st.tuples(st.floats(0, 500), st.floats(0, 500), st.floats(8, 200)))
        speed = data.draw(st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1)))
        steps = data.draw(st.lists(st.floats(0.01, 0.2), min_size=count, max_size=count))
        times = np.cumsum(steps)
        way = (times - times[0]) * 10  # a face moves by at most 0.28 of its side in a frame
        truth = [box(x + speed[0] * side * at, y + speed[1] * side * at, side) for at in way]
        first = data.draw(st.integers(1, count - 2))
        gone = range(first, data.draw(st.integers(first + 1, min(first + 10, count - 1))))
        others = data.draw(
            st.dictionaries(st.integers(0, count - 1), st.tuples(st.floats(2000, 3000), st.floats(0, 500)), max_size=4)
        )
        found = {}
        for frame in range(count):
            seen = [NONE] if frame in gone else [truth[frame]]
            found[frame] = np.concatenate([*seen, box(*others[frame]) if frame in others else NONE])
        made = covered(found, count, times=times)
        for frame in range(count):
            assert holds(made[frame], truth[frame], 1e-3)
            assert all(holds(made[frame], one) for one in found[frame])

    @given(st.sets(st.integers(1, 29)), st.integers(1, 19), st.integers(1, 10))
    def test_holds_a_face_at_rest_whatever_is_taken_for_a_cut(self, cuts, first, missed):
        gone = range(first, first + missed)
        found = {frame: NONE if frame in gone else box() for frame in range(30)}
        # A scene that has no frame with the face is another: nothing tells that it is there.
        lost = [
            f
            for f in gone
            if not any(found[g].size and not any(min(f, g) < c <= max(f, g) for c in cuts) for g in found)
        ]
        made = covered(found, 30, scenes=scenes_of(cuts, 30), seconds=0.0)
        assert [frame for frame in range(30) if frame not in lost and not holds(made[frame], box())] == []

    def test_holds_nothing_beyond_a_cut(self):
        found = {frame: box() if frame < 5 else NONE for frame in range(10)}
        assert [len(one) for one in covered(found, 10, scenes=scenes_of([5], 10), seconds=9.0)] == [1] * 5 + [0] * 5

    def test_holds_a_face_before_it_is_first_and_after_it_is_last_found(self):
        found = {frame: box() if 30 <= frame < 32 else NONE for frame in range(60)}
        made = covered(found, 60, seconds=0.1)
        assert [frame for frame in range(60) if len(made[frame])] == list(range(27, 35))

    def test_holds_by_time_where_the_rate_varies(self):
        times = np.concatenate([np.arange(30) * 0.01, 0.3 + np.arange(30) * 0.1])
        found = {frame: box() if frame == 30 else NONE for frame in range(60)}
        made = covered(found, 60, times=times, seconds=0.1)
        assert [frame for frame in range(60) if len(made[frame])] == list(range(20, 32))

    def test_holds_a_face_over_frames_that_were_not_examined(self):
        found = {frame: box() if frame == 20 else NONE for frame in range(0, 40, 5)}
        made = covered(found, 40, seconds=0.0)
        assert [frame for frame in range(40) if len(made[frame])] == list(range(16, 25))

    def test_bridges_frames_that_were_not_examined(self):
        found = {frame: box(2.0 * frame) for frame in range(0, 41, 8)}
        made = covered(found, 41)
        assert all(holds(made[frame], box(2.0 * frame)) for frame in range(41))

    @pytest.mark.parametrize("every", [2, 10, 30])
    def test_bridges_a_fast_face_over_frames_that_were_not_examined(self, every):
        found = {frame: box(SIDE / 2 * frame) for frame in range(0, 61, every)}
        made = covered(found, 61, seconds=0.0)
        assert [frame for frame in range(61) if not holds(made[frame], box(SIDE / 2 * frame))] == []

    def test_bridges_to_a_face_that_another_track_was_taken_for(self):
        """A false find near by takes over the track; the face is missed, and comes back as a new track."""
        found = {frame: box() for frame in range(5)}
        found |= {frame: box(100 + 26.0 * (frame - 4)) for frame in range(5, 9)}
        found |= {9: np.concatenate([box(100 + 26.0 * 5), box()]), 10: np.concatenate([box(100 + 26.0 * 6), box()])}
        made = covered(found, 11, seconds=0.0, reach=0)
        assert [one.number for one in tracks.link(found)] == [1, 2]
        assert all(holds(made[frame], box()) for frame in range(11))

    def test_does_not_bridge_a_face_that_leaves_to_one_beside_it_that_is_seen_meanwhile(self):
        stays, leaves = box(0), box(60)
        examined = {frame: np.concatenate([stays, leaves] if frame < 20 else [stays]) for frame in range(40)}
        frames = covered(examined, 40, seconds=0.1)
        assert [len(boxes) for boxes in frames] == [2] * 23 + [1] * 17  # 20, and 3 in which it is held

    @pytest.mark.parametrize("speed", [2.0, 4.0, 8.0])
    @pytest.mark.parametrize("height", [0.0, 12.0, 24.0])
    def test_holds_a_face_that_another_one_passes_before_it_and_hides(self, speed, height):
        examined, faces = {}, []
        for frame in range(80):
            behind, before = box(100 + speed * frame), box(100 + speed * (80 - frame), 50 + height, 1.2 * SIDE)
            faces.append(behind)
            shared = np.minimum(behind[0, 2:], before[0, 2:]) - np.maximum(behind[0, :2], before[0, :2])
            hidden = np.maximum(shared, 0).prod() > 0.2 * SIDE**2
            examined[frame] = before if hidden else np.concatenate([behind, before])
        middle = np.array([[SIDE / 4, SIDE / 4, -SIDE / 4, -SIDE / 4]])
        assert all(holds(boxes, face + middle) for boxes, face in zip(covered(examined, 80), faces, strict=True))

    def test_is_listed_by_frame_with_the_numbers_of_its_tracks(self):
        whole = [
            Cover((1,), 0, np.repeat(box(0), 3, axis=0)),
            Cover((2,), 1, np.repeat(box(100), 2, axis=0)),
            Cover((1, 2), 1, box(200)),
        ]
        made = [[(numbers, at[0]) for numbers, at in live] for live in tracks.list_covers(whole, 4)]
        assert made == [[((1,), 0)], [((1,), 0), ((2,), 100), ((1, 2), 200)], [((1,), 0), ((2,), 100)], []]

    def test_of_no_faces_is_nothing(self):
        assert [len(one) for one in covered(dict.fromkeys(range(3), NONE), 3)] == [0, 0, 0]
        assert [len(one) for one in covered({}, 2)] == [0, 0]


class TestScenes:
    def picture(self, colour, seed=0):
        noise = np.random.default_rng(seed).integers(-15, 16, (90, 120, 3))
        return np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)

    def described(self, *scenes):
        pictures = [self.picture(colour, seed) for colour, count in scenes for seed in range(count)]
        return [(number, tracks.describe(one)) for number, one in enumerate(pictures)]

    RED, BLUE, GREEN = (200, 40, 40), (40, 40, 200), (40, 200, 40)

    def test_a_histogram_counts_the_parts_of_each_channel(self):
        image = np.zeros((4, 4, 3), np.uint8)
        image[:, :1] = (255, 128, 31)
        assert list(tracks.describe(image))[:24] == [
            *(191, 0, 0, 0, 0, 0, 0, 64),
            *(191, 0, 0, 0, 64, 0, 0, 0),
            *(255, 0, 0, 0, 0, 0, 0, 0),
        ]

    def test_a_small_picture_tells_where_it_is_bright(self):
        image = np.zeros((40, 80, 3), np.uint8)
        image[:10, :20] = 200
        image[30:, 60:] = 100
        assert list(tracks.describe(image))[24:] == [200, *[0] * 14, 100]

    def test_an_image_is_known_again_but_not_one_that_is_turned_or_another(self):
        image = self.picture(self.RED)
        image[:40, :40] //= 2
        known = tracks.describe(image)
        assert tracks.is_same(known, tracks.describe(np.clip(image.astype(int) + 1, 0, 255).astype(np.uint8)))
        for other in (image[::-1], image[:, ::-1], image[::-1, ::-1], self.picture(self.BLUE)):
            assert not tracks.is_same(known, tracks.describe(other))
        assert not tracks.is_same(known, b"")

    def test_of_a_tiny_image_are_told_as_well(self):
        assert len(tracks.describe(np.zeros((1, 2, 3), np.uint8))) == 40

    @staticmethod
    def find(described):
        return tracks.find_scenes(dict(described), len(described)).tolist()

    def test_part_where_a_frame_is_unlike_those_before(self):
        found = self.find(self.described((self.RED, 20), (self.BLUE, 4), (self.GREEN, 20)))
        assert found == [0] * 20 + [1] * 4 + [2] * 20

    @pytest.mark.parametrize(("frames", "after"), [(1, 0), (2, 0), (10, 0), (11, 2)])
    def test_go_on_after_a_flash_or_what_passes_before_the_camera(self, frames, after):
        found = self.find(self.described((self.RED, 20), ((255, 255, 255), frames), (self.RED, 20)))
        assert found == [0] * 20 + [1] * frames + [after] * 20

    def test_alternate_where_two_cameras_do(self):
        found = self.find(self.described(*[(self.RED, 5), (self.BLUE, 5)] * 3))
        assert found == ([0] * 5 + [1] * 5) * 3

    def test_part_where_some_colours_change_and_light_lies_elsewhere(self):
        """Two people before one wall, one at its left and one at its right."""
        left, right = self.picture(self.RED), self.picture(self.RED)
        left[:, :30], right[:, -30:] = 240, 20
        looks = [tracks.describe(one) for one in (left, right)]
        assert 0.15 < tracks.differ(*looks) < 0.4
        assert self.find(list(enumerate([looks[0]] * 3 + [looks[1]] * 3))) == [0, 0, 0, 1, 1, 1]

    def test_do_not_part_by_a_fast_pan_over_boards_of_strong_contrast(self):
        boards = np.where(np.arange(4000) // 320 % 2, 220, 30).astype(np.uint8)
        views = [np.tile(boards[40 * n : 40 * n + 640, None], (480, 1, 3)) for n in range(40)]
        assert set(self.find([(n, tracks.describe(view)) for n, view in enumerate(views)])) == {0}

    def test_of_frames_that_nobody_saw_are_the_last(self):
        described = self.described((self.RED, 3), (self.BLUE, 3))
        assert tracks.find_scenes(dict(described[1:2] + described[4:5]), 6).tolist() == [0, 0, 0, 0, 1, 1]
        assert tracks.find_scenes({}, 2).tolist() == [0, 0]

    def test_do_not_part_by_a_slow_change(self):
        fade = [((200 - 4 * step, 40, 40 + 4 * step), 1) for step in range(40)]
        assert set(self.find(self.described(*fade))) == {0}
