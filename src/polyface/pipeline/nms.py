"""The one NMS, clusters for voting, and top-k."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from polyface.arrays import Float64Array, FloatArray, IndexArray, Mask

FIRST, MOST = 32, 512
"""NMS settles so many boxes at first, and up to so many at a time later: those kept of them drop the rest. Most boxes
show few things, and go with the first."""

BAND = 32
"""So many boxes, neighbours from left to right, are compared in one call of NumPy with what may overlap them."""

PAIRS = 8 * 1024
"""So many IoUs are computed in one call. Arrays beyond 128 KiB take fresh memory from the system each time."""


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
    dropped = np.zeros(len(boxes), bool)
    kept, remaining, size = [np.arange(0)], np.arange(len(boxes)), FIRST
    while remaining.size and (limit is None or sum(map(len, kept)) < limit):
        best, remaining = np.split(remaining, [size])
        _settle(_overlapping(corners, areas, best, best, iou_threshold), dropped)
        kept.append(best[~dropped[best]])
        for _, later in _overlapping(corners, areas, kept[-1], remaining, iou_threshold):
            dropped[later] = True
        remaining, size = remaining[~dropped[remaining]], min(2 * size, MOST)
    return np.concatenate(kept)[:limit]


def _settle(pairs: Iterable[tuple[IndexArray, IndexArray]], dropped: Mask) -> None:
    """Mark in ``dropped`` what greedy NMS drops, from the pairs of indices of all boxes that overlap.

    In each round those boxes are kept for which no better one is left that might drop them.
    """
    better, worse = (np.concatenate(side) for side in zip(*pairs, strict=True))
    better, worse = better[better < worse], worse[better < worse]
    while better.size:
        waits = np.zeros(len(dropped), bool)
        waits[worse] = True
        dropped[worse[~waits[better]]] = True
        undecided = waits[better] & ~dropped[better] & ~dropped[worse]
        better, worse = better[undecided], worse[undecided]


def _overlapping(
    corners: Float64Array, areas: Float64Array, boxes: IndexArray, others: IndexArray, threshold: float
) -> Iterator[tuple[IndexArray, IndexArray]]:
    """Yield the pairs of ``boxes`` and ``others`` whose IoU is greater than the threshold, as two arrays of indices.

    From left to right, a few boxes at a time are compared with those that begin near them. An IoU is at most that of
    the two boxes' spans along x: an other one of a greater IoU than t begins less than 1 - t of the box's width to the
    right of the box's left edge, or less than 1 / t - 1 of it to the left.
    """
    bands = [(boxes, others)] if len(boxes) and len(others) else []
    if len(boxes) * len(others) > PAIRS:
        starts, ends = corners[0], corners[2]
        boxes, others = (indices[np.argsort(starts[indices])] for indices in (boxes, others))
        widths = np.maximum(ends[boxes] - starts[boxes], 0)
        loose = threshold * (1 - 1e-6)  # rounding loses nothing
        farthest = widths * (1 / loose - 1) if loose else np.inf
        first = np.searchsorted(starts[others], starts[boxes] - farthest, "left")
        last = np.searchsorted(starts[others], ends[boxes] - widths * loose, "right")
        parts = [slice(start, start + BAND) for start in range(0, len(boxes), BAND)]
        bands = [(boxes[part], others[first[part].min() : last[part].max()]) for part in parts]
    for some, near in bands:
        for part in split(near, len(some)):
            rows, columns = np.nonzero(_iou(corners, areas, some[:, None], part) > threshold)
            yield some[rows], part[columns]


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


def split(indices: IndexArray, others: int) -> list[IndexArray]:
    """Return the indices in parts, each of so few that their IoUs with so many others are computed in one call."""
    size = max(1, PAIRS // max(1, others))
    return [indices[start : start + size] for start in range(0, len(indices), size)]


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
