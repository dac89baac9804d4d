"""CenterFace's arithmetic between raw heads and boxes, in NumPy.

Every cell of 4 by 4 pixels is an anchor: the heat map says whether a face's centre lies in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from polyface.plugins.protocols import Candidates

if TYPE_CHECKING:
    from polyface.arrays import FloatArray, IndexArray

STRIDE = 4


class Head:
    """A :class:`polyface.plugins.protocols.Head`."""

    def priors(self, height: int, width: int) -> FloatArray:
        """Return the middles of the cells ``(P, 2)`` float32: x, y in network pixels, row by row."""
        rows, columns = math.ceil(height / STRIDE), math.ceil(width / STRIDE)
        y, x = np.mgrid[:rows, :columns]
        return ((np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) * STRIDE).astype(np.float32)

    def scores(self, outputs: Mapping[str, FloatArray]) -> FloatArray:
        """Return the face scores ``(N, P)`` float32 in [0, 1]: the network's last layer is a sigmoid already."""
        heatmap = outputs["heatmap"]
        return heatmap.reshape(len(heatmap), -1)

    def decode(self, outputs: Mapping[str, FloatArray], priors: FloatArray, index: int, keep: IndexArray) -> Candidates:
        """Decode the kept cells of one image.

        Args:
            outputs: ``scale (N, 2, rows, columns)``: the logarithm of height and width in strides; ``offset``, alike:
                how far the centre lies below and right of the cell's middle, in strides; ``landmarks (N, 10, rows,
                columns)``: five points y, x, from the box's upper left corner, as a part of its height and width.
            priors: what :meth:`priors` returned for the input's height and width.
            index: the image's place in the batch.
            keep: ``(K,)`` indices into the P cells.

        Returns:
            Boxes ``(K, 4)`` xyxy and landmarks ``(K, 5, 2)`` x, y, float32, in network pixels, unclipped.
        """
        scale, offset, points = (_cells(outputs[name][index], keep) for name in ("scale", "offset", "landmarks"))
        sides = np.exp(scale[:, ::-1]) * STRIDE
        corner = priors[keep] + offset[:, ::-1] * STRIDE - sides / 2
        places = points.reshape(-1, 5, 2)[..., ::-1]
        return Candidates(
            boxes=np.concatenate([corner, corner + sides], axis=1),
            landmarks=corner[:, None] + places * sides[:, None],
        )


def _cells(output: FloatArray, keep: IndexArray) -> FloatArray:
    """Return what ``output (channels, rows, columns)`` says of the kept cells: ``(K, channels)``."""
    kept: FloatArray = output.reshape(len(output), -1)[:, keep].T
    return kept
