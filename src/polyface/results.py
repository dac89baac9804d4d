"""What a detector returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from attrs import field, frozen

if TYPE_CHECKING:
    from polyface.protocols import FloatArray


def _float32(value: Any) -> FloatArray | None:
    return None if value is None else np.asarray(value, dtype=np.float32)


_array_equal = attrs.cmp_using(eq=lambda a, b: bool(np.array_equal(a, b)))


@frozen(kw_only=True)
class Detections:
    """The faces of one picture, the highest score first.

    Args:
        boxes: ``(N, 4)`` float32: x1, y1, x2, y2 in pixels of the picture as shown, measured from the outer edge of
            its top-left pixel; may reach beyond the picture unless clipping was asked for.
        scores: ``(N,)`` float32 in [0, 1].
        landmarks: ``(N, L, 2)`` float32: x, y in the same pixels, in the order of the detector's ``landmarks``;
            ``None`` from a detector that gives none.
        timing: with the setting ``timing``, the seconds of this picture by stage: ``"read"``, ``"prepare"``,
            ``"network"``, ``"decode"`` and ``"nms"``, over all its views. What was done for several pictures at once
            counts in equal shares, so the timings of a batch add up to the call. No part of equality.

    Raises:
        ValueError: the shapes do not belong together, or a value is not finite.
    """

    boxes: FloatArray = field(converter=_float32, eq=_array_equal)
    scores: FloatArray = field(converter=_float32, eq=_array_equal)
    landmarks: FloatArray | None = field(default=None, converter=_float32, eq=_array_equal)
    timing: Mapping[str, float] | None = field(default=None, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        count = len(self.scores) if self.scores.ndim == 1 else -1
        marks = self.landmarks
        if self.boxes.shape != (count, 4) or (marks is not None and (marks.ndim, marks.shape[::2]) != (3, (count, 2))):
            raise ValueError(
                "Detections wants boxes (N, 4), scores (N,) and landmarks (N, L, 2) or None, not "
                f"{self.boxes.shape}, {self.scores.shape} and {None if marks is None else marks.shape}."
            )
        if not all(np.isfinite(a).all() for a in (self.boxes, self.scores, marks) if a is not None):
            raise ValueError("Detections wants finite numbers.")

    def __len__(self) -> int:
        return len(self.scores)

    def to_array(self) -> FloatArray:
        """Return ``(N, 5)`` float32: x1, y1, x2, y2, score."""
        return np.concatenate([self.boxes, self.scores[:, None]], axis=1)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one plain dictionary a face: ``box``, ``score``, and ``landmarks`` where the detector gives them.

        Pixels are rounded to 3 decimals and scores to 5.
        """
        faces: list[dict[str, Any]] = []
        for index, (box, score) in enumerate(zip(self.boxes.tolist(), self.scores.tolist(), strict=True)):
            face: dict[str, Any] = {"box": [round(v, 3) for v in box], "score": round(score, 5)}
            if self.landmarks is not None:
                face["landmarks"] = [[round(x, 3), round(y, 3)] for x, y in self.landmarks[index].tolist()]
            faces.append(face)
        return faces
