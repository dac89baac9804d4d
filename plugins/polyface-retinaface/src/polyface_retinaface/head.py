"""RetinaFace's arithmetic between raw heads and boxes: priors, scores and decoding, in NumPy.

The constants are those of Pytorch_Retinaface (``data/config.py``), on whose priors every checkpoint here was trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from polyface.plugins.protocols import Candidates

if TYPE_CHECKING:
    from polyface.arrays import FloatArray, IndexArray

STRIDES, ANCHORS = (8, 16, 32), ((16, 32), (64, 128), (256, 512))
"""Of each level, and the sizes of its priors, in pixels."""

VARIANCES = (0.1, 0.2)
"""Of a prior's centre, and of its size."""


class Head:
    """A :class:`polyface.plugins.protocols.Head`, by default that of the detectors here.

    Priors are squares, kept as centre x, centre y and size in network pixels.

    Args:
        strides: of each level, in pixels.
        anchors: the sizes of each level's priors, in pixels.
        variances: what offsets of centres and of sizes are divided by.
        clip: centres and sizes of priors end at the input's, whose are four numbers then: centre, width and height.
        likely: scores are probabilities, not logits.
    """

    def __init__(
        self,
        *,
        strides: Sequence[float] = STRIDES,
        anchors: Sequence[Sequence[float]] = ANCHORS,
        variances: Sequence[float] = VARIANCES,
        clip: bool = False,
        likely: bool = False,
    ) -> None:
        self._levels = tuple(zip(strides, anchors, strict=True))
        self._centre_variance, self._size_variance = variances
        self._clip = clip
        self._likely = likely

    def priors(self, height: int, width: int) -> FloatArray:
        """Return the priors ``(P, 3)`` float32: centre x, centre y, size, in network pixels.

        The order is level, row, column, size. A level has ``ceil(side / stride)`` cells along a side, and the centres
        lie in the middle of the cells, so those of the last cells may lie outside the input.
        """
        levels = []
        for stride, sizes in self._levels:
            rows, columns = math.ceil(height / stride), math.ceil(width / stride)
            level = np.empty((rows, columns, len(sizes), 3), dtype=np.float32)
            level[..., 0] = (np.arange(columns)[None, :, None] + 0.5) * stride
            level[..., 1] = (np.arange(rows)[:, None, None] + 0.5) * stride
            level[..., 2] = sizes
            levels.append(level.reshape(-1, 3))
        priors = np.concatenate(levels)
        if self._clip:
            priors = np.minimum(priors[:, [0, 1, 2, 2]], np.array([width, height, width, height], np.float32))
        return priors

    def scores(self, outputs: Mapping[str, FloatArray]) -> FloatArray:
        """Return the face scores ``(N, P)`` float32 from ``logits (N, P, 2)``, background first.

        The softmax of two logits is the sigmoid of their difference; written with tanh it cannot overflow. Of
        ``(N, P, 1)`` the one is the face's.
        """
        given = outputs["logits"].astype(np.float32, copy=False)
        if self._likely:
            return given[..., -1]
        logits = given[..., 1] - given[..., 0] if given.shape[-1] == 2 else given[..., 0]
        scores: FloatArray = 0.5 + 0.5 * np.tanh(0.5 * logits)
        return scores

    def decode(self, outputs: Mapping[str, FloatArray], priors: FloatArray, index: int, keep: IndexArray) -> Candidates:
        """Decode the kept priors of one image.

        Args:
            outputs: ``loc (N, P, 4)``: offset of the centre x, y and logarithm of the ratio of width, height; and
                ``landms (N, P, 10)``, which may be missing: offsets x, y of five points. Offsets are in units of the
                prior's size, and all are divided by the variances (the encoding of SSD,
                https://arxiv.org/abs/1512.02325, section 2.2).
            priors: what :meth:`priors` returned for the input's height and width.
            index: the image's place in the batch.
            keep: ``(K,)`` indices into the P priors.

        Returns:
            Boxes ``(K, 4)`` xyxy and landmarks ``(K, 5, 2)`` x, y, float32, in network pixels, unclipped.
        """
        centres, sizes = priors[keep, :2], priors[keep, 2:]
        loc = outputs["loc"][index, keep]
        middle = centres + loc[:, :2] * self._centre_variance * sizes
        half = 0.5 * sizes * np.exp(loc[:, 2:] * self._size_variance)
        boxes = np.concatenate([middle - half, middle + half], axis=1)
        if "landms" not in outputs:
            return Candidates(boxes=boxes, landmarks=None)
        offsets = outputs["landms"][index, keep].reshape(-1, 5, 2) * self._centre_variance * sizes[:, None]
        return Candidates(boxes=boxes, landmarks=centres[:, None] + offsets)


class CornerHead(Head):
    """The head of a graph that decodes its boxes itself, and its landmarks where it has any.

    Boxes are corners, landmarks places; both in parts of the input's width and height.

    Args:
        count: of boxes, where the graph always gives so many.
        **options: as for :class:`Head`.
    """

    def __init__(self, *, count: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self._count = count

    def decode(self, outputs: Mapping[str, FloatArray], priors: FloatArray, index: int, keep: IndexArray) -> Candidates:
        """Scale what is kept of one image to network pixels; ``priors`` are the input's size, once for each."""
        boxes = outputs["loc"][index, keep] * priors[keep]
        if "landms" not in outputs:
            return Candidates(boxes=boxes, landmarks=None)
        return Candidates(
            boxes=boxes, landmarks=outputs["landms"][index, keep].reshape(-1, 5, 2) * priors[keep, None, :2]
        )

    def priors(self, height: int, width: int) -> FloatArray:
        """Return the factors ``(P, 4)`` float32 of x, y, x and y; all rows are one in memory, however many they are."""
        count = self._count or len(super().priors(height, width))
        return np.broadcast_to(np.array([width, height, width, height], np.float32), (count, 4))
