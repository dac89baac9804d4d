from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxes import suppress
from polyface.plugins.protocols import Head as HeadProtocol
from polyface_yunet.head import Head


def raw_heads(generator, images, height, width):
    """Outputs of the network's shapes for an input whose sides are multiples of 32."""
    outputs = {}
    for stride in (8, 16, 32):
        cells = (images, (height // stride) * (width // stride))
        for name in ("cls", "obj"):
            outputs[f"{name}_{stride}"] = generator.uniform(0, 1, (*cells, 1)).astype(np.float32)
        for name, values in (("bbox", 4), ("kps", 10)):
            outputs[f"{name}_{stride}"] = generator.normal(0, 1.5, (*cells, values)).astype(np.float32)
    return outputs


def slow_decode(outputs, image, width):
    """One cell at a time, in double precision. Yields score, box and points, in pixels."""
    for stride in (8, 16, 32):
        rows = zip(
            *(outputs[f"{name}_{stride}"][image].tolist() for name in ("cls", "obj", "bbox", "kps")), strict=True
        )
        for cell, ((face,), (thing,), (x, y, log_width, log_height), kps) in enumerate(rows):
            row, column = divmod(cell, width // stride)
            middle_x, middle_y = (column + x) * stride, (row + y) * stride
            half_x, half_y = math.exp(log_width) * stride / 2, math.exp(log_height) * stride / 2
            points = [((kps[2 * k] + column) * stride, (kps[2 * k + 1] + row) * stride) for k in range(5)]
            box = (middle_x - half_x, middle_y - half_y, middle_x + half_x, middle_y + half_y)
            yield math.sqrt(face * thing), box, points


def test_the_head_obeys_the_protocol():
    assert isinstance(Head(), HeadProtocol)


def test_priors_are_the_corners_of_the_cells_level_by_level():
    priors = Head().priors(32, 64)  # cells: 4 x 8, 2 x 4, 1 x 2

    assert priors.dtype == np.float32
    assert priors.shape == (32 + 8 + 2, 3)
    assert {index: tuple(priors[index]) for index in (0, 1, 8, 31, 32, 37, 40, 41)} == {
        0: (0, 0, 8),
        1: (8, 0, 8),
        8: (0, 8, 8),
        31: (56, 24, 8),
        32: (0, 0, 16),
        37: (16, 16, 16),
        40: (0, 0, 32),
        41: (32, 0, 32),
    }


def test_a_cell_decodes_to_the_box_and_landmarks_worked_by_hand():
    head = Head()
    outputs = {name: np.zeros_like(output) for name, output in raw_heads(np.random.default_rng(0), 2, 32, 64).items()}
    outputs["bbox_16"][1, 5] = 0.5, -0.25, math.log(2), math.log(4)  # of the cell at 16, 16
    outputs["kps_16"][1, 5] = 0, 0, 1, 0, 0.5, 0.5, -1, 2, 1, 1

    found = head.decode(outputs, head.priors(32, 64), 1, np.array([37]))

    np.testing.assert_allclose(found.boxes, [[24 - 16, 12 - 32, 24 + 16, 12 + 32]], atol=1e-5)
    np.testing.assert_allclose(found.landmarks, [[[16, 16], [32, 16], [24, 24], [0, 48], [32, 32]]], atol=1e-5)
    assert (found.boxes.dtype, found.landmarks.dtype) == (np.float32, np.float32)


def test_a_score_is_the_geometric_mean_of_two():
    outputs = raw_heads(np.random.default_rng(0), 1, 32, 32)
    outputs["cls_8"][0, :3, 0], outputs["obj_8"][0, :3, 0] = (0.25, 1, 0), (0.25, 0.64, 1)
    outputs["cls_32"][0, 0], outputs["obj_32"][0, 0] = 0.5, 0.125

    scores = Head().scores(outputs)

    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores[0, [0, 1, 2, -1]], [0.25, 0.8, 0, 0.25], rtol=1e-6)


def test_what_half_precision_rounds_beyond_0_and_1_is_a_score_all_the_same():
    outputs = raw_heads(np.random.default_rng(0), 1, 32, 32)
    outputs["cls_8"][0, :2, 0], outputs["obj_8"][0, :2, 0] = (1 + 2**-10, -1e-4), (1 + 2**-10, 0.5)

    np.testing.assert_array_equal(Head().scores(outputs)[0, :2], [1, 0])


def test_keeping_nothing_decodes_to_nothing():
    head = Head()

    found = head.decode(
        raw_heads(np.random.default_rng(0), 1, 32, 32), head.priors(32, 32), 0, np.array([], dtype=np.intp)
    )

    assert (found.boxes.shape, found.landmarks.shape) == ((0, 4), (0, 5, 2))


@given(rows=st.integers(1, 4), columns=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_decoding_equals_decoding_one_cell_at_a_time(rows, columns, seed):
    generator = np.random.default_rng(seed)
    height, width = 32 * rows, 32 * columns
    outputs = raw_heads(generator, 2, height, width)
    expected = list(slow_decode(outputs, 1, width))
    keep = generator.permutation(len(expected))[: generator.integers(1, len(expected) + 1)]
    head = Head()

    found = head.decode(outputs, head.priors(height, width), 1, keep)

    scores, boxes, points = zip(*(expected[index] for index in keep), strict=True)
    np.testing.assert_allclose(head.scores(outputs)[1, keep], scores, rtol=1e-5)
    np.testing.assert_allclose(found.boxes, boxes, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(found.landmarks, points, rtol=1e-5, atol=1e-3)


@pytest.mark.shared
def test_the_whole_finds_what_the_published_file_finds_in_the_examples(original, published, pytestconfig):
    """On equal pixels: preprocessing, network, decoding and NMS, against loops over the published file's outputs."""
    pytest.importorskip("polyface_onnxruntime", reason="the network runs on polyface-onnxruntime")
    import polyface

    found = 0
    settings = {"weights": str(published["onnx"]), "backend": "onnxruntime", "device": "cpu", "view": "plain"}
    with polyface.create_detector("yunet-n", **settings) as detector:
        for path in sorted((pytestconfig.rootpath / "examples").glob("*.jpg")):
            image = polyface.read_image(path)
            height, width = image.shape[:2]
            padded = np.zeros((-(-height // 32) * 32, -(-width // 32) * 32, 3), np.float32)
            padded[:height, :width] = image[..., ::-1]
            cells = slow_decode(original(padded.transpose(2, 0, 1)[None].copy()), 0, padded.shape[1])
            expected = suppress([cell for cell in cells if cell[0] > detector.spec.defaults.score_threshold], 0.45)

            faces = detector.detect(image)

            found += len(faces)
            assert len(faces) == len(expected)
            scores, boxes, points = zip(*expected, strict=True)
            np.testing.assert_allclose(faces.scores, scores, rtol=0, atol=1e-4)
            np.testing.assert_allclose(faces.boxes, boxes, rtol=0, atol=0.01)
            np.testing.assert_allclose(faces.landmarks, points, rtol=0, atol=0.01)
    assert found > 20
