"""The one NMS, clusters for voting, and top-k."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from polyface.arrays import Float64Array, FloatArray, IndexArray

BLOCK = 8
"""At most so many boxes are compared with the rest in one call of NumPy. More boxes mean fewer calls, but also more
IoUs of boxes that the block itself drops."""

PAIRS = 8 * 1024
"""At most so many IoUs are computed in one call. Arrays beyond 128 KiB take fresh memory from the system each time."""


def top_k(scores: FloatArray, k: int) -> IndexArray:
    """Return the indices of the ``k`` highest of ``scores (N,)``, highest first; of equals the earlier comes first."""
    chosen = np.arange(len(scores))
    if 0 < k < len(scores):
        # Only what reaches the k-th highest is sorted, with all its equals, so that the earlier of them still win.
        chosen = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
    order: IndexArray = chosen[np.argsort(-scores[chosen], kind="stable")[:k]]
    return order


def nms(boxes: FloatArray, iou_threshold: float, limit: int | None = None) -> IndexArray:
    """Return the indices of the boxes that greedy non-maximum suppression keeps.

    From the first of the boxes, ``(N, 4)`` float32 xyxy with the highest score first, each that is kept drops every
    later one whose IoU with it is greater than the threshold, in [0, 1]. At most ``limit`` are kept. Areas are those of
    continuous coordinates (width is x2 - x1); a box without area overlaps nothing.
    """
    corners, areas = _measure(boxes)
    remaining = np.arange(len(boxes))
    kept: list[int] = []
    while remaining.size and (limit is None or len(kept) < limit):
        first = remaining[: min(BLOCK, max(1, PAIRS // remaining.size))]
        drops = _iou(corners, areas, first[:, None], remaining) > iou_threshold
        stays = np.ones(remaining.size, bool)
        for place, index in enumerate(first.tolist()):
            if stays[place]:
                kept.append(index)
                stays[place + 1 :] &= ~drops[place, place + 1 :]
        remaining = remaining[first.size :][stays[first.size :]]
    return np.asarray(kept[:limit], dtype=np.intp)


def clusters(boxes: FloatArray, iou_threshold: float) -> Iterator[IndexArray]:
    """Yield the indices of boxes that belong together, each box once; boxes and threshold are as of :func:`nms`.

    From the first box on, each one left takes with it every later one left whose IoU with it is at least the threshold.
    It comes first in its cluster.
    """
    corners, areas = _measure(boxes)
    remaining = np.arange(len(boxes))
    while remaining.size:
        best, rest = remaining[0], remaining[1:]
        joins = _iou(corners, areas, best, rest) >= iou_threshold
        yield np.concatenate([remaining[:1], rest[joins]])
        remaining = rest[~joins]


def iou(box: FloatArray, boxes: FloatArray) -> Float64Array:
    """Return the IoU ``(N,)`` of a box ``(4,)`` with each of ``boxes (N, 4)``, all xyxy."""
    # Called for each face: a row of ``overlaps`` took 1.4 to 4 times as long.
    corners, areas = _measure(np.concatenate([box[None], boxes]))
    return _iou(corners, areas, np.intp(0), np.arange(1, len(areas)))


def overlaps(boxes: FloatArray, others: FloatArray, reach: float = 0.0) -> Float64Array:
    """Return the IoU of each of ``boxes (N, 4)`` with each of ``others (M, 4)``, xyxy, as ``(N, M)`` float64.

    With a ``reach`` it is what the IoU could be if each edge lay so many pixels further out: sides that the two share
    grow by twice this, and their own areas stay. An upper bound for edges that are uncertain by so much.
    """
    corners, areas = _measure(np.concatenate([boxes, others]))
    rows, columns = np.split(np.arange(len(areas)), [len(boxes)])
    return _iou(corners + reach * np.array([[-1], [-1], [1], [1]]), areas, rows[:, None], columns)


def _measure(boxes: FloatArray) -> tuple[Float64Array, Float64Array]:
    x1, y1, x2, y2 = corners = boxes.astype(np.float64).T
    # No area is zero, so that every quotient of areas is a number.
    return corners, np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0) + np.finfo(np.float64).tiny


def _iou(corners: Float64Array, areas: Float64Array, best: np.intp | IndexArray, rest: IndexArray) -> Float64Array:
    x1, y1, x2, y2 = corners
    width = np.minimum(x2[best], x2[rest]) - np.maximum(x1[best], x1[rest])
    height = np.minimum(y2[best], y2[rest]) - np.maximum(y1[best], y1[rest])
    intersection = np.maximum(width, 0) * np.maximum(height, 0)
    union = np.maximum(areas[best] + areas[rest] - intersection, intersection)
    # The quotient is rounded as the threshold's literal was, so that IoU = threshold is met: 29 of 100 at 0.29.
    iou: Float64Array = intersection / union
    return iou
