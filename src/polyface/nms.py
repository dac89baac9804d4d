"""The one NMS, and top-k."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from polyface.protocols import FloatArray, IndexArray


def top_k(scores: FloatArray, k: int) -> IndexArray:
    """Return the indices of the ``k`` highest of ``scores (N,)``, highest first; of equals the earlier comes first."""
    order: IndexArray = np.argsort(-scores, kind="stable")[:k]
    return order


def nms(boxes: FloatArray, iou_threshold: float, limit: int | None = None) -> IndexArray:
    """Return the indices of the boxes that greedy non-maximum suppression keeps.

    From the first box on, each box kept drops every later one whose IoU with it is greater than the threshold. Areas
    are those of continuous coordinates (width is x2 - x1); a box without area overlaps nothing.

    Args:
        boxes: ``(N, 4)`` float32, xyxy, the highest score first.
        iou_threshold: in [0, 1].
        limit: keep at most so many.
    """
    x1, y1, x2, y2 = boxes.astype(np.float64).T
    areas = np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)
    remaining = np.arange(len(boxes))
    kept: list[int] = []
    while remaining.size and (limit is None or len(kept) < limit):
        best, rest = remaining[0], remaining[1:]
        kept.append(int(best))
        width = np.minimum(x2[best], x2[rest]) - np.maximum(x1[best], x1[rest])
        height = np.minimum(y2[best], y2[rest]) - np.maximum(y1[best], y1[rest])
        intersection = np.maximum(width, 0) * np.maximum(height, 0)
        union = areas[best] + areas[rest] - intersection
        # The quotient is rounded as the threshold's literal was, so that IoU = threshold is kept: 29 of 100 at 0.29.
        iou = intersection / np.maximum(union, np.finfo(np.float64).tiny)
        remaining = rest[iou <= iou_threshold]
    return np.asarray(kept, dtype=np.intp)
