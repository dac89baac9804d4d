"""CSV: a row for each face, and one for each image that has none."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from polyface.writers.document import Document

FACE = ("face", "x1", "y1", "x2", "y2", "score")
"""What a row says of every face: which of the image's it is, from 1 on, its box and its score."""


class Csv(Document):
    """A row for each face, which repeats what is known of its image, such as its ``drawing``.

    An image without faces has one row whose columns of the face are empty; one that could not be examined has, too, and
    the reason under ``error``. So no image is lost, and the rows with a ``face`` are the faces. Landmarks are
    ``landmark_1_x``, ``landmark_1_y`` and so on. What is a list with a value for each face in all images, as ``crops``
    is, is parted among the rows. A further column of faces whose name an image's has is called ``face_NAME``. Values
    that are no scalars are JSON. In names, what is not UTF-8 is written as an escape.
    """

    def make(self, lines: Iterable[dict[str, Any]], stream: BinaryIO) -> None:
        """Write the document; what columns there are, a first look at all lines tells."""
        # By the name of each fact of images, whether it is one of each face.
        parted = {"image": False, "width": False, "height": False, "truncated": False, "error": False}
        extras, marks = dict[str, None](), 0
        for line in lines:
            for name, value in line.items():
                fits = value is None or (isinstance(value, list) and len(value) == len(line["faces"]))
                parted[name] = parted.get(name, True) and fits
            for face in line["faces"]:
                extras |= dict.fromkeys(face)
                marks = max(marks, len(face.get("landmarks", ())))
        before = ("image", "width", "height")
        after = [name for name in parted if name not in (*before, "faces", "error", "timing")]
        after += [name for name in ("error", "timing") if name in parted]
        further = [name for name in extras if name not in ("box", "score", "landmarks")]
        points = [f"landmark_{number}_{axis}" for number in range(1, marks + 1) for axis in "xy"]
        taken = {*before, *after, *FACE, *points}
        text = io.TextIOWrapper(stream, encoding="utf-8", errors="backslashreplace", newline="")
        table = csv.writer(text)
        table.writerow([*before, *FACE, *points, *(_rename(name, taken) for name in further), *after])
        for line in lines:
            for number, face in enumerate(_faces(line, points, further)):
                rest = (_part(line.get(name), number) if parted[name] else line.get(name) for name in after)
                table.writerow([*(line[name] for name in before), *face, *map(_cell, rest)])
        text.detach()


def _part(values: list[Any] | None, number: int) -> Any:
    """What a list says of a face; nothing where there is none."""
    return values[number] if values else None


def _faces(line: dict[str, Any], points: list[str], further: list[str]) -> Iterator[list[Any]]:
    """The columns of each face of an image; of one without any, a single time and empty."""
    width = len(points)
    for number, face in enumerate(line["faces"], 1):
        marks = [value for point in face.get("landmarks", ()) for value in point]
        marks += [""] * (width - len(marks))
        yield [number, *face["box"], face["score"], *marks, *(_cell(face.get(name)) for name in further)]
    if not line["faces"]:
        yield [""] * (len(FACE) + width + len(further))


def _rename(name: str, taken: set[str]) -> str:
    """A name for a column that no other has."""
    while name in taken:
        name = f"face_{name}"
    taken.add(name)
    return name


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
