"""SCRFD's arithmetic between raw heads and boxes: priors, scores and decoding, in NumPy.

The scores of the published files are probabilities already. What the numbers stand for is that of InsightFace's
``detection/scrfd``: distances and offsets in strides, from a point that two anchors share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from polyface.plugins.protocols import Candidates

if TYPE_CHECKING:
    from polyface.arrays import FloatArray, IndexArray

STRIDES = (8, 16, 32)
ANCHORS = 2
"""At each cell."""


class Head:
    """A :class:`polyface.plugins.protocols.Head`.

    A prior is a point, the upper left corner of its cell, and the stride of its level, all in network pixels.
    """

    def priors(self, height: int, width: int) -> FloatArray:
        """Return the priors ``(P, 3)`` float32: x, y, stride, in network pixels.

        The order is level, row, column, anchor. A level has ``ceil(side / stride)`` cells along a side.
        """
        levels = []
        for stride in STRIDES:
            rows, columns = math.ceil(height / stride), math.ceil(width / stride)
            level = np.empty((rows, columns, ANCHORS, 3), dtype=np.float32)
            level[..., 0] = np.arange(columns)[None, :, None] * stride
            level[..., 1] = np.arange(rows)[:, None, None] * stride
            level[..., 2] = stride
            levels.append(level.reshape(-1, 3))
        return np.concatenate(levels)

    def scores(self, outputs: Mapping[str, FloatArray]) -> FloatArray:
        """Return the face scores ``(N, P)`` float32 in [0, 1] from ``score_8`` to ``score_32``, ``(N, P', 1)`` each."""
        scores = np.concatenate([outputs[f"score_{stride}"][..., 0] for stride in STRIDES], axis=1)
        return scores.astype(np.float32, copy=False)

    def decode(self, outputs: Mapping[str, FloatArray], priors: FloatArray, index: int, keep: IndexArray) -> Candidates:
        """Decode the kept priors of one image.

        Args:
            outputs: for each stride ``bbox (N, P', 4)``: how far the left, upper, right and lower side are from the
                prior's point; and ``kps (N, P', 10)``: offsets x, y of five points from it. Both in strides.
            priors: what :meth:`priors` returned for the input's height and width.
            index: the image's place in the batch.
            keep: ``(K,)`` indices into the P priors.

        Returns:
            Boxes ``(K, 4)`` xyxy and landmarks ``(K, 5, 2)`` x, y, float32, in network pixels, unclipped.
        """
        points, strides = priors[keep, :2], priors[keep, 2:]
        sides = strides * _pick([outputs[f"bbox_{stride}"][index] for stride in STRIDES], keep)
        offsets = strides * _pick([outputs[f"kps_{stride}"][index] for stride in STRIDES], keep)
        return Candidates(
            boxes=np.concatenate([points - sides[:, :2], points + sides[:, 2:]], axis=1),
            landmarks=points[:, None] + offsets.reshape(-1, 5, 2),
        )


def _pick(levels: list[FloatArray], keep: IndexArray) -> FloatArray:
    """Return the rows ``keep`` of the levels one below the other, without copying all of them."""
    picked = np.empty((len(keep), levels[0].shape[1]), dtype=np.float32)
    first = 0
    for level in levels:
        here = (keep >= first) & (keep < first + len(level))
        picked[here] = level[keep[here] - first]
        first += len(level)
    return picked
