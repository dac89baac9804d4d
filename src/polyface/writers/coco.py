"""COCO's format of data sets and results: images, annotations and one category in a JSON document."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from polyface.exchange import to_coco
from polyface.storage.files import json_bytes
from polyface.writers.document import Document, was_examined

FACE = 1
"""The identity of the only category."""


class Coco(Document):
    """What was found as COCO's tools read it: a data set, whose ``annotations`` by themselves are a list of results.

    Images are numbered from 1 in the order in which they were done, and annotations likewise, so that ``--resume``
    changes no number. An annotation has the score, and the landmarks as keypoints, all visible. An image that could not
    be examined is none of the ``images``, where it would be one without faces: it stands under ``failed``, with the
    reason. What else is known of an image, such as its ``drawing``, stands beside COCO's own keys, and what else is
    known of a face under ``attributes``.
    """

    def make(self, lines: Iterable[dict[str, Any]], stream: BinaryIO) -> None:
        """Write the document, with an image, an annotation or a failure a line."""
        stream.write(b'{"info": {"description": "Faces found by polyface"}, "licenses": []')
        marks = 0

        def images() -> Iterator[dict[str, Any]]:
            nonlocal marks
            for number, line in enumerate(filter(was_examined, lines), 1):
                marks = max([marks, *(len(face.get("landmarks", ())) for face in line["faces"])])
                base = {"id": number, "file_name": line["image"], "width": line["width"], "height": line["height"]}
                rest = {key: value for key, value in line.items() if key not in ("image", "faces", "error", "timing")}
                yield base | rest | ({} if line["error"] is None else {"error": line["error"]}) | base

        _write_list(stream, "images", images())
        _write_list(stream, "annotations", _annotations(lines))
        names = [str(number) for number in range(1, marks + 1)]
        keypoints = {"keypoints": names, "skeleton": []} if names else {}
        _write_list(stream, "categories", [{"id": FACE, "name": "face", "supercategory": "person", **keypoints}])
        failed = itertools.filterfalse(was_examined, lines)
        _write_list(stream, "failed", ({"file_name": line["image"], "error": line["error"]} for line in failed))
        stream.write(b"}\n")


def _annotations(lines: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    count = 0
    for image, line in enumerate(filter(was_examined, lines), 1):
        yield from to_coco(line["faces"], image, FACE, count + 1)
        count += len(line["faces"])


def _write_list(stream: BinaryIO, name: str, entries: Iterable[dict[str, Any]]) -> None:
    stream.write(b',\n"%s": [' % name.encode())
    stream.writelines((b",\n" if number else b"\n") + json_bytes(entry) for number, entry in enumerate(entries))
    stream.write(b"\n]")
