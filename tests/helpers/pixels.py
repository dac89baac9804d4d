"""Images of one colour, of noise, and whether two are the same."""

from __future__ import annotations

import numpy as np


def filled(*values, height=2, width=3):
    """An image of one colour."""
    return np.broadcast_to(np.array(values, np.uint8), (height, width, len(values))).copy()


def noise(height=12, width=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def assert_same(image, expected):
    np.testing.assert_array_equal(image, np.array(expected, np.uint8), strict=True)
