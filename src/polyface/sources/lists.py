"""Lists of paths, in a file or on standard input."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from polyface.errors import reason_of
from polyface.sources.files import Files


class PathList(Files):
    """The paths in a text file, a line each: of files, and of folders, which are searched. Empty lines are left out.

    Its location is ``@`` and the path of the list, in UTF-8; ``@-`` is standard input, which is read once. A list that
    cannot be read is an item with its problem. All else is as of :class:`polyface.sources.files.Files`.
    """

    @functools.cached_property
    def _found(self) -> list[tuple[str, str, str]]:
        location = str(self._location)
        path = location.removeprefix("@")
        try:
            data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        except (OSError, ValueError) as error:
            return [(location, "", f"the list cannot be read: {reason_of(error)}")]
        lines = data.decode("utf-8-sig", "surrogateescape").splitlines()
        found: list[tuple[str, str, str]] = []
        for files in (Files(line, self._search) for line in lines if line.strip()):
            found += files._found  # noqa: SLF001 - of this class
            self.left_out += files.left_out
        return found or [(location, "", "the list names no image")]
