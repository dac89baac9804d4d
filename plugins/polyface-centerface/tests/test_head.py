from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxes import suppress
from polyface.plugins.protocols import Head as HeadProtocol
from polyface_centerface.head import Head


def raw_heads(generator, images, rows, columns):
    def draw(channels, spread):
        return generator.normal(0, spread, (images, channels, rows, columns)).astype(np.float32)

    return {
        "heatmap": generator.uniform(0, 1, (images, 1, rows, columns)).astype(np.float32),
        "scale": draw(2, 1.5),
        "offset": draw(2, 0.5),
        "landmarks": draw(10, 0.5),
    }


def slow_decode(outputs, image):
    """CenterFace's way: one cell at a time, height before width, y before x. Yields score, box and points."""
    _, _, rows, columns = outputs["heatmap"].shape
    for row in range(rows):
        for column in range(columns):
            log_height, log_width = (float(value) for value in outputs["scale"][image, :, row, column])
            down, right = (float(value) for value in outputs["offset"][image, :, row, column])
            height, width = 4 * math.exp(log_height), 4 * math.exp(log_width)
            top, left = 4 * (row + down + 0.5) - height / 2, 4 * (column + right + 0.5) - width / 2
            points = []
            for point in range(5):
                y, x = (float(value) for value in outputs["landmarks"][image, 2 * point : 2 * point + 2, row, column])
                points.append((left + x * width, top + y * height))
            yield float(outputs["heatmap"][image, 0, row, column]), (left, top, left + width, top + height), points


def test_the_head_obeys_the_protocol():
    assert isinstance(Head(), HeadProtocol)


def test_priors_are_the_middles_of_cells_of_four_pixels():
    priors = Head().priors(32, 64)

    assert priors.dtype == np.float32
    assert priors.shape == (8 * 16, 2)
    assert [tuple(priors[index]) for index in (0, 1, 16, 127)] == [(2, 2), (6, 2), (2, 6), (62, 30)]


def test_a_cell_decodes_to_the_box_and_landmarks_worked_by_hand():
    head = Head()
    outputs = {name: np.zeros((2, channels, 8, 8), np.float32) for name, channels in (("scale", 2), ("offset", 2))}
    outputs["landmarks"] = np.zeros((2, 10, 8, 8), np.float32)
    outputs["scale"][1, :, 2, 5] = math.log(8), math.log(4)  # 32 high, 16 wide
    outputs["offset"][1, :, 2, 5] = 0.5, -0.25  # the centre: y 4 * (2 + 0.5 + 0.5), x 4 * (5 + 0.5 - 0.25)
    outputs["landmarks"][1, :, 2, 5] = 0.25, 0.25, 0.25, 0.75, 0.5, 0.5, 1, 0, -0.5, 1.5

    found = head.decode(outputs, head.priors(32, 32), 1, np.array([2 * 8 + 5]))

    np.testing.assert_allclose(found.boxes, [[13, -4, 29, 28]], atol=1e-5)
    np.testing.assert_allclose(found.landmarks, [[[17, 4], [25, 4], [21, 12], [13, 28], [37, -20]]], atol=1e-5)
    assert (found.boxes.dtype, found.landmarks.dtype) == (np.float32, np.float32)


def test_the_score_is_the_heat_map_itself():
    outputs = raw_heads(np.random.default_rng(0), 2, 2, 3)
    outputs["heatmap"][1, 0] = [[0, 0.25, 0.5], [0.75, 1, 0.125]]

    np.testing.assert_array_equal(Head().scores(outputs)[1], np.float32([0, 0.25, 0.5, 0.75, 1, 0.125]))


def test_keeping_nothing_decodes_to_nothing():
    head = Head()

    found = head.decode(
        raw_heads(np.random.default_rng(0), 1, 8, 8), head.priors(32, 32), 0, np.array([], dtype=np.intp)
    )

    assert (found.boxes.shape, found.landmarks.shape) == ((0, 4), (0, 5, 2))


@given(rows=st.integers(1, 4), columns=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_decoding_equals_decoding_one_cell_at_a_time(rows, columns, seed):
    generator = np.random.default_rng(seed)
    rows, columns = 8 * rows, 8 * columns  # of inputs whose sides are multiples of 32
    outputs = raw_heads(generator, 2, rows, columns)
    expected = list(slow_decode(outputs, 1))
    keep = generator.permutation(len(expected))[: generator.integers(1, len(expected) + 1)]
    head = Head()

    found = head.decode(outputs, head.priors(4 * rows, 4 * columns), 1, keep)

    scores, boxes, points = zip(*(expected[index] for index in keep), strict=True)
    np.testing.assert_array_equal(head.scores(outputs)[1, keep], np.float32(scores))
    np.testing.assert_allclose(found.boxes, boxes, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(found.landmarks, points, rtol=1e-5, atol=1e-3)


def test_the_whole_finds_what_the_original_finds_in_the_examples(original, pytestconfig):
    """On equal pixels: preprocessing, network, decoding and NMS, against loops over the original file's outputs."""
    pytest.importorskip("polyface_onnxruntime", reason="the network runs on polyface-onnxruntime")
    import polyface

    found = 0
    with polyface.create_detector("centerface", backend="onnxruntime", device="cpu", view="plain") as detector:
        for path in sorted((pytestconfig.rootpath / "examples").glob("*.jpg")):
            image = polyface.read_image(path)
            height, width = image.shape[:2]
            padded = np.zeros((-(-height // 32) * 32, -(-width // 32) * 32, 3), np.float32)
            padded[:height, :width] = image
            cells = list(slow_decode(original(padded.transpose(2, 0, 1)[None].copy()), 0))
            expected = suppress([cell for cell in cells if cell[0] > detector.spec.defaults.score_threshold], 0.3)

            faces = detector.detect(image)

            found += len(faces)
            assert len(faces) == len(expected)
            scores, boxes, points = zip(*expected, strict=True)
            np.testing.assert_allclose(faces.scores, scores, rtol=0, atol=1e-4)
            np.testing.assert_allclose(faces.boxes, boxes, rtol=0, atol=0.01)
            np.testing.assert_allclose(faces.landmarks, points, rtol=0, atol=0.01)
    assert found > 20
