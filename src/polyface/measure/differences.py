"""How far two runs of one detector lie apart: at the raw heads, then at the faces. NumPy alone; pytest is not needed.

What ``polyface compare`` and the tests of every cell measure, and what a plugin's own tests may::

    expected, actual = reference.raw_heads([image]), mine.raw_heads([image])
    assert max(head.relative.max for head in compare_heads(expected, actual)) <= TOLERANCES["fp32"].heads

Heads are compared number by number. Faces are matched first, and two discontinuities are set apart: a face whose score
lies at the threshold may be there in one run alone, and so may one whose overlap with another lies at that of NMS, or
whose score is nearly the other's, so that rounding decides which of the two stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import attrs
import numpy as np
from attrs import frozen

from polyface.errors import ConfigError, ContractError
from polyface.measure.tolerances import TOLERANCES, Tolerance
from polyface.pipeline.nms import overlaps

if TYPE_CHECKING:
    from polyface.arrays import FloatArray, IndexArray, Mask
    from polyface.results import Detections

    Heads: TypeAlias = Mapping[str, FloatArray]

MATCH_IOU = 0.5
"""Two boxes that overlap by less are not one face."""


class Spread(NamedTuple):
    """The largest of some differences, their mean and their median."""

    max: float
    mean: float
    median: float


@frozen(kw_only=True)
class HeadDifference:
    """How far one output lies from the reference's.

    Args:
        output: its name.
        absolute: the differences.
        relative: the same divided by the largest magnitude of the reference's output, or by 1 if that is less: close
            to zero a number's own magnitude says nothing about the rounding of the sums behind it.
        cosine: of the angle between the two as vectors; 1 for equal ones.
    """

    output: str
    absolute: Spread
    relative: Spread
    cosine: float


@frozen(kw_only=True)
class FaceDifference:
    """How the faces of a run differ from the reference's.

    Args:
        expected: how many the reference found.
        actual: how many the run found.
        matched: how many pairs there are.
        near: how many faces without a partner lie near a threshold, on both sides together.
        unmatched: how many have no such excuse.
        iou: the least overlap of a pair; 1 without pairs.
        mean_iou: the mean overlap of the pairs; 1 without pairs.
        score: the largest difference of a pair's scores; 0 without pairs.
        box: the largest difference of an edge, in pixels; 0 without pairs.
        landmark: the largest difference of a landmark's x or y, in pixels; 0 without pairs.
    """

    expected: int
    actual: int
    matched: int
    near: int
    unmatched: int
    iou: float
    mean_iou: float
    score: float
    box: float
    landmark: float


def compare_heads(expected: Heads, actual: Heads) -> list[HeadDifference]:
    """Return the difference of each output, an array of any shape, in the order of the reference, ``expected``.

    Raises:
        ContractError: the names, the shapes, or a number that is not finite: there is no distance to speak of.
    """
    if expected.keys() != actual.keys():
        raise ContractError(f"The outputs are {', '.join(actual)}, and the reference's are {', '.join(expected)}.")
    return [_head(name, head, actual[name]) for name, head in expected.items()]


def _head(name: str, expected: FloatArray, actual: FloatArray) -> HeadDifference:
    if expected.shape != actual.shape or not expected.size:
        raise ContractError(f"The output '{name}' has the shape {actual.shape}, and the reference's {expected.shape}.")
    one, other = expected.astype(np.float64).ravel(), actual.astype(np.float64).ravel()
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise ContractError(f"The output '{name}' holds numbers that are not finite.")
    apart = np.abs(one - other)
    absolute = Spread(float(apart.max()), float(apart.mean()), float(np.median(apart)))
    scale = max(1.0, float(np.abs(one).max()))
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return HeadDifference(
        output=name,
        absolute=absolute,
        relative=Spread(*(value / scale for value in absolute)),
        cosine=float(one @ other) / lengths if lengths else float((one == other).all()),
    )


def merge_heads(parts: Sequence[Sequence[HeadDifference]]) -> list[HeadDifference]:
    """Return the differences over several runs: the largest maximum, the mean of the means, the median of the medians.

    The cosine is the least.
    """
    return [
        HeadDifference(
            output=heads[0].output,
            absolute=_merged([head.absolute for head in heads]),
            relative=_merged([head.relative for head in heads]),
            cosine=min(head.cosine for head in heads),
        )
        for heads in zip(*parts, strict=True)
    ]


def _merged(spreads: Sequence[Spread]) -> Spread:
    largest, means, medians = zip(*spreads, strict=True)
    return Spread(max(largest), float(np.mean(means)), float(np.median(medians)))


def match(expected: FloatArray, actual: FloatArray) -> list[tuple[int, int]]:
    """Return which boxes, ``(N, 4)`` and ``(M, 4)`` xyxy in pixels, are one face, as pairs of indices, one to one.

    Their IoU is at least ``MATCH_IOU``. The two that overlap most are paired first, then the two that overlap most of
    the rest; among equals, the earlier.
    """
    iou = overlaps(expected, actual)
    pairs: list[tuple[int, int]] = []
    left, right = np.ones(len(expected), bool), np.ones(len(actual), bool)
    rows, columns = np.nonzero(iou >= MATCH_IOU)
    for place in np.argsort(-iou[rows, columns], kind="stable"):
        row, column = int(rows[place]), int(columns[place])
        if left[row] and right[column]:
            pairs.append((row, column))
            left[row] = right[column] = False
    return pairs


def compare_faces(
    expected: Detections, actual: Detections, tolerance: Tolerance, *, score_threshold: float, iou_threshold: float
) -> FaceDifference:
    """Return how the faces of one image differ from those of the reference, ``expected``.

    A face without a partner is *near a threshold* if its score is within the tolerance of ``score_threshold``; or if
    the other run's NMS may have dropped it for a face of its own: they overlap by ``iou_threshold``, give or take
    the tolerance's pixels, and either that face has a partner here that overlaps this one as much, or it has none
    and its score is the same to within the tolerance, so that rounding decided which of the two came first.
    """
    pairs = match(expected.boxes, actual.boxes)
    mine, theirs = np.array(pairs, np.intp).reshape(-1, 2).T
    near = unmatched = 0
    for faces, others, here, there in ((expected, actual, mine, theirs), (actual, expected, theirs, mine)):
        lone = np.setdiff1d(np.arange(len(faces)), here)
        partner = np.full(len(others), -1)
        partner[there] = here
        excused = faces.scores[lone] <= score_threshold + tolerance.score
        excused |= _dropped(faces, others, partner, tolerance, iou_threshold)[lone]
        near += int(excused.sum())
        unmatched += int((~excused).sum())
    iou = overlaps(expected.boxes, actual.boxes)[mine, theirs]
    landmark = 0.0
    if expected.landmarks is not None and actual.landmarks is not None:
        landmark = _largest(expected.landmarks[mine], actual.landmarks[theirs])
    return FaceDifference(
        expected=len(expected),
        actual=len(actual),
        matched=len(pairs),
        near=near,
        unmatched=unmatched,
        iou=float(iou.min(initial=1)),
        mean_iou=float(iou.mean()) if len(pairs) else 1.0,
        score=_largest(expected.scores[mine], actual.scores[theirs]),
        box=_largest(expected.boxes[mine], actual.boxes[theirs]),
        landmark=landmark,
    )


def _dropped(
    faces: Detections, others: Detections, partner: IndexArray, tolerance: Tolerance, iou_threshold: float
) -> Mask:
    """Which faces the other run's NMS may have dropped for one of ``others``; each is ``partner`` here, or -1."""
    there = overlaps(faces.boxes, others.boxes, tolerance.pixels) >= iou_threshold
    here = overlaps(faces.boxes, faces.boxes, tolerance.pixels) >= iou_threshold
    tied = np.abs(faces.scores[:, None] - others.scores) <= 2 * tolerance.score
    paired = partner >= 0
    may = there & ~paired & tied
    may[:, paired] = there[:, paired] & here[:, partner[paired]]
    dropped: Mask = may.any(axis=1)
    return dropped


