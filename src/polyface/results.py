"""What a detector returns."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import attrs
import numpy as np
from attrs import field, frozen

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyface.plugins.protocols import FloatArray


def _float32(value: Any) -> FloatArray | None:
    return None if value is None else np.asarray(value, dtype=np.float32)


_array_equal = attrs.cmp_using(eq=lambda a, b: bool(np.array_equal(a, b)))


@frozen(kw_only=True)
class Face:
    """One face of :class:`Detections`.

    Args:
        box: ``(4,)`` float32: x1, y1, x2, y2, in the pixels of ``Detections.boxes``.
        score: in [0, 1].
        landmarks: ``(L, 2)`` float32: x, y in the same pixels; ``None`` from a detector that gives none.
    """

    box: FloatArray = field(eq=_array_equal)
    score: float
    landmarks: FloatArray | None = field(default=None, eq=_array_equal)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dictionary: ``box``, ``score``, and ``landmarks`` where the detector gives them.

        Pixels are rounded to 3 decimals and scores to 5.
        """
        face: dict[str, Any] = {"box": [round(v, 3) for v in self.box.tolist()], "score": round(self.score, 5)}
        if self.landmarks is not None:
            face["landmarks"] = [[round(x, 3), round(y, 3)] for x, y in self.landmarks.tolist()]
        return face


@frozen(kw_only=True)
class Detections:
    """The faces of one picture, the highest score first.

    ``for face in faces`` and ``faces[0]`` give each :class:`Face`. A slice, a mask ``(N,)`` or an array of numbers of
    faces gives the ``Detections`` of those, in the order asked for, with the picture's ``timing``: ``faces[:10]``,
    ``faces[faces.scores > 0.9]``. As in NumPy, a face and a slice are views of the same memory.

    Args:
        boxes: ``(N, 4)`` float32: x1, y1, x2, y2 in pixels of the picture as shown, measured from the outer edge of
            its top-left pixel; may reach beyond the picture unless clipping was asked for.
        scores: ``(N,)`` float32 in [0, 1].
        landmarks: ``(N, L, 2)`` float32: x, y in the same pixels, in the order of the detector's ``landmarks``;
            ``None`` from a detector that gives none.
        timing: with the setting ``timing``, the seconds of this picture by stage: ``"read"``, ``"prepare"``,
            ``"network"``, ``"decode"`` and ``"nms"``, over all its views. What was done for several pictures at once
            counts in equal shares, so the timings of a batch add up to the call. No part of equality.
        truncated: there was more above the score threshold than a limit let through: ``pre_nms_top_k`` or
            ``post_nms_top_k`` of the detector, or that of a published protocol.

    Raises:
        ValueError: the shapes do not belong together, or a value is not finite.
    """

    boxes: FloatArray = field(converter=_float32, eq=_array_equal)
    scores: FloatArray = field(converter=_float32, eq=_array_equal)
    landmarks: FloatArray | None = field(default=None, converter=_float32, eq=_array_equal)
    timing: Mapping[str, float] | None = field(default=None, eq=False, repr=False)
    truncated: bool = False

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

    def __iter__(self) -> Iterator[Face]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: SupportsIndex) -> Face: ...
    @overload
    def __getitem__(self, index: slice | npt.ArrayLike) -> Detections: ...
    def __getitem__(self, index: Any) -> Face | Detections:
        if isinstance(index, SupportsIndex) and getattr(index, "ndim", 0) == 0 and not isinstance(index, bool):
            number = operator.index(index)
            if not -len(self) <= number < len(self):
                raise IndexError(f"There is no face {number} among {len(self)}.")
            marks = None if self.landmarks is None else self.landmarks[number]
            return Face(box=self.boxes[number], score=float(self.scores[number]), landmarks=marks)
        rows = index if isinstance(index, slice) else self._rows(index)
        marks = None if self.landmarks is None else self.landmarks[rows]
        return attrs.evolve(self, boxes=self.boxes[rows], scores=self.scores[rows], landmarks=marks)

    def _rows(self, index: Any) -> npt.NDArray[Any]:
        """A mask or an array of numbers, checked."""
        rows = np.asarray(index, dtype=np.intp if isinstance(index, list) and not index else None)
        if isinstance(index, tuple) or rows.ndim != 1 or rows.dtype.kind not in "biu":
            raise TypeError(
                "Faces are chosen by a number, a slice, a mask or an array of numbers, not by "
                f"{rows.dtype} {rows.shape} from {type(index).__name__}."
            )
        if rows.dtype.kind == "b" and len(rows) != len(self):
            raise IndexError(f"A mask for {len(self)} faces has {len(self)} values, not {len(rows)}.")
        if rows.dtype.kind != "b" and len(beyond := rows[(rows < -len(self)) | (rows >= len(self))]):
            raise IndexError(f"There is no face {beyond[0]} among {len(self)}.")
        return rows

    def to_array(self) -> FloatArray:
        """Return ``(N, 5)`` float32: x1, y1, x2, y2, score."""
        return np.concatenate([self.boxes, self.scores[:, None]], axis=1)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one plain dictionary a face: see :meth:`Face.to_dict`."""
        return [face.to_dict() for face in self]
