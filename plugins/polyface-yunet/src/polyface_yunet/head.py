"""YuNet's arithmetic between raw heads and boxes, in NumPy.

Every cell of a level is an anchor. What it says is relative to its upper left corner, in units of the level's stride.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from polyface.plugins.protocols import Candidates
from polyface.plugins.toolkit import clip_rounding

if TYPE_CHECKING:
    from polyface.arrays import FloatArray, IndexArray

STRIDES = (8, 16, 32)


class Head:
    """A :class:`polyface.plugins.protocols.Head`."""

    def priors(self, height: int, width: int) -> FloatArray:
        """Return the cells ``(P, 3)`` float32: x, y of the upper left corner and the stride, in network pixels.

        The order is level, row, column.
        """
        levels = []
        for stride in STRIDES:
            y, x = np.mgrid[: math.ceil(height / stride), : math.ceil(width / stride)]
            levels.append((np.stack([x, y, np.ones_like(x)], axis=-1) * stride).reshape(-1, 3))
        return np.concatenate(levels).astype(np.float32)

    def scores(self, outputs: Mapping[str, FloatArray]) -> FloatArray:
        """Return the face scores ``(N, P)`` float32 in [0, 1].

        A cell's score is the geometric mean of two that the network's last layer, a sigmoid, gives: whether it is a
        face, and whether anything is there at all.
        """
        faces, objects = (_join(outputs, name, slice(None))[..., 0] for name in ("cls", "obj"))
        scores: FloatArray = np.sqrt(clip_rounding(faces) * clip_rounding(objects))
        return scores

    def decode(self, outputs: Mapping[str, FloatArray], priors: FloatArray, index: int, keep: IndexArray) -> Candidates:
        """Decode the kept cells of one image.

        Args:
            outputs: for each stride ``bbox (N, P, 4)``: the centre x, y, and the logarithms of width and height; and
                ``kps (N, P, 10)``: x, y of five points. All are in strides, places from the cell's corner.
            priors: what :meth:`priors` returned for the input's height and width.
            index: the image's place in the batch.
            keep: ``(K,)`` indices into the P cells.

        Returns:
            Boxes ``(K, 4)`` xyxy and landmarks ``(K, 5, 2)`` x, y, float32, in network pixels, unclipped.
        """
        corners, strides = priors[keep, :2], priors[keep, 2:]
        bbox, kps = (_join(outputs, name, index)[keep] for name in ("bbox", "kps"))
        centre = corners + bbox[:, :2] * strides
        half = 0.5 * np.exp(bbox[:, 2:]) * strides
        points = corners[:, None] + kps.reshape(-1, 5, 2) * strides[:, None]
        return Candidates(boxes=np.concatenate([centre - half, centre + half], axis=1), landmarks=points)


def _join(outputs: Mapping[str, FloatArray], name: str, index: int | slice) -> FloatArray:
    """Return one output of one image or of all, its levels behind each other: ``([N,] P, values)``."""
    joined: FloatArray = np.concatenate([outputs[f"{name}_{stride}"][index] for stride in STRIDES], axis=-2)
    return joined
