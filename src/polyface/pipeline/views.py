"""Test-time strategies: which views of a picture the network sees, and how what it finds there becomes one answer.

There is one mechanism. A :class:`View` is the picture, or a crop of it, scaled and perhaps mirrored. What is found in
each view is brought back into pixels of the picture (:func:`in_picture`), and what :func:`counted` leaves of it is
:func:`merged` into one answer. The plain call is the strategy of one view; by default there are as many as faces of
every size need (:func:`plan_views`).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import attrs
import numpy as np
import numpy.typing as npt
from attrs import frozen

from polyface.errors import ConfigError, ContractError, ImageError, nearest, quoted
from polyface.images.reading import Frame, frame_of, restore
from polyface.pipeline.nms import clusters, iou, nms, top_k
from polyface.plugins.records import DetectorSpec, least_run
from polyface.results import Detections

if TYPE_CHECKING:
    from polyface.images.reading import Picture
    from polyface.plugins.protocols import FloatArray, IndexArray
    from polyface.settings.config import Config

    Mask: TypeAlias = npt.NDArray[np.bool_]

Crop: TypeAlias = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels of the picture."""

EDGE = 4
"""A box that comes this near to an edge along which a tile was cut, in pixels, is taken for part of a face."""

FACE_ASPECT = 1.5
"""A face is about so many times as high as it is wide, at most: in WIDER FACE the median is 1.4. Networks find upright
faces, so that an image 640 wide and 480 high has none of 640."""

FINER, COARSER = 5 / 16, 1 / 4
"""Where two views meet: the finer counts faces whose shorter side is under 5/16 of the largest that the network sees
well, the coarser those whose longer side is over 1/4 of it. What lies between counts in both, so that no face is lost
to the fifth by which two views differ on its size."""

SHRINK = 2.0
"""A shrunken view has half the sides of the one before: all of them together are a third of the work of the first. The
smallest face that it counts, an eighth of the largest that the network sees well, is still one that it sees well."""

CONFIRMS = 1 / 25
"""A face that a coarser view sees well enough must score so much of its score there, or it is none. Of the true faces
of WIDER FACE 1 in 500 does not, of the false ones 1 in 4."""

SAME = 0.4
"""Boxes of two views whose IoU is at least this show one thing."""

WITHIN, PIECE = 0.8, 1 / 2
"""A box that lies within a face by this part of its area, and is at most so long, is a piece of it. No two true faces
of 400 images of WIDER FACE lie so."""

MOST_PIXELS = 2**30
"""All views of an image have at most so many pixels of the network's input."""

MOST_VIEWS = 4096
"""A view of an image has at most so many tiles."""

MOST_MERGED = 20_000
"""At most so many boxes of all views of an image are merged, the highest-scoring: the time grows with their square."""


@frozen(kw_only=True)
class View:
    """What the network sees of a picture.

    Args:
        crop: the part of the picture; for the whole picture, all of it.
        scale: the factor from pixels of the picture to those of the network.
        flip: whether it is mirrored, left to right.
        larger_than: only faces whose longer side is greater count; in pixels of the picture.
        smaller_than: only faces whose shorter side is less count; in pixels of the picture.
        confirmed_over: faces whose longer side is greater count only where the views of the next smaller scale show
            them as well (see :func:`confirmed`); in pixels of the picture.
    """

    crop: Crop
    scale: float = 1.0
    flip: bool = False
    larger_than: float = -math.inf
    smaller_than: float = math.inf
    confirmed_over: float = math.inf

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


