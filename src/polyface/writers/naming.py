"""What files of results are called, in a folder that may hold anybody's: no file of another is ever taken."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import TYPE_CHECKING

from polyface.errors import ImageError, PolyfaceError

if TYPE_CHECKING:
    from polyface.storage.places import Place

FATAL = {errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EPERM, errno.EROFS}
"""Errors that keep every file from being written, not only one."""

_COMMENT, _SCAN = 0xFE, 0xDA


class Names:
    """Names below a folder, each for whom a mark in its file tells: the same in the next run.

    Args:
        place: the folder.
        add_number: returns from a name and a number, from 1 on, the name to try.
        mark_in: returns the mark in a file, or nothing of one that has none.
    """

    def __init__(
        self, place: Place, add_number: Callable[[str, int], str], mark_in: Callable[[Place, PurePath], bytes]
    ) -> None:
        self._place = place
        self._add_number = add_number
        self._mark_in = mark_in
        self._there: dict[PurePath, dict[str, str]] = {}  # by folder: the names in it, by what they are folded to
        self._marked: dict[PurePath, dict[bytes, PurePath]] = {}  # by name without a number: files by mark
        self._free: dict[PurePath, int] = {}  # likewise: from which number on names are free

    def claim(self, base: PurePath, mark: bytes) -> PurePath:
        """Return the file below the folder that has this mark, or the first name that no other has.

        Raises:
            OSError: the folder cannot be made or read.
        """
        key = base.parent / _fold(base.name)
        if base.parent not in self._there:
            self._there[base.parent] = {_fold(name): name for name in self._place.names(base.parent)}
        there = self._there[base.parent]
        if key not in self._marked:
            self._free[key] = 1
            self._marked[key] = {}
            while found := there.get(_fold(self._add_number(base.name, self._free[key]))):
                file = base.with_name(found)
                self._marked[key].setdefault(self._mark_in(self._place, file), file)
                self._free[key] += 1
        if mark not in self._marked[key]:
            while _fold(name := self._add_number(base.name, self._free[key])) in there:
                self._free[key] += 1
            there[_fold(name)] = name
            self._marked[key][mark] = base.with_name(name)
        return self._marked[key][mark]


@contextlib.contextmanager
def one_image(what: str) -> Iterator[None]:
    """Turn what goes wrong with the file of one image into an ``ImageError``; what would meet every file passes."""
    try:
        yield
    except PolyfaceError:
        raise
    except (OSError, ValueError) as error:  # a JPEG has at most 65,500 pixels a side
        if getattr(error, "errno", None) in FATAL:
            raise
        raise ImageError(what, why=[str(error)]) from error


def mark_of(what: str, name: str) -> bytes:
    """Return the comment of a JPEG that shows ``what`` of the image of that name."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    return f"polyface: {what} of the image whose name has the sha256 {digest}".encode()


def comment_in(place: Place, file: PurePath) -> bytes:
    """Return the comment of a JPEG, or nothing of a file that is none."""
    with contextlib.suppress(OSError), place.read(file) as stream:
        at = 2  # after the start of the image; each segment is FF, its kind, its length and its content
        while stream.seek(at) and len(head := stream.read(4)) == 4 and head[0] == 0xFF and head[1] != _SCAN:
            length = int.from_bytes(head[2:], "big")
            if head[1] == _COMMENT:
                return stream.read(max(0, length - 2))
            at += 2 + length
    return b""


def _fold(name: str) -> str:
    """What names that are one on some file system have in common: neither case nor the form of accents counts there."""
    return unicodedata.normalize("NFC", name.casefold())
