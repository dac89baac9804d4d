"""Placements: where an image lies in the network's input, and the way of its faces back."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from polyface.errors import ImageError
from polyface.images.geometry import Placement, place_image, restore
from polyface.images.preparing import prepare
from polyface.plugins.records import Preprocess
from polyface.settings.config import Config

PLAIN = Preprocess(channels="rgb", mean=(0, 0, 0))


def place(height, width, preprocess=PLAIN, min_side=1, scale=1.0, **settings):
    detector = SimpleNamespace(preprocess=preprocess, min_side=min_side)
    return place_image(Config(**settings), detector, height, width, scale)


sides = st.integers(1, 5000)


scales = st.just(1.0) | st.floats(0.001, 4)


@given(sides, sides, st.integers(1, 64), st.integers(1, 64), scales, st.integers(1, 64))
@example(1, 2959, 58, 1, 1.0, 51)  # 2959 pixels would become 5916x2958
@example(4033, 4033, 64, 1, 1.0, 63)  # 4033x4033 pixels would become 8064x8064
def test_a_placement_keeps_every_promise(height, width, stride, min_side, scale, pad_to):
    record = Preprocess(channels="rgb", mean=(0, 0, 0), stride=stride)
    scaled = [max(1, round(side * scale)) for side in (height, width)]
    padded = [math.lcm(stride, pad_to) * -(-max(side, min_side) // math.lcm(stride, pad_to)) for side in scaled]
    if math.prod(padded) > 2 * math.prod(scaled) + 2**24:
        with pytest.raises(ImageError, match=f"would be padded to {padded[1]}x{padded[0]}"):
            place(height, width, record, min_side=min_side, pad_to=pad_to, scale=scale)
        return
    placement = place(height, width, record, min_side=min_side, pad_to=pad_to, scale=scale)
    assert (placement.image_height, placement.image_width) == (height, width)
    multiple = math.lcm(stride, pad_to)
    for net, side, image in (
        (placement.net_height, placement.height, height),
        (placement.net_width, placement.width, width),
    ):
        assert side >= 1
        assert abs(side - max(1, image * scale)) <= 0.5 + 1e-9
        assert net % stride == 0
        assert net % pad_to == 0
        assert max(side, min_side) <= net < max(side, min_side) + multiple
    assert placement.shape == (placement.net_height, placement.net_width)


def test_a_placement_by_hand():
    record = Preprocess(channels="rgb", mean=(0, 0, 0), stride=8)
    placement = place(900, 1200, record, min_side=32, pad_to=12, scale=8 / 15)
    # 1200 -> 640 and 900 -> 480; then to multiples of lcm(8, 12) = 24.
    assert (placement.height, placement.width, placement.net_height, placement.net_width) == (480, 640, 480, 648)


class TestFixedSize:
    def placement(self, height, width, infer_size, fit):
        return place(height, width, pad_to=32, infer_size=infer_size, fit=fit)

    @pytest.mark.parametrize(
        ("height", "width", "infer_size", "scaled"),
        [
            (1080, 1920, (480, 640), (360, 640)),  # by 1/3: the width decides
            (1920, 1080, (480, 640), (480, 270)),  # by 1/4: the height decides
            (120, 160, (480, 640), (480, 640)),  # enlarged by 4
            (50, 100, (33, 47), (24, 47)),  # by 0.47: 23.5, and halves go to the even number
            (2000, 1, (100, 100), (100, 1)),  # never thinner than a pixel
        ],
    )
    def test_a_letterbox_keeps_the_proportions_and_pads_the_rest(self, height, width, infer_size, scaled):
        placement = self.placement(height, width, infer_size, "letterbox")
        assert (placement.height, placement.width) == scaled
        assert placement.shape == infer_size
        assert (placement.image_height, placement.image_width) == (height, width)

    @pytest.mark.parametrize(("height", "width"), [(1080, 1920), (1920, 1080), (3, 5)])
    def test_stretching_fills_the_size(self, height, width):
        placement = self.placement(height, width, (480, 640), "stretch")
        assert (placement.height, placement.width) == placement.shape == (480, 640)

    @pytest.mark.parametrize(
        ("fit", "expected"),
        [
            ("letterbox", [300, 150, 600, 450]),  # 1920x1080 to 640x360: 3 pixels to one
            ("stretch", [300, 112.5, 600, 337.5]),  # to 640x480: 3 across, 2.25 down
        ],
    )
    def test_boxes_come_back_into_the_image(self, fit, expected):
        placement = self.placement(1080, 1920, (480, 640), fit)
        boxes = restore(np.array([[100, 50, 200, 150]], np.float32), placement)
        assert boxes.tolist() == [expected]


@st.composite
def keywords_of_place(draw):
    """Keywords of ``place``: by a scale, or to a fixed size."""
    if draw(st.booleans()):
        return {"scale": draw(st.floats(0.2, 3))}
    size = draw(st.tuples(st.integers(30, 400), st.integers(30, 400)))
    return {"infer_size": size, "fit": draw(st.sampled_from(["letterbox", "stretch"]))}


@settings(max_examples=80, deadline=None)
@given(st.data(), st.integers(60, 300), st.integers(60, 300), keywords_of_place())
def test_what_is_found_in_the_network_lies_within_half_a_pixel_in_the_image(data, height, width, how):
    """A bright rectangle goes through prepare; its centroid, measured there, comes back through restore."""
    x1, y1 = data.draw(st.integers(10, width - 30)), data.draw(st.integers(10, height - 30))
    x2, y2 = data.draw(st.integers(x1 + 10, width - 10)), data.draw(st.integers(y1 + 10, height - 10))
    image = np.zeros((height, width, 3), np.uint8)
    image[y1:y2, x1:x2] = 255
    placement = place(height, width, pad_to=32, **how)
    plane = prepare([image], [placement], PLAIN)[0, 0].astype(np.float64)
    # Pixel i covers i to i + 1, so its centre is i + 0.5.
    centre_y, centre_x = (((np.indices(plane.shape) + 0.5) * plane).sum(axis=(1, 2)) / plane.sum()).tolist()
    found = restore(np.array([[centre_x, centre_y]], np.float32), placement)[0]
    assert np.abs(found - [(x1 + x2) / 2, (y1 + y2) / 2]).max() < 0.5


class TestRestore:
    # An image of 200x100 shrunk to 100x25: x by 2, y by 4.
    placement = Placement(image_width=200, image_height=100, width=100, height=25, net_width=128, net_height=32)

    def test_each_axis_has_its_own_scale(self):
        boxes = restore(np.array([[1, 2, 3, 4]], np.float32), self.placement)
        marks = restore(np.array([[[1, 2], [3, 4]]], np.float32), self.placement)
        assert (boxes.tolist(), boxes.dtype) == ([[2, 8, 6, 16]], np.float32)
        assert (marks.tolist(), marks.dtype) == ([[[2, 8], [6, 16]]], np.float32)

    def test_what_lies_outside_stays_there_and_the_input_is_left_alone(self):
        boxes = np.array([[-1, -2, 120, 30]], np.float32)
        assert restore(boxes, self.placement).tolist() == [[-2, -8, 240, 120]]
        assert boxes.tolist() == [[-1, -2, 120, 30]]

    @pytest.mark.parametrize("shape", [(0, 4), (0, 5, 2)])
    def test_nothing_comes_back_as_nothing(self, shape):
        assert restore(np.empty(shape, np.float32), self.placement).shape == shape
