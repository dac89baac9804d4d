"""Average precision on WIDER FACE, as its official evaluation computes it, and the ground truth it needs.

The protocol is that of ``eval_tools`` at http://shuoyang1213.me/WIDERFACE/. Scores are normalised to [0, 1] over all
images. In each image, from the highest score on, a detection goes to the face it overlaps most, the first of
equals, if that is by an IoU of 0.5 or more, where sides count one pixel more than the difference of their coordinates.
The first detection of a face that the subset counts is a hit; a later one is a false positive, as is one that goes to
no face; one that goes to a face the subset does not count is set apart. Precision and recall are taken at 1000
thresholds, and the area is that under the precision made monotonous. An image for which the ground truth lists no box
at all adds nothing.

``polyface evaluate widerface`` does all this for a detector. In Python, with the files that it or anyone else wrote::

    truth = read_truth(Path("ground_truth"))
    found = read_predictions(Path("widerface-results/predictions"), truth)
    average_precision(truth, found)["hard"]
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from attrs import frozen

from polyface.arrays import Float64Array, IndexArray, Mask
from polyface.errors import EvaluationError
from polyface.measure.matlab import Table, read_tables
from polyface.writers.wider import path_of

T = TypeVar("T")

SUBSETS = ("easy", "medium", "hard")
THRESHOLDS = 1000
LEAST_IOU = 0.5

FACES = "wider_face_val.mat"
LISTS = {subset: f"wider_{subset}_val.mat" for subset in SUBSETS}
TEXT = "wider_face_val_bbx_gt.txt"

LARGEST_NUMBER = 1e9
"""No coordinate, side or score may be larger: beyond it areas and normalised scores lose their digits."""

ROWS = 1024
"""Detections that are compared with all faces of an image at a time, to bound memory."""


@frozen(kw_only=True, eq=False)
class Truth:
    """The faces of one image.

    Args:
        boxes: ``(G, 4)`` float64: x, y, width, height in pixels, as the data set lists them: sides may be 0 or less.
        counted: for each subset, which of them it counts: ``(G,)`` bool.
    """

    boxes: Float64Array
    counted: Mapping[str, Mask]


@frozen(kw_only=True, eq=False)
class Curve:
    """Precision and recall of one subset.

    Args:
        precision: ``(1000,)`` in [0, 1], from the highest threshold to the lowest; 0 where nothing is above it.
        recall: ``(1000,)`` in [0, 1].
        faces: how many faces the subset counts.
    """

    precision: Float64Array
    recall: Float64Array
    faces: int

    @property
    def average_precision(self) -> float:
        """The area under the curve, in percent; nan for a subset without faces."""
        if not self.faces:
            return float("nan")
        recall = np.concatenate([[0], self.recall, [1]])
        envelope = np.maximum.accumulate(np.concatenate([self.precision, [0]])[::-1])[::-1]
        return float(100 * np.sum(np.diff(recall) * envelope))


def average_precision(truth: Mapping[str, Truth], found: Mapping[str, npt.NDArray[Any]]) -> dict[str, float]:
    """Return the average precision of each subset, in percent; see :func:`precision_recall`."""
    return {subset: curve.average_precision for subset, curve in precision_recall(truth, found).items()}


def precision_recall(truth: Mapping[str, Truth], found: Mapping[str, npt.NDArray[Any]]) -> dict[str, Curve]:
    """Return the curve of each subset of the ground truth.

    Where all scores are equal the official normalisation divides zero by zero; here they are all 1 then, and the curve
    is the one point that they make.

    Args:
        truth: by image.
        found: for the same images, ``(N, 5)``: x, y, width, height and score, in any order.

    Raises:
        EvaluationError: the images are not the same, or an array is of another shape or not of finite numbers.
    """
    odd = sorted(truth.keys() ^ found.keys())
    if odd:
        raise EvaluationError(
            f"Ground truth and predictions are not of the same images: {first_of(odd)}.",
            fix="give each image of the ground truth its predictions, empty (0, 5) where there are none",
        )
    rows = {name: _checked(name, found[name]) for name in truth}
    scores = np.concatenate([np.empty(0), *(each[:, 4] for each in rows.values())])
    low, high = (scores.min(), scores.max()) if len(scores) else (0.0, 0.0)
    thresholds = 1 - np.arange(1, THRESHOLDS + 1) / THRESHOLDS
    subsets = list(dict.fromkeys(subset for one in truth.values() for subset in one.counted))
    faces = {subset: sum(int(one.counted[subset].sum()) for one in truth.values()) for subset in subsets}
    proposals, hits = (np.zeros((len(subsets), THRESHOLDS)) for _ in range(2))
    for name, one in truth.items():
        if not len(one.boxes) or not len(rows[name]):
            continue
        sorted_rows = rows[name][np.argsort(-rows[name][:, 4])]
        normalised = (sorted_rows[:, 4] - low) / (high - low) if high > low else np.ones(len(sorted_rows))
        best = best_matches(one.boxes, sorted_rows)
        above = np.searchsorted(-normalised, -thresholds, side="right")  # how many score at least the threshold
        for place, subset in enumerate(subsets):
            proposed, hit = _judged(best, one.counted[subset])
            proposals[place] += np.concatenate([[0], np.cumsum(proposed)])[above]
            hits[place] += np.concatenate([[0], np.cumsum(hit)])[above]
    return {
        subset: Curve(
            precision=hits[place] / np.maximum(proposals[place], 1),
            recall=hits[place] / max(faces[subset], 1),
            faces=faces[subset],
        )
        for place, subset in enumerate(subsets)
    }


def _checked(name: str, rows: npt.NDArray[Any]) -> Float64Array:
    rows = np.asarray(rows, np.float64)
    # `<=` is false for nan.
    if rows.ndim != 2 or rows.shape[1] != 5 or not (np.abs(rows) <= LARGEST_NUMBER).all():
        raise EvaluationError(
            f"The predictions of {name} are not (N, 5) finite numbers up to {LARGEST_NUMBER:g}.",
            why=[f"they are {rows.shape}"],
        )
    return rows


def best_matches(truth: Float64Array, found: Float64Array) -> IndexArray:
    """Return for each detection the face it overlaps most, the first of equals, or -1 where that is by less than 0.5.

    Faces, at least one, are ``(G, 4)``: x, y, width, height; detections ``(N, 4)``, or more columns.
    """
    starts, ends = truth[:, :2], truth[:, :2] + truth[:, 2:4]
    areas = (ends - starts + 1).prod(axis=1)
    best = [np.empty(0, np.intp)]
    for first in range(0, len(found), ROWS):
        start = found[first : first + ROWS, None, :2]
        end = start + found[first : first + ROWS, None, 2:4]
        sides = np.minimum(end, ends) - np.maximum(start, starts) + 1
        shared = np.maximum(sides, 0).prod(axis=2)
        union = (end - start + 1).prod(axis=2) + areas - shared
        # What overlaps has an area; boxes turned inside out overlap nothing, whatever their area comes to.
        iou = np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)
        best.append(np.where(iou.max(axis=1) >= LEAST_IOU, iou.argmax(axis=1), -1))
    return np.concatenate(best)


def _judged(best: IndexArray, counted: Mask) -> tuple[Mask, Mask]:
    """Which detections, the highest score first, are proposals of a subset, and which of them are hits."""
    matched = (best >= 0) & counted[best]
    first = np.zeros(len(best), bool)
    first[np.unique(best, return_index=True)[1]] = True
    return (best < 0) | matched, matched & first


def read_truth(path: Path) -> dict[str, Truth]:
    """Return the faces of every image of the validation set, by ``event/image`` without ``.jpg``.

    ``path`` is the folder of the official ``.mat`` files (``wider_face_val.mat`` and the lists of the subsets), or
    the data set's text file ``wider_face_val_bbx_gt.txt``. The text file names no subsets: where the lists lie by it
    they are taken from there; otherwise there is one subset, ``all``: the faces that are not marked invalid and have a
    size. Its line of zeros for an image without a face stays a box that nothing counts, as it is in
    ``wider_face_val.mat``.

    Raises:
        EvaluationError: there is no such file, or it is not what it should be.
    """
    if path.is_dir():
        needed = [FACES, *LISTS.values()]
        missing = [name for name in needed if not (path / name).is_file()]
        if missing:
            raise EvaluationError(
                f"{path} lacks {', '.join(missing)}.",
                why=[f"the official evaluation comes with {', '.join(needed)}, in its folder ground_truth"],
                fix=f"name that folder, or, for all valid faces as one subset, the text file {TEXT}",
            )
        return _with_lists({name: boxes for name, boxes, _ in _from_mat(path / FACES)}, path)
    if not path.is_file() or path.suffix == ".mat":
        what = "one file of several" if path.is_file() else "not there"
        raise EvaluationError(
            f"{path} is {what}.",
            fix=f"name the folder with {FACES} and the lists of the subsets, or the text file {TEXT}",
        )
    text = _from_text(path)
    if all((path.parent / name).is_file() for name in LISTS.values()):
        return _with_lists({name: rows[:, :4] for name, rows in text.items()}, path.parent)
    return {
        name: Truth(boxes=rows[:, :4], counted={"all": (rows[:, 7] == 0) & (rows[:, 2:4] > 0).all(axis=1)})
        for name, rows in text.items()
    }


def _with_lists(boxes: Mapping[str, Float64Array], folder: Path) -> dict[str, Truth]:
    counted: dict[str, dict[str, Mask]] = {name: {} for name in boxes}
    for subset, file in LISTS.items():
        for name, same, listed in _from_mat(folder / file, "gt_list"):
            # A list means the boxes by their places, so they must be the same ones.
            if not np.array_equal(same, boxes.get(name, ())) or not ((listed >= 1) & (listed <= len(same))).all():
                raise _foreign(folder / file, name)
            counted[name][subset] = np.isin(np.arange(len(same)), listed - 1)  # they count from 1
        for name, subsets in counted.items():
            if subset not in subsets:
                raise _foreign(folder / file, name)
    return {name: Truth(boxes=boxes[name], counted=counted[name]) for name in boxes}


def _foreign(path: Path, name: str) -> EvaluationError:
    return EvaluationError(
        f"{path} does not belong to this ground truth.",
        why=[f"it has other faces of {name}"],
        fix="take all files from one release of the data set",
    )


def _from_mat(path: Path, also: str = "") -> Iterator[tuple[str, Float64Array, IndexArray]]:
    """Name and boxes of each image, and its entry of another table of whole numbers."""
    wanted = ["event_list", "file_list", "face_bbx_list", *([also] if also else [])]
    try:
        found = read_tables(path, set(wanted))
        events, *tables = (_as(list, found.get(table), f"{table} is no list") for table in wanted)
        seen = set()
        for event, *rows in zip(events, *tables, strict=True):
            for image, *values in zip(*(_as(list, row, "a table is no list") for row in rows), strict=True):
                name = _name("/".join(_as(str, part, "a name is no text") for part in (event, image)))
                if name in seen:
                    raise ValueError(f"{name} is there twice")
                seen.add(name)
                boxes, *rest = (_numbers(value, name) for value in values)
                if boxes.size and boxes.shape[1:] != (4,):
                    raise ValueError(f"the boxes of {name} have the shape {boxes.shape}")
                listed = rest[0].ravel() if rest else np.empty(0)
                if (listed % 1).any():
                    raise ValueError(f"the entry of {name} in {also} is not of whole numbers")
                yield name, boxes.reshape(-1, 4), listed.astype(np.intp)
    except (OSError, ValueError) as error:
        raise EvaluationError(
            f"{path} is not a file of WIDER FACE's ground truth.",
            why=[f"{type(error).__name__}: {error}"],
            fix="take it anew from eval_tools.zip at http://shuoyang1213.me/WIDERFACE/",
        ) from error


def _as(kind: type[T], table: Table | None, otherwise: str) -> T:
    if not isinstance(table, kind):
        raise ValueError(otherwise if table is not None else "a table is not there")
    return table


def _numbers(table: Table, name: str) -> Float64Array:
    if not isinstance(table, np.ndarray) or not (np.abs(table.astype(np.float64)) <= LARGEST_NUMBER).all():
        raise ValueError(f"the entry of {name} is not of finite numbers up to {LARGEST_NUMBER:g}")
    return table.astype(np.float64)


def _from_text(path: Path) -> dict[str, Float64Array]:
    """By image, ``(G, 10)``: x, y, width, height, blur, expression, illumination, invalid, occlusion, pose."""
    try:
        lines = path.read_text(encoding="utf-8").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path} cannot be read.", why=[str(error)]) from error
    truth: dict[str, Float64Array] = {}
    at = 0
    while at < len(lines):
        try:
            name, count = _name(lines[at].strip().removesuffix(".jpg")), max(1, int(lines[at + 1]))
            rows = [[int(cell) for cell in line.split()] for line in lines[at + 2 : at + 2 + count]]
            if name in truth:
                raise ValueError(f"{name} is there twice")
            truth[name] = np.array(rows, np.float64).reshape(count, 10)
        except (LookupError, ValueError) as error:
            raise EvaluationError(
                f"{path} is not the text file of WIDER FACE's ground truth.",
                why=[f"wanted at line {at + 1}: an image, the number of faces, ten whole numbers a face; {error}"],
                fix=f"name {TEXT} from wider_face_split.zip at http://shuoyang1213.me/WIDERFACE/",
            ) from error
        at += 2 + count
    if not truth:
        raise EvaluationError(f"{path} is empty.", fix=f"name {TEXT} from wider_face_split.zip")
    return truth


def _name(text: str) -> str:
    # Files are read and written by this name: it must not lead elsewhere.
    if not re.fullmatch(r"[^/\\\0]+/[^/\\\0]+", text) or {"..", "."} & set(text.split("/")):
        raise ValueError(f"{text!r} is no event and image")
    return text


def first_of(names: Sequence[str]) -> str:
    """Return how many names there are, and the first five, for a message."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{len(names)}: {', '.join(names[:5])}{more}"


