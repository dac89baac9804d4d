"""Average precision on WIDER FACE, as its official evaluation computes it.

The protocol is that of ``eval_tools`` at http://shuoyang1213.me/WIDERFACE/: a detection matches the face it overlaps
most if that is by an IoU of 0.5 or more, where sides count one pixel more than the difference of their coordinates; a
match with a face that is not of the subset counts neither way; scores are normalised over all pictures; and precision
and recall are taken at 1000 thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np
import numpy.typing as npt
from scipy.io import loadmat

Array = npt.NDArray[np.float64]

SUBSETS = ("easy", "medium", "hard")
THRESHOLDS = 1000


@attrs.frozen(kw_only=True)
class Truth:
    """The faces of one picture: ``boxes (G, 4)`` as x, y, width, height, and which of them each subset counts."""

    boxes: Array
    counted: Mapping[str, npt.NDArray[np.bool_]]


def read_truth(folder: Path) -> dict[str, Truth]:
    """Return the faces of every picture by ``event/name``, from the folder of the official .mat files."""
    faces = loadmat(folder / "wider_face_val.mat")
    lists = {name: loadmat(folder / f"wider_{name}_val.mat")["gt_list"] for name in SUBSETS}
    truth: dict[str, Truth] = {}
    for place, (event,) in enumerate(faces["event_list"]):
        for index, (name,) in enumerate(faces["file_list"][place, 0]):
            boxes = faces["face_bbx_list"][place, 0][index, 0].astype(np.float64)
            counted = {}
            for subset, table in lists.items():
                counted[subset] = np.zeros(len(boxes), bool)
                counted[subset][table[place, 0][index, 0].ravel().astype(int) - 1] = True  # they count from 1
            truth[f"{event[0]}/{name[0]}"] = Truth(boxes=boxes, counted=counted)
    return truth


def average_precision(truth: Sequence[Truth], found: Sequence[Array]) -> dict[str, float]:
    """Return the average precision of each subset, in percent.

    Args:
        truth: by picture.
        found: by picture, ``(N, 5)``: x1, y1, x2, y2 and score, the highest score first.
    """
    scores = np.concatenate([boxes[:, 4] for boxes in found])
    low, high = scores.min(), scores.max()
    normalised = [np.column_stack([boxes[:, :4], (boxes[:, 4] - low) / (high - low)]) for boxes in found]
    best = [_best_matches(one.boxes, boxes) for one, boxes in zip(truth, found, strict=True)]
    return {
        subset: 100 * _area([(t.counted[subset], b, f[:, 4]) for t, b, f in zip(truth, best, normalised, strict=True)])
        for subset in SUBSETS
    }


def _best_matches(truth: Array, found: Array) -> npt.NDArray[np.intp]:
    """Return for each detection the face it overlaps most, or -1 where that is by less than 0.5."""
    if not len(truth) or not len(found):
        return np.full(len(found), -1)
    corners = np.column_stack([truth[:, :2], truth[:, :2] + truth[:, 2:]])
    shared = np.minimum(found[:, None, 2:4], corners[:, 2:]) - np.maximum(found[:, None, :2], corners[:, :2]) + 1
    intersection = np.maximum(shared, 0).prod(axis=2)
    areas = [(boxes[:, 2:4] - boxes[:, :2] + 1).prod(axis=1) for boxes in (found, corners)]
    iou = intersection / (areas[0][:, None] + areas[1] - intersection)
    return np.where(iou.max(axis=1) >= 0.5, iou.argmax(axis=1), -1)


def _area(pictures: Sequence[tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp], Array]]) -> float:
    thresholds = 1 - np.arange(1, THRESHOLDS + 1) / THRESHOLDS
    proposals, hits, faces = np.zeros(THRESHOLDS), np.zeros(THRESHOLDS), 0
    for counted, best, scores in pictures:
        faces += int(counted.sum())
        if not len(counted):
            continue
        matched = best >= 0
        proposed = ~matched | counted[best]
        first = np.zeros(len(best), bool)
        first[np.unique(best, return_index=True)[1]] = True
        hit = matched & first & counted[best]
        above = np.searchsorted(-scores, -thresholds, side="right")  # how many score at least the threshold
        proposals += np.concatenate([[0], np.cumsum(proposed)])[above]
        hits += np.concatenate([[0], np.cumsum(hit)])[above]
    precision = np.concatenate([[0], hits / np.maximum(proposals, 1), [0]])
    recall = np.concatenate([[0], hits / faces, [1]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * envelope[1:]))
