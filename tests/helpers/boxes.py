"""Detections from rows, and the overlap of boxes in exact arithmetic, with an NMS in loops over it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from polyface.results import Detections


def faces(*rows, marks=None):
    """Detections from rows ``(x1, y1, x2, y2, score)``."""
    array = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(boxes=array[:, :4], scores=array[:, 4], landmarks=marks)


def exact_iou(a, b):
    """IoU of two boxes of Python's numbers as a fraction; without a union there is no overlap."""

    def area(box):
        return max(0, box[2] - box[0]) * max(0, box[3] - box[1])

    shared = area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    union = area(a) + area(b) - shared
    return Fraction(shared) / Fraction(union) if union else Fraction(0)


def suppress(cells, iou):
    """NMS in loops: of cells ``(score, box, ...)`` those that no better one overlaps by more, the best first."""
    kept = []
    for cell in sorted(cells, key=lambda cell: -cell[0]):
        box = [float(side) for side in cell[1]]
        if all(exact_iou(box, other) <= iou for other, _ in kept):
            kept.append((box, cell))
    return [cell for _, cell in kept]
