"""What a detector returns, what goes into a job, and what comes out of it."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import attrs
import numpy as np
from attrs import field, frozen

from polyface import exchange
from polyface.errors import ImageError, PolyfaceError, quoted

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyface.arrays import Float64Array, FloatArray, IndexArray, Mask

COLUMNS = ("boxes", "scores", "landmarks")
"""The columns that :class:`Detections` always has, ``landmarks`` from a detector that gives them; others are extra."""


def _float32(value: Any) -> FloatArray | None:
    return None if value is None else np.asarray(value, dtype=np.float32)


def _arrays(extra: Mapping[str, Any]) -> Mapping[str, npt.NDArray[Any]]:
    return {name: np.asarray(column) for name, column in extra.items()}


_array_equal = attrs.cmp_using(eq=lambda a, b: bool(np.array_equal(a, b)))
_extra_equal = attrs.cmp_using(eq=lambda a, b: a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a))


@frozen(kw_only=True)
class Face:
    """One face of :class:`Detections`.

    Args:
        box: ``(4,)`` float32: x1, y1, x2, y2, in the pixels of ``Detections.boxes``.
        score: in [0, 1].
        landmarks: ``(L, 2)`` float32: x, y in the same pixels; ``None`` from a detector that gives none.
        extra: the face's value in each extra column, such as ``track_id``.
    """

    box: FloatArray = field(eq=_array_equal)
    score: float
    landmarks: FloatArray | None = field(default=None, eq=_array_equal)
    extra: Mapping[str, Any] = field(factory=dict, eq=_extra_equal)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dictionary: ``box``, ``score``, ``landmarks`` where the detector gives them, and the extras.

        Pixels are rounded to 3 decimals and scores to 5.
        """
        face: dict[str, Any] = {"box": [round(v, 3) for v in self.box.tolist()], "score": round(self.score, 5)}
        if self.landmarks is not None:
            face["landmarks"] = [[round(x, 3), round(y, 3)] for x, y in self.landmarks.tolist()]
        return face | {name: np.asarray(value).tolist() for name, value in self.extra.items()}


