"""Predictions in WIDER FACE's text format: all images in one file, or a file an image, below a folder an event.

Of an image there are its name, the number of faces, and for each face a line of x, y, width, height and score.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import numpy as np

from polyface.errors import EvaluationError, Fix, ImageError
from polyface.storage.files import read_json
from polyface.storage.places import OTHER_OUTPUT
from polyface.writers.document import Document, was_examined

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyface.results import Detections, Result
    from polyface.storage.places import Place

P = TypeVar("P", bound=PurePath)

SETTINGS_FILE = "settings.json"
PREDICTIONS = "predictions"


def as_rows(faces: Detections) -> npt.NDArray[np.float64]:
    """Return ``(N, 5)`` float64: x, y, width, height and score, in the digits that a file keeps.

    Pixels are rounded to 4 decimals and scores to 8, so that files are short and evaluate as what is in memory does.
    """
    boxes, scores = faces.boxes.astype(np.float64), faces.scores.astype(np.float64)
    pixels = np.round(np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1), 4)
    return np.concatenate([pixels, np.round(scores, 8)[:, None]], axis=1)


def path_of(folder: P, name: str) -> P:
    """Return the file of an image, ``event/image``, below a folder of predictions."""
    return folder / f"{name}.txt"


class WiderList(Document):
    """One text of all images, as the data set's own list of faces is.

    An image without faces has the number 0 and no line more. One that could not be examined is left out, and so is one
    whose name has several lines.
    """

    def write(self, result: Result) -> None:
        """Add a result to the journal.

        Raises:
            ImageError: its name has several lines, so that it would be read as other than a name.
            OSError: it cannot be written.
        """
        if result.error is None and not _is_one_line(result.name):
            raise ImageError("its name cannot stand in a text of lines", fix=OTHER_OUTPUT)
        super().write(result)

    def make(self, lines: Iterable[dict[str, Any]], stream: BinaryIO) -> None:
        """Write the document."""
        for line in filter(was_examined, lines):
            if not _is_one_line(line["image"]):
                continue
            rows = [line["image"], str(len(line["faces"]))]
            for face in line["faces"]:
                x1, y1, x2, y2 = face["box"]
                rows.append(" ".join(map(str, (x1, y1, round(x2 - x1, 3), round(y2 - y1, 3), face["score"]))))
            stream.write("".join(f"{row}\n" for row in rows).encode("utf-8", "surrogateescape"))


def _is_one_line(name: str) -> bool:
    return {*name}.isdisjoint("\r\n")


class WiderText:
    """The folder of a run: the predictions so far, and how they are made; what it holds is whole at every moment.

    Args:
        place: the folder.
        settings: all that predictions depend on, as JSON has it.

    Attributes:
        predictions: the folder of an event's folders.

    Raises:
        EvaluationError: it holds predictions that were made otherwise, or nobody knows how.
        OSError: it cannot be written to.
    """

    def __init__(self, place: Place, settings: Mapping[str, Any]) -> None:
        self._place = place
        self.predictions = place.path / PREDICTIONS
        record = place.path / SETTINGS_FILE
        if record.is_file() or self.predictions.exists():
            _check_same(place.path, record, json.loads(json.dumps(settings)))
        place.names(PurePath(PREDICTIONS))  # which makes it
        self._write(PurePath(SETTINGS_FILE), json.dumps(settings, indent=2) + "\n")

    def __contains__(self, name: str) -> bool:
        return path_of(self.predictions, name).is_file()

    def write(self, result: Result) -> None:
        """Write the predictions of an image, ``event/image``; one with an error has none.

        Raises:
            OSError: it cannot be written, or the folder is no longer where it was.
        """
        if result.error is None:
            rows = as_rows(result.faces)
            # Python's own text of a float gives it back.
            lines = [result.name.partition("/")[2], str(len(rows)), *(" ".join(map(str, row)) for row in rows.tolist())]
            self._write(path_of(PurePath(PREDICTIONS), result.name), "\n".join(lines) + "\n")

    def close(self) -> None:
        """Do nothing: every file is whole already."""

    def _write(self, name: PurePath, text: str) -> None:
        with self._place.atomic_write(name) as stream:
            stream.write(text.encode("utf-8", "surrogateescape"))


def _check_same(folder: Path, record: Path, settings: Mapping[str, Any]) -> None:
    try:
        before = read_json(record)
    except (OSError, ValueError) as error:
        raise EvaluationError(
            f"How the predictions in {folder} were made is not known.",
            why=[str(error)],
            fix=_again(folder),
        ) from error
    names = [name for name in {**before, **settings} if before.get(name) != settings.get(name)]
    if names:
        raise EvaluationError(
            f"The predictions in {folder} were made with other settings.",
            why=[f"{name[:40]}: {str(before.get(name))[:200]} there, {settings.get(name)} now" for name in names[:20]],
            fix=_again(folder),
        )


def _again(folder: Path) -> Fix:
    made = shlex.join(["rm", "-r", str(folder / PREDICTIONS), str(folder / SETTINGS_FILE)])
    return OTHER_OUTPUT | Fix("to begin again", command=made)
