"""From raw heads to scores and boxes, in NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from polyface.plugins.protocols import Candidates
from polyface_example.graph import STRIDE

if TYPE_CHECKING:
    from polyface.arrays import FloatArray, IndexArray


class RedboxHead:
    """One anchor a cell: a square of 8 pixels. No landmarks."""

    # Replace: one row for each anchor of an input of that height and width, in the order of the raw heads.
    def priors(self, height: int, width: int) -> FloatArray:
        """Return the centres of the anchors ``(P, 2)``: x, y in network pixels, row by row."""
        y, x = np.mgrid[: height // STRIDE, : width // STRIDE]
        return ((np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) * STRIDE).astype(np.float32)

    # Replace: how sure each anchor is, from 0 to 1. Thresholds, NMS and the way back to the image are polyface's.
    def scores(self, outputs: Mapping[str, FloatArray]) -> FloatArray:
        """Return the softmax of face against background, ``(N, P)``."""
        logits = outputs["logits"]
        # 1 / (1 + exp(background - face)), written so that exp cannot overflow.
        scores: FloatArray = np.exp(-np.logaddexp(0, logits[..., 0] - logits[..., 1]))
        return scores

    # Replace: the boxes, and landmarks (K, L, 2) where there are some, of the anchors `keep` of one image of the batch.
    def decode(self, outputs: Mapping[str, FloatArray], priors: FloatArray, index: int, keep: IndexArray) -> Candidates:
        """Return the boxes ``(K, 4)`` of the anchors ``keep``: xyxy in network pixels."""
        loc = outputs["loc"][index, keep]
        centre = priors[keep] + loc[:, :2] * STRIDE
        half = np.exp(loc[:, 2:]) * (STRIDE / 2)
        return Candidates(boxes=np.concatenate([centre - half, centre + half], axis=1), landmarks=None)
