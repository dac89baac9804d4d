"""DSFD's arithmetic between raw heads and boxes: priors, scores and decoding, in NumPy.

The constants are those of FaceDetection-DSFD (``data/config.py``), on whose priors the checkpoint was trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from polyface.plugins.protocols import Candidates

if TYPE_CHECKING:
    from polyface.arrays import FloatArray, IndexArray

LEVELS = ((4, 16), (8, 32), (16, 64), (32, 128), (64, 256), (128, 512))
"""Stride and prior size of each level, in pixels; the size is the square root of the prior's area."""

ASPECT = 1.5
"""The height of every prior over its width."""

CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2


class Head:
    """A :class:`polyface.plugins.protocols.Head`.

    Priors are kept as centre x, y, width and height in network pixels.
    """

    def priors(self, height: int, width: int) -> FloatArray:
        """Return the priors ``(P, 4)`` float32: centre x, centre y, width, height, in network pixels.

        The order is level, row, column. Each level halves the one before and rounds up, as a convolution or pooling of
        stride 2 with kernel 2k + 1 and padding k does, so a level has ``ceil(side / stride)`` cells along a side.

        None of the four exceeds the input's own side: the original clips them, as fractions of that side, to [0, 1].
        """
        levels = []
        for stride, size in LEVELS:
            rows, columns = math.ceil(height / stride), math.ceil(width / stride)
            level = np.empty((rows, columns, 4), dtype=np.float32)
            level[..., 0] = (np.arange(columns) + 0.5) * stride
            level[..., 1] = (np.arange(rows)[:, None] + 0.5) * stride
            level[..., 2:] = size / math.sqrt(ASPECT), size * math.sqrt(ASPECT)
            levels.append(level.reshape(-1, 4))
        sides = np.array([width, height, width, height], dtype=np.float32)
        return np.minimum(np.concatenate(levels), sides)

    def scores(self, outputs: Mapping[str, FloatArray]) -> FloatArray:
        """Return the face scores ``(N, P)`` float32 in [0, 1] from ``logits (N, P, 2)``, background first.

        The softmax of two logits is the sigmoid of their difference; written with tanh it cannot overflow.
        """
        background, face = np.moveaxis(outputs["logits"].astype(np.float32, copy=False), -1, 0)
        scores: FloatArray = 0.5 + 0.5 * np.tanh(0.5 * (face - background))
        return scores

    def decode(self, outputs: Mapping[str, FloatArray], priors: FloatArray, index: int, keep: IndexArray) -> Candidates:
        """Decode the kept priors of one image.

        Args:
            outputs: ``loc (N, P, 4)``: offset of the centre x, y in units of the prior's width and height, and
                logarithm of the ratio of width, height; each divided by its variance (the encoding of SSD,
                https://arxiv.org/abs/1512.02325, section 2.2).
            priors: what :meth:`priors` returned for the input's height and width.
            index: the image's place in the batch.
            keep: ``(K,)`` indices into the P priors.

        Returns:
            Boxes ``(K, 4)`` xyxy, float32, in network pixels, unclipped; no landmarks.
        """
        centres, sizes = priors[keep, :2], priors[keep, 2:]
        loc = outputs["loc"][index, keep]
        middle = centres + loc[:, :2] * CENTRE_VARIANCE * sizes
        half = 0.5 * sizes * np.exp(loc[:, 2:] * SIZE_VARIANCE)
        return Candidates(boxes=np.concatenate([middle - half, middle + half], axis=1), landmarks=None)
