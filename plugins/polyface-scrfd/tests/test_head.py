from __future__ import annotations

import numpy as np
import pytest

from polyface.plugins.protocols import Head as HeadProtocol
from polyface_scrfd.head import Head

WIDTHS = {"score": 1, "bbox": 4, "kps": 10}


def raw_heads(height, width, images=2, seed=0):
    draw = np.random.default_rng(seed)
    cells = {stride: (height // stride) * (width // stride) for stride in (8, 16, 32)}
    return {
        f"{name}_{stride}": draw.uniform(0, 1, (images, 2 * count, columns)).astype(np.float32)
        for name, columns in WIDTHS.items()
        for stride, count in cells.items()
    }


def test_the_head_obeys_the_protocol():
    assert isinstance(Head(), HeadProtocol)


def test_priors_are_those_worked_by_hand():
    priors = Head().priors(32, 64)  # cells: 4 x 8, 2 x 4, 1 x 2

    assert priors.dtype == np.float32
    assert len(priors) == 2 * (32 + 8 + 2)
    assert {index: tuple(priors[index]) for index in (0, 1, 2, 16, 63, 64, 66, 79, 80, 83)} == {
        0: (0, 0, 8),
        1: (0, 0, 8),
        2: (8, 0, 8),
        16: (0, 8, 8),
        63: (56, 24, 8),
        64: (0, 0, 16),
        66: (16, 0, 16),
        79: (48, 16, 16),
        80: (0, 0, 32),
        83: (32, 0, 32),
    }


def test_a_prior_decodes_to_the_box_and_landmarks_worked_by_hand():
    head = Head()
    outputs = {name: np.zeros_like(head) for name, head in raw_heads(32, 64).items()}
    outputs["bbox_16"][1, 3] = 1, 0.5, 2, 0.25  # prior 67: 16, 0 at stride 16
    outputs["kps_16"][1, 3, [2, 3]] = -1, 1.5

    found = head.decode(outputs, head.priors(32, 64), 1, np.array([67]))

    np.testing.assert_array_equal(found.boxes, [[0, -8, 48, 4]])
    np.testing.assert_array_equal(found.landmarks, [[[16, 0], [0, 24], [16, 0], [16, 0], [16, 0]]])


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (128, 32)], ids=str)
def test_scores_boxes_and_landmarks_are_those_of_one_anchor_after_the_other(slow_decode, size):
    outputs = raw_heads(*size, seed=size[0])
    head = Head()
    priors = head.priors(*size)
    keep = np.random.default_rng(1).permutation(len(priors))

    found = head.decode(outputs, priors, 1, keep)

    scores, boxes, points = slow_decode([output[1] for output in outputs.values()], *size)
    np.testing.assert_array_equal(head.scores(outputs)[1], np.float32(scores))
    np.testing.assert_allclose(found.boxes, np.array(boxes)[keep], rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.landmarks, np.array(points)[keep], rtol=0, atol=1e-4)


def test_keeping_nothing_decodes_to_nothing():
    head = Head()

    found = head.decode(raw_heads(32, 32), head.priors(32, 32), 0, np.array([], dtype=np.intp))

    assert (found.boxes.shape, found.landmarks.shape) == ((0, 4), (0, 5, 2))


def test_heads_of_half_precision_give_numbers_of_single():
    head = Head()
    outputs = {name: output.astype(np.float16) for name, output in raw_heads(32, 32).items()}

    found = head.decode(outputs, head.priors(32, 32), 0, np.arange(3))

    assert {array.dtype for array in (head.scores(outputs), found.boxes, found.landmarks)} == {np.dtype(np.float32)}
