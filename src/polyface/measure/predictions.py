"""Reading predictions in WIDER FACE's text format; :mod:`polyface.writers.wider` writes them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from polyface.errors import EvaluationError
from polyface.measure.widerface import LARGEST_NUMBER, Array, first_of
from polyface.writers.wider import path_of


def read_predictions(folder: Path, names: Iterable[str]) -> dict[str, Array]:
    """Return the predictions of each image, ``(N, 5)``: x, y, width, height and score.

    Args:
        folder: with a folder an event.
        names: the images, ``event/image`` without ``.jpg``.

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
