"""What is found in the views of an image, and how it becomes one answer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import attrs
import numpy as np

from polyface.errors import ContractError
from polyface.images.geometry import restore
from polyface.pipeline.nms import clusters, nms, overlaps, split, top_k
from polyface.pipeline.views import EDGE, NetworkView, View
from polyface.results import Detections

if TYPE_CHECKING:
    from polyface.arrays import FloatArray, IndexArray, Mask
    from polyface.pipeline.presets import Strategy
    from polyface.plugins.protocols import Candidates

CONFIRMS = 1 / 25
"""A face that a coarser view sees well enough must score so much of its score there, or it is none. Of the true faces
of WIDER FACE 1 in 500 does not, of the false ones 1 in 4."""

SAME = 0.4
"""Boxes of two views whose IoU is at least this show one thing."""

WITHIN, PIECE = 0.8, 1 / 2
"""A box that lies within a face by this part of its area, and is at most so long, is a piece of it. No two true faces
of 400 images of WIDER FACE lie so."""

MOST_MERGED = 20_000
"""At most so many boxes of all views of an image are merged, the highest-scoring: the time grows with their square."""


class ViewFaces(NamedTuple):
    """What a view shows: the faces that count, and all that it was searched for; in pixels of the image."""

    view: View
    faces: Detections
    everything: Detections


def to_image(found: Candidates, scores: FloatArray, seen: NetworkView, places: Sequence[int]) -> Detections:
    """Return what was found in a view, from network pixels to those of the image.

    The scores are ``(K,)``, the highest first. Boxes at an edge along which a tile was cut are left out: these are
    parts of faces that another view has whole. ``places`` says what takes the place of each landmark in a mirror, as
    :attr:`polyface.plugins.records.DetectorSpec.mirrored_places` does.

    Raises:
        ContractError: the view is mirrored and the landmarks are not as many as their names; or the arrays do not
            belong together.
    """
    view, placement = seen.view, seen.placement
    boxes = restore(found.boxes, placement)
    marks = None if found.landmarks is None else restore(found.landmarks, placement)
    if view.flip:
        width = np.float32(placement.image_width)
        boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
        if marks is not None:
            marks = _mirror(marks, width, places)
    offset = np.array(view.crop[:2], np.float32)
    boxes = boxes + np.tile(offset, 2)
    marks = None if marks is None else marks + offset
    return Detections(boxes=boxes, scores=scores, landmarks=marks)[_whole(boxes, view, seen.shape)]


def filter_by_size(faces: Detections, view: View, strategy: Strategy) -> Detections:
    """Return those of a view's faces that count when views are merged: within its limits of size.

    Faces are in pixels of the image, the highest score first. Where views vote, or a view leaves the larger faces to
    another, its own NMS comes first, as in Tencent/FaceDetection-DSFD: a face beyond the limits still drops the boxes
    that overlap it, and these do not count in its place. Of boxes to be blended, those count whose best does.
    """
    if strategy.merge == "vote" or (strategy.merge == "nms" and view.smaller_than < math.inf):
        faces = faces[nms(faces.boxes, strategy.iou_threshold)]
    sides = faces.boxes[:, 2:] - faces.boxes[:, :2]
    counts: Mask = (sides.max(axis=1) > view.larger_than) & (sides.min(axis=1) < view.smaller_than)
    if strategy.merge == "blend" and not counts.all():
        for group in _groups(faces, strategy):
            counts[group] = counts[group[0]]
    return faces[counts]


def keep_confirmed(faces: Detections, view: View, coarser: Sequence[Detections]) -> Detections:
    """Return the faces that count of a view but for those that a coarser view would have to see and does not.

    ``coarser`` is all that the views of the next smaller scale show, down to ``CONFIRMS`` of the score threshold.
    """
    boxes = np.concatenate([np.empty((0, 4), np.float32), *(found.boxes for found in coarser)])
    scores = np.concatenate([np.empty(0, np.float32), *(found.scores for found in coarser)])
    sides = faces.boxes[:, 2:] - faces.boxes[:, :2]
    stays: Mask = sides.max(axis=1, initial=0) <= view.confirmed_over
    for part in split(np.flatnonzero(~stays), len(boxes)):
        there = np.where(overlaps(faces.boxes[part], boxes) >= SAME, scores, np.float32(-1))
        stays[part] = there.max(axis=1, initial=-1) >= CONFIRMS * faces.scores[part]
    return faces[stays]


def drop_pieces(faces: Detections, larger: Detections) -> Detections:
    """Return the faces of a view but for pieces of those that count of coarser views, ``larger``, and score no less."""
    sides, lengths = (found.boxes[:, 2:] - found.boxes[:, :2] for found in (faces, larger))
    areas, lengths = sides.prod(axis=1), lengths.max(axis=1, initial=0)
    stays = np.ones(len(faces), bool)
    for part in split(np.arange(len(faces)), len(larger)):
        boxes = faces.boxes[part, None]
        shared = np.minimum(boxes[..., 2:], larger.boxes[:, 2:]) - np.maximum(boxes[..., :2], larger.boxes[:, :2])
        within = np.maximum(shared, 0).prod(axis=2) >= WITHIN * areas[part, None]
        short = sides[part].max(axis=1)[:, None] <= PIECE * lengths
        stays[part] = ~(within & short & (larger.scores >= faces.scores[part, None])).any(axis=1)
    return faces[stays]


def _whole(boxes: FloatArray, view: View, shape: tuple[int, int]) -> Mask:
    x1, y1, x2, y2 = view.crop
    height, width = shape
    low = [start + EDGE if start > 0 else -np.inf for start in (x1, y1)]
    high = [end - EDGE if end < side else np.inf for end, side in ((x2, width), (y2, height))]
    inside = np.hstack([boxes[:, :2] >= low, boxes[:, 2:] <= high])
    return np.asarray(inside.all(axis=1), bool)


def _mirror(marks: FloatArray, width: np.float32, places: Sequence[int]) -> FloatArray:
    if marks.shape[1] != len(places):
        raise ContractError(
            f"A detector gave {marks.shape[1]} landmarks and names {len(places)}.",
            why=["a mirrored view needs the names, to tell left from right"],
        )
    marks = marks[:, list(places)]
    marks[..., 0] = width - marks[..., 0]
    return marks


def merge_views(shown: Sequence[ViewFaces], strategy: Strategy) -> Detections:
    """Return the faces of an image from what its views show, the highest score first.

    Coarser views confirm what finer ones show, and tell which of it are pieces of a face.
    """
    agreed = [one.faces for one in shown]
    for index in sorted(range(len(shown)), key=lambda index: shown[index].view.scale):
        view, faces = shown[index].view, agreed[index]
        if len(faces) and view.confirmed_over < math.inf:
            coarser = [other for other, one in enumerate(shown) if one.view.scale < view.scale]
            below = max(shown[other].view.scale for other in coarser)
            faces = keep_confirmed(faces, view, [one.everything for one in shown if one.view.scale == below])
            agreed[index] = drop_pieces(faces, _join([agreed[other] for other in coarser]))
    return merge_faces(agreed, strategy)


def merge_faces(found: Sequence[Detections], strategy: Strategy) -> Detections:
    """Return one answer from what was found in the views of an image, the highest score first.

    ``"nms"`` puts all boxes through one NMS. With the other two, from the highest score on, the boxes that overlap the
    best become one face, with the best score, and with box and landmarks their means weighted by score.

    ``"vote"`` takes a box of each view, which its own NMS left, where its IoU is at least the threshold (the box voting
    of Gidaris and Komodakis, https://arxiv.org/abs/1505.01749, as Tencent/FaceDetection-DSFD does it); so of one view
    it is NMS. ``"blend"`` takes every box that NMS would drop for the best one, and the best, of one view, too (as
    BlazeFace's authors do against jitter in video, https://arxiv.org/abs/1907.05047).

    It is truncated where there were more faces than the strategy's ``limit``, where a view was, or where the boxes of
    all views were more than ``MOST_MERGED``. What was found is in pixels of the image.
    """
    together, limit = _join(found), strategy.limit
    if strategy.merge == "nms":
        kept = nms(together.boxes, strategy.iou_threshold, None if limit is None else limit + 1)
        return _cut_to(limit, together[kept])
    groups = [group for group in _groups(together, strategy) if len(group) >= strategy.min_votes]
    boxes = np.array([_mean(together.boxes, together.scores, group) for group in groups], np.float32).reshape(-1, 4)
    marks = together.landmarks
    if marks is not None:
        means = [_mean(marks, together.scores, group) for group in groups]
        marks = np.array(means, np.float32).reshape(len(groups), *marks.shape[1:])
    scores = np.array([together.scores[group[0]] for group in groups], np.float32)
    return _cut_to(limit, attrs.evolve(together, boxes=boxes, scores=scores, landmarks=marks))


def _groups(faces: Detections, strategy: Strategy) -> Iterator[IndexArray]:
    threshold = strategy.iou_threshold
    # What NMS drops has a greater IoU, what votes an equal one, too.
    return clusters(faces.boxes, float(np.nextafter(threshold, 2)) if strategy.merge == "blend" else threshold)


def _cut_to(limit: int | None, faces: Detections) -> Detections:
    if limit is None or len(faces) <= limit:
        return faces
    return attrs.evolve(faces[:limit], truncated=True)


def clip(faces: Detections, height: int, width: int) -> Detections:
    """Return the faces with what lies outside the image moved to its edge."""
    limit = np.array([width, height], np.float32)
    boxes = np.clip(faces.boxes, 0, np.tile(limit, 2))
    marks = None if faces.landmarks is None else np.clip(faces.landmarks, 0, limit)
    return attrs.evolve(faces, boxes=boxes, landmarks=marks)


def _join(found: Sequence[Detections]) -> Detections:
    """All that was found, the highest score first; at most ``MOST_MERGED``."""
    together = Detections.concatenate(found)
    kept = together[top_k(together.scores, MOST_MERGED)]
    return kept if len(kept) == len(together) else attrs.evolve(kept, truncated=True)


def _mean(values: FloatArray, scores: FloatArray, group: IndexArray) -> FloatArray:
    # Scores of zero, which a threshold of zero lets in, still weigh alike.
    weights = scores[group].astype(np.float64) + np.finfo(np.float64).tiny
    mean: FloatArray = np.average(values[group], axis=0, weights=weights)
    return mean
