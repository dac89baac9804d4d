"""The detector: what every detector must keep, checked by the kit, and the toy by hand.

Every expected number here is worked out on paper. Replace it by what the original network gives, run by its own code.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from polyface.errors import WeightsError
from polyface.testing import DetectorConformance, Golden
from polyface_example import plugin
from polyface_example.graph import build
from polyface_example.head import RedboxHead

[SPEC] = plugin.polyface_detectors()
RED = (1, -1, -1)  # after mean and std


class TestRedbox(DetectorConformance):
    detector = "example-redbox"
    # Replace: the backend that runs your kind of graph, such as "torch" or "onnxruntime".
    backend = "numpy"

    # Replace: an image, and the raw heads that the original network gives for it.
    @pytest.fixture(scope="class")
    @classmethod
    def goldens(cls):
        """There is no original: by hand, a cell of pure red in the middle of six, and one of blue beside it."""
        image = np.zeros((16, 24, 3), np.uint8)
        image[:8, 8:16] = 255, 0, 0
        image[:8, 16:] = 0, 0, 255
        face = np.float32([-4, 4, -8, -4, -4, -4])  # blue is as far from grey as red is, by half and the other way
        heads = {"loc": np.zeros((6, 4), np.float32), "logits": np.stack([-face, face], axis=1)}
        boxes = np.float32([[x, y, x + 8, y + 8] for y in (0, 8) for x in (0, 8, 16)])
        return [Golden(image=image, heads=heads, scores=1 / (1 + np.exp(-2 * face)), boxes=boxes)]


def make_image(height, width):
    """A black network input (1, 3, height, width)."""
    return np.full((1, 3, height, width), -1, np.float32)


def test_a_pure_red_cell_gives_a_logit_difference_of_8_and_any_grey_of_minus_8():
    image = make_image(8, 32)
    image[0, :, :, 8:16] = np.reshape(RED, (3, 1, 1))
    image[0, :, :, 16:24] = 0.5
    image[0, :, :, 24:32] = 1
    logits = build()({"image": image})["logits"]
    np.testing.assert_array_equal(logits, [[[4, -4], [-4, 4], [4, -4], [4, -4]]])


def test_red_in_the_right_half_of_a_cell_shifts_its_box_right_by_a_quarter_of_a_cell():
    image = make_image(8, 8)
    image[0, :, :, 4:] = np.reshape(RED, (3, 1, 1))
    outputs = build()({"image": image})
    # The ramp at columns 4 to 7 is 0.5, 1.5, 2.5 and 3.5 quarters; averaged over all eight columns: 8 / 4 / 8.
    np.testing.assert_array_equal(outputs["loc"], [[[0.25, 0, 0, 0]]])
    np.testing.assert_array_equal(outputs["logits"], [[[0, 0]]])


def test_red_in_the_top_half_of_a_cell_shifts_its_box_up_by_a_quarter_of_a_cell():
    image = make_image(8, 8)
    image[0, :, :4] = np.reshape(RED, (3, 1, 1))
    np.testing.assert_array_equal(build()({"image": image})["loc"], [[[0, -0.25, 0, 0]]])


def test_cells_are_counted_row_by_row():
    image = make_image(16, 24)
    image[0, :, 8:, :8] = np.reshape(RED, (3, 1, 1))
    np.testing.assert_array_equal(build()({"image": image})["logits"][0, :, 1], [-4, -4, -4, 4, -4, -4])


def test_priors_are_the_centres_of_the_cells():
    expected = [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]
    np.testing.assert_array_equal(RedboxHead().priors(16, 24), expected)


def test_scores_are_the_softmax_of_the_logits():
    logits = np.array([[[-4, 4], [4, -4], [0, 0], [-500, 500], [500, -500]]], np.float32)
    scores = RedboxHead().scores({"logits": logits})
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, [[1 / (1 + math.exp(-8)), 1 / (1 + math.exp(8)), 0.5, 1, 0]], rtol=1e-6)


def test_decode_shifts_by_cells_and_grows_by_the_exponential():
    head = RedboxHead()
    loc = np.zeros((2, 6, 4), np.float32)
    loc[1, 4] = [0.25, -0.5, math.log(2), 0]
    candidates = head.decode({"loc": loc}, head.priors(16, 24), index=1, keep=np.array([4, 0]))
    # Anchor 4 has its centre at (12, 12); the box's is at (12 + 2, 12 - 4), and it is 16 by 8 pixels.
    np.testing.assert_allclose(candidates.boxes, [[6, 4, 22, 12], [0, 0, 8, 8]], rtol=1e-6)
    assert candidates.boxes.dtype == np.float32
    assert candidates.landmarks is None


def test_a_checkpoint_is_refused():
    with pytest.raises(WeightsError, match="part of its code"):
        build(Path("some.pth"))


def test_the_torch_module_gives_the_same_numbers():
    torch = pytest.importorskip("torch", reason="the graph kind torch-module needs torch")
    image = np.random.default_rng(3).uniform(-1, 1, (2, 3, 24, 56)).astype(np.float32)
    [source] = [source for source in SPEC.graphs if source.kind == "torch-module"]
    module = source.ref.load()(None).eval()
    with torch.inference_mode():
        actual = [output.numpy() for output in module(torch.from_numpy(image))]
    expected = build()({"image": image})
    for output, array in zip(SPEC.outputs, actual, strict=True):
        np.testing.assert_allclose(array, expected[output.name], rtol=0, atol=1e-6)