def _largest(expected: FloatArray, actual: FloatArray) -> float:
    return float(np.abs(expected.astype(np.float64) - actual).max(initial=0))


def merge_faces(parts: Sequence[FaceDifference]) -> FaceDifference:
    """Return the difference over several images: sums of what is counted, the worst of what is measured."""
    pairs = sum(part.matched for part in parts)
    return FaceDifference(
        **{
            name: sum(getattr(part, name) for part in parts)
            for name in ("expected", "actual", "matched", "near", "unmatched")
        },
        **{name: max(getattr(part, name) for part in parts) for name in ("score", "box", "landmark")},
        iou=min(part.iou for part in parts),
        mean_iou=sum(part.mean_iou * part.matched for part in parts) / pairs if pairs else 1.0,
    )


def tolerance_of(*precisions: str) -> Tolerance:
    """Return the row of the table for runs in these precisions: the widest.

    Raises:
        ConfigError: the table has no row for one of them.
    """
    for precision in precisions:
        if precision not in TOLERANCES:
            raise ConfigError(
                f"There is no tolerance for the precision '{precision}'.",
                why=[f"polyface.measure.tolerances.TOLERANCES has {', '.join(TOLERANCES)}"],
                fix="whoever brings that precision says what it may cost, in the plugin's module: "
                f"TOLERANCES['{precision}'] = Tolerance(...)",
            )
    return max((TOLERANCES[precision] for precision in precisions), key=lambda row: row.heads)


def needed(heads: Sequence[HeadDifference], faces: FaceDifference | None = None) -> Tolerance:
    """Return the least tolerance under which these differences pass; without ``faces``, of the heads alone."""
    return Tolerance(
        heads=max(head.relative.max for head in heads),
        mean=max(head.relative.mean for head in heads),
        pixels=max(faces.box, faces.landmark) if faces else 0.0,
        score=faces.score if faces else 0.0,
    )


def exceeded(need: Tolerance, allowed: Tolerance) -> list[str]:
    """Return the names of what is needed beyond what is allowed, in the order of :class:`Tolerance`."""
    return [key.name for key in attrs.fields(Tolerance) if not getattr(need, key.name) <= getattr(allowed, key.name)]