def read_predictions(folder: Path, names: Iterable[str]) -> dict[str, Float64Array]:
    """Return the predictions of the images, ``event/image``, below a folder: ``(N, 5)``, as :func:`read_prediction`.

    Raises:
        EvaluationError: an image has no file, or a file is not in the format; says which.
    """
    wanted = list(names)
    missing = [name for name in wanted if not path_of(folder, name).is_file()]
    if missing:
        raise EvaluationError(
            f"{folder} has no predictions for {len(missing)} of {len(wanted)} images.",
            why=[first_of(missing)],
            fix="write them, with 0 where nothing was found, or evaluate only the images that have predictions",
        )
    return {name: read_prediction(path_of(folder, name)) for name in wanted}


def read_prediction(path: Path) -> Float64Array:
    """Return the predictions of one file, ``(N, 5)``: x, y, width, height and score; further columns are left out.

    Raises:
        EvaluationError: it is not in the format, or a number is not finite; says where.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").rstrip().split("\n")
        count = int(lines[1])
        if count != len(lines) - 2:
            raise ValueError(f"line 2 says {count} faces, and there are {len(lines) - 2} more lines")
        rows = np.array([line.split()[:5] for line in lines[2:]], np.float64).reshape(count, 5)
        odd = np.flatnonzero(~(np.abs(rows) <= LARGEST_NUMBER).all(axis=1))
        if len(odd):
            raise ValueError(f"line {odd[0] + 3} has a number that is not finite, or over {LARGEST_NUMBER:g}")
    except (OSError, ValueError, IndexError) as error:
        raise EvaluationError(
            f"{path} does not hold predictions.",
            why=[
                str(error)[:200],
                "wanted: a name, the number of faces, and x y width height score a face, a line each",
            ],
            fix=f"write it again; where polyface wrote it, rm {shlex.quote(str(path))} and run the same command",
        ) from error
    return rows
