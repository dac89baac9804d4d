"""Faces followed through a video, and placed between the frames that were examined."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from polyface.errors import ImageError
from polyface.images.reading import Decoded
from polyface.results import Detections, Item, Result
from polyface_video.steps import Between, Track

DARK, BRIGHT = np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)


def result(frame, boxes=(), *, video="a.mp4", examined=True, image=DARK, scores=None, landmarks=None):
    extra = {"video": video, "frame": frame, "time": frame / 10}
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    scores = np.linspace(0.9, 0.5, len(boxes)) if scores is None else scores
    return Result(
        name=f"{video}#{frame}",
        faces=Detections(boxes=boxes, scores=np.asarray(scores, np.float32), landmarks=landmarks),
        extra=extra if examined else {**extra, "examined": False},
        item=Item(name=f"{video}#{frame}", image=image, examine=examined),
    )


def box(x, y=10, side=20):
    return [x, y, x + side, y + side]


def ids(results):
    return [result.faces.extra["track_id"].tolist() for result in results]


class TestTrack:
    def test_a_face_that_moves_keeps_its_number_and_each_has_its_own(self):
        results = [result(n, [box(10 + 3 * n), box(200 - 3 * n)]) for n in range(5)]
        assert ids(Track()(results)) == [[1, 2]] * 5

    def test_one_that_is_missed_for_a_while_keeps_it_but_not_beyond_the_gap(self):
        results = [result(n, [box(10)] if n in (0, 3) else []) for n in range(4)]
        assert ids(Track()(results)) == [[1], [], [], [1]]
        assert ids(Track(track_gap=1)(results)) == [[1], [], [], [2]]

    def test_a_scene_cut_ends_tracks(self):
        results = [result(n, [box(10)], image=DARK if n < 12 else BRIGHT) for n in range(30)]
        assert ids(Track()(results)) == [[1]] * 12 + [[2]] * 18

    def test_a_flash_does_not(self):
        results = [result(n, [] if n == 3 else [box(10)], image=BRIGHT if n == 3 else DARK) for n in range(6)]
        assert ids(Track()(results)) == [[1], [1], [1], [], [1], [1]]

    def test_each_video_begins_with_one(self):
        results = [result(0, [box(10)], video=video) for video in ("a.mp4", "b.mp4")]
        assert ids(Track()(results)) == [[1], [1]]


def test_track_passes_what_is_no_frame_as_it_is():
    others = [
        Result(name="a.jpg", faces=result(0, [box(1)]).faces),
        Result(name="a.mp4#1", error=ImageError("damaged"), extra={"video": "a.mp4"}),
        result(2, examined=False),
    ]
    assert list(Track()(others)) == others


class TestBetween:
    def test_boxes_scores_and_landmarks_run_evenly_over_time_and_are_marked(self):
        marks = np.array([[[1, 2]]], np.float32)
        given = [
            result(0, [box(10)], scores=[0.5], landmarks=marks),
            result(1, examined=False),
            result(2, examined=False),
            result(3, examined=False),
            result(4, [box(30)], scores=[0.9], landmarks=marks + 8),
        ]
        found = list(Between()(given))
        assert [one.name for one in found] == [one.name for one in given]
        assert [one.faces.boxes[0].tolist() for one in found] == [box(x) for x in (10, 15, 20, 25, 30)]
        assert [one.faces.scores[0] for one in found] == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9])
        assert [one.faces.landmarks[0].tolist() for one in found] == [[[x, x + 1]] for x in (1, 3, 5, 7, 9)]
        marked = [one.faces.extra["interpolated"].tolist() for one in found]
        assert marked == [[False], [True], [True], [True], [False]]
        assert [one.extra.get("examined", True) for one in found] == [True, False, False, False, True]

    def test_time_counts_and_not_the_number_of_the_frame(self):
        late = result(1, examined=False)
        late = attrs.evolve(late, extra={**late.extra, "time": 0.15})
        found = list(Between()([result(0, [box(10)]), late, result(2, [box(30)])]))
        assert found[1].faces.boxes[0].tolist() == pytest.approx(box(25))

    def test_a_face_of_one_side_alone_is_not_between(self):
        given = [result(0, [box(10), box(200)]), result(1, examined=False), result(2, [box(12)])]
        assert list(Between()(given))[1].faces.boxes.tolist() == [box(11)]

    def test_nothing_is_placed_across_a_cut_or_between_videos(self):
        cut = [result(0, [box(10)]), result(1, examined=False), result(2, [box(10)], image=BRIGHT)]
        other = [result(0, [box(10)]), result(1, examined=False), result(0, [box(10)], video="b.mp4")]
        for given in (cut, other):
            assert [len(one.faces) for one in Between()(given)] == [1, 0, 1]

    def test_numbers_of_tracks_are_kept_and_believed(self):
        given = [result(0, [box(10)]), result(1, examined=False), result(2, [box(14)])]
        found = list(Between()(Track()(given)))
        assert ids(found) == [[1], [1], [1]]

    def test_what_waits_is_bounded_and_passes_without_faces_and_that_is_said(self, caplog):
        given = [result(0, [box(10)]), *(result(n, examined=False) for n in range(1, 6)), result(6, [box(16)])]
        given = [attrs.evolve(one, image=Decoded(pixels=DARK)) for one in given]
        found = list(Between(held=3 * DARK.nbytes)(given))
        assert [one.name for one in found] == [one.name for one in given]
        assert [len(one.faces) for one in found] == [1, 0, 0, 0, 0, 1, 1]
        (message,) = caplog.messages
        assert message.startswith("a.mp4: frames up to the next examined one take too much memory")

    def test_that_is_said_once(self, caplog):
        given = [result(0, [box(10)]), *(result(n, examined=False) for n in range(1, 9)), result(9, [box(19)])]
        given = [attrs.evolve(one, image=Decoded(pixels=DARK)) for one in given]
        found = list(Between(held=2 * DARK.nbytes)(given))
        assert [len(one.faces) for one in found] == [1, *[0] * 6, 1, 1, 1]
        assert len(caplog.messages) == 1

    def test_what_waits_holds_no_pixels_that_nobody_wants(self):
        given = [result(0, [box(10)]), *(result(n, examined=False) for n in range(1, 6)), result(6, [box(16)])]
        found = list(Between(held=3 * DARK.nbytes)(given))
        assert [len(one.faces) for one in found] == [1] * 7
        assert [one.item.image is None for one in found] == [False, *[True] * 5, False]

    def test_what_waits_at_the_end_is_given(self):
        given = [result(0, [box(10)]), result(1, examined=False)]
        assert [one.name for one in Between()(given)] == ["a.mp4#0", "a.mp4#1"]

    def test_an_error_between_stays_one_in_its_place(self):
        error = Result(name="a.mp4#1", error=ImageError("damaged"), extra={"video": "a.mp4", "frame": 1, "time": 0.1})
        found = list(Between()([result(0, [box(10)]), error, result(2, [box(12)])]))
        assert found[1] == error
