from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyface.plugins.protocols import Head as HeadProtocol
from polyface_retinaface.head import Head

GOLDEN_SIZES = [(96, 128, 1), (101, 157, 2)]


def raw_heads(generator, images, count):
    return {
        "loc": generator.normal(0, 2, (images, count, 4)).astype(np.float32),
        "logits": generator.normal(0, 5, (images, count, 2)).astype(np.float32),
        "landms": generator.normal(0, 2, (images, count, 10)).astype(np.float32),
    }


def slow_priors(height, width):
    """Pytorch_Retinaface's way: one prior at a time, as fractions of the input's sides."""
    priors = []
    for step, sizes in zip([8, 16, 32], [[16, 32], [64, 128], [256, 512]], strict=True):
        for row in range(math.ceil(height / step)):
            for column in range(math.ceil(width / step)):
                for size in sizes:
                    cx, cy = (column + 0.5) * step / width, (row + 0.5) * step / height
                    priors.append((cx, cy, size / width, size / height))
    return priors


def slow_decode(prior, loc, landms, height, width):
    """Box and landmarks of one prior, in pixels."""
    px, py, pw, ph = prior
    w, h = pw * math.exp(loc[2] * 0.2), ph * math.exp(loc[3] * 0.2)
    x1, y1 = px + loc[0] * 0.1 * pw - w / 2, py + loc[1] * 0.1 * ph - h / 2
    points = [((px + landms[2 * i] * 0.1 * pw) * width, (py + landms[2 * i + 1] * 0.1 * ph) * height) for i in range(5)]
    return (x1 * width, y1 * height, (x1 + w) * width, (y1 + h) * height), points


def test_the_head_obeys_the_protocol():
    assert isinstance(Head(), HeadProtocol)


def test_priors_at_an_odd_size_are_those_worked_by_hand():
    priors = Head().priors(33, 50)  # cells: 5 x 7, 3 x 4, 2 x 2

    assert priors.dtype == np.float32
    assert len(priors) == 2 * (35 + 12 + 4)
    assert {index: tuple(priors[index]) for index in (0, 1, 2, 14, 69, 70, 93, 94, 101)} == {
        0: (4, 4, 16),
        1: (4, 4, 32),
        2: (12, 4, 16),
        14: (4, 12, 16),
        69: (52, 36, 32),
        70: (8, 8, 64),
        93: (56, 40, 128),
        94: (16, 16, 256),
        101: (48, 48, 512),
    }


def test_a_prior_decodes_to_the_box_and_landmarks_worked_by_hand():
    head = Head()
    outputs = {"loc": np.zeros((2, 102, 4), np.float32), "landms": np.zeros((2, 102, 10), np.float32)}
    outputs["loc"][1, 70] = 1, -2, 5 * math.log(2), 0  # centre 8 + 6.4, 8 - 12.8; width 64 * 2
    outputs["landms"][1, 70] = 10, 0, 0, -10, 1, 1, 0, 0, -2.5, 5

    found = head.decode(outputs, head.priors(33, 50), 1, np.array([70]))

    np.testing.assert_allclose(found.boxes, [[-49.6, -36.8, 78.4, 27.2]], atol=1e-5)
    np.testing.assert_allclose(found.landmarks, [[[72, 8], [8, -56], [14.4, 14.4], [8, 8], [-8, 40]]], atol=1e-5)
    assert (found.boxes.dtype, found.landmarks.dtype) == (np.float32, np.float32)


def test_raw_heads_of_zero_decode_to_the_priors_themselves():
    head = Head()
    priors = head.priors(40, 40)
    outputs = {"loc": np.zeros((1, len(priors), 4), np.float32), "landms": np.zeros((1, len(priors), 10), np.float32)}

    found = head.decode(outputs, priors, 0, np.arange(len(priors)))

    x, y, size = priors.T
    np.testing.assert_array_equal(
        found.boxes, np.stack([x - size / 2, y - size / 2, x + size / 2, y + size / 2], axis=1)
    )
    np.testing.assert_array_equal(found.landmarks, np.repeat(priors[:, None, :2], 5, axis=1))


@given(height=st.integers(1, 130), width=st.integers(1, 130), seed=st.integers(0, 2**32 - 1))
def test_decoding_equals_decoding_one_prior_at_a_time(height, width, seed):
    generator = np.random.default_rng(seed)
    expected = slow_priors(height, width)
    outputs = raw_heads(generator, 2, len(expected))
    keep = generator.permutation(len(expected))[: generator.integers(1, len(expected) + 1)]
    head = Head()

    found = head.decode(outputs, head.priors(height, width), 1, keep)

    slow = [slow_decode(expected[k], outputs["loc"][1, k], outputs["landms"][1, k], height, width) for k in keep]
    np.testing.assert_allclose(found.boxes, [box for box, _ in slow], rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(found.landmarks, [points for _, points in slow], rtol=1e-5, atol=1e-3)


def test_keeping_nothing_decodes_to_nothing():
    head = Head()
    priors = head.priors(32, 32)

    found = head.decode(raw_heads(np.random.default_rng(0), 1, len(priors)), priors, 0, np.array([], dtype=np.intp))

    assert (found.boxes.shape, found.landmarks.shape) == ((0, 4), (0, 5, 2))


def test_scores_are_those_worked_by_hand():
    logits = np.float32([[[2, 2], [0, math.log(3)], [math.log(4), 0]]])

    scores = Head().scores({"logits": logits})

    np.testing.assert_allclose(scores, [[0.5, 0.75, 0.2]], atol=1e-7)
    assert scores.dtype == np.float32


def test_scores_of_huge_logits_stay_in_zero_to_one_without_a_warning():
    logits = np.float32([[[3e38, -3e38], [-3e38, 3e38], [1e4, 1e4]]])

    with np.errstate(over="ignore"):  # the difference of the logits themselves may be infinite
        scores = Head().scores({"logits": logits})

    np.testing.assert_array_equal(scores, np.float32([[0, 1, 0.5]]))


@given(st.lists(st.tuples(*[st.floats(-80, 80, width=32)] * 2), min_size=1))
def test_scores_equal_a_softmax_in_double_precision(pairs):
    expected = [math.exp(b) / (math.exp(a) + math.exp(b)) for a, b in pairs]

    np.testing.assert_allclose(Head().scores({"logits": np.float32([pairs])})[0], expected, atol=1e-6)


@pytest.mark.shared
@pytest.mark.parametrize("detector", ["retinaface-mobilenet025", "retinaface-resnet50"])
@pytest.mark.parametrize("size", GOLDEN_SIZES, ids=str)
def test_the_goldens_raw_heads_decode_to_the_goldens_boxes_and_landmarks(golden, detector, size):
    height, width, _ = size
    expected = golden.outputs(detector, *size)
    head = Head()
    priors = head.priors(height, width)

    found = head.decode(
        {"loc": expected["loc"][None], "landms": expected["landms"][None]}, priors, 0, np.arange(len(priors))
    )

    np.testing.assert_allclose(found.boxes / ([width, height] * 2), expected["boxes"], atol=1e-4)
    np.testing.assert_allclose(
        found.landmarks.reshape(-1, 10) / ([width, height] * 5), expected["landmarks"], atol=1e-4
    )