def strategy_of(config: Config, detector: DetectorSpec) -> Strategy:
    """Return the strategy that the settings describe.

    Raises:
        ConfigError: there is no such preset, or it does otherwise than a setting that was given says; ``run_pixels`` is
            too small for the detector.
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
        budget = run_budget(config, detector)
        if config.view == "auto" and config.infer_size is None:
            views = functools.partial(plan_views, views, detector=detector, pad_to=config.pad_to, run_pixels=budget)
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
    return _each_once(views, flip=flip)


def _each_once(views: Sequence[View], *, flip: bool) -> tuple[View, ...]:
    mirrored = [attrs.evolve(view, flip=True) for view in views if flip]
    return tuple(dict.fromkeys([*views, *mirrored]))


def plan_views(
    views: Callable[[int, int], tuple[View, ...]],
    height: int,
    width: int,
    *,
    detector: DetectorSpec,
    pad_to: int,
    run_pixels: int,
) -> tuple[View, ...]:
    """Return what it takes to find faces of every size: from the smallest that the given views show to the whole image.

    To the given views come as few shrunken ones of the whole as bring the largest face down to what the detector's
    network sees well (``face_sizes`` of its :class:`polyface.plugins.records.DetectorSpec`). Where a coarser view takes
    over, a finer one no longer counts: of a face that is too large for it, the network sees pieces. And what a coarser
    view would have to see, it must confirm. A view of more than ``run_pixels`` is cut into tiles, which share what the
    largest face they must find needs.

    Args:
        views: what the settings ask for, from the image's height and width.
        height: of the image, in pixels.
        width: likewise.
        detector: whose network is to see it.
        pad_to: as in :class:`polyface.settings.config.Config`.
        run_pixels: the most pixels of input in a run of the network.

    Raises:
        ImageError: all that would be more than ``MOST_PIXELS``.
    """

    def cost(size: tuple[int, int], scale: float) -> int:
        frame = frame_of(*size, detector.preprocess, min_side=detector.min_side, pad_to=pad_to, scale=scale)
        return math.prod(frame.shape)

    def fits(size: tuple[int, int], scale: float) -> bool:
        return cost(size, scale) <= run_pixels

    asked = views(height, width)
    flip = any(view.flip for view in asked)
    upright = [view for view in asked if not view.flip]
    check_pixels(cost(view.size, view.scale) for view in upright)
    largest = min(height, FACE_ASPECT * width)
    sizes = detector.face_sizes
    if sizes is None and not all(fits(view.size, view.scale) for view in upright):
        # Tiles hide what is larger than they are, as a network does that sees faces up to some size.
        sizes = (math.sqrt(run_pixels) / 64, math.sqrt(run_pixels) / 4)
    if sizes is not None:
        upright = _with_shrunken(upright, (0, 0, width, height), largest, sizes)
    parts: list[View] = []
    for view in upright:
        if fits(view.size, view.scale):
            parts.append(view)
        else:
            shared = math.ceil(min(view.smaller_than, 1.25 * largest) + 2 * EDGE)
            parts += _tiled(view, shared, functools.partial(fits, scale=view.scale))
    return _each_once(parts, flip=flip)


def _with_shrunken(views: Sequence[View], whole: Crop, largest: float, sizes: tuple[float, float]) -> list[View]:
    """Return the views, the shrunken ones that they lack, and the limits of each.

    Args:
        views: not mirrored.
        whole: the crop of the whole image.
        largest: the largest face that there may be, in pixels of the image.
        sizes: of the faces that the network sees well, in pixels of its input.
    """
    least, most = sizes
    asked = sorted({view.scale for view in views}, reverse=True)
    shrunken = []
    for finer, coarser in itertools.pairwise([*asked, 0.0]):
        scale = finer
        while largest * scale > most and scale > coarser * SHRINK:
            shrunken.append(View(crop=whole, scale=scale / SHRINK, larger_than=COARSER * most / scale))
            scale /= SHRINK
    scales = sorted({*asked, *(view.scale for view in shrunken)}, reverse=True)
    below = dict(itertools.pairwise(scales))
    return [
        attrs.evolve(view, smaller_than=FINER * most / view.scale, confirmed_over=least / below[view.scale])
        if view.scale in below and largest * view.scale > most
        else view
        for view in (*views, *shrunken)
    ]


def _tiled(view: View, shared: int, fits: Callable[[tuple[int, int]], bool]) -> list[View]:
    """Return the view in equal tiles of the fewest pixels in all.

    Args:
        view: a crop of an image.
        shared: what neighbours share at least, in pixels of the image.
        fits: whether a tile of that height and width may be.
    """
    height, width = view.size
    grids: list[tuple[int, int, int]] = []
    for columns in range(1, _most_parts(width, shared) + 1):
        across = _part(width, columns, shared)
        every = range(1, _most_parts(height, shared) + 1)
        rows = next((count for count in every if fits((_part(height, count, shared), across))), 0)
        if rows:
            grids.append((rows * columns * across * _part(height, rows, shared), rows, columns))
        if rows == 1:  # more columns are more tiles and no fewer pixels
            break
    if not grids:
        raise ConfigError(
            "A tile that shares a face with its neighbours has more pixels than run_pixels.",
            fix="raise run_pixels, or lower pad_to",
        )
    _, rows, columns = min(grids)
    x, y = view.crop[:2]
    return [
        attrs.evolve(view, crop=(x + left, y + top, x + right, y + bottom))
        for top, bottom in _spans(height, rows, shared)
        for left, right in _spans(width, columns, shared)
    ]


def _most_parts(length: int, shared: int) -> int:
    """How many parts there may be: each is twice as long as what it shares, where it can be."""
    return max(1, math.ceil((length - shared) / shared))


def _part(length: int, count: int, shared: int) -> int:
    """How long each of so many parts is that share so much."""
    return length if count == 1 else math.ceil((length - shared) / count) + shared


def _spans(length: int, count: int, shared: int) -> Iterator[tuple[int, int]]:
    part = _part(length, count, shared)
    for index in range(count):
        start = 0 if count == 1 else index * (length - part) // (count - 1)
        yield start, start + part


def run_budget(config: Config, detector: DetectorSpec) -> int:
    """Return the most pixels of input in a run of the network: the setting ``run_pixels``, or the detector's.

    Where ``pad_to`` alone makes the smallest tile larger than the detector's, that tile is the least there is.

    Raises:
        ConfigError: the setting leaves no room for the detector's largest faces.
    """
    least = least_run(detector.face_sizes, math.lcm(detector.preprocess.stride, config.pad_to))
    if config.run_pixels is None:
        return max(least, detector.run_pixels)
    if config.run_pixels < least and config.view == "auto":
        raise ConfigError(
            f"run_pixels must be at least {least} for '{detector.name}', not {config.run_pixels}.",
            why=["smaller tiles could not share a face of the largest size that its network sees"],
            fix=f"--run-pixels {least}, or --view plain",
        )
    return config.run_pixels


def check_pixels(costs: Iterable[int]) -> None:
    """Refuse views of an image that have more than ``MOST_PIXELS`` pixels of input in all.

    Raises:
        ImageError: they have.
    """
    pixels = sum(costs)
    if pixels > MOST_PIXELS:
        raise ImageError(
            f"The views of the picture have {pixels:,} pixels; at most {MOST_PIXELS:,} go through the network.",
            fix="lower scales, tile_overlap, pad_to, infer_size or max_side",
        )


def tiles(height: int, width: int, side: int, overlap: float) -> tuple[Crop, ...]:
    """Return the fewest squares of ``side`` pixels, evenly spread, that cover the picture and overlap by that part.

    Raises:
        ImageError: they are more than ``MOST_VIEWS``.
    """
    rows, columns = (_starts(length, side, overlap) for length in (height, width))
    if len(rows) * len(columns) > MOST_VIEWS:
        raise ImageError(
            f"The picture would be seen in {len(rows) * len(columns):,} tiles; at most {MOST_VIEWS:,} are taken.",
            fix="raise tile, or lower tile_overlap, scales or max_side",
        )
    return tuple((x, y, min(x + side, width), min(y + side, height)) for y in rows for x in columns)


def _starts(length: int, side: int, overlap: float) -> Sequence[int]:
    if length <= side:
        return [0]
    steps = math.ceil((length - side) / (side * (1 - overlap)))
    if steps >= length - side:  # steps shorter than a pixel would start twice at one place
        return range(length - side + 1)
    return [step * (length - side) // steps for step in range(steps + 1)]


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
    faces = attrs.evolve(faces, boxes=boxes, landmarks=marks)
    return _taken(faces, np.flatnonzero(_whole(boxes, view, shape)))


def counted(faces: Detections, view: View, *, merge: str, iou_threshold: float) -> Detections:
    """Return those of a view's faces that count when views are merged: within its limits of size.

    Where views vote, or a view leaves the larger faces to another, its own NMS comes first, as in
    Tencent/FaceDetection-DSFD: a face beyond the limits still drops the boxes that overlap it, and these do not count
    in its place.

    Args:
        faces: in pixels of the picture, the highest score first.
        view: where they were found.
        merge: ``"nms"`` or ``"vote"``.
        iou_threshold: in [0, 1].
    """
    if merge == "vote" or view.smaller_than < math.inf:
        faces = _taken(faces, nms(faces.boxes, iou_threshold))
    return _taken(faces, np.flatnonzero(_right_size(faces.boxes, view)))


def confirmed(faces: Detections, view: View, coarser: Sequence[Detections]) -> Detections:
    """Return the faces of a view but for those that a coarser view would have to see and does not.

    Args:
        faces: what counts of a view, in pixels of the picture.
        view: where they were found.
        coarser: all that the views of the next smaller scale show, down to ``CONFIRMS`` of the score threshold.
    """
    sides = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(axis=1, initial=0)
    boxes = np.concatenate([np.empty((0, 4), np.float32), *(found.boxes for found in coarser)])
    scores = np.concatenate([np.empty(0, np.float32), *(found.scores for found in coarser)])
    stays = [
        side <= view.confirmed_over or scores[iou(box, boxes) >= SAME].max(initial=-1) >= CONFIRMS * score
        for box, score, side in zip(faces.boxes, faces.scores, sides, strict=True)
    ]
    return _taken(faces, np.flatnonzero(stays))


def without_pieces(faces: Detections, larger: Detections) -> Detections:
    """Return the faces of a view but for pieces of a face that a coarser view found, and that scores no less.

    Args:
        faces: what counts of a view, in pixels of the picture.
        larger: what counts of the views of smaller scales.
    """
    sides, lengths = (found.boxes[:, 2:] - found.boxes[:, :2] for found in (faces, larger))
    areas, lengths = sides.prod(axis=1), lengths.max(axis=1, initial=0)
    stays = np.ones(len(faces), bool)
    for index, (box, score) in enumerate(zip(faces.boxes, faces.scores, strict=True)):
        shared = np.minimum(box[2:], larger.boxes[:, 2:]) - np.maximum(box[:2], larger.boxes[:, :2])
        within = np.maximum(shared, 0).prod(axis=1) >= WITHIN * areas[index]
        stays[index] = not (within & (sides[index].max() <= PIECE * lengths) & (larger.scores >= score)).any()
    return _taken(faces, np.flatnonzero(stays))


def scoring(faces: Detections, threshold: float) -> Detections:
    """Return the faces that score at least the threshold."""
    return _taken(faces, np.flatnonzero(faces.scores >= threshold))


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
        limit: at most so many faces; where there were more, the answer says that it is truncated. It is as well where
            a view was, or the boxes of all views were more than ``MOST_MERGED``.
        min_votes: with ``"vote"``, a face needs at least so many boxes.
    """
    together = joined(found)
    if merge == "nms":
        kept = nms(together.boxes, iou_threshold, None if limit is None else limit + 1)
        return _cut_to(limit, _taken(together, kept))
    groups = [group for group in clusters(together.boxes, iou_threshold) if len(group) >= min_votes]
    boxes = np.array([_mean(together.boxes, together.scores, group) for group in groups], np.float32).reshape(-1, 4)
    marks = together.landmarks
    if marks is not None:
        means = [_mean(marks, together.scores, group) for group in groups]
        marks = np.array(means, np.float32).reshape(len(groups), *marks.shape[1:])
    scores = np.array([together.scores[group[0]] for group in groups], np.float32)
    return _cut_to(limit, attrs.evolve(together, boxes=boxes, scores=scores, landmarks=marks))


