"""Images whose faces nobody recognises, as files like those that they came from."""

from __future__ import annotations

import functools
import hashlib
import io
import os
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, NoReturn

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

    from polyface.arrays import ImageArray
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
        copy_unreadable: write what could not be examined nevertheless: a file as it is, with all that is in it; a file
            that is cut short, and an image with more faces, without the faces that were found.

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
        self._refused = ""  # the name of the image of which this last said that it was not examined wholly

    def write(self, result: Result) -> Mapping[str, str | None]:
        """Write an image without its faces, and return its path ``anonymized`` below the folder; of an error none.

        A file that was copied as it is has its path under ``copied``. One that was examined never is: where another
        writer, or this one, failed with it, it is not written.

        Raises:
            ImageError: it was not examined wholly, or cannot be written under its name.
            OSError: none can be written.
        """
        refused, self._refused = self._refused == result.name, ""
        if result.item is None:
            return {"anonymized": None}
        if result.image is None or (refused and result.error is not None):
            copied = self._copy(result.item) if self._copy_unreadable else None
            return {"anonymized": None} | ({} if copied is None else {"copied": copied})
        if result.error is not None:
            return {"anonymized": None}
        if not result.item.examine:
            raise ImageError("it is not written, since no faces were looked for in it")
        if result.faces.truncated and not self._copy_unreadable:
            raise ImageError(
                "it is not written, since some of its faces would be seen",
                why=[f"a limit cut the faces at {len(result.faces)}; there were more over the threshold"],
            )
        if result.image.damaged and not self._copy_unreadable:
            raise ImageError("it is not written, since its file is cut short, and what is missing was not examined")
        with one_image("it cannot be written without its faces"):
            if not result.image.whole:
                self._refuse(result, "only a draft of it was examined", Fix(settings={"draft": False}))
            pixels = self._anonymize(result.image, result.faces)
            return {"anonymized": self._write(*self._encode(pixels, result))}

    def close(self) -> None:
        """Do nothing: every image is whole already."""

    def _refuse(self, result: Result, why: str, fix: Fix | str) -> NoReturn:
        self._refused = result.name
        raise ImageError("it was not examined wholly", why=[why], fix=fix)

    def _encode(self, pixels: ImageArray, result: Result) -> tuple[PurePath, bytes]:
        """Pixels as a file like that of a result's item, and its name; a PNG where it has none."""
        item, image = result.item, result.image
        assert item is not None  # noqa: S101 - it was looked at
        if isinstance(item.image, str | bytes | os.PathLike):
            height, width = pixels.shape[:2]
            given = {"formats": (image.format,), "max_pixels": height * width, "damaged": image.damaged}
            with open_image(item.image, **given) as opened:
                if opened.note:
                    self._refuse(result, f"it is {opened.note}", "save its frames, pages or views as images first")
                return item.relative, encode(pixels, opened)
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, format="PNG")
        same = item.relative.suffix.lower() == ENDING
        return item.relative if same else item.relative.with_name(item.relative.name + ENDING), data.getvalue()

    def _write(self, base: PurePath, data: bytes) -> str:
        name = self._names.claim(base, hashlib.sha256(data).digest())
        with self._place.atomic_write(name) as stream:
            stream.write(data)
        return name.as_posix()

    def _copy(self, item: Item) -> str | None:
        """Copy a file as it is; there may be none, or it cannot be written under its name."""
        try:
            data = item.image if isinstance(item.image, bytes) else _read(Path(item.image))
        except (OSError, TypeError, ValueError):
            return None
        try:
            with one_image("it cannot be copied"):
                return self._write(item.relative, data)
        except ImageError:
            return None


def _read(path: Path) -> bytes:
    if not path.is_file():  # a pipe would be waited for
        raise FileNotFoundError(path)
    return path.read_bytes()


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
