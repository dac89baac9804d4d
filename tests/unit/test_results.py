"""Detections: their shapes, and the two forms they turn into."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from polyface.results import Detections, Face, Result

TWO = {
    "boxes": [[1, 2, 3.00049, 4], [5, 6, 7, 8]],
    "scores": [0.9876543, 0.5],
    "landmarks": [[[1, 1.23456]], [[6, 7]]],
}


def test_whatever_is_given_becomes_float32():
    faces = Detections(**TWO)
    assert [a.dtype for a in (faces.boxes, faces.scores, faces.landmarks)] == [np.float32] * 3
    assert len(faces) == 2


def test_to_array_puts_the_score_after_the_box():
    expected = np.array([[1, 2, 3.00049, 4, 0.9876543], [5, 6, 7, 8, 0.5]], np.float32)
    np.testing.assert_array_equal(Detections(**TWO).to_array(), expected, strict=True)


def test_to_dicts_rounds_pixels_to_three_and_scores_to_five_decimals():
    assert Detections(**TWO).to_dicts() == [
        {"box": [1.0, 2.0, 3.0, 4.0], "score": 0.98765, "landmarks": [[1.0, 1.235]]},
        {"box": [5.0, 6.0, 7.0, 8.0], "score": 0.5, "landmarks": [[6.0, 7.0]]},
    ]


def test_to_dicts_leaves_landmarks_out_where_the_detector_has_none():
    assert Detections(boxes=[[1, 2, 3, 4]], scores=[1]).to_dicts() == [{"box": [1.0, 2.0, 3.0, 4.0], "score": 1.0}]


def test_no_faces_are_empty_arrays_of_the_right_shape():
    none = Detections(boxes=np.empty((0, 4)), scores=[], landmarks=np.empty((0, 5, 2)))
    assert (len(none), none.to_array().shape, none.to_dicts()) == (0, (0, 5), [])


@pytest.mark.parametrize(
    ("changes", "shapes"),
    [
        ({"boxes": [[1, 2, 3, 4]]}, "(1, 4), (2,) and (2, 1, 2)"),
        ({"boxes": [1, 2, 3, 4]}, "(4,), (2,) and (2, 1, 2)"),
        ({"boxes": [[1, 2, 3]] * 2}, "(2, 3), (2,) and (2, 1, 2)"),
        ({"scores": [[0.5], [0.4]]}, "(2, 4), (2, 1) and (2, 1, 2)"),
        ({"scores": 0.5}, "(2, 4), () and (2, 1, 2)"),
        ({"landmarks": [[1, 2], [3, 4]]}, "(2, 4), (2,) and (2, 2)"),
        ({"landmarks": [[[1, 2, 3]]] * 2}, "(2, 4), (2,) and (2, 1, 3)"),
        ({"scores": [0.5], "landmarks": None}, "(2, 4), (1,) and None"),
    ],
)
def test_shapes_that_do_not_belong_together_are_refused(changes, shapes):
    with pytest.raises(ValueError, match=r"wants boxes \(N, 4\)") as caught:
        Detections(**{**TWO, **changes})
    assert str(caught.value).endswith(f"not {shapes}.")


@pytest.mark.parametrize("name", ["boxes", "scores", "landmarks"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(name, bad):
    array = np.array(TWO[name], np.float32)
    array.flat[0] = bad
    with pytest.raises(ValueError, match="finite"):
        Detections(**{**TWO, name: array})


def test_equality_compares_every_number_and_survives_pickling():
    faces = Detections(**TWO)
    assert pickle.loads(pickle.dumps(faces)) == faces  # noqa: S301
    assert Detections(**{**TWO, "scores": [0.9, 0.5]}) != faces
    assert Detections(**{**TWO, "landmarks": None}) != faces


def test_how_long_it_took_is_no_part_of_equality_but_survives_pickling():
    faces = Detections(**TWO, timing={"network": 0.5})
    assert faces == Detections(**TWO) == Detections(**TWO, timing={"network": 0.25})
    assert pickle.loads(pickle.dumps(faces)).timing == {"network": 0.5}  # noqa: S301
    assert Detections(**TWO).timing is None


THREE = Detections(
    boxes=[[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]],
    scores=[0.75, 0.5, 0.25],
    landmarks=[[[1, 1]], [[2, 2]], [[3, 3]]],
    timing={"read": 0.1},
)


def test_going_through_faces_gives_each_with_its_box_score_and_landmarks():
    first, second, third = THREE
    assert [first.box.tolist(), first.score, first.landmarks.tolist()] == [[1, 2, 3, 4], 0.75, [[1, 1]]]
    assert [second.score, third.score] == [0.5, 0.25]
    assert [type(first.score), first.box.dtype, first.landmarks.dtype] == [float, np.float32, np.float32]


def test_a_number_gives_one_face_from_the_end_as_well():
    for number, place in ((0, 0), (2, 2), (-1, 2), (-3, 0), (np.int64(1), 1), (np.array(1), 1)):
        assert THREE[number] == Face(
            box=THREE.boxes[place], score=float(THREE.scores[place]), landmarks=THREE.landmarks[place]
        )


def test_faces_of_other_boxes_scores_or_landmarks_are_not_equal():
    assert len({(THREE[0] == other) for other in (THREE[1], THREE[2])} | {THREE[0] == THREE[0]}) == 2
    assert THREE[0] != Face(box=[1, 2, 3, 4], score=0.75)


def test_without_landmarks_a_face_has_none():
    faces = Detections(boxes=[[1, 2, 3, 4]], scores=[1])
    assert faces[0].landmarks is None
    assert faces[:1].landmarks is None
    assert faces[0].to_dict() == {"box": [1.0, 2.0, 3.0, 4.0], "score": 1.0}


@pytest.mark.parametrize(
    ("index", "places"),
    [
        (slice(1, 3), [1, 2]),
        (slice(None, None, -1), [2, 1, 0]),
        (slice(5, 9), []),
        (THREE.scores > 0.3, [0, 1]),
        ([True, False, True], [0, 2]),
        (np.zeros(3, bool), []),
        ([2, 0], [2, 0]),
        (np.array([1, 1], np.uint8), [1, 1]),
        ([-1], [2]),
        ([], []),
        (np.array([], np.intp), []),
    ],
)
def test_slices_masks_and_numbers_give_those_faces_in_that_order(index, places):
    some = THREE[index]
    assert [some.boxes.tolist(), some.scores.tolist(), some.landmarks.tolist()] == [
        [THREE.boxes[place].tolist() for place in places],
        [float(THREE.scores[place]) for place in places],
        [THREE.landmarks[place].tolist() for place in places],
    ]
    assert some.timing == THREE.timing


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (3, IndexError, "no face 3 among 3"),
        (-4, IndexError, "no face -4 among 3"),
        ([0, 3], IndexError, "no face 3 among 3"),
        ([-4], IndexError, "no face -4 among 3"),
        ([True, False], IndexError, "A mask for 3 faces has 3 values, not 2"),
        (np.zeros(0, bool), IndexError, "A mask for 3 faces has 3 values, not 0"),
        (True, TypeError, r"bool \(\) from bool"),
        (np.True_, TypeError, r"bool \(\) from bool"),
        (1.0, TypeError, "from float"),
        ("box", TypeError, "from str"),
        (None, TypeError, "from NoneType"),
        ((0, 1), TypeError, "from tuple"),
        ([0.5, 1], TypeError, r"float64 \(2,\) from list"),
        (np.zeros((3, 4), bool), TypeError, r"bool \(3, 4\) from ndarray"),
    ],
)
def test_what_chooses_no_face_is_refused(index, error, message):
    with pytest.raises(error, match=message):
        THREE[index]


def test_no_faces_have_no_first():
    none = Detections(boxes=np.empty((0, 4)), scores=[])
    assert list(none) == []
    assert len(none[:5]) == 0
    with pytest.raises(IndexError, match="no face 0 among 0"):
        none[0]


def test_a_line_without_faces_tells_no_columns_and_goes_together_with_others():
    none = Detections(boxes=np.zeros((0, 4)), scores=[], landmarks=np.zeros((0, 1, 2)))
    read = Result.from_dict(Result(name="a", faces=none).to_dict()).faces
    assert (len(read), read.landmarks, read.extra) == (0, None, {})
    assert Detections.concatenate([read, Detections(**TWO)]) == Detections(**TWO)


FOUR = Detections(
    boxes=[[50, 0, 60, 40], [0, 10, 20, 20], [30, 5, 50, 10], [8, 8, 12, 18]],  # longer sides 40, 20, 20, 10
    scores=[0.9, 0.7, 0.6, 0.5],
    landmarks=np.arange(16).reshape(4, 2, 2),
    extra={"track_id": np.array([3, 1, 4, 2])},
    timing={"read": 0.1},
    truncated=True,
)


def places(faces):
    """Which of the four faces these are."""
    return [FOUR.scores.tolist().index(score) for score in faces.scores.tolist()]


class TestFilter:
    @pytest.mark.parametrize(
        ("bounds", "left"),
        [
            ({}, [0, 1, 2, 3]),
            ({"score": 0.6}, [0, 1, 2]),
            ({"score": 1}, []),
            ({"size": 20}, [0, 1, 2]),
            ({"size": 20.5}, [0]),
            ({"size": (10, 20)}, [1, 2, 3]),
            ({"size": [0, 10]}, [3]),
            ({"region": (10, 13, 20, 30)}, [1, 3]),  # their centres lie on its edge
            ({"region": (10.5, 0, 100, 100)}, [0, 2]),
            ({"region": (0, 0, 100, 12)}, [2]),
            ({"region": (0, 0, 100, 15), "score": 0.7, "size": 15}, [1]),
        ],
    )
    def test_leaves_the_faces_within_all_bounds(self, bounds, left):
        assert places(FOUR.filter(**bounds)) == left

    def test_keeps_what_belongs_to_the_faces_and_to_the_image(self):
        some = FOUR.filter(size=(20, 20))
        assert (some.extra["track_id"].tolist(), some.truncated, some.timing) == ([1, 4], True, {"read": 0.1})

    @pytest.mark.parametrize(
        "bounds",
        [
            {"score": np.nan},
            {"size": (3, 2)},
            {"size": np.nan},
            {"region": (5, 0, 4, 1)},
            {"region": (0, 5, 4, np.nan)},
            {"region": (1, 2, 3)},
            {"score": "x"},
        ],
    )
    def test_refuses_bounds_that_nothing_can_lie_within(self, bounds):
        with pytest.raises(ValueError, match=r"^Faces are filtered by numbers, of two bounds the lower first, not by "):
            FOUR.filter(**bounds)


class TestSort:
    @pytest.mark.parametrize(
        ("by", "order"),
        [("score", [0, 1, 2, 3]), ("size", [0, 1, 2, 3]), ("left", [1, 3, 2, 0]), ("top", [0, 2, 3, 1])],
    )
    def test_puts_the_first_first_from_whatever_order(self, by, order):
        backwards = FOUR[[3, 1, 2, 0]]  # the two of one size stay as they are
        assert places(FOUR.sort(by)) == order
        assert places(backwards.sort(by)) == order

    def test_leaves_faces_that_are_alike_in_their_order(self):
        assert places(FOUR[[2, 3, 1, 0]].sort("size")) == [0, 2, 1, 3]

    def test_refuses_what_is_no_order(self):
        with pytest.raises(ValueError, match=r"^Faces are sorted by 'score', 'size', 'left', 'top', not by 'age'\.$"):
            FOUR.sort("age")

    def test_largest_gives_those_of_the_longest_sides(self):
        assert places(FOUR[::-1].largest()) == [0]
        assert places(FOUR.largest(3)) == [0, 1, 2]
        assert places(FOUR.largest(9)) == [0, 1, 2, 3]
        assert len(FOUR.largest(0)) == len(Detections.from_dicts([]).largest()) == 0
        with pytest.raises(ValueError, match=r"^There are no -1 faces\.$"):
            FOUR.largest(-1)
        with pytest.raises(ValueError, match=r"^There are no 1\.5 faces\.$"):
            FOUR.largest(1.5)


def test_no_faces_can_be_filtered_and_sorted():
    none = Detections.from_dicts([])
    assert none.filter(score=0.5, size=(1, 2), region=(0, 0, 1, 1)) == none == none.sort("left")
