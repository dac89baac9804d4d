"""What is made of a result: its line, the image without its faces, or its faces as images."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, BinaryIO

import attrs
from attrs import frozen
from PIL import Image

from polyface.results import Result
from polyface.storage.files import json_bytes
from polyface.storage.places import Place
from polyface.writers.anonymized import Anonymized
from polyface.writers.crops import Crops
from polyface_serve.refusals import Refusal, refuse_image

if TYPE_CHECKING:
    from polyface.settings.config import Config

FILE = PurePath("image")
"""What the image of a request is called among what is made of it, whatever its own name leads to."""


@frozen(kw_only=True)
class File:
    """What is sent as it is.

    Args:
        data: its bytes.
        media_type: what they are.
        name: what a browser calls it when it saves it.
        faces: how many there are.
    """

    data: bytes
    media_type: str
    name: str
    faces: int


class MemoryPlace(Place):
    """A folder that is nowhere but in memory, for writers.

    Attributes:
        files: the bytes of each file, by its name.
    """

    def __init__(self) -> None:
        self.files: dict[PurePath, bytes] = {}

    @contextmanager
    def atomic_write(self, name: PurePath | None = None) -> Iterator[BinaryIO]:
        """Open a file for writing, which is there when the block ends."""
        stream = io.BytesIO()
        yield stream
        self.files[PurePath(name or "")] = stream.getvalue()

    def read(self, name: PurePath | None = None) -> BinaryIO:
        """Open a file; ``FileNotFoundError`` where there is none."""
        try:
            return io.BytesIO(self.files[PurePath(name or "")])
        except KeyError:
            raise FileNotFoundError(name) from None

    def names(self, folder: PurePath) -> list[str]:
        """Return the names in a folder."""
        return [file.name for file in self.files if file.parent == folder]

    def close(self) -> None:
        """Do nothing."""


def make_line(result: Result, query: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """Return the line of an image, as in ``faces.jsonl``, with the faces that a query asks for.

    Raises:
        Refusal: it could not be examined.
    """
    result = _choose(_check(result, config), query)
    return attrs.evolve(result, timing=result.timing if query["timing"] else None).to_dict()


def failed_line(name: str, refusal: Refusal) -> dict[str, Any]:
    """Return the line of an image that could not be examined."""
    return Result(name=name).to_dict() | {"error": refusal.to_dict() | {"status": refusal.status}}


def make_anonymous(result: Result, query: Mapping[str, Any], config: Config) -> File:
    """Return the image with its faces made unrecognisable, in its own format.

    Raises:
        Refusal: it could not be examined.
        ImageError: it was not examined wholly.
    """
    result = _choose(_check(result, config), query)
    place = MemoryPlace()
    Anonymized(place, how=query["how"], shape=query["shape"], grow=query["grow"]).write(_under_own_name(result))
    (data,) = place.files.values()
    kind = result.image.format
    ending = kind.lower().replace("jpeg2000", "jp2").replace("jpeg", "jpg")
    return File(
        data=data,
        media_type=Image.MIME.get(kind, "application/octet-stream"),
        name=f"anonymized.{ending}",
        faces=len(result.faces),
    )


def make_crops(result: Result, query: Mapping[str, Any], config: Config) -> File:
    """Return a ZIP file with each face as a JPEG, the best first, and ``faces.jsonl``, whose line names them.

    Raises:
        Refusal: it could not be examined.
        PolyfaceError: its faces cannot be cropped so.
    """
    result = _choose(_check(result, config), query)
    place = MemoryPlace()
    named = Crops(place, margin=query["margin"], align=query.get("align")).write(_under_own_name(result))
    line = attrs.evolve(result, timing=None, extra={**result.extra, **named}).to_dict()
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:  # stored: JPEGs cannot be packed
        archive.writestr("faces.jsonl", json_bytes(line) + b"\n")
        for name, face in place.files.items():
            archive.writestr(name.as_posix(), face)
    return File(data=data.getvalue(), media_type="application/zip", name="faces.zip", faces=len(result.faces))


def _check(result: Result, config: Config) -> Result:
    if result.error is None:
        return result
    data = b"" if result.item is None else result.item.image
    raise refuse_image(result.error, data, config)


def _choose(result: Result, query: Mapping[str, Any]) -> Result:
    faces = result.faces.filter(score=query.get("score_threshold"), size=query.get("min_size"))
    return attrs.evolve(result, faces=faces[: query.get("max_faces")])


def _under_own_name(result: Result) -> Result:
    assert result.item is not None  # noqa: S101 - the stream's results have theirs
    return attrs.evolve(result, item=attrs.evolve(result.item, relative=FILE))