@frozen(kw_only=True)
class Detections:
    """The faces of one image, the highest score first.

    ``for face in faces`` and ``faces[0]`` give each :class:`Face`. A slice, a mask ``(N,)`` or an array of numbers of
    faces gives the ``Detections`` of those, in the order asked for, with the image's ``timing``: ``faces[:10]``,
    ``faces[faces.scores > 0.9]``. As in NumPy, a face and a slice are views of the same memory.

    Args:
        boxes: ``(N, 4)`` float32: x1, y1, x2, y2 in pixels of the image as shown, measured from the outer edge of
            its top-left pixel; may reach beyond the image unless clipping was asked for.
        scores: ``(N,)`` float32 in [0, 1].
        landmarks: ``(N, L, 2)`` float32: x, y in the same pixels, in the order of the detector's ``landmarks``;
            ``None`` from a detector that gives none.
        extra: further columns by name, each an array with a row a face, such as ``track_id`` ``(N,)``.
        timing: with the setting ``timing``, the seconds of this image by stage: ``"read"``, ``"prepare"``,
            ``"network"``, ``"trim"``, ``"decode"`` and ``"nms"``, over all its views. What was done for several images
            at once counts in equal shares, so the timings of a batch add up to the call. No part of equality.
        truncated: there was more above the score threshold than a limit let through: ``pre_nms_top_k`` or
            ``post_nms_top_k`` of the detector, or that of a published protocol.

    Raises:
        ValueError: the shapes do not belong together, or a value is not finite.
    """

    boxes: FloatArray = field(converter=_float32, eq=_array_equal)
    scores: FloatArray = field(converter=_float32, eq=_array_equal)
    landmarks: FloatArray | None = field(default=None, converter=_float32, eq=_array_equal)
    extra: Mapping[str, npt.NDArray[Any]] = field(factory=dict, converter=_arrays, eq=_extra_equal)
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
        for name, column in self.extra.items():
            if name in (*COLUMNS, "box", "score") or column.shape[:1] != (count,):
                raise ValueError(
                    f"Detections wants extra columns of names of their own with a row for each of {count} faces, not "
                    f"{name!r} {column.shape}."
                )
        if not all(np.isfinite(a).all() for a in (self.boxes, self.scores, marks) if a is not None):
            raise ValueError("Detections wants finite numbers.")

    def _columns(self) -> dict[str, npt.NDArray[Any]]:
        marks = {} if self.landmarks is None else {"landmarks": self.landmarks}
        return {"boxes": self.boxes, "scores": self.scores, **marks, **self.extra}

    def _with(self, columns: Mapping[str, npt.NDArray[Any]], **changes: Any) -> Detections:
        """A copy with other columns, which fit together since they were made from checked ones."""
        changes |= {name: columns.get(name) for name in COLUMNS}
        changes["extra"] = _arrays({name: columns[name] for name in self.extra})
        copy = object.__new__(Detections)
        for attribute in attrs.fields(Detections):
            value = changes[attribute.name] if attribute.name in changes else getattr(self, attribute.name)
            object.__setattr__(copy, attribute.name, value)
        return copy

    @classmethod
    def concatenate(cls, parts: Sequence[Detections]) -> Detections:
        """Return the faces of all parts, in their order, without ``timing``; truncated where one of them is.

        Args:
            parts: at least one; those that hold faces have the same columns.

        Raises:
            ValueError: there is none, or their columns differ.
        """
        full = [part for part in parts if len(part)] or list(parts[:1])
        columns = [part._columns() for part in full]  # noqa: SLF001 - of this class
        if len({frozenset(one) for one in columns}) != 1:
            raise ValueError("Detections.concatenate wants parts with the same columns.")
        joined = {name: np.concatenate([one[name] for one in columns]) for name in columns[0]}
        return full[0]._with(joined, timing=None, truncated=any(part.truncated for part in parts))  # noqa: SLF001

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Face]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> Face: ...
    @overload
    def __getitem__(self, index: slice | npt.ArrayLike) -> Detections: ...
    def __getitem__(self, index: Any) -> Face | Detections:
        if isinstance(index, SupportsIndex) and getattr(index, "ndim", 0) == 0 and not isinstance(index, bool):
            number = operator.index(index)
            if not -len(self) <= number < len(self):
                raise IndexError(f"There is no face {number} among {len(self)}.")
            marks = None if self.landmarks is None else self.landmarks[number]
            extra = {name: column[number] for name, column in self.extra.items()}
            return Face(box=self.boxes[number], score=float(self.scores[number]), landmarks=marks, extra=extra)
        rows = index if isinstance(index, slice) else self._rows(index)
        return self._with({name: column[rows] for name, column in self._columns().items()})

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

    @property
    def sizes(self) -> Float64Array:
        """``(N,)`` float64: the longer side of each box, in pixels."""
        sizes: Float64Array = np.subtract(self.boxes[:, 2:], self.boxes[:, :2], dtype=np.float64).max(axis=1)
        return sizes

    def filter(
        self,
        *,
        score: float | None = None,
        size: float | tuple[float, float] | None = None,
        region: Sequence[float] | None = None,
    ) -> Detections:
        """Return the faces that pass all that is asked for, in the same order.

        Args:
            score: the least score.
            size: the least longer side of a box, in pixels, or the least and the most as a pair; both are within.
            region: x1, y1, x2, y2 in pixels: where the centre of a box must lie, edges included.

        Raises:
            ValueError: a bound is no number, or the first of two is the greater.
        """
        try:
            lowest = -np.inf if score is None else score
            least, most = size if isinstance(size, Sequence) else (-np.inf if size is None else size, np.inf)
            left, top, right, bottom = (-np.inf, -np.inf, np.inf, np.inf) if region is None else region
            ordered = lowest <= np.inf and least <= most and left <= right and top <= bottom
        except (TypeError, ValueError):
            ordered = False
        if not ordered:
            given = f"score={score!r}, size={size!r}, region={region!r}"
            raise ValueError(f"Faces are filtered by numbers, of two bounds the lower first, not by {given}.")
        x, y = ((self.boxes[:, :2] + self.boxes[:, 2:]) / 2).T
        keep: Mask = (self.scores >= lowest) & (self.sizes >= least) & (self.sizes <= most)
        keep &= (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
        return self[keep]

    def sort(self, by: str = "score") -> Detections:
        """Return the faces in another order; those that are alike stay in theirs.

        Args:
            by: ``"score"`` or ``"size"`` (the longer side), the highest first; ``"left"`` or ``"top"``, the edge of the
                box that is nearest to the image's first.

        Raises:
            ValueError: it is none of these.
        """
        left, top = self.boxes[:, :2].T
        keys: dict[str, npt.NDArray[Any]] = {"score": -self.scores, "size": -self.sizes, "left": left, "top": top}
        if by not in keys:
            raise ValueError(f"Faces are sorted by {', '.join(map(repr, keys))}, not by {by!r}.")
        order: IndexArray = np.argsort(keys[by], kind="stable")
        return self[order]

    def largest(self, count: int = 1) -> Detections:
        """Return the faces of the longest sides, at most so many, the largest first.

        Raises:
            ValueError: the count is no whole number, or below 0.
        """
        if count < 0 or count != int(count):
            raise ValueError(f"There are no {count} faces.")
        return self.sort("size")[: int(count)]

    def to_supervision(self) -> Any:
        """Return the faces as a ``supervision.Detections``, all of class 0, ``"face"``.

        Its ``data`` holds ``landmarks`` ``(N, L, 2)``, where the detector gives them, and the extra columns.

        Raises:
            UnsupportedError: supervision is not installed.
        """
        return exchange.to_supervision(self)

    def to_coco(self, image_id: int, *, category_id: int = 1, first_id: int = 1) -> list[dict[str, Any]]:
        """Return one annotation of COCO a face, which is one of COCO's results as well.

        Keys: ``id``, ``image_id``, ``category_id``, ``bbox`` (x, y, width and height in pixels), ``area``, ``iscrowd``,
        ``segmentation`` (empty), ``score``; ``keypoints`` (x, y and 2, for visible, of each landmark) and
        ``num_keypoints``, where the detector gives landmarks; ``attributes`` with the extra columns, where there are
        any. Digits are those of :meth:`to_dicts`.

        Args:
            image_id: of the image that the faces are in.
            category_id: of faces.
            first_id: of the first annotation; the others follow. COCO's own evaluation takes 0 for none.
        """
        return exchange.to_coco(self.to_dicts(), image_id, category_id, first_id)

    def to_array(self) -> FloatArray:
        """Return ``(N, 5)`` float32: x1, y1, x2, y2, score."""
        return np.concatenate([self.boxes, self.scores[:, None]], axis=1)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one plain dictionary a face: see :meth:`Face.to_dict`."""
        return [face.to_dict() for face in self]

    @classmethod
    def from_dicts(cls, faces: Iterable[Mapping[str, Any]], *, truncated: bool = False) -> Detections:
        """Return the faces that :meth:`to_dicts` wrote.

        Where there are none, nothing tells which columns they would have: ``landmarks`` is ``None``, ``extra`` empty.

        Raises:
            ValueError: a face lacks a column that another has, or they are no faces.
        """
        rows = list(faces)
        names = set(rows[0]) if rows else {"box", "score"}
        if not {"box", "score"} <= names or any(set(row) != names for row in rows):
            raise ValueError("Every face must have a box, a score, and the columns that the others have.")
        marks = [row["landmarks"] for row in rows] if "landmarks" in names else None
        return cls(
            boxes=np.array([row["box"] for row in rows], np.float32).reshape(-1, 4),
            scores=np.array([row["score"] for row in rows], np.float32),
            landmarks=marks,
            extra={name: np.array([row[name] for row in rows]) for name in names - {"box", "score", "landmarks"}},
            truncated=truncated,
        )


def _check_extra(_record: Any, _attribute: attrs.Attribute[Any], extra: Mapping[str, Any]) -> None:
    if taken := _LINE.keys() & extra.keys():
        raise ValueError(f"{', '.join(sorted(taken))}: these have a meaning of their own in results.")


_LINE = {
    "image": str,
    "width": int | None,
    "height": int | None,
    "faces": list,
    "truncated": bool,
    "error": str | None,
    "timing": dict | None,
}
"""What stands in a line of results."""


@frozen(kw_only=True)
class Item:
    """What goes into a job: an image, and what it is called.

    Args:
        name: what it is called in results, such as its path as the user would write it.
        image: what :func:`polyface.read_image` takes; ``None`` where there is none.
        relative: its path below the folder that was given, for what is written about it; its file's name otherwise.
        problem: why there is no image, when that is known already.
        examine: whether faces are looked for in it. An image that is not examined goes through the stream with the
            others; its result has no faces, and ``examined`` among its ``extra``, which is ``False``.
        extra: further facts for the result, such as ``frame`` and ``time`` of a video's frame.
    """

    name: str
    image: Any = field(default=None, repr=False)
    relative: PurePath = field(
        converter=PurePath, default=attrs.Factory(lambda self: PurePath(PurePath(self.name).name), takes_self=True)
    )
    problem: str = ""
    examine: bool = True
    extra: Mapping[str, Any] = field(factory=dict, validator=_check_extra)


@frozen(kw_only=True)
class Result:
    """One item of a job: its faces, or why there are none. What writers take, and a line of ``faces.jsonl``.

    Args:
        name: of the item.
        width: of the image as shown, in pixels; ``None`` where it could not be read.
        height: of the image as shown, in pixels; ``None`` where it could not be read.
        faces: what was found; none where the image could not be examined.
        error: why the image could not be examined, or a writer not take it; ``None`` where nothing failed.
        timing: the seconds of each stage, where they were measured.
        extra: further facts for the line, such as the ``drawing`` that a writer made.
        item: what it came from; ``None`` from :meth:`from_dict`.
        image: the decoded image, where the stream was asked to keep it, and could examine it.
    """

    name: str
    width: int | None = None
    height: int | None = None
    faces: Detections = field(factory=lambda: Detections.from_dicts([]))
    error: PolyfaceError | None = field(default=None, eq=lambda error: error and error.summary)
    timing: Mapping[str, float] | None = field(default=None, eq=False)
    extra: Mapping[str, Any] = field(factory=dict, validator=_check_extra)
    item: Item | None = field(default=None, eq=False, repr=False)
    image: Any = field(default=None, eq=False, repr=False)

    @property
    def reason(self) -> str | None:
        """Why the image could not be examined, in one line and without its name; ``None`` where it was."""
        if self.error is None:
            return None
        image = None if self.item is None else self.item.image
        if isinstance(image, bytes):  # which has no name that an error could say
            return self.error.summary.removeprefix(f"the file of {len(image)} bytes ")
        return self.error.summary.removeprefix(f"{quoted(self.name if image is None else str(image))} ")

    def to_dict(self) -> dict[str, Any]:
        """Return the line of ``faces.jsonl`` as a plain dictionary; seconds are rounded to 6 decimals.

        Keys: ``image`` (its name), ``width``, ``height``, ``faces`` (see :meth:`Face.to_dict`), ``truncated``, what is
        in ``extra``, ``error`` (see :attr:`reason`), and ``timing`` where it was measured.
        """
        line: dict[str, Any] = {
            "image": self.name,
            "width": self.width,
            "height": self.height,
            "faces": self.faces.to_dicts(),
            "truncated": self.faces.truncated,
            **self.extra,
            "error": self.reason,
        }
        if self.timing is not None:
            line["timing"] = {stage: round(seconds, 6) for stage, seconds in self.timing.items()}
        return line

    @classmethod
    def from_dict(cls, line: Mapping[str, Any]) -> Result:
        """Return the result that :meth:`to_dict` wrote, to the digits that it keeps.

        A line without faces does not tell whether its detector gives landmarks: ``faces.landmarks`` is ``None`` then.

        Raises:
            ValueError: it is no such line; says what is missing or wrong.
        """
        try:
            for key, kinds in _LINE.items():
                if not isinstance(line.get(key) if key == "timing" else line[key], kinds):
                    raise TypeError(f"{key!r} is {quoted(line[key])}")
            return cls(
                name=line["image"],
                width=line["width"],
                height=line["height"],
                faces=Detections.from_dicts(line["faces"], truncated=line["truncated"]),
                error=None if line["error"] is None else ImageError(line["error"]),
                timing=line.get("timing"),
                extra={key: value for key, value in line.items() if key not in _LINE},
            )
        except KeyError as error:
            raise ValueError(f"A line of results has no {error}.") from error
        except TypeError as error:
            raise ValueError(f"A line of results has a value of another kind: {error}.") from error
