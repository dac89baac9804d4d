"""RetinaFace's arithmetic between raw heads and boxes: priors, scores and decoding, in NumPy.

The constants are those of Pytorch_Retinaface (``data/config.py``), on whose priors every checkpoint here was trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from polyface.plugins.protocols import Candidates

if TYPE_CHECKING:
    from polyface.arrays import FloatArray, IndexArray

LEVELS = ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))
"""Stride and prior sizes of each level, in pixels."""

CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2


class Head:
    """A :class:`polyface.plugins.protocols.Head`.

    Priors are squares, kept as centre x, centre y and size in network pixels.
    """

    def priors(self, height: int, width: int) -> FloatArray:
        """Return the priors ``(P, 3)`` float32: centre x, centre y, size, in network pixels.

        The order is level, row, column, size. A level has ``ceil(side / stride)`` cells along a side, and the centres
        lie in the middle of the cells, so those of the last cells may lie outside the input.
        """
        levels = []
        for stride, sizes in LEVELS:
            rows, columns = math.ceil(height / stride), math.ceil(width / stride)
            level = np.empty((rows, columns, len(sizes), 3), dtype=np.float32)
            level[..., 0] = (np.arange(columns)[None, :, None] + 0.5) * stride
            level[..., 1] = (np.arange(rows)[:, None, None] + 0.5) * stride
            level[..., 2] = sizes
            levels.append(level.reshape(-1, 3))
        return np.concatenate(levels)

    def scores(self, outputs: Mapping[str, FloatArray]) -> FloatArray:
        """Return the face scores ``(N, P)`` float32 in [0, 1] from ``logits (N, P, 2)``, background first.

        The softmax of two logits is the sigmoid of their difference; written with tanh it cannot overflow.
        """
        logits = outputs["logits"].astype(np.float32, copy=False)
        scores: FloatArray = 0.5 + 0.5 * np.tanh(0.5 * (logits[..., 1] - logits[..., 0]))
        return scores

    def decode(self, outputs: Mapping[str, FloatArray], priors: FloatArray, index: int, keep: IndexArray) -> Candidates:
        """Decode the kept priors of one image.

        Args:
            outputs: ``loc (N, P, 4)``: offset of the centre x, y and logarithm of the ratio of width, height; and
                ``landms (N, P, 10)``: offsets x, y of five points. Offsets are in units of the prior's size, and all
                are divided by the variances (the encoding of SSD, https://arxiv.org/abs/1512.02325, section 2.2).
            priors: what :meth:`priors` returned for the input's height and width.
            index: the image's place in the batch.
            keep: ``(K,)`` indices into the P priors.

        Returns:
            Boxes ``(K, 4)`` xyxy and landmarks ``(K, 5, 2)`` x, y, float32, in network pixels, unclipped.
        """
        centres, sizes = priors[keep, :2], priors[keep, 2:]
        loc, landms = outputs["loc"][index, keep], outputs["landms"][index, keep]
        middle = centres + loc[:, :2] * CENTRE_VARIANCE * sizes
        half = 0.5 * sizes * np.exp(loc[:, 2:] * SIZE_VARIANCE)
        offsets = landms.reshape(-1, 5, 2) * CENTRE_VARIANCE * sizes[:, None]
        return Candidates(
            boxes=np.concatenate([middle - half, middle + half], axis=1), landmarks=centres[:, None] + offsets
        )
