"""Preparing: the way of an image into the network."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixels import assert_same, filled, noise
from polyface.images.geometry import Placement
from polyface.images.preparing import place_pixels, prepare
from polyface.plugins.records import Preprocess

PLAIN = Preprocess(channels="rgb", mean=(0, 0, 0))


def halve(height, width):
    return Placement(
        image_width=width,
        image_height=height,
        width=width // 2,
        height=height // 2,
        net_width=width // 2,
        net_height=height // 2,
    )


class TestPrepare:
    def placement(self, height, width, net_height, net_width):
        return Placement(
            image_height=height,
            image_width=width,
            height=height,
            width=width,
            net_height=net_height,
            net_width=net_width,
        )

    def test_pixels_lose_the_mean_are_divided_by_the_std_and_padded_right_and_below(self):
        image = np.array([[[10, 20, 30], [40, 50, 60]]], np.uint8)
        record = Preprocess(channels="rgb", mean=(1, 2, 3), std=(1, 2, 9), pad_value=-7)
        expected = [[[[9, 39, -7], [-7] * 3], [[9, 24, -7], [-7] * 3], [[3, 57 / 9, -7], [-7] * 3]]]
        batch = prepare([image], [self.placement(1, 2, 2, 3)], record)
        np.testing.assert_array_equal(batch, np.array(expected, np.float32), strict=True)

    def test_each_channel_may_be_padded_with_a_number_of_its_own(self):
        record = Preprocess(channels="bgr", mean=(0, 0, 0), pad_value=[7, 8, 9])
        batch = prepare([np.array([[[1, 2, 3]]], np.uint8)], [self.placement(1, 1, 1, 2)], record)
        assert batch[0].tolist() == [[[3, 7]], [[2, 8]], [[1, 9]]]

    def test_mean_and_std_are_in_the_order_of_the_channels(self):
        image = np.array([[[10, 20, 30]]], np.uint8)
        record = Preprocess(channels="bgr", mean=(104, 117, 123), std=(2, 1, 1))
        batch = prepare([image], [self.placement(1, 1, 1, 1)], record)
        assert batch[0, :, 0, 0].tolist() == [(30 - 104) / 2, 20 - 117, 10 - 123]

    def test_the_batch_is_contiguous_float32_and_leaves_the_images_alone(self):
        images = [noise(6, 4, seed) for seed in range(3)]
        placements = [self.placement(6, 4, 8, 8)] * 3
        batch = prepare(images, placements, PLAIN)
        assert (batch.shape, batch.dtype, batch.flags.c_contiguous) == ((3, 3, 8, 8), np.float32, True)
        for seed, planes in enumerate(batch):
            np.testing.assert_array_equal(planes[:, :6, :4], noise(6, 4, seed).transpose(2, 0, 1))
            assert_same(images[seed], noise(6, 4, seed))

    def test_images_of_different_sizes_may_share_a_padded_shape(self):
        small, large = prepare(
            [filled(5, 5, 5, height=1, width=1), filled(7, 7, 7, height=2, width=2)],
            [self.placement(1, 1, 2, 2), self.placement(2, 2, 2, 2)],
            PLAIN,
        )[:, 0]
        assert (small.tolist(), large.tolist()) == ([[5, 0], [0, 0]], [[7, 7], [7, 7]])

    def test_halving_averages_neighbours_and_so_does_not_alias(self):
        # One-pixel stripes: without the filter, every second column would come out all black or all white.
        stripes = np.zeros((32, 32, 3), np.uint8)
        stripes[:, ::2] = 255
        placement = halve(32, 32)
        inside = prepare([stripes], [placement], PLAIN)[0, 0, :, 2:-2]
        assert np.abs(inside - 127.5).max() < 1

    def test_a_view_of_an_array_can_be_shrunk(self):
        view = noise(20, 30)[:, ::-1, ::-1]
        placement = halve(20, 30)
        np.testing.assert_array_equal(prepare([view], [placement], PLAIN), prepare([view.copy()], [placement], PLAIN))


@st.composite
def used_again(draw):
    """Heights and widths of images, batch by batch, that all go into one padded shape."""
    net = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    size = st.tuples(st.integers(1, net[0]), st.integers(1, net[1]))
    return net, draw(st.lists(st.lists(size, min_size=1, max_size=3), min_size=1, max_size=4))


@given(used_again(), st.sampled_from(["rgb", "bgr"]), st.floats(-9, 9, width=32), st.integers(0, 99))
def test_a_buffer_that_is_used_again_holds_what_a_loop_over_the_pixels_puts_there(batches, channels, pad_value, seed):
    net, sizes = batches
    record = Preprocess(channels=channels, mean=(104, 117, 123), std=(1, 2, 0.25), pad_value=pad_value)
    memory = np.full(3 * 3 * net[0] * net[1], np.nan, np.float32)
    for group in sizes:
        images = [noise(*size, seed=seed + place) for place, size in enumerate(group)]
        placements = [TestPrepare().placement(*size, *net) for size in group]
        shape = (len(group), 3, *net)
        out = memory[: math.prod(shape)].reshape(shape)
        assert prepare(images, placements, record, out=out) is out
        for n, channel, y, x in np.ndindex(shape):
            expected = pad_value
            if y < group[n][0] and x < group[n][1]:
                value = int(images[n][y, x, channel if channels == "rgb" else 2 - channel])
                expected = (value - (104, 117, 123)[channel]) / (1, 2, 0.25)[channel]
            assert out[n, channel, y, x] == expected


@given(used_again(), st.sampled_from(["rgb", "bgr"]), st.tuples(*[st.integers(0, 255)] * 3), st.integers(0, 99))
def test_pixels_become_what_is_prepared_when_mean_and_std_are_applied(batches, channels, pad, seed):
    net, sizes = batches
    mean, std = np.float32((104, 117, 123)), np.float32((1, 2, 0.25))
    order = slice(None) if channels == "rgb" else slice(None, None, -1)
    pad_value = tuple(float(level) for level in (np.float32(pad)[order] - mean) / std)
    record = Preprocess(channels=channels, mean=mean.tolist(), std=std.tolist(), pad_value=pad_value)
    for group in sizes:
        images = [noise(*size, seed=seed + place) for place, size in enumerate(group)]
        placements = [TestPrepare().placement(*size, *net) for size in group]
        out = np.full((len(group), *net, 3), 7, np.uint8)
        assert place_pixels(images, placements, record, out=out) is out
        normalised = (out[..., order].astype(np.float32) - mean) / std
        np.testing.assert_array_equal(normalised.transpose(0, 3, 1, 2), prepare(images, placements, record))


@pytest.mark.parametrize(
    ("preprocess", "pixel"),
    [
        ({"channels": "bgr", "mean": (104, 117, 123)}, (123, 117, 104)),  # zero is the mean; red comes first
        ({"channels": "rgb", "mean": (127.5,) * 3, "std": (128,) * 3, "pad_value": -127.5 / 128}, (0, 0, 0)),
        ({"channels": "rgb", "mean": (0, 0, 0), "pad_value": (1, 2, 255)}, (1, 2, 255)),
        ({"channels": "rgb", "mean": (127.5,) * 3, "std": (127.5,) * 3}, None),  # half a level
        ({"channels": "rgb", "mean": (0, 0, 0), "pad_value": -1}, None),
        ({"channels": "rgb", "mean": (0, 0, 0), "pad_value": 256}, None),
        ({"channels": "rgb", "mean": (0, 0, 0), "std": (1e30,) * 3, "pad_value": 1e30}, None),
    ],
)
def test_the_pixel_of_the_padding_is_that_which_mean_and_std_make_it_of(preprocess, pixel):
    assert Preprocess(**preprocess).pad_pixel == pixel
