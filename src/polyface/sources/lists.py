"""Lists of paths, in a file or on standard input."""

from __future__ import annotations

import codecs
import functools
import sys
from pathlib import Path

from polyface.errors import reason_of
from polyface.sources.files import Files, begins_as_an_image


class PathList(Files):
    """The paths in a text file, a line each: of files, and of folders, which are searched. Empty lines are left out.

    Its location is ``@`` and the path of the list, in UTF-8; ``@-`` is standard input, which is read once. Where there
    are zero bytes, they part the paths, as ``find -print0`` writes them, which any name may be in. A list that cannot
    be read, or is an image itself, is an item with its problem. All else is as of
    :class:`polyface.sources.files.Files`.
    """

    @functools.cached_property
    def _found(self) -> list[tuple[str, str, str]]:
        location = str(self._location)
        path = location.removeprefix("@")
        try:
            data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        except (OSError, ValueError) as error:
            return [(location, "", f"the list cannot be read: {reason_of(error)}")]
        if begins_as_an_image(data):
            return [(location, "", "the list is an image; a list names the paths of images, a line each")]
        # Not by `splitlines`, which takes what a name may hold for the end of a line.
        parts = data.removeprefix(codecs.BOM_UTF8).split(b"\0" if b"\0" in data else b"\n")
        lines = (part.removesuffix(b"\r").decode("utf-8", "surrogateescape") for part in parts)
        found: list[tuple[str, str, str]] = []
        for files in (Files(line, self._search) for line in lines if line.strip()):
            found += files._found  # noqa: SLF001 - of this class
            self.left_out += files.left_out
        return found or [(location, "", "the list names no image")]
