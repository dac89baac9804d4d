"""Detections: their shapes, and the two forms they turn into."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from polyface.results import Detections

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
