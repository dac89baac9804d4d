"""Predictions in WIDER FACE's text format: a file an image, below a folder an event.

A file holds the image's name, the number of faces, and for each face a line of x, y, width, height and score.
"""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any, Self, TypeVar

import numpy as np

from polyface.errors import EvaluationError
from polyface.measure.widerface import LARGEST, Array, first_of
from polyface.results import Detections
from polyface.storage.files import read_json
from polyface.storage.folders import LockedFolder

P = TypeVar("P", bound=PurePath)

SETTINGS = "settings.json"
PREDICTIONS = "predictions"


def as_rows(faces: Detections) -> Array:
    """Return ``(N, 5)`` float64: x, y, width, height and score, in the digits that a file keeps.

    Pixels are rounded to 4 decimals and scores to 8, so that files are short and evaluate as what is in memory does.
    """
    boxes, scores = faces.boxes.astype(np.float64), faces.scores.astype(np.float64)
    pixels = np.round(np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1), 4)
    return np.concatenate([pixels, np.round(scores, 8)[:, None]], axis=1)


def read_predictions(folder: Path, names: Iterable[str]) -> dict[str, Array]:
    """Return the predictions of each image, ``(N, 5)``: x, y, width, height and score.

    Args:
        folder: with a folder an event.
        names: the images, ``event/image`` without ``.jpg``.

    Raises:
        EvaluationError: an image has no file, or a file is not in the format; says which.
    """
    wanted = list(names)
    missing = [name for name in wanted if not _place(folder, name).is_file()]
    if missing:
        raise EvaluationError(
            f"{folder} has no predictions for {len(missing)} of {len(wanted)} images.",
            why=[first_of(missing)],
            fix="write them, with 0 where nothing was found; or --images DIR with the images that have predictions",
        )
    return {name: read_prediction(_place(folder, name)) for name in wanted}


def read_prediction(path: Path) -> Array:
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
        odd = np.flatnonzero(~(np.abs(rows) <= LARGEST).all(axis=1))
        if len(odd):
            raise ValueError(f"line {odd[0] + 3} has a number that is not finite, or over {LARGEST:g}")
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


def _place(folder: P, name: str) -> P:
    return folder / f"{name}.txt"


class ResultsFolder:
    """The folder of a run: the predictions so far, and how they are made; what it holds is whole at every moment.

    One run at a time writes to it, until it is closed, and never through a link in it.

    Args:
        folder: made where there is none.
        settings: all that predictions depend on, as JSON has it.

    Attributes:
        locked: whether another run is kept out; some file systems cannot.

    Raises:
        EvaluationError: it holds predictions that were made otherwise, or nobody knows how.
        ConfigError: another run writes to it.
        OSError: it cannot be written to.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.predictions = folder / PREDICTIONS
        record = folder / SETTINGS
        with contextlib.ExitStack() as stack:
            self._folder = stack.enter_context(LockedFolder(folder))
            self.locked = self._folder.locked
            if record.is_file() or self.predictions.exists():
                _check_same(folder, record, json.loads(json.dumps(settings)))
            self._folder.make(PurePath(PREDICTIONS))
            self._write(PurePath(SETTINGS), json.dumps(settings, indent=2) + "\n")
            self._held = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def __contains__(self, name: str) -> bool:
        return _place(self.predictions, name).is_file()

    def add(self, name: str, rows: Array) -> None:
        """Write the predictions of an image, ``(N, 5)``: x, y, width, height and score.

        Raises:
            OSError: it cannot be written, or the folder is no longer where it was.
        """
        # Python's own text of a float gives it back.
        lines = [name.partition("/")[2], str(len(rows)), *(" ".join(map(str, row)) for row in rows.tolist())]
        self._write(_place(PurePath(PREDICTIONS), name), "\n".join(lines) + "\n")

    def _write(self, name: PurePath, text: str) -> None:
        self._folder.check()
        with self._folder.atomic_write(name) as stream:
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


def _again(folder: Path) -> str:
    made = shlex.join(["rm", "-r", str(folder / PREDICTIONS), str(folder / SETTINGS)])
    return f"--output another-folder; or, to begin again: {made}"
