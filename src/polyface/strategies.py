"""Test-time strategies: which views of a picture the network sees, and how what it finds there becomes one answer.

There is one mechanism. A :class:`View` is the picture, or a crop of it, scaled and perhaps mirrored. What is found in
each view is brought back into pixels of the picture (:func:`in_picture`), and what :func:`counted` leaves of it is
:func:`merged` into one answer. The plain call is the strategy of one view.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import attrs
import numpy as np
import numpy.typing as npt
from attrs import frozen

from polyface.errors import ConfigError, ContractError, nearest, quoted
from polyface.imaging import Frame, restore
from polyface.nms import clusters, nms, top_k
from polyface.results import Detections

if TYPE_CHECKING:
    from polyface.config import Config
    from polyface.imaging import Picture
    from polyface.protocols import FloatArray, IndexArray

    Mask: TypeAlias = npt.NDArray[np.bool_]

Crop: TypeAlias = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels of the picture."""

EDGE = 4
"""A box that comes this near to an edge along which a tile was cut, in pixels, is taken for part of a face."""


@frozen(kw_only=True)
class View:
    """What the network sees of a picture.

    Args:
        crop: the part of the picture; for the whole picture, all of it.
        scale: the factor from pixels of the picture to those of the network.
        flip: whether it is mirrored, left to right.
        larger_than: only faces whose longer side is greater count; in pixels of the picture.
        smaller_than: only faces whose shorter side is less count; in pixels of the picture.
    """

    crop: Crop
    scale: float = 1.0
    flip: bool = False
    larger_than: float = -math.inf
    smaller_than: float = math.inf

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the crop, in pixels of the picture."""
        x1, y1, x2, y2 = self.crop
        return y2 - y1, x2 - x1


@frozen(kw_only=True)
class Strategy:
    """Which views of a picture to take, and how to merge what is found in them.

    Args:
        views: from the picture's height and width, in pixels, to its views.
        merge: ``"nms"`` or ``"vote"``; see :func:`merged`.
        min_votes: a face needs so many boxes to be voted for.
        score_threshold: where the user gives none; ``None`` is the detector's. ``iou_threshold`` likewise.
        limit: the most faces of a picture; ``None`` is the detector's ``post_nms_top_k``.
    """

    views: Callable[[int, int], tuple[View, ...]]
    merge: str = "nms"
    min_votes: int = 1
    score_threshold: float | None = None
    iou_threshold: float | None = None
    limit: int | None = None


def strategy_of(config: Config) -> Strategy:
    """Return the strategy that the settings describe.

    Raises:
        ConfigError: there is no such preset, or it does otherwise than a setting that was given says.
    """
    if config.preset is None:
        views = functools.partial(
            views_of,
            scales=config.scales,
            flip=config.flip,
            tile=config.tile,
            tile_overlap=config.tile_overlap,
            max_side=config.max_side,
        )
        return Strategy(views=views, merge=config.merge)
    if config.preset not in PRESETS:
        raise ConfigError(
            f"There is no preset {quoted(config.preset)}{nearest(config.preset, PRESETS) or '.'}",
            why=[f"the presets: {', '.join(PRESETS)}"],
        )
    strategy = PRESETS[config.preset]
    chosen = strategy.views(480, 640)
    # Config refuses other values than the defaults beside a preset; but a default may have been asked for, too.
    for name, kept in (
        ("merge", strategy.merge == config.merge),
        ("flip", not any(view.flip for view in chosen)),
        ("scales", all(view.scale == 1 for view in chosen)),
    ):
        if name in config.sources and not kept:
            raise ConfigError(
                f"preset and {name} contradict each other.",
                why=[f"the preset '{config.preset}' sets {name} by itself", f"{name} is set ({config.sources[name]})"],
                fix=f"leave out {name}, or the preset",
            )
    return strategy


def views_of(
    height: int,
    width: int,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    tile: int | None = None,
    tile_overlap: float = 0.25,
    max_side: int | None = None,
) -> tuple[View, ...]:
    """Return the views of a picture of that size, each once.

    Args:
        height: in pixels.
        width: in pixels.
        scales: the factors by which the network sees it; more than 1 enlarges.
        flip: see each view mirrored, too.
        tile: what is longer than this after scaling, in pixels, is seen in square tiles of this side; and once as a
            whole, shrunk to it, for the faces that are larger than what tiles share.
        tile_overlap: the part of their side that neighbouring tiles share at least, to within a pixel.
        max_side: a longer side is shrunk to this first, in pixels.
    """
    longer = max(height, width)
    base = min(1.0, max_side / longer) if max_side else 1.0
    whole = (0, 0, width, height)
    views: list[View] = []
    for scale in (base * factor for factor in scales):
        if tile is None or round(longer * scale) <= tile:
            views.append(View(crop=whole, scale=scale))
        else:
            side = max(1, round(tile / scale))
            views += [View(crop=crop, scale=scale) for crop in tiles(height, width, side, tile_overlap)]
            views.append(View(crop=whole, scale=tile / longer))
    if flip:
        views += [attrs.evolve(view, flip=True) for view in views]
    return tuple(dict.fromkeys(views))


def tiles(height: int, width: int, side: int, overlap: float) -> tuple[Crop, ...]:
    """Return the fewest squares of ``side`` pixels, evenly spread, that cover the picture and overlap by that part."""
    return tuple(
        (x, y, min(x + side, width), min(y + side, height))
        for y in _starts(height, side, overlap)
        for x in _starts(width, side, overlap)
    )


def _starts(length: int, side: int, overlap: float) -> list[int]:
    if length <= side:
        return [0]
    steps = math.ceil((length - side) / (side * (1 - overlap)))
    # Steps shorter than a pixel would start twice at one place.
    return sorted({step * (length - side) // steps for step in range(steps + 1)})


def cut(picture: Picture, view: View) -> Picture:
    """Return the crop of the picture ``(H, W, 3)``, mirrored if the view is; nothing is copied."""
    x1, y1, x2, y2 = view.crop
    part = picture[y1:y2, x1:x2]
    return part[:, ::-1] if view.flip else part


def in_picture(
    faces: Detections, view: View, frame: Frame, shape: tuple[int, int], landmarks: Sequence[str]
) -> Detections:
    """Return what was found in a view, from network pixels to those of the picture.

    Boxes at an edge along which a tile was cut are left out: these are parts of faces that another view has whole.

    Args:
        faces: in network pixels.
        view: where they were found.
        frame: how the view's crop lay in the network's input.
        shape: height and width of the picture.
        landmarks: their names; mirroring swaps the places of left and right.

    Raises:
        ContractError: the view is mirrored and the landmarks are not as many as their names.
    """
    boxes = restore(faces.boxes, frame)
    marks = None if faces.landmarks is None else restore(faces.landmarks, frame)
    if view.flip:
        width = np.float32(frame.picture_width)
        boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
        if marks is not None:
            marks = _mirrored(marks, width, landmarks)
    offset = np.array(view.crop[:2], np.float32)
    boxes = boxes + np.tile(offset, 2)
    marks = None if marks is None else marks + offset
    faces = Detections(boxes=boxes, scores=faces.scores, landmarks=marks)
    return _taken(faces, np.flatnonzero(_whole(boxes, view, shape)))


def counted(faces: Detections, view: View, *, merge: str, iou_threshold: float) -> Detections:
    """Return those of a view's faces that count when views are merged: within its limits of size.

    Where views vote, the view's own NMS comes first, as in Tencent/FaceDetection-DSFD: a face beyond the limits still
    drops the boxes that overlap it, and these do not vote in its place.

    Args:
        faces: in pixels of the picture, the highest score first.
        view: where they were found.
        merge: ``"nms"`` or ``"vote"``.
        iou_threshold: in [0, 1].
    """
    if merge == "vote":
        faces = _taken(faces, nms(faces.boxes, iou_threshold))
    return _taken(faces, np.flatnonzero(_right_size(faces.boxes, view)))


def _right_size(boxes: FloatArray, view: View) -> Mask:
    sides = boxes[:, 2:] - boxes[:, :2]
    return np.asarray((sides.max(axis=1) > view.larger_than) & (sides.min(axis=1) < view.smaller_than), bool)


def _whole(boxes: FloatArray, view: View, shape: tuple[int, int]) -> Mask:
    x1, y1, x2, y2 = view.crop
    height, width = shape
    low = [start + EDGE if start > 0 else -np.inf for start in (x1, y1)]
    high = [end - EDGE if end < side else np.inf for end, side in ((x2, width), (y2, height))]
    inside = np.hstack([boxes[:, :2] >= low, boxes[:, 2:] <= high])
    return np.asarray(inside.all(axis=1), bool)


def _mirrored(marks: FloatArray, width: np.float32, names: Sequence[str]) -> FloatArray:
    if marks.shape[1] != len(names):
        raise ContractError(
            f"A detector gave {marks.shape[1]} landmarks and names {len(names)}.",
            why=["a mirrored view needs the names, to tell left from right"],
        )
    marks = marks[:, list(mirrored_order(names))]
    marks[..., 0] = width - marks[..., 0]
    return marks


def mirrored_order(names: Sequence[str]) -> tuple[int, ...]:
    """Return for each landmark the index of the one whose place it takes in a mirror: left for right.

    ``left_eye`` goes with ``right_eye``, ``mouth_left`` with ``mouth_right``; a name without a partner with itself.
    """
    other = {"left": "right", "right": "left"}
    partners = ["_".join(other.get(word, word) for word in name.split("_")) for name in names]
    return tuple(
        names.index(partner if partner in names else name) for name, partner in zip(names, partners, strict=True)
    )


def merged(
    found: Sequence[Detections], *, merge: str, iou_threshold: float, limit: int | None, min_votes: int = 1
) -> Detections:
    """Return one answer from what was found in the views of a picture, the highest score first.

    ``"nms"`` puts all boxes through one NMS. With ``"vote"``, from the highest score on, those whose IoU with the best
    is at least the threshold become one face, with the best score, and with box and landmarks their means weighted by
    score (the box voting of Gidaris and Komodakis,
    https://arxiv.org/abs/1505.01749, as Tencent/FaceDetection-DSFD does it).

    Args:
        found: by view, in pixels of the picture; each the highest score first, as :func:`counted` left them.
        merge: ``"nms"`` or ``"vote"``.
        iou_threshold: in [0, 1].
        limit: at most so many faces.
        min_votes: with ``"vote"``, a face needs at least so many boxes.
    """
    together = _sorted(found)
    if merge == "nms":
        return _taken(together, nms(together.boxes, iou_threshold, limit))
    groups = [group for group in clusters(together.boxes, iou_threshold) if len(group) >= min_votes][:limit]
    boxes = np.array([_mean(together.boxes, together.scores, group) for group in groups], np.float32).reshape(-1, 4)
    marks = together.landmarks
    if marks is not None:
        means = [_mean(marks, together.scores, group) for group in groups]
        marks = np.array(means, np.float32).reshape(len(groups), *marks.shape[1:])
    scores = np.array([together.scores[group[0]] for group in groups], np.float32)
    return Detections(boxes=boxes, scores=scores, landmarks=marks)


def clipped(faces: Detections, height: int, width: int) -> Detections:
    """Return the faces with what lies outside the picture moved to its edge."""
    limit = np.array([width, height], np.float32)
    boxes = np.clip(faces.boxes, 0, np.tile(limit, 2))
    marks = None if faces.landmarks is None else np.clip(faces.landmarks, 0, limit)
    return Detections(boxes=boxes, scores=faces.scores, landmarks=marks)


def _taken(faces: Detections, chosen: IndexArray) -> Detections:
    marks = faces.landmarks
    return Detections(
        boxes=faces.boxes[chosen], scores=faces.scores[chosen], landmarks=None if marks is None else marks[chosen]
    )


def _sorted(found: Sequence[Detections]) -> Detections:
    marks = [faces.landmarks for faces in found if faces.landmarks is not None]
    scores = np.concatenate([faces.scores for faces in found])
    together = Detections(
        boxes=np.concatenate([faces.boxes for faces in found]),
        scores=scores,
        landmarks=np.concatenate(marks) if marks else None,
    )
    return _taken(together, top_k(scores, len(scores)))


def _mean(values: FloatArray, scores: FloatArray, group: IndexArray) -> FloatArray:
    # Scores of zero, which a threshold of zero lets in, still weigh alike.
    weights = scores[group].astype(np.float64) + np.finfo(np.float64).tiny
    mean: FloatArray = np.average(values[group], axis=0, weights=weights)
    return mean


def _original(height: int, width: int) -> tuple[View, ...]:
    return (View(crop=(0, 0, width, height)),)


def _short_1600(height: int, width: int) -> tuple[View, ...]:
    scale = min(1600 / min(height, width), 2150 / max(height, width))
    return (View(crop=(0, 0, width, height), scale=scale),)


def _dsfd_multiscale(height: int, width: int) -> tuple[View, ...]:
    """Return the views of ``widerface_val.py`` in Tencent/FaceDetection-DSFD.

    The largest scale is 3, or what keeps the network's input at 0x7fffffff / 200 pixels. Shrunk views count for faces
    whose longer side is over 30 pixels, enlarged ones for those whose shorter side is under 100; sides have one pixel
    more there than here, hence 29 and 99. Its IoU counts sides so, too, which matters for faces of a few pixels; here
    there is one IoU for all.
    """
    largest = min(3.0, (0x7FFFFFFF / 200 / (height * width)) ** 0.5)
    smallest = 0.5 * min(1.0, largest) if largest < 0.75 else 0.5
    look = functools.partial(View, crop=(0, 0, width, height))
    large = functools.partial(look, larger_than=29)
    small = functools.partial(look, smaller_than=99)
    views = [look(scale=min(1.0, largest)), look(scale=min(1.0, largest), flip=True), large(scale=smallest)]
    if largest > 0.75:
        views.append(large(scale=0.75))
    if largest > 1:
        views.append(small(scale=min(2.0, largest)))
    else:
        views.append(large(scale=(smallest + largest) / 2))
    views += [small(scale=1.5)] if largest > 1.5 else []
    views += [small(scale=largest)] if largest > 2 else []
    views.append(large(scale=0.25))
    views += [small(scale=scale) for scale in (1.25, 1.75, 2.25) if scale <= largest]
    return tuple(views)


PRESETS = {
    # The two settings of test_widerface.py in biubug6/Pytorch_Retinaface; thresholds as in its published figures.
    "widerface-original": Strategy(views=_original, score_threshold=0.02, iou_threshold=0.4, limit=750),
    "widerface-1600": Strategy(views=_short_1600, score_threshold=0.02, iou_threshold=0.4, limit=750),
    # There, a box that no other view confirms is dropped.
    "dsfd-multiscale": Strategy(
        views=_dsfd_multiscale, merge="vote", min_votes=2, score_threshold=0.01, iou_threshold=0.3, limit=750
    ),
}
"""The published protocols, by name. Their low thresholds are those of precision-recall curves."""
