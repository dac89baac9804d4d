from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyface.plugins.protocols import Head as HeadProtocol
from polyface_dsfd.head import Head

GOLDEN_SIZES = [(96, 128, 1), (101, 157, 2)]


def raw_heads(generator, images, count):
    return {
        "loc": generator.normal(0, 2, (images, count, 4)).astype(np.float32),
        "logits": generator.normal(0, 5, (images, count, 2)).astype(np.float32),
    }


def level_sides(side):
    """The sides of the six feature maps, by the length that each strided layer in turn gives: kernel, padding."""
    sides = []
    for kernel, padding in [(7, 3), (3, 1), (3, 1), (3, 1), (3, 1), (3, 1), (3, 1)]:
        side = (side + 2 * padding - kernel) // 2 + 1
        sides.append(side)
    return sides[1:]  # the first strided layer has no prior


def slow_priors(height, width):
    """FaceDetection-DSFD's way: one prior at a time, as fractions of the input's sides, each clipped to [0, 1]."""
    priors = []
    for k, (rows, columns) in enumerate(zip(level_sides(height), level_sides(width), strict=True)):
        step, size = 4 * 2**k, 16 * 2**k
        for row in range(rows):
            for column in range(columns):
                prior = (
                    (column + 0.5) * step / width,
                    (row + 0.5) * step / height,
                    size / width / math.sqrt(1.5),
                    size / height * math.sqrt(1.5),
                )
                priors.append([min(max(value, 0), 1) for value in prior])
    return priors


def slow_decode(prior, loc, height, width):
    """The box of one prior, in pixels."""
    px, py, pw, ph = prior
    w, h = pw * math.exp(loc[2] * 0.2), ph * math.exp(loc[3] * 0.2)
    x1, y1 = px + loc[0] * 0.1 * pw - w / 2, py + loc[1] * 0.1 * ph - h / 2
    return x1 * width, y1 * height, (x1 + w) * width, (y1 + h) * height


def test_the_head_obeys_the_protocol():
    assert isinstance(Head(), HeadProtocol)


def test_priors_at_an_odd_size_are_those_worked_by_hand():
    priors = Head().priors(33, 50)  # cells: 9 x 13, 5 x 7, 3 x 4, 2 x 2, 1 x 1, 1 x 1

    assert priors.dtype == np.float32
    assert len(priors) == 117 + 35 + 12 + 4 + 1 + 1
    by_hand = {
        0: (2, 2, 13.063945, 19.595918),
        12: (50, 2, 13.063945, 19.595918),
        13: (2, 6, 13.063945, 19.595918),
        116: (50, 33, 13.063945, 19.595918),  # its centre would lie at y = 34
        117: (4, 4, 26.127891, 33),  # its height would be 39.19
        151: (50, 33, 26.127891, 33),
        152: (8, 8, 50, 33),
        164: (16, 16, 50, 33),
        165: (48, 16, 50, 33),
        166: (16, 33, 50, 33),
        168: (32, 32, 50, 33),
        169: (50, 33, 50, 33),
    }
    np.testing.assert_allclose(priors[list(by_hand)], list(by_hand.values()), rtol=1e-6)


def test_in_a_large_input_no_prior_is_clipped():
    _, _, widths, heights = Head().priors(1024, 1024).T

    np.testing.assert_allclose(heights / widths, 1.5, rtol=1e-6)
    sizes, counts = np.unique(np.round(np.sqrt(widths * heights), 3), return_counts=True)
    assert sizes.tolist() == [16, 32, 64, 128, 256, 512]
    assert counts[::-1].tolist() == [8**2, 16**2, 32**2, 64**2, 128**2, 256**2]


@given(height=st.integers(1, 300), width=st.integers(1, 300))
def test_priors_equal_those_made_one_at_a_time(height, width):
    expected = np.array(slow_priors(height, width)) * [width, height, width, height]

    np.testing.assert_allclose(Head().priors(height, width), expected, rtol=1e-6)


def test_a_prior_decodes_to_the_box_worked_by_hand():
    head = Head()
    outputs = {"loc": np.zeros((2, 170, 4), np.float32)}
    outputs["loc"][1, 164] = 1, -2, 5 * math.log(2), 0  # centre 16 + 5, 16 - 6.6; width 50 * 2, height 33

    found = head.decode(outputs, head.priors(33, 50), 1, np.array([164]))

    np.testing.assert_allclose(found.boxes, [[-29, -7.1, 71, 25.9]], atol=1e-5)
    assert found.boxes.dtype == np.float32
    assert found.landmarks is None


def test_raw_heads_of_zero_decode_to_the_priors_themselves():
    head = Head()
    priors = head.priors(40, 40)

    found = head.decode({"loc": np.zeros((1, len(priors), 4), np.float32)}, priors, 0, np.arange(len(priors)))

    x, y, width, height = priors.T
    np.testing.assert_array_equal(
        found.boxes, np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1)
    )


@given(height=st.integers(1, 130), width=st.integers(1, 130), seed=st.integers(0, 2**32 - 1))
def test_decoding_equals_decoding_one_prior_at_a_time(height, width, seed):
    generator = np.random.default_rng(seed)
    expected = slow_priors(height, width)
    outputs = raw_heads(generator, 2, len(expected))
    keep = generator.permutation(len(expected))[: generator.integers(1, len(expected) + 1)]
    head = Head()

    found = head.decode(outputs, head.priors(height, width), 1, keep)

    slow = [slow_decode(expected[k], outputs["loc"][1, k], height, width) for k in keep]
    np.testing.assert_allclose(found.boxes, slow, rtol=1e-5, atol=1e-3)


def test_keeping_nothing_decodes_to_nothing():
    head = Head()
    priors = head.priors(32, 32)

    found = head.decode(raw_heads(np.random.default_rng(0), 1, len(priors)), priors, 0, np.array([], dtype=np.intp))

    assert found.boxes.shape == (0, 4)


def test_scores_are_those_worked_by_hand():
    logits = np.float32([[[2, 2], [0, math.log(3)], [math.log(4), 0]]])

    scores = Head().scores({"logits": logits})

    np.testing.assert_allclose(scores, [[0.5, 0.75, 0.2]], atol=1e-7)
    assert scores.dtype == np.float32


def test_scores_of_huge_logits_stay_in_zero_to_one_without_a_warning():
    logits = np.float32([[[1e38, -1e38], [-1e38, 1e38], [1e4, 1e4]]])

    np.testing.assert_array_equal(Head().scores({"logits": logits}), np.float32([[0, 1, 0.5]]))


@given(st.lists(st.tuples(*[st.floats(-80, 80, width=32)] * 2), min_size=1))
def test_scores_equal_a_softmax_in_double_precision(pairs):
    expected = [math.exp(b) / (math.exp(a) + math.exp(b)) for a, b in pairs]

    np.testing.assert_allclose(Head().scores({"logits": np.float32([pairs])})[0], expected, atol=1e-6)


@pytest.mark.shared
@pytest.mark.parametrize("size", GOLDEN_SIZES, ids=str)
def test_the_goldens_raw_heads_give_the_goldens_scores_and_boxes(golden, size):
    height, width, _ = size
    expected = golden.outputs("dsfd-resnet152", *size)
    head = Head()
    priors = head.priors(height, width)
    outputs = {"loc": expected["loc"][None], "logits": expected["logits"][None]}

    found = head.decode(outputs, priors, 0, np.arange(len(priors)))

    np.testing.assert_allclose(head.scores(outputs)[0], expected["scores"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.boxes / ([width, height] * 2), expected["boxes"], rtol=1e-5, atol=1e-5)
