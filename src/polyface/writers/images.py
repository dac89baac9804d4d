"""Images with their faces drawn."""

from __future__ import annotations

import errno
import hashlib
import io
import unicodedata
from pathlib import PurePath
from typing import TYPE_CHECKING

from polyface.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from polyface.results import Result
    from polyface.storage.places import Place

FATAL = {errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EPERM, errno.EROFS}
"""Errors that keep every drawing from being written, not only one."""

JPEG_QUALITY = 90

BEGINNING = 4096
"""Bytes of a drawing that its comment lies within."""

_COMMENT = 0xFE


class Drawings:
    """A folder of drawings: ``photos/a.jpg`` becomes ``a_out.jpg``, or ``a-2_out.jpg`` where that is another's.

    The comment of each drawing tells whose it is, so that only the drawing of the same image is ever replaced.

    Args:
        place: the folder.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._there: dict[PurePath, dict[str, str]] = {}  # by folder: the names in it, by what they are folded to
        self._drawings: dict[PurePath, dict[bytes, PurePath]] = {}  # by image without its ending: drawings by mark
        self._free: dict[PurePath, int] = {}  # likewise: from which number on names are free

    def write(self, result: Result) -> Mapping[str, str | None]:
        """Draw a result, a draft as it is, and return the path of the ``drawing`` below the folder; of an error none.

        Raises:
            ImageError: it cannot be drawn, or not written under its name.
            OSError: none can be written.
        """
        if result.image is None or result.item is None or result.error is not None:
            return {"drawing": None}
        from polyface.images.drawing import draw_faces

        mark = _mark(result.name)
        data = io.BytesIO()  # Pillow itself does not notice when a disk takes only a part
        try:
            draw_faces(result.image, result.faces).save(data, format="JPEG", quality=JPEG_QUALITY, comment=mark)
            name = self._name(result.item.relative.with_suffix(""), mark)
            with self._place.atomic_write(name) as stream:
                stream.write(data.getbuffer())
        except (OSError, ValueError) as error:  # a JPEG has at most 65,500 pixels a side
            if getattr(error, "errno", None) in FATAL:
                raise
            raise ImageError("its faces cannot be drawn", why=[str(error)]) from error
        return {"drawing": name.as_posix()}

    def close(self) -> None:
        """Do nothing: every drawing is whole already."""

    def _name(self, base: PurePath, mark: bytes) -> PurePath:
        """The drawing of this image that is there, or the first name that no other has."""
        key = base.parent / _fold(base.name)
        if base.parent not in self._there:
            self._there[base.parent] = {_fold(name): name for name in self._place.names(base.parent)}
        there = self._there[base.parent]
        if key not in self._drawings:
            self._free[key] = 1
            self._drawings[key] = {}
            while found := there.get(_fold(_add_number(base.name, self._free[key]))):
                self._drawings[key].setdefault(self._mark_in(base.with_name(found)), base.with_name(found))
                self._free[key] += 1
        if mark not in self._drawings[key]:
            while _fold(name := _add_number(base.name, self._free[key])) in there:
                self._free[key] += 1
            there[_fold(name)] = name
            self._drawings[key][mark] = base.with_name(name)
        return self._drawings[key][mark]

    def _mark_in(self, name: PurePath) -> bytes:
        """The comment of a drawing, or nothing of a file that is none."""
        try:
            with self._place.read(name) as stream:
                data = stream.read(BEGINNING)
        except OSError:
            return b""
        at = 2  # after the start of the image; each segment is FF, its kind, its length and its content
        while data[at : at + 1] == b"\xff" and len(data) > at + 4:
            length = int.from_bytes(data[at + 2 : at + 4], "big")
            if data[at + 1] == _COMMENT:
                return data[at + 4 : at + 2 + length]
            at += 2 + length
        return b""


def _mark(name: str) -> bytes:
    """The comment of the drawing of an image of that name."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    return f"polyface: faces of the image whose name has the sha256 {digest}".encode()


def _add_number(stem: str, number: int) -> str:
    return f"{stem}_out.jpg" if number == 1 else f"{stem}-{number}_out.jpg"


def _fold(name: str) -> str:
    """What names that are one on some file system have in common: neither case nor the form of accents counts there."""
    return unicodedata.normalize("NFC", name.casefold())
