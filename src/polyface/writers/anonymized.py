"""Images whose faces nobody recognises, as files like those that they came from."""

from __future__ import annotations

import functools
import hashlib
import io
import os
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from polyface.errors import Fix, ImageError
from polyface.images.encoding import encode
from polyface.images.faces import anonymize
from polyface.images.reading import open_image, read_image
from polyface.results import Detections
from polyface.writers.naming import Names, one_image

if TYPE_CHECKING:
    from collections.abc import Mapping

    from polyface.images.reading import Decoded
    from polyface.results import Item, Result
    from polyface.storage.places import Place

ENDING = ".png"
"""Of an image that came from no file."""


class Anonymized:
    """A folder of images without their faces: ``photos/sub/a.jpg`` becomes ``sub/a.jpg``.

    The file's format, EXIF orientation and ICC profile are kept. Nothing else of it is: neither its position (GPS), nor
    the thumbnail, which shows the faces, nor XMP. An image that was not examined, wholly, is not written: one with an
    error, one whose file is cut short, one of several frames, pages or views, one that has changed since, and one with
    more faces than were given back.

    A name that is taken by other content gets a number: ``a-2.jpg``.

    Args:
        place: the folder.
        how: as of :func:`polyface.anonymize`.
        shape: likewise.
        grow: likewise.
        replacement: likewise.
        copy_unreadable: write what could not be examined nevertheless: a file with an error as it is, with all that is
            in it, and an image with more faces without those that were given back.

    Raises:
        ConfigError: a setting of :func:`polyface.anonymize` is wrong.
        ImageError: the replacement cannot be read.
    """

    def __init__(
        self,
        place: Place,
        *,
        how: str = "blur",
        shape: str = "ellipse",
        grow: float = 0.2,
        replacement: Any = None,
        copy_unreadable: bool = False,
    ) -> None:
        self._place = place
        self._names = Names(place, _add_number, _digest_in)
        cover = None if replacement is None else read_image(replacement)
        self._anonymize = functools.partial(anonymize, how=how, shape=shape, grow=grow, replacement=cover)
        self._anonymize(np.zeros((1, 1, 3), np.uint8), Detections.from_dicts([]))  # raises where a setting is wrong
        self._copy_unreadable = copy_unreadable

    def write(self, result: Result) -> Mapping[str, str | None]:
        """Write an image without its faces, and return its path ``anonymized`` below the folder; of an error none.

        Raises:
            ImageError: it was not examined wholly, or cannot be written under its name.
            OSError: none can be written.
        """
        if result.item is None:
            return {"anonymized": None}
        if result.error is not None or result.image is None:
            return {"anonymized": self._copy(result.item) if self._copy_unreadable else None}
        if result.faces.truncated and not self._copy_unreadable:
            raise ImageError(
                "it is not written, since some of its faces would be seen",
                why=[f"a limit cut the faces at {len(result.faces)}; there were more over the threshold"],
            )
        if result.image.damaged and not self._copy_unreadable:
            raise ImageError("it is not written, since its file is cut short, and what is missing was not examined")
        with one_image("it cannot be written without its faces"):
            pixels = self._anonymize(_whole(result.image), result.faces)
            name, data = _encode(pixels, result.item, damaged=result.image.damaged)
            return {"anonymized": self._write(name, data)}

    def close(self) -> None:
        """Do nothing: every image is whole already."""

    def _write(self, base: PurePath, data: bytes) -> str:
        name = self._names.claim(base, hashlib.sha256(data).digest())
        with self._place.atomic_write(name) as stream:
            stream.write(data)
        return name.as_posix()

    def _copy(self, item: Item) -> str | None:
        """Copy a file as it is; there may be none."""
        try:
            data = item.image if isinstance(item.image, bytes) else _read(Path(item.image))
        except (OSError, TypeError, ValueError):
            return None
        with one_image("it cannot be copied"):
            return self._write(item.relative, data)


def _read(path: Path) -> bytes:
    if not path.is_file():  # a pipe would be waited for
        raise FileNotFoundError(path)
    return path.read_bytes()


def _whole(image: Decoded) -> Decoded:
    if not image.whole:
        fix = Fix(settings={"draft": False})
        raise ImageError("it is not written, since only a draft of it was examined", fix=fix)
    return image


def _encode(pixels: Any, item: Item, *, damaged: bool = False) -> tuple[PurePath, bytes]:
    """Pixels as a file like that of an item, and its name; a PNG where it has none."""
    if isinstance(item.image, str | bytes | os.PathLike):
        height, width = pixels.shape[:2]
        with open_image(item.image, max_pixels=height * width, damaged=damaged) as opened:
            if opened.note:
                fix = "save its frames, pages or views as images first"
                raise ImageError(f"it is not written, since it is {opened.note}", fix=fix)
            return item.relative, encode(pixels, opened)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format="PNG")
    same = item.relative.suffix.lower() == ENDING
    return item.relative if same else item.relative.with_name(item.relative.name + ENDING), data.getvalue()


def _add_number(name: str, number: int) -> str:
    path = PurePath(name)
    return name if number == 1 else f"{path.stem}-{number}{path.suffix}"


def _digest_in(place: Place, file: PurePath) -> bytes:
    """The sha256 of a file: where it is that of an image to be written, the file is that image's."""
    try:
        with place.read(file) as stream:
            return hashlib.sha256(stream.read()).digest()
    except OSError:
        return b""