def _cut_to(limit: int | None, faces: Detections) -> Detections:
    if limit is None or len(faces) <= limit:
        return faces
    return attrs.evolve(_taken(faces, np.arange(limit)), truncated=True)


def clipped(faces: Detections, height: int, width: int) -> Detections:
    """Return the faces with what lies outside the picture moved to its edge."""
    limit = np.array([width, height], np.float32)
    boxes = np.clip(faces.boxes, 0, np.tile(limit, 2))
    marks = None if faces.landmarks is None else np.clip(faces.landmarks, 0, limit)
    return attrs.evolve(faces, boxes=boxes, landmarks=marks)


def _taken(faces: Detections, chosen: IndexArray) -> Detections:
    marks = faces.landmarks
    return attrs.evolve(
        faces,
        boxes=faces.boxes[chosen],
        scores=faces.scores[chosen],
        landmarks=None if marks is None else marks[chosen],
    )


def joined(found: Sequence[Detections]) -> Detections:
    """Return all that was found, the highest score first; at most ``MOST_MERGED``."""
    marks = [faces.landmarks for faces in found if faces.landmarks is not None]
    scores = np.concatenate([faces.scores for faces in found])
    together = Detections(
        boxes=np.concatenate([faces.boxes for faces in found]),
        scores=scores,
        landmarks=np.concatenate(marks) if marks else None,
        truncated=len(scores) > MOST_MERGED or any(faces.truncated for faces in found),
    )
    return _taken(together, top_k(scores, MOST_MERGED))


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
