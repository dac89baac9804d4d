"""Lists of paths, in a file or on standard input."""

from __future__ import annotations

import codecs
import functools
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from polyface.errors import reason_of
from polyface.plugins.protocols import Search, Source
from polyface.results import Item
from polyface.sources.files import Files, Found, as_item, begins_as_an_image


class PathList:
    """The paths in a text file, a line each: of files, of folders, which are searched, and of what other sources claim.

    Empty lines are left out, and a list in a list is a file. Where there are zero bytes, they part the paths, as
    ``find -print0`` writes them, which any name may be in. A list that cannot be read, or is an image itself, is an
    item with its problem.

    Args:
        location: ``@`` and the path of the list, in UTF-8; ``@-`` is standard input, which is read once.
        search: how files and folders are searched, and who opens the rest.
    """

    def __init__(self, location: str, search: Search) -> None:
        self._location = location
        self._search = search
        self._files_left_out: Counter[str] = Counter()

    @property
    def left_out(self) -> Counter[str]:
        """How much was left out, by what it was."""
        others = (part.left_out for part in self._parts if not isinstance(part, tuple))
        return sum(others, Counter(self._files_left_out))

    def __iter__(self) -> Iterator[Item]:
        """Yield the items of each line."""
        for part in self._parts:
            if isinstance(part, tuple):
                yield as_item(part)
            else:
                yield from part

    def count(self) -> int | None:
        """Return how many items there are; ``None`` where a source that is listed does not know."""
        counts = [1 if isinstance(part, tuple) else part.count() for part in self._parts]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    @functools.cached_property
    def _parts(self) -> list[Found | Source]:
        """What files and folders have, of which there may be a million, and the other sources."""
        path = self._location.removeprefix("@")
        try:
            data = _standard_input().read() if path == "-" else Path(path).expanduser().read_bytes()
        except (OSError, ValueError, RuntimeError) as error:
            return [(self._location, "", f"the list cannot be read: {reason_of(error)}")]
        if begins_as_an_image(data):
            problem = "the list is an image; a list names the paths of images, a line each"
            return [(self._location, "", problem)]
        # Not by `splitlines`, which takes what a name may hold for the end of a line.
        lines = data.removeprefix(codecs.BOM_UTF8).split(b"\0" if b"\0" in data else b"\n")
        parts: list[Found | Source] = []
        for line in lines:
            text = line.removesuffix(b"\r").decode("utf-8", "surrogateescape")
            if not text.strip():
                continue
            source = self._open(text)
            if isinstance(source, Files):
                parts += source.found
                self._files_left_out += source.left_out
            else:
                parts.append(source)
        return parts or [(self._location, "", "the list names no image")]

    def _open(self, location: str) -> Source:
        """The source of a line; a list in a list could be this one."""
        claimed = None if location.startswith("@") else self._search.source_of(location)
        return Files(location, self._search) if claimed is None else claimed


def _standard_input() -> BinaryIO:
    if sys.stdin is None:  # whoever started the process closed it
        raise OSError("standard input is closed")
    return sys.stdin.buffer
